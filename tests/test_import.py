"""Importing is cheap: the package's door loads nothing, and running a model on the kernels never loads torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import octavo
from octavo.nn.kernels.binding import available

HEAVY = (
    "torch", "numpy", "tokenizers", "jinja2", "pydantic", "fastapi", "uvicorn", "rich", "httpx2", "transformers",
    "llguidance",
)  # fmt: skip


def loaded_after(code: str) -> set[str]:
    """Top-level modules of a fresh process after some code."""
    script = f"{code}\nimport sys\nprint('LOADED', *{{name.partition('.')[0] for name in sys.modules}})"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return set(output.rpartition("LOADED ")[2].split())


def test_import_octavo_loads_nothing_heavy() -> None:
    assert loaded_after("import octavo").isdisjoint({*HEAVY, "typer"})


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import octavo.cli\ntry:\n    octavo.cli.main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0"
    )
    loaded = loaded_after(code)
    assert "typer" in loaded and loaded.isdisjoint(HEAVY)


@pytest.mark.skipif(not available().built, reason="the kernels are not built here")
def test_an_answer_on_kernels_loads_no_torch_and_no_server(stories: Path) -> None:
    code = f"""
import octavo.cli, os
try:
    octavo.cli.main(['run', {str(stories)!r}, 'Once', '-n', '5', '--runner', 'kernels'])
except SystemExit as end:
    assert end.code == 0"""
    loaded = loaded_after(code)
    assert "numpy" in loaded and "tokenizers" in loaded
    assert loaded.isdisjoint({"torch", "pydantic", "fastapi", "uvicorn", "rich", "httpx2", "transformers"})


def test_every_exported_name_is_there_and_listed() -> None:
    assert octavo.__all__ == sorted(octavo.__all__)
    for name in octavo.__all__:
        assert getattr(octavo, name) is not None
    assert set(octavo.__all__) <= set(dir(octavo))
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        octavo.lod  # noqa: B018
