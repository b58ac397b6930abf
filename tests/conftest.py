"""Fixtures that find real data and real weights, or skip with the reason."""

from __future__ import annotations

import json
import os
import runpy
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

# A process of the suite has a core to itself, and torch takes no more.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell ignores Ctrl-C for what it puts into the background, and so would all commands that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

DEFAULT_MODEL = "smollm2-135m-instruct"
DEFAULT_ENCODER = "all-minilm-l6-v2"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the project's data and specifications, beside the checkout or at OCTAVO_TEST_SHARED."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("OCTAVO_TEST_SHARED", beside))
    if not (folder / "data").is_dir():
        pytest.skip(f"no data folder at {folder}; set OCTAVO_TEST_SHARED")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> dict[str, Any]:
    """Golden values of the shipped SmolLM2 file."""
    result: dict[str, Any] = json.loads((shared / "specs/golden-smollm2.json").read_text())
    return result


@pytest.fixture(scope="session")
def stories(shared: Path) -> Path:
    """stories260K: the smallest real model, as a Hugging Face folder."""
    return shared / "data/weights/stories260K"


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real SmolLM2-135M-Instruct GGUF: given by OCTAVO_TEST_SMOLLM2, installed, or pulled now."""
    return _had("OCTAVO_TEST_SMOLLM2", DEFAULT_MODEL)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The real all-MiniLM-L6-v2 in the sentence-transformers layout: OCTAVO_TEST_MINILM, installed, or pulled now."""
    return _had("OCTAVO_TEST_MINILM", DEFAULT_ENCODER)


def _had(variable: str, name: str) -> Path:
    """A real model: where the variable says, installed, or pulled now; a skip where it cannot be had."""
    given = os.environ.get(variable)
    if given:
        return Path(given)
    from octavo.errors import OctavoError
    from octavo.fetching import sources

    try:
        return sources.pull(name)
    except OctavoError as error:
        pytest.skip(f"{name} cannot be had: {error}")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """Call it with a name of `tests/parity/tiny.py`: (folder of that tiny checkpoint, the peer's model of it)."""
    make = runpy.run_path(str(Path(__file__).parent / "parity/tiny.py"))["make_tiny"]

    @cache
    def made(name: str) -> tuple[Path, Any]:
        folder = tmp_path_factory.mktemp(name)
        return folder, make(name, folder)

    return made
