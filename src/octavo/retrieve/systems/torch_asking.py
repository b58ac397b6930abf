"""What RAG and Fusion-in-Decoder share: a question encoder over a frozen index, how they learn, and their folder.

A model's folder holds `question_encoder/` and `generator/`, ordinary Hugging Face folders; the passages with their
vectors; and `system.json`, which says what the two make together.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from octavo.errors import FormatError, OctavoError
from octavo.models.checkpoint import GenerationDefaults
from octavo.models.saving import save_checkpoint
from octavo.retrieve.systems.passages import Passage, QuestionSet, Vectors, load_index, save_index
from octavo.retrieve.systems.torch_generator import Generator, Ids
from octavo.retrieve.systems.torch_question_encoder import QuestionEncoder
from octavo.train.objectives.objective import Batch
from octavo.writing import whole_folder

SYSTEM = "system.json"
QUESTIONS_AT_ONCE = 16
ENCODER_SOURCE = "question: {question} title: {title} context: {text}"
PROMPT = "{title}\n{text}\n\nQuestion: {question}\nAnswer:"


@dataclass(frozen=True)
class AskingSettings:
    """system: what it is. passages: read for a question. marginal, decoding: RAG's. distil: of Fusion-in-Decoder.

    held_out, passage_words: how its questions were read, so that they can be read again.
    """

    system: Literal["rag", "fid"]
    passages: int
    source_tokens: int
    answer_tokens: int
    held_out: float
    passage_words: int
    marginal: Literal["sequence", "token"] = "sequence"
    beams: int = 1
    decoding: Literal["thorough", "fast"] = "thorough"
    distil: bool = False


class Asking(nn.Module):
    """question_encoder and generator learn; the index does not."""

    def __init__(
        self,
        question_encoder: QuestionEncoder,
        generator: Generator,
        passages: Sequence[Passage],
        vectors: Vectors,
        settings: AskingSettings,
    ) -> None:
        """vectors: (passages, dimensions)."""
        super().__init__()
        width = question_encoder.body.config.hidden_size
        if vectors.shape != (len(passages), width):
            raise OctavoError(
                f"the index is {vectors.shape[0]} vectors of {vectors.shape[1]}, but {len(passages)} passages are "
                f"searched with vectors of {width}; make it with the question encoder's own model"
            )
        self.question_encoder = question_encoder
        self.generator = generator.model
        self.writer = generator
        self.passages = tuple(passages)
        self.settings = settings
        self.vectors: Tensor
        self.register_buffer("vectors", torch.from_numpy(vectors), persistent=False)

    def find(self, questions: Sequence[str], count: int | None = None) -> tuple[Tensor, Tensor]:
        """The passages whose vectors have the largest inner products with each question's, best first.

        Returns those products, which carry gradients, and the passages' numbers: (questions, count) each.
        """
        products = self.question_encoder(self.question_encoder.encode(questions)) @ self.vectors.T
        width = min(count or self.settings.passages, len(self.passages))
        found = products.detach().topk(width).indices
        return products.gather(1, found), found

    def source(self, question: str, passage: Passage) -> list[int]:
        """What the generator reads of one passage."""
        form = PROMPT if self.writer.reads_prompts else ENCODER_SOURCE
        text = form.format(question=question, title=passage.title, text=passage.text)
        return self.writer.source(text, self.settings.source_tokens)

    def sources(self, questions: Sequence[str], found: Tensor) -> list[list[list[int]]]:
        """Of each question, one source a passage."""
        return [
            [self.source(question, self.passages[place]) for place in row]
            for question, row in zip(questions, found.tolist(), strict=True)
        ]

    def text(self, ids: Sequence[int]) -> str:
        """An answer's text."""
        return self.writer.tokenizer.decode(list(ids)).strip()


class AskingObjective:
    """Learns a question's first answer, a few questions at a time, whose passages are found anew as the encoder learns.

    An example is a question's number, training ones first. A batch's count is of target tokens.
    """

    def __init__(self, model: Asking, questions: QuestionSet) -> None:
        self._questions = (*questions.training, *questions.held_out)
        self._targets = [model.writer.target(question.answers[0]) for question in self._questions]

    def collate(self, examples: Sequence[int]) -> Batch:
        """questions: (rows,), their numbers."""
        count = sum(len(self._targets[number]) for number in examples)
        return Batch({"questions": torch.tensor(list(examples), dtype=torch.long)}, count)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """model: an `Asking`."""
        assert isinstance(model, Asking), "the objective is of this system"
        numbers = batch.tensors["questions"].tolist()
        total = torch.zeros((), device=model.vectors.device)
        for start in range(0, len(numbers), QUESTIONS_AT_ONCE):
            some = numbers[start : start + QUESTIONS_AT_ONCE]
            texts, targets = [self._questions[n].text for n in some], [self._targets[n] for n in some]
            total = total + self.part(model, texts, targets)
        return total

    @abstractmethod
    def part(self, model: Asking, texts: Sequence[str], targets: Sequence[Ids]) -> Tensor:
        """The loss of some questions, summed. targets: the ids of their answers."""


def save_asking(folder: Path, model: Asking, family: str) -> None:
    """Write a model's folder, whole or not at all. family: of the generator."""
    questions = model.question_encoder
    body, writer = questions.body, model.writer
    facts = {**asdict(model.settings), "question_encoder": questions.facts()}
    with whole_folder(folder) as partial:
        save_checkpoint(
            partial / "question_encoder", body.config, questions.family, body.stored_tensors(), questions.tokenizer,
            GenerationDefaults(),
        )  # fmt: skip
        save_checkpoint(
            partial / "generator", writer.model.config, family, writer.model.stored_tensors(), writer.tokenizer,
            GenerationDefaults(writer.end_ids),
        )  # fmt: skip
        save_index(partial, model.passages, model.vectors.cpu().numpy())
        (partial / SYSTEM).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def load_asking(folder: Path) -> Asking:
    """What `save_asking` wrote, ready to answer. Raises FormatError for a folder of something else."""
    facts = read_facts(folder)
    asked = facts.pop("question_encoder", {})
    try:
        settings = AskingSettings(**facts)
    except TypeError as error:
        raise FormatError(f"{folder / SYSTEM} is of another version: {error}") from None
    passages, vectors = load_index(folder)
    encoder = QuestionEncoder.load(folder / "question_encoder", **asked)
    model = Asking(encoder, Generator.load(folder / "generator"), passages, vectors, settings)
    return model.requires_grad_(False).eval()


def read_facts(folder: Path) -> dict[str, Any]:
    """What a folder's system.json says. Raises FormatError where there is none."""
    try:
        facts = json.loads((folder / SYSTEM).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise FormatError(
            f"{folder} holds no system that answers from passages; give the model/ folder of such a run"
        ) from None
    if not isinstance(facts, Mapping):
        raise FormatError(f"{folder / SYSTEM} is damaged")
    return dict(facts)
