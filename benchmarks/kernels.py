"""Claim: at equal bytes the kernels decode and prefill faster than llama.cpp on every shape, batch 8 1.8 times as fast.

The real SmolLM2 file (Q4_1), and random weights in its shape and those of 0.5 B and 1.1 B: batch 1, batch 8, a prefill
of 512 tokens, beside llama.cpp in the same run and beside the memory bandwidth measured in it. The sides take turns, a
process each; a figure is the median over all steps, a ratio the median over the rounds with its range. Beside a ratio
stand what must hold and what is aimed at, as the best round has it: other programs only ever slow a side down. With
--threads 1 ratios are of processor time, which other programs disturb least.

    python benchmarks/kernels.py [--cases 135m/q8_0 1.1b/q4_0 ...] [--threads 2] [--rounds 3]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import decode
import llama_cpp
import numpy as np
import shapes

from octavo import settings
from octavo.fetching import sources
from octavo.nn.kernels import available

GATES = {
    "smollm2": {"decode 1": (2.0, 3.2), "decode 8": (4.5, 7.0), "prefill 512": (4.5, 8.0)},
    "135m/q4_0": {"decode 1": (1.6, 2.4), "decode 8": (3.0, 4.5), "prefill 512": (2.0, 3.2)},
    "135m/q8_0": {"decode 1": (1.25, 2.2), "decode 8": (2.8, 4.5), "prefill 512": (2.2, 3.8)},
    "135m/bf16": {"decode 1": (1.15, 1.8)},
    "1.1b/q4_0": {"decode 1": (1.2, 1.8)},
}
"""Ratios to llama.cpp that must hold and that are aimed at, on processors with AVX-512 and without AMX."""
SHARES = {"smollm2": (0.55, 0.85), "135m/q4_0": (0.55, 0.85)}
"""The same for the share of the bandwidth that decoding one sequence reads its weights at."""


def main() -> None:
    """Measure and print, case by case."""
    arguments = _arguments()
    level = available().level
    print(f"level {level}, {arguments.threads} threads, {'processor' if arguments.threads == 1 else 'wall'} time")
    with tempfile.TemporaryDirectory() as folder:
        real = arguments.model or sources.pull("smollm2-135m-instruct")
        measure("smollm2", real, arguments)
        for case in arguments.cases:
            path = Path(folder) / f"{case.replace('/', '-')}.gguf"
            shapes.write_shape(path, *case.split("/"))
            measure(case, path, arguments)
            path.unlink()


def measure(name: str, model: Path, arguments: argparse.Namespace) -> None:
    """All rounds of one model."""
    sides = ["octavo"] + (["llama.cpp"] if llama_cpp.steps(arguments.llama_cpp) else [])
    clock = 1 if arguments.threads == 1 else 0
    rounds: list[dict[str, dict[str, float]]] = []
    bandwidths = []
    for _ in range(arguments.rounds):
        bandwidths.append(read_bandwidth(arguments.threads, clock))
        rounds.append({side: decode.figures(decode.one_round(side, model, arguments), clock) for side in sides})
    bandwidth = statistics.median(bandwidths)
    print(f"{name}, load {os.getloadavg()[0]:.1f}, {bandwidth / 1e9:.0f} GB/s read")
    for figure in decode.TOKENS:
        print(
            f"  {figure}: " + ", ".join(f"{side} {_median(rounds, side, figure):.1f}" for side in sides) + " tokens/s"
        )
        if len(sides) > 1:
            ratios = sorted(found["octavo"][figure] / found["llama.cpp"][figure] for found in rounds)
            spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            print(f"    octavo / llama.cpp: {spread}{verdict(GATES.get(name, {}).get(figure), ratios[-1])}")
    share = _median(rounds, "octavo", "decode 1") * model.stat().st_size / bandwidth
    print(f"    batch 1 reads its weights at {share:.2f} of the bandwidth{verdict(SHARES.get(name), share)}")


def verdict(asked: tuple[float, float] | None, best: float) -> str:
    """What was asked for and aimed at, and whether `best` reaches it."""
    if asked is None:
        return ""
    gate, aim = asked
    reached = "reaches the aim" if best >= aim else "holds" if best >= gate else "FAILS"
    return f"  gate {gate:g}, aim {aim:g}: {reached}"


def read_bandwidth(threads: int, clock: int) -> float:
    """Bytes a second that threads read from memory: the best of five passes, by the same clock as the figures."""
    parts = np.array_split(np.ones((512 << 20) // 4, np.float32), threads)
    with ThreadPoolExecutor(threads) as pool:
        passes = [decode.timed(lambda: list(pool.map(np.max, parts)))[clock] for _ in range(5)]
    return (512 << 20) / min(passes)


def _median(rounds: list[dict[str, dict[str, float]]], side: str, figure: str) -> float:
    return statistics.median(found[side][figure] for found in rounds)


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="the real file; default: SmolLM2, pulled where it is missing")
    cases = [f"{shape}/{encoding}" for shape in shapes.SHAPES for encoding in (*shapes.SCALES, "bf16")]
    chosen = ["135m/q4_0", "135m/q8_0", "135m/bf16", "0.5b/q4_0", "1.1b/q4_0"]
    parser.add_argument("--cases", nargs="*", choices=cases, default=chosen, metavar="SHAPE/ENCODING")
    parser.add_argument("--threads", type=int, default=settings.threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24, help="decode steps a round and batch size, at most 128")
    parser.add_argument("--llama-cpp", type=Path, default=llama_cpp.default_folder(), help="folder of its build")
    return parser.parse_args()


if __name__ == "__main__":
    main()
