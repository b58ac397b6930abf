"""Claim: a model of the 1.1 B shape is there again in under a second and holds at most 1.15 times its packed size.

Octavo's first load (packing, and writing the packed file behind) and later ones (mapping it), llama.cpp on the same
file, and transformers.from_pretrained on the same weights in bfloat16. Each load is a process of its own, the sides
take turns, and the file is in the page cache for all. Seconds are of loading alone, without a program's start.

    python benchmarks/loading.py [--shape 1.1b] [--encoding q4_0] [--rounds 5] [--llama-cpp FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llama_cpp
import shapes


def main() -> None:
    """Measure and print; with --worker, be one load."""
    arguments = _arguments()
    if arguments.worker:
        workers = {"octavo": octavo_load, "transformers": transformers_load}
        print(json.dumps(workers[arguments.worker](arguments.model)))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.gguf"
        shapes.write_shape(model, arguments.shape, arguments.encoding)
        sides = {"first load": [], "second load": []}  # type: dict[str, list[dict[str, float]]]
        expanded = Path(folder) / "expanded"
        if find_spec("torch") and find_spec("transformers") and not arguments.without_transformers:
            command = [sys.executable, str(Path(__file__).with_name("expand.py")), str(model), str(expanded)]
            subprocess.run(command, check=True)
            sides["transformers bf16"] = []
        steps = llama_cpp.steps(arguments.llama_cpp)
        if steps is not None:
            sides["llama.cpp"] = []
        for round_number in range(arguments.rounds):
            home = Path(folder) / f"home{round_number}"
            for side, found in sides.items():
                if side == "llama.cpp":
                    output = run([str(steps), str(model), "2", "2"], home)
                    found.append({"load": output["load"], "peak": output["peak"]})
                    continue
                worker, source = ("transformers", expanded) if "transformers" in side else ("octavo", model)
                found.append(run([sys.executable, __file__, "--worker", worker, "--model", str(source)], home))
        report(sides, arguments)


def run(command: list[str], home: Path) -> dict[str, Any]:
    """A load in a process of its own; its JSON, with the peak of its resident memory in bytes."""
    environment = {**os.environ, "OCTAVO_HOME": str(home)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"failed: {' '.join(command)}"
    return {**json.loads(output.splitlines()[-1]), "peak": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)}


def report(sides: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> None:
    """Medians with their range, and ratios to the second load."""
    print(f"{arguments.shape} shape in {arguments.encoding}, load {os.getloadavg()[0]:.1f}")
    ours = statistics.median(result["load"] for result in sides["second load"])
    for side, results in sides.items():
        seconds = sorted(result["load"] for result in results)
        middle = statistics.median(seconds)
        peak = statistics.median(result["peak"] for result in results) / 1e6
        spread = f"{seconds[0]:.3f} to {seconds[-1]:.3f}"
        print(f"  {side}: {middle:.3f} s ({spread}), {middle / ours:.1f} x the second load, peak {peak:.0f} MB")
        if "packed" in results[0]:
            shares = [f"{result['resident'] / result['packed']:.2f}" for result in results]
            print(
                f"    resident after it, over {results[0]['packed'] / 1e6:.0f} MB of packed weights: {' '.join(shares)}"
            )
    if "llama.cpp" not in sides:
        print("  llama.cpp is not installed, so it is left out; python benchmarks/llama_cpp.py")


def octavo_load(model: Path) -> dict[str, float]:
    """Through the way that every command takes, and one token to show that it runs."""
    import numpy as np

    from octavo.models.checkpoint import open_checkpoint
    from octavo.models.loading import make_runner
    from octavo.models.packing.cache import pack_cache
    from octavo.models.runner import Row

    start = time.perf_counter()
    checkpoint = open_checkpoint(model)
    runner = make_runner(checkpoint, num_blocks=64)
    load = time.perf_counter() - start
    runner.step([Row(np.array([1], np.int32), 0, range(64), 0)])
    pages = int(Path("/proc/self/statm").read_text().split()[1]) if sys.platform == "linux" else 0
    runner.close()
    cache = pack_cache(checkpoint)
    assert cache is not None, "the packed file is turned off"
    return {"load": load, "resident": pages * os.sysconf("SC_PAGE_SIZE"), "packed": cache.path.stat().st_size}


def transformers_load(model: Path) -> dict[str, float]:
    """The peer, which maps its bfloat16 weights."""
    import torch
    from transformers import AutoModelForCausalLM

    start = time.perf_counter()
    AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)
    return {"load": time.perf_counter() - start}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=shapes.SHAPES, default="1.1b")
    parser.add_argument("--encoding", choices=shapes.SCALES, default="q4_0")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-transformers", action="store_true")
    parser.add_argument("--llama-cpp", type=Path, default=llama_cpp.MAINLINE.folder(), help="folder of its build")
    parser.add_argument("--worker", choices=("octavo", "transformers"), help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
