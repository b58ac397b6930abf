"""Bytes a second that threads read from memory: the best of five passes over 512 MiB.

With one thread by processor time, else by the clock. Usage: bandwidth.py THREADS
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from timing import timed

SIZE = 512 << 20


def measure(threads: int) -> float:
    """Bytes a second."""
    parts = np.array_split(np.ones(SIZE // 4, np.float32), threads)
    with ThreadPoolExecutor(threads) as pool:
        passes = [timed(lambda: list(pool.map(np.max, parts)))[1 if threads == 1 else 0] for _ in range(5)]
    return SIZE / min(passes)


if __name__ == "__main__":
    print(measure(int(sys.argv[1])))
