"""The `LanguageModel` seam and its nouns: a request goes in, events come out.

Three implementations: the local engine (`local.py`), a remote OpenAI-compatible endpoint (`remote.py`), a scripted one
for tests (`scripted.py`). Every system above this floor takes any of them.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from octavo.errors import OctavoError
from octavo.generate.constrain import Constraint
from octavo.text.tokenizer import Tokenizer

Message = Mapping[str, Any]
"""A chat message in OpenAI's shape: {"role": "user", "content": "..."}."""
FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The stages apply in the order of `generate/sample/__init__.py`.

    temperature 0 is greedy. top_k 0, top_p 1, min_p 0, typical_p 1, repetition_penalty 1 and the other penalties 0 are
    off. seed None draws a fresh one. Raises OctavoError for a value outside its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        _check_range("temperature", self.temperature, 0, 2)
        _check_range("top_k", self.top_k, 0, math.inf)
        _check_range("top_p", self.top_p, 0, 1)
        _check_range("min_p", self.min_p, 0, 1)
        _check_range("typical_p", self.typical_p, 0, 1)
        _check_range("presence_penalty", self.presence_penalty, -2, 2)
        _check_range("frequency_penalty", self.frequency_penalty, -2, 2)
        _check_range("repetition_penalty", self.repetition_penalty, 0.01, 100)
        for bias in self.logit_bias.values():
            _check_range("logit_bias", bias, -100, 100)
        if self.seed is not None:
            _check_range("seed", self.seed, 0, math.inf)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # also refuses NaN
        limits = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise OctavoError(f"{name} is {value}; it must be {limits}", param=name)


@dataclass(frozen=True)
class Beams:
    """Beam search, under the names and by the rules of the `transformers` library.

    num_beams: hypotheses kept; num_answers: how many of them are given. length_penalty: a finished one's score is its
    log-probability over length ** length_penalty. early_stopping: True ends with num_beams finished ones; False when
    the best running one is worse than all of them at its present length; "never" when it is at any length.
    """

    num_beams: int
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    num_answers: int = 1

    def __post_init__(self) -> None:
        _check_range("num_beams", self.num_beams, 1, 64)
        _check_range("num_answers", self.num_answers, 1, self.num_beams)
        _check_range("length_penalty", self.length_penalty, -10, 10)
        if self.early_stopping not in (True, False, "never"):
            raise OctavoError(f"early_stopping is {self.early_stopping!r}; it is true, false or 'never'")


UNSEARCHED: Mapping[str, object] = {
    "stop": (), "logprobs": None, "prompt_logprobs": None, "constraint": None, "min_tokens": 0, "include_stop": False,
    "thinking": None, "prediction": "",
}  # fmt: skip
"""What of a request beam search does not do, with the values that ask for nothing."""


