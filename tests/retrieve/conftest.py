"""The toy encoder and the site, as fixtures: test folders are no packages."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def encoder() -> Any:
    """A fresh `WordEncoder` of `toys.py`."""
    return runpy.run_path(str(Path(__file__).parent / "toys.py"))["WordEncoder"]()


@pytest.fixture
def server() -> Iterator[Any]:
    """A running `Server` of `site.py`."""
    made = runpy.run_path(str(Path(__file__).parent / "site.py"))["Server"]()
    yield made
    made.http.shutdown()
    made.http.server_close()
