"""A running package index of `served.py`, as a fixture."""

from __future__ import annotations

import runpy
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from octavo.fetching import downloads, pypi_wheels
from octavo.fetching.pip_index import parse_pip_config

SERVED = runpy.run_path(str(Path(__file__).with_name("served.py")))


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A running index that pip's configuration points to, and an empty OCTAVO_HOME."""
    server = SERVED["Index"]()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OCTAVO_OFFLINE", raising=False)
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", server.url)
    monkeypatch.setattr(downloads, "_FIRST_PAUSE", 0.01)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def quick_pip(index: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration without asking pip for it, which takes half a second; some tests do ask."""
    config = parse_pip_config(f":env:.index-url={index.url!r}")
    monkeypatch.setattr(pypi_wheels, "read_pip_config", lambda: config)
