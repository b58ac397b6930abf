"""A real browser and a real server with scripted models, for the tests of the chat page."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from octavo.generate.lm import LanguageModel
from octavo.serve.http.lifecycle import Server
from octavo.serve.http.server import bind
from octavo.serve.http.settings import ServerSettings

CHROMIUM = Path("/usr/bin/chromium")


class RunningServer:
    """A server in a thread, on a free port."""

    def __init__(self, models: tuple[LanguageModel, ...], settings: ServerSettings) -> None:
        self.url = ""
        listener = bind("127.0.0.1", settings.port)
        self._server = Server(listener, settings)
        loaded: Future[Any] = Future()
        loaded.set_result(models)
        ready = threading.Event()

        def note(url: str, names: object) -> None:
            self.url = url
            ready.set()

        def live() -> None:
            with listener:
                asyncio.run(self._server.live(loaded, note))

        self._thread = threading.Thread(target=live)
        self._thread.start()
        assert ready.wait(20), "the server did not start"

    def stop(self) -> None:
        """Stop at once."""
        self._server.stop()
        self._server.stop()
        self._thread.join(20)


@pytest.fixture
def serve() -> Iterator[Callable[..., RunningServer]]:
    """Start servers: serve(model, ..., port=0, api_key=None, folders=())."""
    running = []

    def start(*models: LanguageModel, port: int = 0, **settings: Any) -> RunningServer:
        running.append(RunningServer(models, ServerSettings(port=port, **settings)))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless browser. Of a module, since a test outside cannot run an event loop while it lives."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    playwright.expect.set_options(timeout=15_000)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A browser window and what it must not do: log errors or ask other hosts."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(15_000)
        self.page = self.context.new_page()
        self.expected = r"$^"
        self._messages: list[str] = []
        self._urls: list[str] = []
        self.page.on("console", lambda message: self._messages.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self._messages.append(f"error: {error}"))
        self.context.on("request", lambda request: self._urls.append(request.url))

    def go(self, url: str) -> Any:
        """Open the page and wait until the models are listed."""
        self.page.goto(url)
        self.page.get_by_role("combobox", name="Model").locator("option").first.wait_for(state="attached")
        return self.page

    def check(self, url: str) -> None:
        """Fail on console messages that the test did not expect and on requests to another origin."""
        assert [text for text in self._messages if not re.search(self.expected, text)] == []
        assert self._urls and all(asked.startswith((url + "/", f"blob:{url}/")) for asked in self._urls), self._urls


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Visit]]:
    """Open windows: visit(**context_options). They are closed at the end."""
    opened: list[Visit] = []

    def start(**options: Any) -> Visit:
        opened.append(Visit(chromium, **options))
        return opened[-1]

    yield start
    for window in opened:
        window.context.close()
