"""One answer to a request that generates: whole as JSON, or piece by piece as a stream.

Unusual: an API family says how its answers are written (`Wire`); OpenAI's two kinds of completions differ only in their
choices (`Shape`). An answer is a response that generates while it is sent, so that a client who leaves is seen in both
forms. A stream's headers go out when the model has accepted the request: what is refused before is an ordinary error.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from octavo.generate.lm import Event, Finished, LanguageModel, Scores, Started
from octavo.serve.errors import ApiError, as_api_error
from octavo.serve.generation import ClientLeft, Generation, Item, Job
from octavo.serve.serving import Serving, stopping

SSE_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
PING = b": ping\n\n"
JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
"""Made once: `json.dumps` makes an encoder at each call that asks for anything."""


class Shape(Protocol):
    """How an API family writes answers: chat and plain completions."""

    prompt_param: str
    """The field that holds the prompt."""
    usage: Usage
    """The token counts of the request, which the shape adds to what it alone sees."""
    include_usage: bool
    """Whether a stream ends with the token counts."""

    def envelope(self, *, streamed: bool) -> dict[str, Any]:
        """The fields around the choices, the same in every chunk of an answer."""
        ...

    def pieces(self, index: int, event: Event | Scores) -> list[dict[str, Any]]:
        """What a stream's choices say of one event, each for a chunk of its own."""
        ...

    def whole(self, index: int, events: Sequence[Event | Scores]) -> dict[str, Any]:
        """The choice of a finished answer."""
        ...


class Usage:
    """Token counts over all answers of a request; a prompt counts once, however many answers it has.

    thoughts: tokens of the model's thinking, counted by who reads them out of its text. predicts: whether the request
    said what the answer may be; then right and wrong guesses are those of its prediction.
    """

    def __init__(self, answers_a_prompt: int, *, predicts: bool = False) -> None:
        self.thoughts = 0
        self._answers_a_prompt = answers_a_prompt
        self._predicts = predicts
        self._prompt = self._cached = self._completion = self._drafted = self._accepted = 0

    def add(self, index: int, event: Event | Scores) -> None:
        """Count what an event says."""
        if isinstance(event, Started) and index % self._answers_a_prompt == 0:
            self._prompt += event.prompt_tokens
            self._cached += event.cached_tokens
        elif isinstance(event, Finished):
            self._completion += event.completion_tokens
            if self._predicts:
                self._drafted += event.drafted_tokens
                self._accepted += event.accepted_tokens

    def body(self) -> dict[str, Any]:
        """OpenAI's `usage` object."""
        return {
            "prompt_tokens": self._prompt,
            "completion_tokens": self._completion,
            "total_tokens": self._prompt + self._completion,
            "prompt_tokens_details": {"cached_tokens": self._cached},
            "completion_tokens_details": {
                "reasoning_tokens": self.thoughts,
                "accepted_prediction_tokens": self._accepted,
                "rejected_prediction_tokens": self._drafted - self._accepted,
            },
        }


class Wire(Protocol):
    """How answers travel: OpenAI's events, or another API's lines."""

    headers: Mapping[str, str]
    """Of a stream."""
    ping: bytes
    """What is sent when nothing happens for long."""
    prompt_param: str
    """The field that holds the prompt."""
    usage: Usage
    """The token counts of the request."""

    def written(self, index: int, event: Event | Scores) -> bytes:
        """What a stream says of one event; it may be nothing."""
        ...

    def end(self, usage: Usage) -> bytes:
        """What a stream says when all is made."""
        ...

    def failed(self, error: ApiError) -> bytes:
        """What a stream says that breaks off."""
        ...

    def whole(self, events: Sequence[Sequence[Event | Scores]], usage: Usage) -> dict[str, Any]:
        """The body of a finished answer: of each choice its events."""
        ...


