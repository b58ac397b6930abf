"""What this machine has for a model: memory, graphics cards, and two speeds that are measured when they are asked for.

Unusual: bandwidth is measured over as many bytes as the model reads for a token, since a small model may stay in a
processor's cache and be read far faster than main memory. No torch here: cards are asked through their driver's tool.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from octavo import settings
from octavo.models.memory import free_memory

SMALLEST, LARGEST = 1 << 24, 1 << 29
"""Bytes between which bandwidth is measured: below, calls cost more than reading; above, no cache changes it."""
SECONDS: Final = 0.2
PRODUCT_SIZE: Final = 1024


@dataclass(frozen=True)
class Gpu:
    """A graphics card. Bytes."""

    name: str
    memory: int
    free: int


@dataclass(frozen=True)
class Machine:
    """free_memory: bytes, None where the system does not say. threads: that measure and compute."""

    free_memory: int | None
    gpus: tuple[Gpu, ...]
    threads: int


def this_machine() -> Machine:
    """What there is; nothing is measured."""
    return Machine(free_memory(), _gpus(), settings.threads())


def read_bandwidth(size: int) -> float:
    """Bytes a second at which all threads together read `size` bytes again and again; measured once for sizes alike.

    Measured over the next smaller power of two, so that it is never too low for `size`.
    """
    return _remembered_bandwidth(1 << (min(max(size, SMALLEST), LARGEST).bit_length() - 1))


def measure_bandwidth(size: int) -> float:
    """As `read_bandwidth`, over exactly `size` bytes, now; takes a fraction of a second."""
    threads = settings.threads()
    parts = np.array_split(np.ones(size // 4, np.float32), threads)
    with ThreadPoolExecutor(threads) as pool:
        return size / _shortest(lambda: list(pool.map(np.max, parts)))  # numpy's fastest pass over memory


_remembered_bandwidth = cache(measure_bandwidth)


@cache
def peak_flops() -> float:
    """Operations a second of float32 matrix products, by numpy's library."""
    matrix = np.ones((PRODUCT_SIZE, PRODUCT_SIZE), np.float32)
    result = np.empty_like(matrix)
    return 2 * PRODUCT_SIZE**3 / _shortest(lambda: np.matmul(matrix, matrix, out=result))


def _shortest(work: Callable[[], object]) -> float:
    """Seconds of the fastest of several calls: other work on the machine only ever slows one down."""
    work()
    best, end = float("inf"), time.perf_counter() + SECONDS
    while (start := time.perf_counter()) < end:
        work()
        best = min(best, time.perf_counter() - start)
    return best


def _gpus() -> tuple[Gpu, ...]:
    """NVIDIA's cards, by their driver's own tool; none where it is not installed or does not answer."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_gpus(answer)


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """Cards from lines `name, total MiB, free MiB`; one whose memory is not a number is left out."""
    rows = [[cell.strip() for cell in line.rsplit(",", 2)] for line in text.splitlines() if line.strip()]
    numbers = [row for row in rows if len(row) == 3 and row[1].isdecimal() and row[2].isdecimal()]
    return tuple(Gpu(name, int(total) << 20, int(free) << 20) for name, total, free in numbers)
