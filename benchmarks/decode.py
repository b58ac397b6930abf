"""Claims: on the CPU, Octavo decodes SmolLM2-135M at batch 1 at least 4 times as fast as transformers in bfloat16.

Batch 8 gives at least 3 times the tokens of its own batch 1. Shown beside: llama.cpp on the same file, shapes of 0.5 B
and 1.1 B with random weights in Q4_0, a prefill of 512 tokens, the time to the first token of a model that was loaded
before, and peak resident memory with 1,024 positions of cache.

    python benchmarks/decode.py [--cases smollm2 1.1b/q4_0 ...] [--threads 2] [--rounds 3] [--llama-cpp FOLDER]
"""

from __future__ import annotations

import argparse

import race
from timing import verdict

CASES = ("smollm2", "0.5b/q4_0", "1.1b/q4_0")
SMALLER: dict[str, tuple[float, float | None]] = {race.LOAD: (1.0, 0.5), race.MEMORY: (1.1, 0.9)}
GATES: dict[str, race.Gates] = {"smollm2": {"llama.cpp": SMALLER, "transformers": {"decode 1": (4, None)}}}
WIDER = {"smollm2": (3.0, None)}
"""Of tokens a second at batch 8 over those at batch 1."""


def main() -> None:
    """Measure and print, model by model."""
    arguments = _arguments()
    with race.folder_of(arguments) as folder:
        for case in arguments.cases:
            found = race.run(race.Entry(case, folder, arguments.model), arguments)
            print(f"{case}, {race.heading(arguments)}")
            found.report((*race.TOKENS, race.LOAD, race.MEMORY), GATES.get(case, {}))
            wider = [found.figure("octavo", "decode 8", at) / found.figure("octavo", "decode 1", at) for at in (50, 10)]
            print(f"  batch 8 over batch 1, tokens/s: {wider[0]:.2f}{verdict(WIDER.get(case), wider)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", choices=race.CASES, default=CASES, metavar="CASE")
    race.add_options(parser, ("llama.cpp", "transformers"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
