"""Octavo and its peers on one model, taking turns: decoding at batch 1 and 8, a prefill of 512 tokens, loading, memory.

Each turn is a process of its own that times its steps; a figure is of all steps of a side but a turn's first of each
kind. A claim fails only when the median step and the step at the fastest tenth both miss what is asked for: other
programs slow a side down and never speed it up. With --threads 1 speeds are by processor time, which other programs
disturb least. Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import shapes
from timing import verdict

from octavo import settings
from octavo.fetching import sources

HERE = Path(__file__).parent
TOKENS = {"decode 1": 1, "decode 8": 8, "prefill 512": 512}
"""Measured steps, and the tokens of one."""
LLAMAS = {"llama.cpp": llama_cpp.MAINLINE, "ik_llama.cpp": llama_cpp.IK}
CASES = ("smollm2", *(f"{shape}/{encoding}" for shape in shapes.SHAPES for encoding in (*shapes.SCALES, "bf16")))
"""Models: the real one, and shapes with random weights in an encoding."""
LOAD, MEMORY = "load to first token, s", "peak MB"
"""What is better the smaller it is."""
Gates = Mapping[str, Mapping[str, tuple[float, float | None]]]
"""Peer -> figure -> the ratio that must hold and the one aimed at; at most that for LOAD and MEMORY."""


def add_options(parser: argparse.ArgumentParser, peers: Sequence[str], *, steps: int = 24) -> None:
    """What a race against these peers asks."""
    parser.set_defaults(peers=peers)
    parser.add_argument("--model", type=Path, help="the real GGUF file; default: SmolLM2, pulled where it is missing")
    parser.add_argument("--threads", type=int, default=settings.threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=steps, help="decode steps a turn and batch size, at most 128")
    parser.add_argument("--prepared", type=Path, help="folder that keeps made models for the next run")
    for peer, build in LLAMAS.items():
        if peer in peers:
            option = f"--{peer.replace('.', '-').replace('_', '-')}"
            parser.add_argument(option, type=Path, default=build.folder(), metavar="FOLDER", help="of its build")
    if "openvino" in peers:
        has_it = sys.executable if find_spec("openvino_genai") else None
        parser.add_argument("--openvino", default=has_it, metavar="PYTHON", help="one that has openvino-genai")


@contextmanager
def folder_of(arguments: argparse.Namespace) -> Iterator[Path]:
    """Where made models lie."""
    with tempfile.TemporaryDirectory() as folder:
        yield arguments.prepared or Path(folder)


@dataclass(frozen=True)
class Entry:
    """A model of a race. name: `smollm2`, or a shape and an encoding of random weights, 1.1b/q4_0."""

    name: str
    folder: Path
    real: Path | None

    @property
    def encoding(self) -> str:
        """Of its matrices; SmolLM2's file has its table in Q8_0."""
        return "q4_1" if self.name == "smollm2" else self.name.split("/")[1]

    def gguf(self) -> Path:
        """The file, made where it is missing."""
        if self.name == "smollm2":
            return self.real or sources.pull("smollm2-135m-instruct")
        path = self.folder / f"{self.name.replace('/', '-')}.gguf"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shapes.write_shape(path, *self.name.split("/"))
        return path

    def expanded(self) -> Path:
        """The same weights as a Hugging Face folder in bfloat16."""
        return self._made("expanded", [sys.executable, HERE / "expand.py", self.gguf()], [])

    def compressed(self, python: str) -> Path:
        """The same for OpenVINO."""
        return self._made("openvino", [python, HERE / "openvino_export.py", self.expanded()], [self.encoding])

    def _made(self, kind: str, command: list[Any], options: list[str]) -> Path:
        """In a process of its own: a child's peak memory is never reported below what its parent had."""
        path = self.folder / f"{self.name.replace('/', '-')}-{kind}"
        if not path.exists():
            partial = path.with_name(f"{path.name}.partial")
            print(f"making {path.name}", file=sys.stderr)
            subprocess.run([*map(str, command), str(partial), *options], check=True, capture_output=True)
            partial.rename(path)
        return path


