"""Claim: `octavo run` with an answer of 20 tokens takes at most 1.5 times as long as llama.cpp's own command.

And `octavo --help` takes less than 0.3 s.

Both as a person types them, whole processes from exec to exit, on the same file and prompt, greedy, taking turns; the
figure is the median ratio of neighbouring runs with its range. Peak resident memory is the whole process's.

    python benchmarks/cold_start.py [--model FILE.gguf] [--rounds 9] [--llama-cpp FOLDER] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import llama_cpp

from octavo import settings
from octavo.fetching import sources

PROMPT, TOKENS = "The three states of matter are", 20


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    model = arguments.model or sources.pull("smollm2-135m-instruct")
    peer = llama_cpp.completion(arguments.llama_cpp)
    octavo = [sys.executable, "-m", "octavo", "run", str(model), "--raw", PROMPT, "-n", str(TOKENS), "-t", "0"]
    commands = {"octavo": octavo, "octavo --help": [sys.executable, "-m", "octavo", "--help"]}
    if peer is not None:
        options = ["-n", str(TOKENS), "--temp", "0", "-no-cnv", "-t", str(settings.threads())]
        commands["llama.cpp"] = [str(peer), "-m", str(model), "-p", PROMPT, *options]
    runs = [{name: timed(command) for name, command in commands.items()} for _ in range(arguments.rounds + 1)]
    report(runs[1:], arguments)  # the first fills the file cache


def timed(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak MB of a whole process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command[0]} failed"
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def report(runs: list[dict[str, tuple[float, float]]], arguments: argparse.Namespace) -> None:
    """Print medians and the ratio."""
    medians = {name: [statistics.median(run[name][at] for run in runs) for at in (0, 1)] for name in runs[0]}
    ratios = sorted(run["octavo"][0] / run["llama.cpp"][0] for run in runs if "llama.cpp" in run)
    spread = (statistics.median(ratios), ratios[0], ratios[-1]) if ratios else None
    if arguments.json:
        print(json.dumps({"medians": medians, "ratio": spread}))
        return
    print(f"a cold process with an answer of {TOKENS} tokens, {len(runs)} rounds, load {os.getloadavg()[0]:.1f}")
    for name, (seconds, megabytes) in medians.items():
        print(f"  {name:>13}: {seconds:.3f} s, peak {megabytes:.0f} MB")
    if spread is None:
        print("  llama.cpp is not built, so it is left out; python benchmarks/llama_cpp.py")
    else:
        print(f"  octavo / llama.cpp: {spread[0]:.2f} ({spread[1]:.2f} to {spread[2]:.2f})")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a GGUF file; default: SmolLM2, pulled where it is missing")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--llama-cpp", type=Path, default=llama_cpp.MAINLINE.folder(), help="folder of its build")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
