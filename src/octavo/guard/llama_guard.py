"""Llama Guard: a language model that says whether a conversation's last message is safe (Inan et al. 2023).

The checkpoint's own chat template names the role to judge and the categories. The answer is `safe`, or `unsafe` and on
the next line the codes of what was violated; anything else counts as unsafe. The score is the probability that the
answer begins as "unsafe" does, over that and "safe" alone. Source: arXiv 2312.06674, and the models' cards.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from octavo.errors import UnsupportedError
from octavo.generate.lm import Completion, LanguageModel, Message, Request, Sampling, complete
from octavo.text.tokenizer import Tokenizer

SAFE, UNSAFE = "safe", "unsafe"
MAX_TOKENS = 64
"""Of an answer: more than all codes there are."""
CODE = re.compile(r"[A-Z]{1,2}\d{1,2}")
CATEGORY = re.compile(r"^\s*([A-Z]{1,2}\d{1,2})\s*[:.]\s+(.+?)\.?\s*$", re.MULTILINE)
"""A line of the prompt that names a category, `O1: Violence and Hate.`"""


@dataclass(frozen=True)
class Verdict:
    """flagged: whether the score reaches the threshold, or the answer was no verdict at all (not understood).

    score: 0 safe to 1 unsafe. codes: of the violated categories, as the model says them. names: of those that its
    prompt names. text: the whole answer.
    """

    flagged: bool
    score: float
    codes: tuple[str, ...]
    names: Mapping[str, str]
    understood: bool
    text: str


def judge(
    model: LanguageModel,
    messages: Sequence[Message],
    *,
    threshold: float = 0.5,
    template: Mapping[str, Any] = MappingProxyType({}),
) -> Verdict:
    """Judge the last of a conversation's messages, of the user or of the assistant.

    template: further names for the chat template, such as categories of one's own where it takes them. Raises
    UnsupportedError for a model without a tokenizer at hand, OctavoError for one without a chat template.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise UnsupportedError(f"{model.name} does not show its tokenizer, so its verdict has no score; run it here")
    prompt = tokenizer.render(messages, **template)
    ids = tokenizer.encode(prompt, bos=False)
    answer = complete(model, Request(ids, max_tokens=MAX_TOKENS, sampling=Sampling(temperature=0)))
    codes = read_verdict(answer.text)
    if codes is None:
        return Verdict(True, 1.0, (), {}, False, answer.text)
    score = _score(model, tokenizer, ids + _before(answer, tokenizer))
    known = dict(CATEGORY.findall(prompt))
    names = {code: known[code] for code in codes if code in known}
    return Verdict(score >= threshold, score, codes, names, True, answer.text)


def read_verdict(text: str) -> tuple[str, ...] | None:
    """The codes of an answer, none where it says safe; None for an answer that is no verdict."""
    word, _, rest = text.strip().partition("\n")
    codes = tuple(code.strip() for code in rest.split(",")) if rest.strip() else ()
    if word.strip() == SAFE and not codes:
        return ()
    if word.strip() == UNSAFE and all(CODE.fullmatch(code) for code in codes):
        return codes
    return None


def _before(answer: Completion, tokenizer: Tokenizer) -> list[int]:
    """The tokens of white space that some models begin their answer with."""
    ids = list(answer.token_ids)
    first = next(at for at, token in enumerate(ids) if tokenizer.token_text(token).strip())
    return ids[:first]


def _score(model: LanguageModel, tokenizer: Tokenizer, ids: Sequence[int]) -> float:
    """P(unsafe) / (P(unsafe) + P(safe)) as what follows the ids, each by the tokens that it may begin with."""
    starts = {word: {tokenizer.encode(f"{lead}{word}", bos=False)[0] for lead in ("", " ")} for word in (SAFE, UNSAFE)}
    shared = starts[SAFE] & starts[UNSAFE]  # a space alone
    totals = dict.fromkeys(starts, 0.0)
    for word, tokens in starts.items():
        for token in tokens - shared:
            logprob = model.score([*ids, token], start=len(ids)).logprobs[-1]
            totals[word] += math.exp(logprob) if logprob is not None else 0.0
    return totals[UNSAFE] / sum(totals.values()) if any(totals.values()) else 1.0
