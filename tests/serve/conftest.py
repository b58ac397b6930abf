"""A real server in a thread, on a free port, for any models."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
import pytest

from octavo.generate.lm import LanguageModel
from octavo.serve.http import server
from octavo.serve.http.lifecycle import Server
from octavo.serve.http.settings import ServerSettings


@dataclass
class Running:
    """A server that answers, its state, and clients for it."""

    address: str
    server: Server
    thread: threading.Thread
    clients: list[Any] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def openai(self, **options: Any) -> openai.OpenAI:
        return self._kept(
            openai.OpenAI(**{"base_url": f"{self.address}/v1", "api_key": "-", "max_retries": 0, **options})
        )

    def http(self) -> httpx2.Client:
        return self._kept(httpx2.Client(base_url=self.address))

    def _kept(self, client: Any) -> Any:
        self.clients.append(client)
        return client

    def stop(self) -> None:
        for client in self.clients:
            client.close()
        self.server.stop()
        self.thread.join(15)
        assert not self.thread.is_alive()

    def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come true in time"
            time.sleep(0.005)


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[..., Running]]:
    """A function that starts a server for models, or for a future of them, with settings by name."""
    started: list[Running] = []

    def start(models: Sequence[LanguageModel] | Future[Sequence[LanguageModel]], **settings: Any) -> Running:
        listener = server.bind("127.0.0.1", 0)
        instance = Server(listener, ServerSettings(port=0, **settings))
        loading: Future[Sequence[LanguageModel]] = Future()
        ready = threading.Event()
        if isinstance(models, Future):
            loading = models
            ready.set()
        else:
            loading.set_result(models)
        thread = threading.Thread(
            target=lambda: asyncio.run(instance.live(loading, lambda address, names: ready.set())), daemon=True
        )
        thread.start()
        assert ready.wait(10)
        running = Running(server.address_of(listener, "127.0.0.1"), instance, thread)
        started.append(running)
        return running

    yield start
    for running in started:
        running.stop()
