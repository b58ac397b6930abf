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
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import race
from timing import spread, verdict

from octavo import settings

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
    with race.folder_of(arguments) as folder:
        entry = race.Entry("smollm2", folder, arguments.model)
        races = {case: race.Race(case, clock=0) for case in BESIDE}
        sides = race.commands(entry, arguments)
        for _ in range(arguments.rounds):
            for case, places in BESIDE.items():
                with busy(places, cores):
                    for side, command in sides.items():
                        races[case].add(side, race.turn(command, arguments.threads, arguments.steps, folder / "home"))
    print(f"decode at batch 1 on {CORES} cores, tokens/s; {race.heading(arguments)} at the end")
    report({case: {side: found.rounds(side, "decode 1") for side in sides} for case, found in races.items()})


def report(speeds: dict[str, dict[str, list[float]]]) -> None:
    """Speeds, shares of the speed alone over the fair one, and the ratio to llama.cpp beside four."""
    for case, sides in speeds.items():
        print(f"  {case}: " + ", ".join(f"{side} {spread(values, 0)}" for side, values in sides.items()))
    for case, fair in FAIR.items():
        for side, values in speeds[case].items():
            shares = [now / alone / fair for now, alone in zip(values, speeds["alone"][side], strict=True)]
            asked = verdict((0.75, None), shares) if side == "octavo" and case != "beside 4" else ""
            print(f"  {side} {case}, share of the fair speed: {spread(shares)}{asked}")
    ours, theirs = speeds["beside 4"]["octavo"], speeds["beside 4"].get("llama.cpp")
    if theirs:
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        print(f"  beside 4, octavo / llama.cpp: {spread(ratios)}{verdict((2, 5), ratios)}")


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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    race.add_options(parser, ("llama.cpp",), steps=60)
    parser.set_defaults(threads=CORES)
    return parser.parse_args()


if __name__ == "__main__":
    main()
