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


@dataclass(frozen=True)
class TrainingKernels:
    """A pool of threads and the instruction set that they use. Addresses are of contiguous memory."""

    functions: ctypes.CDLL
    pool: int
    threads: int
    level: int

    def run(self, name: str, *arguments: object) -> None:
        """A function of `SIGNATURES` that takes a pool and a level, and then these."""
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
