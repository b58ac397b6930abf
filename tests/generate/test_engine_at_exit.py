"""A program that forgets to close its model ends well, on either runner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from octavo.nn.kernels.binding import available


@pytest.mark.parametrize("runner", ["torch", "kernels"])
def test_a_model_that_is_never_closed_does_not_abort_the_process(runner: str, stories: Path) -> None:
    if runner == "kernels" and not available().built:
        pytest.skip("the kernels are not built here")
    code = f"""
import octavo
model = octavo.load({str(stories)!r}, runner={runner!r})
stream = model.stream(octavo.Request("Once upon a time", max_tokens=400))
for _ in range(3):
    next(stream)
"""
    for _ in range(3):  # the end meets the engine's thread in the middle of a step, or not
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert (result.returncode, result.stderr) == (0, "")
