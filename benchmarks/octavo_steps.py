"""Octavo's runner, called as the engine calls it, one timed step at a time: a side of race.py.

Usage: octavo_steps.py MODEL THREADS STEPS. Prints what llama_steps.c prints.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from timing import Times, timed

from octavo.models.checkpoint import open_checkpoint
from octavo.models.compiled import CompiledRunner
from octavo.models.packing.cache import pack_cache
from octavo.models.runner import Row

CONTEXT, PROMPT, SEQUENCES = 1024, 512, 8


def measure(model: Path, threads: int, steps: int) -> dict[str, Any]:
    """Seconds of loading, and of each step."""
    start = time.perf_counter()
    checkpoint = open_checkpoint(model)
    runner = CompiledRunner(checkpoint, num_blocks=CONTEXT // 16, threads=threads, cache=pack_cache(checkpoint))
    load = time.perf_counter() - start

    def decode(batch: int) -> Times:
        def rows(position: int) -> list[Row]:
            tokens = [np.array([100 + 7 * row + position], np.int32) for row in range(batch)]
            return [Row(token, position, range(8 * row, 8 * row + 8), 0) for row, token in enumerate(tokens)]

        return [timed(lambda position=position: runner.step(rows(position))) for position in range(steps)]  # type: ignore[misc]

    prompt = Row(np.arange(100, 100 + PROMPT, dtype=np.int32), 0, range(CONTEXT // 16), PROMPT - 1)
    result: dict[str, Any] = {"load": load, "decode 1": decode(1), "decode 8": decode(SEQUENCES)}
    result["prefill 512"] = [timed(lambda: runner.step([prompt])) for _ in range(2)]
    runner.close()
    return result


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
