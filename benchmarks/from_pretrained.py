"""Claim: a checkpoint is at hand sooner, and in less memory, than through `from_pretrained` of transformers.

A folder in the shape of Qwen2.5-0.5B with random bfloat16 weights (494 million, 0.99 GB), loaded up to the first
token's logits, so that a lazy map pays for its pages: each loader in a process of its own, after its imports, taking
turns. One type on both sides: float32 and bfloat16 in torch; and our kernels, the first time, when they read weights as
they lie and pack them behind the user's back, and later, when they map what they packed. Printed: medians, and the
median ratio to transformers of neighbouring runs with its range.

    python benchmarks/from_pretrained.py [--rounds 5] [--folder FOLDER] [--json]
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
from pathlib import Path

import numpy as np

from octavo.examine.catalogue.named import named_models
from octavo.examine.sizing.described import describe_named
from octavo.models.checkpoint import GenerationDefaults, open_checkpoint
from octavo.models.runner import Row
from octavo.models.saving import save_checkpoint
from octavo.models.tensors import StoredTensor
from octavo.nn.shapes import parameter_shapes

SHAPE = "qwen2.5-0.5b"
PEERS = {
    "octavo torch float32": "transformers float32",
    "octavo torch bfloat16": "transformers bfloat16",
    "octavo kernels, first load": "transformers bfloat16",
    "octavo kernels, packed": "transformers bfloat16",
}
Load = Callable[[Path], Callable[[], object]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the checkpoint is kept; default: a temporary folder")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / SHAPE
        if not (folder / "config.json").is_file():
            write_checkpoint(folder)
        names = [*dict.fromkeys(PEERS.values()), *PEERS]
        runs = [{name: measured(name, folder, Path(temporary)) for name in names} for _ in range(arguments.rounds + 1)]
    report(runs[1:], as_json=arguments.json)  # the first fills the file cache


def write_checkpoint(folder: Path) -> None:
    """Random weights of the shape, in bfloat16."""
    generator = np.random.default_rng(0)
    model = describe_named(SHAPE)
    tensors = {}
    for name, shape in parameter_shapes(model.config).items():
        values = generator.standard_normal(shape, np.float32) * np.float32(0.02)
        tensors[name] = StoredTensor.from_bits("bf16", (values.view(np.uint32) >> 16).astype(np.uint16))
    save_checkpoint(folder, model.config, model.family, tensors, None, GenerationDefaults((2,)))
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**named_models()[SHAPE].config, **raw, "dtype": "bfloat16"}))


def measured(name: str, folder: Path, home: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of one loader in a new process; `first load` finds no packed weights."""
    packed = home / "packed"
    environment = {**os.environ, "OCTAVO_HOME": str(packed if name.endswith("packed") else home / os.urandom(4).hex())}
    if name.endswith("packed") and not packed.is_dir():
        subprocess.run(_command(name, folder), env=environment, check=True, capture_output=True)
    answer = subprocess.run(_command(name, folder), env=environment, check=True, capture_output=True, text=True).stdout
    seconds, peak = json.loads(answer.splitlines()[-1])
    return seconds, peak


def _command(name: str, folder: Path) -> list[str]:
    return [sys.executable, __file__, "--child", name, "--folder", str(folder)]


def child(name: str, folder: Path) -> None:
    """Import, then load and run one token."""
    load = prepared(name)
    start = time.perf_counter()
    run = load(folder)
    run()
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps([seconds, peak * 1024 / 1e6]))


def prepared(name: str) -> Load:
    """A loader with its libraries imported."""
    if "kernels" in name:
        from octavo.models.loading import make_runner

        return lambda folder: _step(make_runner(open_checkpoint(folder), runner="kernels", num_blocks=1))
    import torch

    dtype = getattr(torch, name.split()[-1])
    if name.startswith("octavo"):
        from octavo.models.transformer import TorchRunner

        return lambda folder: _step(TorchRunner(open_checkpoint(folder), num_blocks=1, dtype=dtype))
    from transformers import AutoModelForCausalLM
    from transformers.models.qwen2 import modeling_qwen2  # noqa: F401  imported here, as ours are

    def load(folder: Path) -> Callable[[], object]:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        return lambda: model(torch.tensor([[1]]))

    return load


def _step(runner: object) -> Callable[[], object]:
    return lambda: runner.step([Row(np.array([1], np.int32), 0, [0], 0)])  # type: ignore[attr-defined]


def report(runs: list[dict[str, tuple[float, float]]], *, as_json: bool) -> None:
    """Medians, and ratios of neighbours."""
    found = {}
    for name in runs[0]:
        seconds, peak = (statistics.median(run[name][at] for run in runs) for at in (0, 1))
        found[name] = {"seconds": seconds, "peak_mb": peak}
        line = f"{name:<26} {seconds:6.2f} s  {peak:6.0f} MB"
        if name in PEERS:
            for at, key in ((0, "time"), (1, "memory")):
                ratios = sorted(run[name][at] / run[PEERS[name]][at] for run in runs)
                found[name][key] = statistics.median(ratios)
                line += f"  {key} {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            line += f"  of {PEERS[name]}"
        if not as_json:
            print(line)
    if as_json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