@dataclass(frozen=True)
class Request:
    """One completion to make.

    prompt: text, token ids, or chat messages (rendered with the model's template, open for the assistant's answer).
    max_tokens None: as many as the context holds. stop: texts that end the answer and are not part of it.
    logprobs: None, or how many alternatives to report a token besides the chosen one (0 .. 20).
    skip_special: whether special tokens, such as the marks around a tool call in some models, are left out of the text.
    template: further names for the chat template, such as tools or enable_thinking.
    min_tokens: so many tokens come before one that ends the answer, and before stop texts count.
    include_stop: the stop text, or the text of the token of stop_token_ids, that ends the answer is part of it.
    prompt_logprobs: None, or how many alternatives to report for each token of the prompt (0 .. 20), as `Scores`.
    cache_salt: requests of different salts share nothing that is computed, so that none can tell another's prompt by
    its time. priority: the smaller, the sooner; equal ones in order of arrival.
    beams: search for the likeliest answer instead of sampling one; of `sampling` nothing applies then.
    thinking: the most tokens of its thoughts, None: any; their end is then written for the model.
    prediction: a text that the answer may repeat, which makes it faster and never another.
    constraint: what the answer's text may be. An answer that max_tokens or a stop text cuts is the beginning of one.
    """

    prompt: str | Sequence[int] | Sequence[Message]
    max_tokens: int | None = None
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    skip_special: bool = True
    template: Mapping[str, Any] = field(default_factory=dict)
    constraint: Constraint | None = None
    min_tokens: int = 0
    include_stop: bool = False
    prompt_logprobs: int | None = None
    cache_salt: str = ""
    priority: int = 0
    beams: Beams | None = None
    thinking: int | None = None
    prediction: str = ""

    def __post_init__(self) -> None:
        if self.thinking is not None:
            _check_range("thinking", self.thinking, 0, math.inf)
            if self.constraint is not None:
                problem = "an answer that is held to a form has no thoughts"
                raise OctavoError(f"{problem}; leave thinking_token_budget out", param="thinking_token_budget")
        if self.max_tokens is not None and self.max_tokens < 0:
            raise OctavoError(f"max_tokens is {self.max_tokens}; it must be 0 or more", param="max_tokens")
        for name in ("logprobs", "prompt_logprobs"):
            if (top := getattr(self, name)) is not None:
                _check_range(name, top, 0, 20)
        most = math.inf if self.max_tokens is None else self.max_tokens
        _check_range("min_tokens", self.min_tokens, 0, most)
        if any(text == "" for text in self.stop):
            raise OctavoError("a stop text is empty; leave it out or give it characters", param="stop")
        if self.beams is not None:
            for name, neutral in UNSEARCHED.items():
                if getattr(self, name) != neutral:
                    raise OctavoError(f"beam search takes no {name}; leave it out, or sample", param=name)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A chosen token, its natural-log probability before temperature and penalties, and the likeliest alternatives."""

    id: int
    text: str
    bytes: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """First event: the prompt is accepted. prompt_tokens: its length; cached_tokens: how many needed no computing.

    ids: the prompt's tokens, empty where the model does not show them.
    """

    prompt_tokens: int
    cached_tokens: int = 0
    ids: Sequence[int] = field(default=(), compare=False)


@dataclass(frozen=True)
class Scores:
    """Teacher-forced log-probabilities of a text.

    ids: (n,) its tokens. logprobs: natural logs, None for the first, which nothing precedes.
    top: for each token the likeliest alternatives at its place, empty for the first or when none were asked.
    ranks: of each among all tokens at its place, 1 the likeliest; None for the first.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float | None, ...]
    top: tuple[tuple[TokenLogprob, ...], ...] = ()
    ranks: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """New text, never half a character, never part of a stop text. It may be empty while text is held back.

    token_ids: the tokens sampled since the last delta. logprobs: one a token where the request asked for them.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """Last event. stop: the text or token id that ended the answer, when one did.

    drafted_tokens, accepted_tokens: how many tokens were guessed in advance, and how many of those were right.
    others: the further answers of a beam search, the better first, each as the two events that it ends with.
    """

    reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    stop: str | int | None = None
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    others: tuple[tuple[Delta, Finished], ...] = ()


Event = Started | Scores | Delta | Finished


class Stream(Protocol):
    """An iterator over one request's events: Started, Scores where prompt_logprobs were asked, Delta*, Finished."""

    def __iter__(self) -> Iterator[Event]: ...

    def __next__(self) -> Event: ...

    def close(self) -> None:
        """Stop the request and free what it holds; from any thread, any number of times."""
        ...


class LanguageModel(Protocol):
    """Text in, text out.

    tokenizer: None where a remote model does not show its own. sampling: what the model's authors advise; the values
    that a request leaves open start from it.
    """

    name: str
    context_length: int
    sampling: Sampling

    @property
    def tokenizer(self) -> Tokenizer | None: ...

    def stream(self, request: Request) -> Stream:
        """Start a request. Errors of the request itself are raised here, before the first event."""
        ...

    def score(
        self, text: str | Sequence[int], *, top: int = 0, start: int = 0, cancelled: threading.Event | None = None
    ) -> Scores:
        """Log-probabilities of each token of a text given those before it.

        start: tokens before this number get none, so that texts with one beginning share what is computed of it.
        cancelled: set by another thread, it ends the work early, with OctavoError.
        """
        ...

    def close(self) -> None:
        """Free threads and memory. Idempotent."""
        ...


@dataclass(frozen=True)
class Completion:
    """A whole answer: its text and how it ended. prompt_scores: where prompt_logprobs were asked."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]
    finished: Finished
    prompt_scores: Scores | None = None


def complete(model: LanguageModel, request: Request) -> Completion:
    """Run a request to its end and collect it."""
    texts: list[str] = []
    ids: list[int] = []
    logprobs: list[TokenLogprob] = []
    finished: Finished | None = None
    scores: Scores | None = None
    for event in model.stream(request):
        if isinstance(event, Delta):
            texts.append(event.text)
            ids.extend(event.token_ids)
            logprobs.extend(event.logprobs)
        elif isinstance(event, Scores):
            scores = event
        elif isinstance(event, Finished):
            finished = event
    assert finished is not None, "a stream ends with Finished"
    return Completion("".join(texts), tuple(ids), tuple(logprobs), finished, scores)
