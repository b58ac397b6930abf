"""The kernels that operations of training run on, by raw addresses, and whether one does here.

One pool of threads serves a process, as training has one loop.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from octavo import settings
from octavo.errors import MissingDependencyError, OctavoError
from octavo.nn.kernels.binding import choose_level, library
from octavo.nn.kernels.tables.codes import LEVELS

TYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class TrainingKernels:
    """A pool of threads and the instruction set that they use."""

    functions: ctypes.CDLL
    pool: int
    threads: int
    level: int

    def run(self, name: str, *arguments: object) -> None:
        """A function of `SIGNATURES` that takes a pool, a level, and these: sizes, and addresses of contiguous memory
        that the caller has checked."""
        if getattr(self.functions, name)(self.pool, self.level, *arguments):
            raise OctavoError("the system refused threads for training; close programs or set OCTAVO_THREADS lower")


def applies(x: Tensor, types: Collection[torch.dtype] = TYPES) -> bool:
    """Whether x is of one of the types and on the CPU, in training, with kernels."""
    trains = x.device.type == "cpu" and x.dtype in types and torch.is_grad_enabled()
    return trains and _found() is not None


def kernels() -> TrainingKernels:
    """Those of as many threads as torch has; only where something `applies`."""
    found = _found()
    assert found is not None, "asked before"
    return found


def expect(tensor: Tensor, shape: Collection[int], dtype: torch.dtype) -> None:
    """Raise ValueError unless it is of that shape and type: C would read past its end."""
    if tensor.shape != shape or tensor.dtype != dtype:
        raise ValueError(f"expected {dtype} of shape {tuple(shape)}, got {tensor.dtype} of {tuple(tensor.shape)}")


def _found() -> TrainingKernels | None:
    """None without the library, or where OCTAVO_KERNELS asks for torch."""
    forced = settings.kernels()
    return None if forced == "torch" else _made(torch.get_num_threads(), forced)


@functools.cache
def _made(threads: int, forced: str | None) -> TrainingKernels | None:
    try:
        found = library()
    except MissingDependencyError:
        return None
    pool = found.octavo_pool_create(threads)
    return None if pool is None else TrainingKernels(found, pool, threads, LEVELS[choose_level(forced)])