class EventStream:
    """The wire of OpenAI's chat and plain completions: server-sent events, or one object."""

    headers: Mapping[str, str] = SSE_HEADERS
    ping = PING

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self.prompt_param = shape.prompt_param
        self.usage = shape.usage
        self._no_usage = ',"usage":null' if shape.include_usage else ""
        self._around: dict[str, Any] = {}
        self._begin = ""

    def written(self, index: int, event: Event | Scores) -> bytes:
        """One chunk for each piece. What is around the choices is the same in all: it is written out once."""
        pieces = self._shape.pieces(index, event)
        envelope = self._shape.envelope(streamed=True)
        if envelope != self._around:
            self._around, self._begin = envelope, f'data: {JSON.encode(envelope)[:-1]},"choices":['
        chunks = [f"{self._begin}{JSON.encode(piece)}]{self._no_usage}}}\n\n" for piece in pieces]
        return "".join(chunks).encode()

    def end(self, usage: Usage) -> bytes:
        """The token counts, where they were asked for."""
        counts = {**self._shape.envelope(streamed=True), "choices": [], "usage": usage.body()}
        return (sse(counts) if self._shape.include_usage else b"") + b"data: [DONE]\n\n"

    def failed(self, error: ApiError) -> bytes:
        """The error as an event."""
        return sse(error.body())

    def whole(self, events: Sequence[Sequence[Event | Scores]], usage: Usage) -> dict[str, Any]:
        """All choices and the token counts."""
        choices = [self._shape.whole(index, happened) for index, happened in enumerate(events)]
        return {**self._shape.envelope(streamed=False), "choices": choices, "usage": usage.body()}


class Answer(Response):
    """The response. keep: called with the token counts when all is made, before the client hears of it.

    Raises, before it has sent anything, ApiError for a request that the model or the queue refuses."""

    def __init__(
        self,
        serving: Serving,
        model: LanguageModel,
        jobs: Sequence[Job],
        wire: Wire,
        stream: bool,
        keep: Callable[[dict[str, Any]], None] = lambda usage: None,
    ) -> None:
        super().__init__()
        self._keep = keep
        self._serving = serving
        self._answers = sum(job.answers for job in jobs)
        self._wire = wire
        self._streamed = stream
        self._usage = wire.usage
        self._generation = serving.begin(model, jobs)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        generation = self._generation
        try:
            generation.start()
            async with generation.watching(receive):
                if self._streamed:
                    await self._stream(generation, scope, send)
                else:
                    await (await self._whole(generation))(scope, receive, send)
        except ClientLeft:
            return
        except Exception as error:
            raise self._api_error(error, scope) from None
        finally:
            self._serving.end(generation)

    def _api_error(self, error: Exception, scope: Scope) -> ApiError:
        return as_api_error(error, request_id=scope["request_id"], prompt_param=self._wire.prompt_param)

    async def _whole(self, generation: Generation) -> JSONResponse:
        events: list[list[Event | Scores]] = [[] for _ in range(self._answers)]
        async for item in generation.items():
            index, event = self._counted(item)
            events[index].append(event)
        body = self._wire.whole(events, self._usage)
        self._keep(self._usage.body())
        return JSONResponse(body)

    async def _stream(self, generation: Generation, scope: Scope, send: Send) -> None:
        items = generation.items(self._serving.settings.ping_seconds)
        first = await anext(items)
        while first is None:  # still waiting for its turn: an error would still be an HTTP error
            first = await anext(items)
        headers = [(name.encode(), value.encode()) for name, value in self._wire.headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async for data in self._chunks(generation, first, items):
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except ClientLeft:
            raise
        except Exception as error:
            data = self._wire.failed(self._api_error(error, scope))
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunks(
        self, generation: Generation, first: Item, items: AsyncIterator[Item | None]
    ) -> AsyncIterator[bytes]:
        """What is at hand goes out together: handing it to the system costs more than making it."""
        data = self._wire.written(*self._counted(first))
        try:
            while True:
                if data and not generation.at_hand:
                    yield data
                    data = b""
                item = await anext(items)
                data += self._wire.ping if item is None else self._wire.written(*self._counted(item))
        except StopAsyncIteration:
            pass
        except ClientLeft:
            raise
        except Exception:  # what was said before it is heard
            if data:
                yield data
            raise
        self._keep(self._usage.body())
        yield data + self._wire.end(self._usage)

    def _counted(self, item: Item | None) -> Item:
        assert item is not None
        index, event = item
        if isinstance(event, Finished) and event.reason == "cancelled":
            raise stopping()  # nobody cancels an answer that is still read, but a model that closes
        self._usage.add(index, event)
        return item


def sse(value: Any, event: str | None = None) -> bytes:
    """A server-sent event, named where the API names its events."""
    name = "" if event is None else f"event: {event}\n"
    return f"{name}data: {JSON.encode(value)}\n\n".encode()


def serving_of(request: Request) -> Serving:
    """The server's state, as routes reach it."""
    serving = request.app.state.serving
    assert isinstance(serving, Serving)
    return serving