def commands(entry: Entry, arguments: argparse.Namespace) -> dict[str, list[Any]]:
    """Side -> the program of one turn and its model. Octavo, and those of the peers that are at hand."""
    found: dict[str, list[Any]] = {"octavo": [sys.executable, HERE / "octavo_steps.py", entry.gguf()]}
    for peer in arguments.peers:
        if peer in LLAMAS:
            folder = getattr(arguments, peer.replace(".", "_"))
            program: Any = llama_cpp.steps(folder, LLAMAS[peer])
            command = program and [program, entry.gguf()]
        elif peer == "openvino":
            # OpenVINO 2026.4 divides by zero on bfloat16 weights with products in bfloat16.
            python = arguments.openvino if entry.encoding != "bf16" else None
            command = python and [python, HERE / "openvino_steps.py", entry.compressed(python)]
        else:
            has_it = find_spec("torch") and find_spec("transformers")
            command = has_it and [sys.executable, HERE / "transformers_steps.py", entry.expanded()]
        if command:
            found[peer] = command
    return found


def turn(command: list[Any], threads: int, steps: int, home: Path) -> dict[str, Any]:
    """One side once, in a process of its own: what it prints, and its peak memory in MB. home: for packed weights."""
    full = [str(part) for part in (*command, threads, steps)]
    environment = {**os.environ, "OCTAVO_HOME": str(home)}
    process = subprocess.Popen(full, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"failed: {' '.join(full)}"
    unit = 1 if sys.platform == "darwin" else 1024
    return {**json.loads(output.splitlines()[-1]), MEMORY: usage.ru_maxrss * unit / 1e6}


def run(entry: Entry, arguments: argparse.Namespace) -> Race:
    """All rounds of one model."""
    sides = commands(entry, arguments)
    home = entry.folder / "home"
    turn(sides["octavo"], arguments.threads, 1, home)  # the first load of a model packs its weights
    race = Race(entry.name, 1 if arguments.threads == 1 else 0)
    for _ in range(arguments.rounds):
        for side, command in sides.items():
            race.add(side, turn(command, arguments.threads, arguments.steps, home))
    return race


@dataclass
class Race:
    """What was measured. clock: 0 for seconds by the clock, 1 for those of the processor.

    found: side -> figure -> for each turn the seconds of its steps, or the one number of another figure.
    """

    name: str
    clock: int
    found: dict[str, dict[str, list[list[float]]]] = field(default_factory=dict)

    @property
    def peers(self) -> list[str]:
        return [side for side in self.found if side != "octavo"]

    def add(self, side: str, result: dict[str, Any]) -> None:
        """A turn."""
        figures = {name: [step[self.clock] for step in result[name][1:]] for name in TOKENS}
        figures[LOAD] = [result["load"] + result["decode 1"][0][0]]
        figures[MEMORY] = [result[MEMORY]]
        for name, values in figures.items():
            self.found.setdefault(side, {}).setdefault(name, []).append(values)

    def figure(self, side: str, name: str, percentile: float = 50) -> float:
        """Tokens a second of the step at that percentile of time, or the number."""
        value = float(np.percentile(np.concatenate(self.found[side][name]), percentile))
        return TOKENS[name] / value if name in TOKENS else value

    def rounds(self, side: str, name: str) -> list[float]:
        """The same, for each round."""
        medians = [float(np.median(values)) for values in self.found[side][name]]
        return [TOKENS[name] / value for value in medians] if name in TOKENS else medians

    def ratios(self, peer: str, name: str) -> list[float]:
        """Octavo's figure over the peer's, for each round."""
        return [a / b for a, b in zip(self.rounds("octavo", name), self.rounds(peer, name), strict=True)]

    def report(self, names: Sequence[str], gates: Gates) -> None:
        """Print figures and ratios, and what is asked of them."""
        for name in names:
            digits = 1 if name in TOKENS else 3 if name == LOAD else 0
            sides = ", ".join(f"{side} {self.figure(side, name):.{digits}f}" for side in self.found)
            print(f"  {name}{' tokens/s' if name in TOKENS else ''}: {sides}")
            for peer in self.peers:
                middle, fastest = (self.figure("octavo", name, at) / self.figure(peer, name, at) for at in (50, 10))
                asked = verdict(gates.get(peer, {}).get(name), (middle, fastest), least=name in TOKENS)
                low, high = min(self.ratios(peer, name)), max(self.ratios(peer, name))
                print(f"    / {peer}: {middle:.2f} (rounds {low:.2f} to {high:.2f}; p10 {fastest:.2f}){asked}")


def heading(arguments: argparse.Namespace) -> str:
    """What a run's figures depend on."""
    clock = "processor time" if arguments.threads == 1 else "wall time"
    return f"{arguments.threads} threads, {clock}, {arguments.rounds} rounds, load {os.getloadavg()[0]:.1f}"
