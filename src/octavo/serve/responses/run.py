"""A response that is being made: a task of the server that fills a builder, and readers that follow its events.

Unusual: the task belongs to the response, not to the connection. A client who leaves ends it, unless it was asked to
run in the background; then it goes on, can be read by anyone who may, and is cancelled by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from octavo.generate.lm import Finished, Request
from octavo.serve.errors import ApiError, as_api_error
from octavo.serve.generation import Generation
from octavo.serve.responses.events import ResponseBuilder
from octavo.serve.responses.turns import Turn, Turns
from octavo.serve.serving import Serving, stopping


class Cancelled(Exception):
    """The response was told to stop."""

    code = "cancelled"


class ResponseRun:
    """begin: makes the generation of a turn, not started. kept: called when all has ended, to keep what it made.
    begun: called when it has begun, before the first answer."""

    def __init__(
        self,
        serving: Serving,
        begin: Callable[[Request], Generation],
        builder: ResponseBuilder,
        first: Turn,
        turns: Turns,
        kept: Callable[[ResponseBuilder], None],
        begun: Callable[[ResponseBuilder], None],
    ) -> None:
        self.builder = builder
        self._serving = serving
        self._begin = begin
        self._generation = begin(first.request)
        self._first = first
        self._turns = turns
        self._cancelled = False
        self._kept = kept
        self._begun = begun
        self.error: ApiError | None = None
        """What it failed with."""
        self.begun = asyncio.Event()
        """Set when the model took the first turn, or refused it."""
        self.refusal: ApiError | None = None
        """What the first turn was refused with; nothing was said then."""
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, *, background: bool) -> None:
        """Begin. Raises ApiError when the server has no room for it; then nothing was begun."""
        try:
            self._generation.start()
        except BaseException:
            self._serving.end(self._generation)
            raise
        self.builder.begin(queued=background)
        self._begun(self.builder)
        self._first.begun(self.builder)
        self._task = asyncio.ensure_future(self._run())

    def cancel(self) -> None:
        """Stop it. Idempotent."""
        self._cancelled = True
        self._generation.abort(Cancelled())

    async def wait(self) -> None:
        """Until it has ended."""
        assert self._task is not None
        await asyncio.shield(self._task)

    async def follow(self, after: int, ping_seconds: float) -> AsyncIterator[dict[str, Any] | None]:
        """Its events with numbers above `after`, those to come too; None where nothing happened for ping_seconds."""
        at = after + 1
        while True:
            changed = self._changed
            while at < len(self.builder.events):
                yield self.builder.events[at]
                at += 1
            if self.builder.ended:
                return
            try:
                async with asyncio.timeout(ping_seconds):
                    await changed.wait()
            except TimeoutError:
                yield None

    async def _run(self) -> None:
        model = self._generation.model_name
        self._serving.models.hold(model)  # between two turns, too
        try:
            await self._turn()
            while not self._is_cut and (turn := await self._turns.next(self.builder)) is not None:
                if self._cancelled:
                    raise Cancelled
                self._generation = self._begin(turn.request)
                try:
                    self._generation.start()
                    self.builder.next_turn(turn.reader)
                    turn.begun(self.builder)
                except BaseException:
                    self._serving.end(self._generation)
                    raise
                self._notify()
                await self._turn()
            self.builder.end(cut=self._is_cut)
        except Cancelled:
            self.builder.cancel()
        except Exception as error:
            self.error = as_api_error(error, request_id=self.builder.response["id"], prompt_param="input")
            self.refusal = None if self.begun.is_set() else self.error
            self.builder.fail(self.error)
        finally:
            self.begun.set()
            self._serving.models.release(model)
            self._kept(self.builder)
            self._notify()

    @property
    def _is_cut(self) -> bool:
        finished = self.builder.finished
        return finished is not None and finished.reason == "length"

    async def _turn(self) -> None:
        """One answer of the model, to its end or until the rest of it is of no use."""
        generation = self._generation
        try:
            async for item in generation.items():
                assert item is not None
                event = item[1]
                if isinstance(event, Finished) and event.reason == "cancelled":
                    raise stopping()
                self.begun.set()
                self.builder.take(event)
                if self._turns.over:
                    generation.abort(Cancelled())
                    return
                if self.builder.finished is None:  # what has ended is kept before it is told
                    self._notify()
        finally:
            self._serving.end(generation)

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
