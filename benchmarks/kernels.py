"""Claim: at equal bytes the kernels decode and prefill faster than llama.cpp on every shape, batch 8 1.8 times as fast.

The real SmolLM2 file (Q4_1), and random weights in the 0.5 B and 1.1 B shapes: batch 1, batch 8 and a prefill of 512
tokens, beside llama.cpp in the same run and beside the memory bandwidth measured in it. The sides take turns, a process
each; a figure is the median over all steps, a ratio the median over the rounds with its range. With --threads 1 ratios
are of processor time, which other programs disturb least.

    python benchmarks/kernels.py [--shapes 135m 0.5b 1.1b] [--encodings q4_0] [--threads 2] [--rounds 3]
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


def main() -> None:
    """Measure and print, case by case."""
    arguments = _arguments()
    level = available().level
    print(f"level {level}, {arguments.threads} threads, {'processor' if arguments.threads == 1 else 'wall'} time")
    with tempfile.TemporaryDirectory() as folder:
        real = arguments.model or sources.pull("smollm2-135m-instruct")
        measure("smollm2-135m Q4_1", real, arguments)
        for shape in arguments.shapes:
            for encoding in arguments.encodings:
                path = Path(folder) / f"{shape}-{encoding}.gguf"
                shapes.write_shape(path, shape, encoding)
                measure(f"{shape} shape {encoding}", path, arguments)
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
            print(f"    octavo / llama.cpp: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    share = _median(rounds, "octavo", "decode 1") * model.stat().st_size / bandwidth
    print(f"    batch 1 reads its weights at {share:.0%} of the bandwidth")


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
    parser.add_argument("--shapes", nargs="*", choices=shapes.SHAPES, default=["0.5b", "1.1b"])
    parser.add_argument("--encodings", nargs="*", choices=shapes.SCALES, default=["q4_0"])
    parser.add_argument("--threads", type=int, default=settings.threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24, help="decode steps a round and batch size, at most 128")
    parser.add_argument("--llama-cpp", type=Path, default=llama_cpp.default_folder(), help="folder of its build")
    return parser.parse_args()


if __name__ == "__main__":
    main()
