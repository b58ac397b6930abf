"""A response that is being made: a task of the server that fills a builder, and readers that follow its events.

Unusual: the task belongs to the response, not to the connection. A client who leaves ends it, unless it was asked to
run in the background; then it goes on, can be read by anyone who may, and is cancelled by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from octavo.generate.lm import Finished
from octavo.serve.errors import ApiError, as_api_error
from octavo.serve.generation import Generation
from octavo.serve.responses.events import ResponseBuilder
from octavo.serve.serving import Serving, stopping


class Cancelled(Exception):
    """The response was told to stop."""

    code = "cancelled"


class ResponseRun:
    """kept: called when it has ended, to keep what it made. begun: called when it has begun, before the answer."""

    def __init__(
        self,
        serving: Serving,
        generation: Generation,
        builder: ResponseBuilder,
        kept: Callable[[ResponseBuilder], None],
        begun: Callable[[ResponseBuilder], None] = lambda builder: None,
    ) -> None:
        self.builder = builder
        self._serving = serving
        self._generation = generation
        self._kept = kept
        self._begun = begun
        self.error: ApiError | None = None
        """What it failed with."""
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
        self._task = asyncio.ensure_future(self._run())

    def cancel(self) -> None:
        """Stop it. Idempotent."""
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
        try:
            async for item in self._generation.items():
                assert item is not None
                event = item[1]
                if isinstance(event, Finished) and event.reason == "cancelled":
                    raise stopping()
                self.builder.take(event)
                if not self.builder.ended:  # what has ended is kept before it is told
                    self._notify()
        except Cancelled:
            self.builder.cancel()
        except Exception as error:
            self.error = as_api_error(error, request_id=self.builder.response["id"], prompt_param="input")
            self.builder.fail(self.error)
        finally:
            self._serving.end(self._generation)
            self._kept(self.builder)
            self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
