"""Claim: on the CPU, Octavo's kernels decode SmolLM2-135M Q4_1 at least 1.2 times as fast as llama.cpp, at batch 1.

Also batch 8, a prefill of 512 tokens, load time and peak resident memory, and transformers in bfloat16 on the same
weights. The sides take turns, each round in a process of its own; a figure is the median over all steps, a ratio the
median over the rounds with its range. On a busy machine use --threads 1: ratios are then of processor time.

    python benchmarks/decode.py [--model FILE.gguf] [--threads 2] [--rounds 5] [--llama-cpp FOLDER] [--json]
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
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from octavo import settings
from octavo.fetching import sources

SIDES = ("octavo", "llama.cpp", "transformers")
TOKENS = {"decode 1": 1, "decode 8": 8, "prefill 512": 512}
"""Measured steps, and the tokens of one."""
Times = list[tuple[float, float]]


def main() -> None:
    """Measure and print; with --worker, be one side of one round."""
    arguments = _arguments()
    if arguments.worker == "expand":
        expand(arguments.model, arguments.into)
        return
    if arguments.worker:
        worker = {"octavo": octavo_steps, "transformers": transformers_steps}[arguments.worker]
        print(json.dumps(worker(arguments.model, arguments.threads, arguments.steps)))
        return
    arguments.model = arguments.model or sources.pull("smollm2-135m-instruct")
    with tempfile.TemporaryDirectory() as expanded:
        models = {"octavo": arguments.model}
        if llama_cpp.steps(arguments.llama_cpp):
            models["llama.cpp"] = arguments.model
        if find_spec("torch") and find_spec("transformers"):
            # In a process of its own: a child's peak memory is never reported below what its parent had.
            models["transformers"] = Path(expanded) / "model"
            command = [sys.executable, __file__, "--worker=expand", f"--model={arguments.model}"]
            subprocess.run([*command, f"--into={models['transformers']}"], check=True)
        rounds: dict[str, list[dict[str, Any]]] = {side: [] for side in models}
        for _ in range(arguments.rounds):
            for side, model in models.items():
                rounds[side].append(one_round(side, model, arguments))
    report(rounds, arguments)


def expand(model: Path, folder: Path) -> None:
    """The same weights as a Hugging Face folder in bfloat16."""
    import torch

    from octavo.models.checkpoint import open_checkpoint
    from octavo.models.saving import save_checkpoint
    from octavo.models.tensors import StoredTensor

    def bits(stored: StoredTensor) -> StoredTensor:
        rounded = torch.from_numpy(stored.dequantize()).bfloat16().view(torch.uint16).numpy()
        return StoredTensor.from_bits("bf16", rounded)

    source = open_checkpoint(model)
    tensors = {name: bits(stored) for name, stored in source.tensors.items()}
    save_checkpoint(folder, source.config, source.family, tensors, None, source.generation)


def one_round(side: str, model: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a side in a process of its own."""
    given = [str(model), str(arguments.threads), str(arguments.steps)]
    if side == "llama.cpp":
        command = [str(llama_cpp.steps(arguments.llama_cpp)), *given]
    else:
        options = [f"{name}={value}" for name, value in zip(("--model", "--threads", "--steps"), given, strict=True)]
        command = [sys.executable, __file__, "--worker", side, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{side} failed: {' '.join(command)}"
    unit = 1 if sys.platform == "darwin" else 1024
    return {**json.loads(output.splitlines()[-1]), "peak MB": usage.ru_maxrss * unit / 1e6}


def report(rounds: dict[str, list[dict[str, Any]]], arguments: argparse.Namespace) -> None:
    """Print medians, and Octavo's ratios to each peer with their range over the rounds."""
    clock = 1 if arguments.threads == 1 else 0
    table = {side: [figures(result, clock) for result in results] for side, results in rounds.items()}
    medians = {side: {name: median(results, name) for name in results[0]} for side, results in table.items()}
    ratios: dict[str, dict[str, tuple[float, float, float]]] = {}
    for peer in [side for side in table if side != "octavo"]:
        ratios[peer] = {}
        for name in medians["octavo"]:
            pairs = zip(table["octavo"], table[peer], strict=False)
            values = sorted(ours[name] / theirs[name] for ours, theirs in pairs)
            ratios[peer][name] = (statistics.median(values), values[0], values[-1])
    if arguments.json:
        print(json.dumps({"threads": arguments.threads, "medians": medians, "ratios": ratios}))
        return
    kind = "processor" if clock else "wall"
    print(f"{arguments.model.name}, {arguments.threads} threads, {kind} time, load {os.getloadavg()[0]:.1f}")
    for name in medians["octavo"]:
        unit = "tokens/s" if name in TOKENS else ""
        print(f"  {name} {unit}: " + ", ".join(f"{side} {values[name]:.4g}" for side, values in medians.items()))
        for peer, values in ratios.items():
            middle, low, high = values[name]
            print(f"    octavo / {peer}: {middle:.2f} ({low:.2f} to {high:.2f})")
    for side in SIDES:
        if side not in rounds:
            hint = "python benchmarks/llama_cpp.py" if side == "llama.cpp" else "pip install 'octavo[test]'"
            print(f"  {side} is not installed, so it is left out; {hint}")


def figures(result: dict[str, Any], clock: int) -> dict[str, float]:
    """A round's numbers: tokens/s (the first step of several warms up), seconds, MB."""
    speeds = {}
    for name, tokens in TOKENS.items():
        times = [step[clock] for step in result[name]]
        speeds[name] = tokens / statistics.median(times[1:] or times)
    return {**speeds, "load s": result["load"], "peak MB": result["peak MB"]}


def median(results: list[dict[str, float]], name: str) -> float:
    """Over the rounds."""
    return statistics.median(result[name] for result in results)


def timed(step: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    step()
    return time.perf_counter() - wall, time.process_time() - processor


def octavo_steps(model: Path, threads: int, steps: int) -> dict[str, Any]:
    """Our runner, called as the engine calls it."""
    from octavo.models.checkpoint import open_checkpoint
    from octavo.models.compiled import CompiledRunner
    from octavo.models.runner import Row

    start = time.perf_counter()
    runner = CompiledRunner(open_checkpoint(model), num_blocks=64, threads=threads)
    load = time.perf_counter() - start

    def decode(batch: int) -> Times:
        def rows(position: int) -> list[Row]:
            tokens = [np.array([100 + 7 * row + position], np.int32) for row in range(batch)]
            return [Row(token, position, range(8 * row, 8 * row + 8), 0) for row, token in enumerate(tokens)]

        return [timed(lambda position=position: runner.step(rows(position))) for position in range(steps)]  # type: ignore[misc]

    prompt = np.arange(100, 612, dtype=np.int32)
    result: dict[str, Any] = {"load": load, "decode 1": decode(1), "decode 8": decode(8)}
    result["prefill 512"] = [timed(lambda: runner.step([Row(prompt, 0, range(64), 511)]))]
    runner.close()
    return result


def transformers_steps(model: Path, threads: int, steps: int) -> dict[str, Any]:
    """The peer in bfloat16 on the expanded weights, with its own cache."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    start = time.perf_counter()
    peer = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).eval()
    load = time.perf_counter() - start

    def decode(batch: int) -> Times:
        cache = None
        times = []
        for position in range(steps):
            tokens = torch.arange(batch)[:, None] * 7 + 100 + position

            def step(tokens: torch.Tensor = tokens, cache: Any = cache) -> Any:
                return peer(tokens, past_key_values=cache, use_cache=True)

            outputs: list[Any] = []
            times.append(timed(lambda step=step, outputs=outputs: outputs.append(step())))  # type: ignore[misc]
            cache = outputs[0].past_key_values
        return times

    prompt = torch.arange(100, 612)[None]
    with torch.inference_mode():
        result: dict[str, Any] = {"load": load, "decode 1": decode(1), "decode 8": decode(8)}
        result["prefill 512"] = [timed(lambda: peer(prompt, logits_to_keep=1))]
    return result


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a GGUF file; default: SmolLM2, pulled where it is missing")
    parser.add_argument("--threads", type=int, default=settings.threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="decode steps a round and batch size, at most 128")
    parser.add_argument("--llama-cpp", type=Path, default=llama_cpp.default_folder(), help="folder of its build")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", choices=("octavo", "transformers", "expand"), help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
