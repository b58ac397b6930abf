"""A language model that says what it was told to: for tests of everything above the seam.

It splits its answers into words as if they were tokens, honours max_tokens and stop, and records the requests. A
constraint is recorded and not kept: the script is the answer.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence

from octavo.errors import UnsupportedError
from octavo.generate.lm import Delta, Event, Finished, FinishReason, Request, Sampling, Scores, Started, TokenLogprob
from octavo.generate.stopping import StopMatcher
from octavo.text.tokenizer import Tokenizer

Answer = str | Callable[[Request], str]


class ScriptedModel:
    """Answers in turn, the last one for ever; an answer may be a function of the request.

    delay: seconds before each token. `requests` holds what was asked, `closed` how many streams were closed early.
    """

    tokenizer: Tokenizer | None = None

    def __init__(self, answers: Sequence[Answer], *, name: str = "scripted", delay: float = 0.0) -> None:
        assert answers, "a scripted model needs an answer"
        self.name = name
        self.context_length = 1 << 20
        self.sampling = Sampling()
        self.requests: list[Request] = []
        self.closed = 0
        self._answers = list(answers)
        self._delay = delay
        self._lock = threading.Lock()

    def stream(self, request: Request) -> ScriptedStream:
        """Start the next answer."""
        with self._lock:
            answer = self._answers[min(len(self.requests), len(self._answers) - 1)]
            self.requests.append(request)
        text = answer if isinstance(answer, str) else answer(request)
        return ScriptedStream(text, request, self._delay, self._note_closed)

    def score(
        self, text: str | Sequence[int], *, top: int = 0, start: int = 0, cancelled: threading.Event | None = None
    ) -> Scores:
        """Refused: a script has no probabilities."""
        raise UnsupportedError("a scripted model cannot score a text; use a local model")

    def close(self) -> None:
        """Nothing to free."""

    def _note_closed(self) -> None:
        with self._lock:
            self.closed += 1


class ScriptedStream:
    """The events of one scripted answer."""

    def __init__(self, text: str, request: Request, delay: float, on_close: Callable[[], None]) -> None:
        self._events = _events(re.findall(r"\s*\S+|\s+$", text), request)
        self._delay = delay
        self._on_close = on_close
        self._cancelled = threading.Event()
        self._ended = False
        self._reported = False

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        if self._ended:
            raise StopIteration
        if self._delay:
            self._cancelled.wait(self._delay)
        event = Finished("cancelled", 0, 0) if self._cancelled.is_set() else next(self._events)
        self._ended = isinstance(event, Finished)
        return event

    def close(self) -> None:
        """End the stream; its next event says that it was cancelled."""
        if not self._ended and not self._reported:
            self._reported = True
            self._on_close()
        self._cancelled.set()


def _events(pieces: Sequence[str], request: Request) -> Iterator[Event]:
    prompt_tokens = len(str(request.prompt).split())
    yield Started(prompt_tokens)
    stops = StopMatcher(request.stop)
    count = 0
    reason: FinishReason = "stop"
    for token_id, piece in enumerate(pieces):
        if request.max_tokens is not None and count >= request.max_tokens:
            reason = "length"
            break
        count += 1
        text = stops.push(piece)
        yield Delta(text, (token_id,), _logprobs(token_id, piece, request.logprobs))
        if stops.matched is not None:
            break
    rest = stops.flush()
    if rest:
        yield Delta(rest, ())
    yield Finished(reason, prompt_tokens, count, stops.matched)


def _logprobs(token_id: int, piece: str, top: int | None) -> tuple[TokenLogprob, ...]:
    if top is None:
        return ()
    chosen = TokenLogprob(token_id, piece, piece.encode(), -0.1)
    return (TokenLogprob(token_id, piece, piece.encode(), -0.1, (chosen,) * min(top, 1)),)
