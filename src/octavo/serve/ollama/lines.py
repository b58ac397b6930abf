"""How Ollama's API writes answers: one JSON object a line, the last with counts and durations in nanoseconds."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from octavo.generate.lm import Delta, Event, Finished, Scores, Started
from octavo.serve.answering import Shape, Usage
from octavo.serve.errors import ApiError

NDJSON = {"content-type": "application/x-ndjson", "cache-control": "no-cache", "x-accel-buffering": "no"}


def now() -> str:
    """This moment as Ollama writes it."""
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")


class Lines:
    """The wire of `/api/chat` and `/api/generate`, over the choices of our own chat or completion.

    started: when the request came, load_seconds: how long its model took to load; `time.monotonic()`.
    """

    headers: Mapping[str, str] = NDJSON
    ping = b""

    def __init__(
        self, kind: Literal["chat", "generate"], model: str, shape: Shape, *, started: float, load_seconds: float
    ) -> None:
        self.prompt_param = shape.prompt_param
        self.usage = shape.usage
        self._kind = kind
        self._model = model
        self._shape = shape
        self._started = started
        self._load_seconds = load_seconds
        self._read = self._first = started
        self._counts = (0, 0)
        self._reason = "stop"
        self._calls: list[dict[str, Any]] = []

    def written(self, index: int, event: Event | Scores) -> bytes:
        """A line for each piece of text; calls wait until they are whole."""
        self._note(event)
        lines = [self._line(piece) for piece in self._shape.pieces(index, event)]
        return b"".join(_as_line(line) for line in lines if line is not None)

    def end(self, usage: Usage) -> bytes:
        """Calls, then the last line."""
        calls = _as_line(self._object("", calls=self._made())) if self._calls else b""
        return calls + _as_line(self._object("") | self._totals())

    def failed(self, error: ApiError) -> bytes:
        """The error as a line."""
        return _as_line({"error": error.message})

    def whole(self, events: Sequence[Sequence[Event | Scores]], usage: Usage) -> dict[str, Any]:
        """All of it in one object."""
        pieces = []
        for event in events[0]:
            self._note(event)
            pieces += [self._collected(piece) for piece in self._shape.pieces(0, event)]
        text = "".join(said for said, _, _ in pieces)
        thoughts = "".join(thought for _, thought, _ in pieces)
        logprobs = [entry for _, _, entries in pieces for entry in entries]
        return self._object(text, thoughts=thoughts, calls=self._made(), logprobs=logprobs) | self._totals()

    def _note(self, event: Event | Scores) -> None:
        if isinstance(event, Started):
            self._read = self._first = time.monotonic()
        elif isinstance(event, Delta) and self._first == self._read:
            self._first = time.monotonic()
        elif isinstance(event, Finished):
            self._counts = (event.prompt_tokens, event.completion_tokens)
            self._reason = event.reason

    def _line(self, piece: Mapping[str, Any]) -> dict[str, Any] | None:
        text, thoughts, logprobs = self._collected(piece)
        return self._object(text, thoughts=thoughts, logprobs=logprobs) if text or thoughts or logprobs else None

    def _collected(self, piece: Mapping[str, Any]) -> tuple[str, str, list[Any]]:
        """A piece's text, thoughts and log-probabilities; parts of calls are kept."""
        if "text" in piece:
            return piece["text"], "", []
        delta = piece["delta"]
        for part in delta.get("tool_calls", ()):
            function = part["function"]
            if "id" in part:
                self._calls.append({"name": function["name"], "arguments": ""})
            else:
                self._calls[-1]["arguments"] += function["arguments"]
        logprobs = piece.get("logprobs")
        return delta.get("content", ""), delta.get("reasoning_content", ""), logprobs["content"] if logprobs else []

    def _made(self) -> list[dict[str, Any]]:
        """The calls, their arguments as objects; a cut call's stay what they are: the text under one name."""
        made = []
        for call in self._calls:
            try:
                arguments = json.loads(call["arguments"] or "{}")
            except ValueError:
                arguments = {"text": call["arguments"]}
            made.append({"function": {"name": call["name"], "arguments": arguments}})
        return made

    def _object(
        self,
        text: str,
        *,
        thoughts: str = "",
        calls: Sequence[dict[str, Any]] = (),
        logprobs: Sequence[dict[str, Any]] = (),
    ) -> dict[str, Any]:
        base: dict[str, Any] = {"model": self._model, "created_at": now(), "done": False}
        thinking = {"thinking": thoughts} if thoughts else {}
        if self._kind == "chat":
            called = {"tool_calls": list(calls)} if calls else {}
            base["message"] = {"role": "assistant", "content": text, **thinking, **called}
        else:
            base |= {"response": text, **thinking}
        return base | ({"logprobs": list(logprobs)} if logprobs else {})

    def _totals(self) -> dict[str, Any]:
        ended = time.monotonic()
        return {
            "done": True,
            "done_reason": self._reason,
            "total_duration": _nanoseconds(ended - self._started),
            "load_duration": _nanoseconds(self._load_seconds),
            "prompt_eval_count": self._counts[0],
            "prompt_eval_duration": _nanoseconds(self._first - self._read),
            "eval_count": self._counts[1],
            "eval_duration": _nanoseconds(ended - self._first),
        }


def _nanoseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e9))


def _as_line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
