"""The toy encoder, as a fixture: test folders are no packages."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def encoder() -> Any:
    """A fresh `WordEncoder` of `toys.py`."""
    return runpy.run_path(str(Path(__file__).parent / "toys.py"))["WordEncoder"]()
