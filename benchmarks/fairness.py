"""Claim: beside busy programs the kernels keep their fair share of the processors, and twice llama.cpp's speed.

Decoding at batch 1 on two threads and two cores (chosen by the process's affinity, where there are more): alone, beside
one busy program that stays on one of the cores, and beside four that go where they like. A fair share is what our
threads would get if all threads had the same: 2 / 3 of the speed alone beside one program, 1 / 3 beside four. Ours and
llama.cpp's turns alternate, each in a process of its own; figures are medians over the rounds with their range.

    python benchmarks/fairness.py [--model FILE.gguf] [--rounds 3] [--steps 60] [--llama-cpp FOLDER]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import decode
import llama_cpp

from octavo import settings
from octavo.fetching import sources

BUSY = "while True:\n    pass"
CORES = 2
BESIDE = {"alone": (), "beside 1 on one core": (1,), "beside 4": (None,) * 4}
"""Busy programs of each case: the core each stays on, or None."""
FAIR = {"beside 1 on one core": 2 / 3, "beside 4": 1 / 3}


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    cores = settings.processors()[:CORES]
    if len(cores) < CORES:
        print(f"this needs {CORES} cores; {len(cores)} can be used here")
        return
    os.sched_setaffinity(0, cores)
    model = arguments.model or sources.pull("smollm2-135m-instruct")
    sides = ["octavo"] + (["llama.cpp"] if llama_cpp.steps(arguments.llama_cpp) else [])
    speeds: dict[tuple[str, str], list[float]] = {}
    for _ in range(arguments.rounds):
        for case, places in BESIDE.items():
            with busy(places, cores):
                for side in sides:
                    seconds = decode.one_round(side, model, arguments)
                    speeds.setdefault((case, side), []).append(decode.figures(seconds, 0)["decode 1"])
    print(f"decode at batch 1, {CORES} threads on {CORES} cores, load {os.getloadavg()[0]:.1f} at the end, tokens/s")
    for case in BESIDE:
        print(f"  {case}: " + ", ".join(f"{side} {_spread(speeds[case, side])}" for side in sides))
    report(speeds, sides)


def report(speeds: dict[tuple[str, str], list[float]], sides: list[str]) -> None:
    """Shares of the speed alone, over the fair one; and the ratio to llama.cpp beside four."""
    for case, fair in FAIR.items():
        for side in sides:
            shares = [now / alone / fair for now, alone in zip(speeds[case, side], speeds["alone", side], strict=True)]
            asked = ", asked for: 0.75" if side == "octavo" and case != "beside 4" else ""
            print(f"  {side} {case}, share of the fair speed: {_spread(shares, 2)}{asked}")
    if len(sides) > 1:
        ours, theirs = (speeds["beside 4", side] for side in sides)
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        print(f"  beside 4, octavo / llama.cpp: {_spread(ratios, 2)}, asked for: 2, aimed at: 5")


@contextmanager
def busy(places: tuple[int | None, ...], cores: tuple[int, ...]) -> Iterator[None]:
    """Programs that compute without end while the block runs. places: which of the cores each stays on, or None."""
    running = []
    for place in places:
        allowed = {cores[place]} if place is not None else set(cores)
        program = f"import os; os.sched_setaffinity(0, {allowed!r})\n{BUSY}"
        running.append(subprocess.Popen([sys.executable, "-c", program]))
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def _spread(values: list[float], digits: int = 0) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="default: SmolLM2, pulled where it is missing")
    parser.add_argument("--threads", type=int, default=CORES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="decode steps a round, at most 128")
    parser.add_argument("--llama-cpp", type=Path, default=llama_cpp.default_folder(), help="folder of its build")
    return parser.parse_args()


if __name__ == "__main__":
    main()
