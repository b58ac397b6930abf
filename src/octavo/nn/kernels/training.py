"""The kernels' operations of training on raw addresses: what `nn/fused` calls with torch's memory. No torch here.

Callers check devices, types and sizes; one pool of threads serves a process, as training has one loop.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass

from octavo import settings
from octavo.errors import MissingDependencyError, OctavoError
from octavo.nn.kernels.binding import choose_level, library
from octavo.nn.kernels.tables.codes import LEVELS
from octavo.nn.kernels.tables.interface import Rotation


@dataclass(frozen=True)
class TrainingKernels:
    """A pool of threads and the instruction set that they use. Addresses are of contiguous memory."""

    functions: ctypes.CDLL
    pool: int
    threads: int
    level: int

    def cross_entropy(self, logits: int, bf16: bool, rows: int, width: int, targets: int, losses: int) -> None:
        """losses: (rows,) fp32; logits become their gradients. targets: (rows,) int64; one outside of a row is none."""
        self._run("octavo_cross_entropy", logits, bf16, rows, width, targets, losses)

    def rms_forward(
        self, x: int, weight: int, rows: int, width: int, eps: float, y: int, bf16: bool, inverse: int
    ) -> None:
        """y = x * inverse * weight, in fp32 or bf16; inverse: (rows,), 1 / sqrt(mean(x^2) + eps). x, weight: fp32."""
        self._run("octavo_rms_forward", x, weight, rows, width, eps, y, bf16, inverse)

    def rms_backward(
        self, x: int, weight: int, inverse: int, dy: int, bf16: bool, rows: int, width: int, dx: int, dweight: int
    ) -> None:
        """dx, and dweight (threads, width), zeros before, whose sum over threads is the weight's gradient."""
        self._run("octavo_rms_backward", x, weight, inverse, dy, bf16, rows, width, dx, dweight)

    def rotate(self, rotation: Rotation) -> None:
        """out = x turned, or with `back` the gradient of x."""
        self._run("octavo_rotate", ctypes.byref(rotation))

    def gate(self, gate: int, up: int, wide: int, bf16: bool, count: int) -> None:
        """wide = silu(gate) * up, each of `count` numbers in fp32 or bf16."""
        self._run("octavo_gate", gate, up, wide, None, None, bf16, count, False)

    def gate_backward(self, gate: int, up: int, wide: int, dgate: int, dup: int, bf16: bool, count: int) -> None:
        """dgate and dup from the gradient of wide, whose place wide itself takes."""
        self._run("octavo_gate", gate, up, wide, dgate, dup, bf16, count, True)

    def _run(self, name: str, *arguments: object) -> None:
        if getattr(self.functions, name)(self.pool, self.level, *arguments):
            raise OctavoError("the system refused threads for training; close programs or set OCTAVO_THREADS lower")


def training_kernels(threads: int) -> TrainingKernels | None:
    """Those of this machine on so many threads; None without the library, or where OCTAVO_KERNELS asks for torch."""
    forced = settings.kernels()
    return None if forced == "torch" else _made(threads, forced)


@functools.cache
def _made(threads: int, forced: str | None) -> TrainingKernels | None:
    try:
        found = library()
    except MissingDependencyError:
        return None
    pool = found.octavo_pool_create(threads)
    return None if pool is None else TrainingKernels(found, pool, threads, LEVELS[choose_level(forced)])
