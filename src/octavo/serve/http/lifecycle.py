"""The life of a running server: loading, ready, stopping.

When told to stop it refuses new work with 503, gives running answers their grace, then ends them with an error that
says so. A second signal ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from types import FrameType

import uvicorn

from octavo.generate.lm import LanguageModel
from octavo.serve.app import create_app
from octavo.serve.documents.folders import serve_folders
from octavo.serve.http.server import address_of
from octavo.serve.http.settings import ServerSettings
from octavo.serve.pool import Load
from octavo.serve.serving import Serving

OnReady = Callable[[str, Sequence[str]], None]
OnDemand = Mapping[str, tuple[Load, str]]
"""Models by name: what loads each, and its reference."""
POLL_SECONDS = 0.05
UNLOAD_SECONDS = 1.0
"""Between looks for models that nobody asks for."""
EXPIRE_SECONDS = 60.0
"""Between looks for files and vector stores whose time is over."""


class Server(uvicorn.Server):
    """uvicorn's server with our own way to stop. `stop` may be called from any thread."""

    def __init__(self, listener: socket.socket, settings: ServerSettings, on_demand: OnDemand | None = None) -> None:
        app = create_app((), settings)
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=settings.access_log,
                server_header=False,
                timeout_graceful_shutdown=3,
            )
        )
        self.serving: Serving = app.state.serving
        for name, (load, reference) in (on_demand or {}).items():
            self.serving.models.on_demand(name, load, reference)
        for name, base in settings.adapters:
            self.serving.models.adapter(name, base)
        self.failure: BaseException | None = None
        self._listener = listener
        self._settings = settings
        self._stops = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Stop gracefully; called again: at once."""
        self._stops += 1
        if self._stops > 1:
            self.should_exit = self.force_exit = True
        elif self._loop is not None:
            self._loop.call_soon_threadsafe(self._begin_drain)
        else:
            self.should_exit = True

    async def live(self, loading: Future[Sequence[LanguageModel]], on_ready: OnReady) -> None:
        """Serve until stopped. Raises what loading raised."""
        self._loop = asyncio.get_running_loop()
        begun = (self._open(loading, on_ready), self._unload_unused(), self._read_documents(), self._forget_expired())
        tasks = [asyncio.create_task(task) for task in begun]
        try:
            await self.serve(sockets=[self._listener])
        finally:
            for task in tasks:
                task.cancel()
            self.serving.models.close()
            self.serving.documents.close()
            self.serving.encoders.close()
            self.serving.mcp.close()
            self.serving.state.close()
        if self.failure is not None:
            raise self.failure

    async def _open(self, loading: Future[Sequence[LanguageModel]], on_ready: OnReady) -> None:
        """Wait for the models, then say that the server is ready."""
        try:
            for model in await asyncio.wrap_future(loading):
                self.serving.add(model)
            while not self.started:
                await asyncio.sleep(0.005)
            on_ready(
                address_of(self._listener, self._settings.host), [entry.name for entry in self.serving.models.entries]
            )
        except Exception as error:
            self.failure = error
            self.should_exit = True

    async def _unload_unused(self) -> None:
        while True:
            await asyncio.sleep(UNLOAD_SECONDS)
            self.serving.models.unload_unused()

    async def _read_documents(self) -> None:
        """Go on with what was not indexed when the server last stopped; then see what is new in the folders."""
        await self.serving.documents.recover()
        await serve_folders(self.serving.documents, self.serving.owner, self._settings.folders)

    async def _forget_expired(self) -> None:
        while True:
            await self.serving.documents.forget_expired()
            await asyncio.sleep(EXPIRE_SECONDS)

    def _begin_drain(self) -> None:
        self.serving.phase = "stopping"
        self._draining = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        waited = 0.0
        while self.serving.generations and waited < self._settings.grace and not self.force_exit:
            await asyncio.sleep(POLL_SECONDS)
            waited += POLL_SECONDS
        self.serving.stop_generating()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal arrived."""
        self.stop()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM, and end as a success: unlike uvicorn's own, it does not raise them again."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


def serve(
    listener: socket.socket,
    loading: Future[Sequence[LanguageModel]],
    settings: ServerSettings,
    on_ready: OnReady,
    on_demand: OnDemand,
) -> None:
    """Serve on that socket until told to stop."""
    if settings.access_log:
        logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    asyncio.run(Server(listener, settings, on_demand).live(loading, on_ready))
