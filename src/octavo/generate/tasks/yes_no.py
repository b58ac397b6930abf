"""`YesNoScorer`: a decoder as a reranker. It is asked whether a passage answers a query, and its next word is read.

The score is the logit of yes less that of no, so that the logistic function of it is the probability of yes between
the two; or, of models that were trained so, the logit of yes alone. Nothing is generated. What the passages' prompts
have in common at the beginning, the query among it, is computed once.
Source: Qwen3-Reranker (arXiv 2506.05176), BGE-reranker-v2-gemma (arXiv 2402.03216), and their published prompts; a
folder that says its own is laid out as sentence-transformers does: LogitScore, a template for `query` and `document`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from octavo.errors import ContextLengthError, OctavoError
from octavo.models.checkpoint import Checkpoint
from octavo.models.encoders.runner import Floats
from octavo.models.formats.sentence_transformers import SentenceLayout
from octavo.models.loading import make_runner
from octavo.models.runner import BLOCK_SIZE, Row
from octavo.text.tokenizer import Tokenizer

FIELDS = re.compile(r"\{(query|passage|instruction)\}")


@dataclass(frozen=True)
class Question:
    """How a decoder is asked.

    parts: texts with {query}, {passage} and {instruction}, each tokenised alone; None: the folder's chat template.
    answers: the words, or tokens, of yes and of no; one alone is scored by its logit. bos: whether the prompt begins
    with the tokenizer's start token. instruction: what counts as an answer.
    """

    parts: tuple[str, ...] | None
    answers: tuple[str | int, ...]
    instruction: str | None = None
    bos: bool = False


QUESTIONS: Mapping[str, Question] = {
    "qwen3": Question(
        (
            "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
            'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n',
            "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {passage}",
            "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
        ("yes", "no"),
        "Given a web search query, retrieve relevant passages that answer the query",
    ),
    "bge": Question(
        (
            "A: {query}",
            "\n",
            "B: {passage}",
            "\n",
            "Given a query A and a passage B, determine whether the passage contains an answer to the query by "
            "providing a prediction of either 'Yes' or 'No'.",
        ),
        ("Yes",),
        bos=True,
    ),
}
"""Published prompts of models whose folders do not say them."""


def read_question(template: str, *, instruction: str | None = None, answers: str | None = None) -> Question:
    """A published question by its name, or one of a file: a text with {query} and {passage}.

    answers: 'yes,no' or one word, in place of the question's own; of a file's, default yes,no. Raises OctavoError.
    """
    if template in QUESTIONS:
        question = QUESTIONS[template]
    elif Path(template).is_file():
        text = Path(template).read_text(encoding="utf-8")
        if not {"query", "passage"} <= set(FIELDS.findall(text)):
            raise OctavoError(f"{template} lacks {{query}} or {{passage}}; a prompt names both")
        question = Question((text,), ("yes", "no"))
    else:
        raise OctavoError(f"there is no template {template!r}; give {', '.join(QUESTIONS)}, or a file")
    words = tuple(word.strip() for word in answers.split(",")) if answers is not None else question.answers
    if not 1 <= len(words) <= 2 or not all(words):
        raise OctavoError(f"answers is {answers!r}; give the word for yes, or those for yes and no: yes,no")
    return replace(question, answers=words, instruction=instruction or question.instruction)


def question_of(layout: SentenceLayout, checkpoint: Checkpoint, given: Question | None) -> Question | None:
    """What a checkpoint is asked: what is given, else what its folder says; None for a model that is not asked."""
    if given is not None:
        if checkpoint.config.encoder is not None or checkpoint.score is not None:
            raise OctavoError(f"{checkpoint.name} scores by its own head and is asked nothing; leave the template out")
        return given
    if layout.answers is None:
        return None
    prompt = layout.prompts.get(layout.default_prompt or "")
    return Question(None, tuple(token for token in layout.answers if token is not None), prompt)


class YesNoScorer:
    """A `PairScorer`. max_tokens: of a whole prompt; its passage is cut."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        question: Question,
        max_tokens: int,
        *,
        runner: Literal["kernels", "torch"] | None = None,
    ) -> None:
        self.question = question
        self.max_tokens = max_tokens
        self.tokenizer = checkpoint.tokenizer()
        self._answers = [token_of(answer, self.tokenizer) for answer in question.answers]
        if max(self._answers) >= checkpoint.config.vocab_size:
            raise OctavoError(f"{checkpoint.name} has no token {max(self._answers)} to answer with")
        ropes = {rope for rope in (checkpoint.config.rope, *checkpoint.config.rope_layers) if rope is not None}
        self._shares = not any(rope.long_factors or rope.ntk_factor for rope in ropes)  # else a text's length matters
        self._blocks = range(-(-max_tokens // BLOCK_SIZE))
        self._computed: list[int] = []
        self._runner = make_runner(checkpoint, runner=runner, num_blocks=len(self._blocks))

    def score_counted(self, query: str, passages: Sequence[str]) -> tuple[Floats, int]:
        """As `PairScorer` says. Raises ContextLengthError for a query that leaves no room for a passage."""
        prompts = [self.prompt(query, passage) for passage in passages]
        scores = np.array([self._score(prompt) for prompt in prompts], np.float32)
        return scores, sum(map(len, prompts))

    def prompt(self, query: str, passage: str) -> list[int]:
        """The token ids that are read, of which the last one's successor is yes or no."""
        ids = self._encode(query, passage)
        while len(ids) > self.max_tokens:
            kept = self.tokenizer.encode(passage, bos=False, special=False)[: self.max_tokens - len(ids)]
            if not kept:
                raise ContextLengthError(f"the query leaves no room for a passage in {self.max_tokens} tokens")
            shorter = self.tokenizer.decode(kept, skip_special=False).rstrip("\ufffd")
            passage = shorter if len(shorter) < len(passage) else passage[:-1]
            ids = self._encode(query, passage)
        return ids

    def close(self) -> None:
        """Free the runner's memory. Idempotent."""
        self._runner.close()

    def _encode(self, query: str, passage: str) -> list[int]:
        fields = {"query": query, "passage": passage, "instruction": self.question.instruction or ""}
        if self.question.parts is None:
            messages = [{"role": "query", "content": query}, {"role": "document", "content": passage}]
            if self.question.instruction:
                messages.insert(0, {"role": "system", "content": self.question.instruction})
            return self.tokenizer.encode_chat(messages, add_generation_prompt=False)
        ids = [] if not self.question.bos or self.tokenizer.bos_id is None else [self.tokenizer.bos_id]
        for part in self.question.parts:
            text = FIELDS.sub(lambda match: fields[match[1]], part)
            plain = len(self.question.parts) > 1 and text != part  # marks in a passage are text there
            ids += self.tokenizer.encode(text, bos=False, special=not plain)
        return ids

    def _score(self, ids: list[int]) -> float:
        limit = min(len(ids), len(self._computed)) if self._shares else 0
        begin = next((at for at in range(limit) if ids[at] != self._computed[at]), limit)
        begin = min(begin, len(ids) - 1)
        self._computed = []  # until all is computed
        while begin < len(ids):
            part = np.array(ids[begin : begin + self._runner.max_tokens], np.int32)
            begin += len(part)
            last = begin == len(ids)
            output = self._runner.step([Row(part, begin - len(part), self._blocks, len(part) - last)])
        self._computed = ids
        logits = output.logits[0, self._answers]
        return float(logits[0] if len(logits) == 1 else logits[0] - logits[1])


def token_of(answer: str | int, tokenizer: Tokenizer) -> int:
    """The token that an answer begins with."""
    if isinstance(answer, int):
        return answer
    ids = tokenizer.encode(answer, bos=False, special=False)
    if not ids:
        raise OctavoError(f"the answer {answer!r} is no token of this model")
    return ids[0]
