"""Claim: at equal bytes the kernels decode and prefill faster than llama.cpp, ik_llama.cpp and OpenVINO.

The real SmolLM2 file (Q4_1, its table in Q8_0), and random weights in its shape and those of 0.5 B and 1.1 B, all
matrices in one encoding, beside the memory bandwidth measured in the same minutes. Each peer runs at its best setting;
what must hold and what is aimed at stands beside each ratio, as set for processors with AVX-512 and without AMX.

    python benchmarks/kernels.py [--cases smollm2 1.1b/q4_0 ...] [--threads 2] [--rounds 3] [--llama-cpp FOLDER]
        [--ik-llama-cpp FOLDER] [--openvino PYTHON]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

import race
from timing import verdict

from octavo.nn.kernels.binding import available

CASES = ("smollm2", "135m/q4_0", "135m/q8_0", "135m/bf16", "0.5b/q4_0", "1.1b/q4_0")
PEERS = ("llama.cpp", "ik_llama.cpp", "openvino")
OPENVINO_INT4 = {"decode 1": (2.8, 4.5), "decode 8": (2.2, 3.0), "prefill 512": (1.0, 1.5)}
GATES: dict[str, race.Gates] = {
    "smollm2": {
        "llama.cpp": {"decode 1": (2.0, 3.2), "decode 8": (4.5, 7.0), "prefill 512": (4.5, 8.0)},
        "ik_llama.cpp": {"decode 1": (1.6, 2.4), "prefill 512": (1.15, 2.0)},
        "openvino": OPENVINO_INT4,
    },
    "135m/q4_0": {
        "llama.cpp": {"decode 1": (1.6, 2.4), "decode 8": (3.0, 4.5), "prefill 512": (2.0, 3.2)},
        "openvino": OPENVINO_INT4,
    },
    "135m/q8_0": {
        "llama.cpp": {"decode 1": (1.25, 2.2), "decode 8": (2.8, 4.5), "prefill 512": (2.2, 3.8)},
        "ik_llama.cpp": {"decode 1": (1.15, 1.8)},
    },
    "135m/bf16": {"llama.cpp": {"decode 1": (1.15, 1.8)}},
    "1.1b/q4_0": {"llama.cpp": {"decode 1": (1.2, 1.8)}},
}
SHARES = {"smollm2": (0.55, 0.85), "135m/q4_0": (0.55, 0.85)}
"""The same for the share of the bandwidth that decoding one sequence reads its weights at."""


def main() -> None:
    """Measure and print, case by case."""
    arguments = _arguments()
    print(f"level {available().level}, {race.heading(arguments)}")
    with race.folder_of(arguments) as folder:
        for case in arguments.cases:
            entry = race.Entry(case, folder, arguments.model)
            before = read_bandwidth(arguments.threads)
            found = race.run(entry, arguments)
            bandwidth = statistics.mean((before, read_bandwidth(arguments.threads)))
            print(f"{case}, {race.heading(arguments)}, {bandwidth / 1e9:.0f} GB/s read")
            found.report(tuple(race.TOKENS), GATES.get(case, {}))
            size = entry.gguf().stat().st_size
            shares = [found.figure("octavo", "decode 1", at) * size / bandwidth for at in (50, 10)]
            asked = verdict(SHARES.get(case), shares)
            print(f"  batch 1 reads its weights at {shares[0]:.2f} of the bandwidth{asked}")


def read_bandwidth(threads: int) -> float:
    """Bytes a second, by a process of its own."""
    command = [sys.executable, str(race.HERE / "bandwidth.py"), str(threads)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", choices=race.CASES, default=CASES, metavar="CASE")
    race.add_options(parser, PEERS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
