"""Claims: a long prompt does not freeze running answers, and a shared beginning is paid for once.

1. A prompt of 4,000 tokens arrives while 8 answers run: the 99th percentile of the time between two tokens of those is
   at most 4 times what it was before.
2. Requests that share a system prompt of 500 tokens, 8 at a time: the time to the first token is at most 0.3 of what
   it is when nothing is shared (each request with a cache salt of its own). The two kinds take turns, in one run.

On a busy machine use --threads 1 and read the processor times.

    python benchmarks/latency.py [--model FILE.gguf] [--threads 2] [--requests 1000] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from octavo import settings
from octavo.fetching import sources
from octavo.generate.engine import Engine
from octavo.generate.lm import Delta, Request, Sampling
from octavo.generate.local import LocalModel
from octavo.models.checkpoint import open_checkpoint
from octavo.models.compiled import CompiledRunner

CONTEXT = 8192
STREAMS, LONG_PROMPT, IDLE_TOKENS = 8, 4000, 200
SYSTEM_PROMPT, QUESTION, AT_ONCE = 500, 20, 8
GREEDY = Sampling(temperature=0)
Clocks = tuple[float, float]
"""Wall and processor seconds."""


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    checkpoint = open_checkpoint(arguments.model)
    runner = CompiledRunner(checkpoint, num_blocks=12 * CONTEXT // 16 // 2, threads=arguments.threads)
    with LocalModel(checkpoint, Engine(runner), CONTEXT) as model:
        result = {"gaps": gaps(model), "first token": first_tokens(model, arguments.requests)}
    if arguments.json:
        print(json.dumps({"threads": arguments.threads, **result}))
        return
    print(f"{arguments.model.name}, {arguments.threads} threads, load {os.getloadavg()[0]:.1f}")
    for clock in ("wall", "processor"):
        figures = result["gaps"][clock]
        print(f"  {clock}: {STREAMS} answers, ms between tokens (p50, p99): idle {figures['idle']}")
        print(f"    beside a prompt of {LONG_PROMPT}: {figures['busy']}; p99 ratio {figures['ratio']:.2f} (at most 4)")
    first = result["first token"]
    print(f"  first token of {arguments.requests} requests, ms: shared {first['shared']:.1f}, not {first['apart']:.1f}")
    print(f"    ratio {first['ratio']:.3f} (at most 0.3)")


def now() -> Clocks:
    """Both clocks."""
    return time.perf_counter(), time.process_time()


def tokens(count: int, seed: int) -> list[int]:
    """A prompt of any words."""
    return np.random.default_rng(seed).integers(1000, 40000, count).tolist()


def gaps(model: LocalModel) -> dict[str, Any]:
    """Time between tokens of running answers, before a long prompt comes and while it is read."""
    seen: list[list[Clocks]] = [[] for _ in range(STREAMS)]
    streams = [model.stream(Request(tokens(20, i), 4000, GREEDY, ignore_eos=True)) for i in range(STREAMS)]

    def read(index: int) -> None:
        for event in streams[index]:
            if isinstance(event, Delta):
                seen[index].append(now())

    readers = [threading.Thread(target=read, args=(index,)) for index in range(STREAMS)]
    for reader in readers:
        reader.start()
    while min(map(len, seen)) < IDLE_TOKENS:
        time.sleep(0.01)
    arrived = time.perf_counter()
    next(event for event in model.stream(Request(tokens(LONG_PROMPT, 99), 1, GREEDY)) if isinstance(event, Delta))
    begun = time.perf_counter()
    for stream in streams:
        stream.close()
    for reader in readers:
        reader.join()
    result: dict[str, Any] = {"seconds to the first token": begun - arrived}
    for clock, name in enumerate(("wall", "processor")):
        idle, busy = _between(seen, clock, 0, arrived), _between(seen, clock, arrived, begun)
        shown = {
            kind: [round(1000 * percentile(times, p), 2) for p in (50, 99)]
            for kind, times in (("idle", idle), ("busy", busy))
        }
        result[name] = {**shown, "ratio": percentile(busy, 99) / percentile(idle, 99)}
    return result


def _between(seen: Sequence[Sequence[Clocks]], clock: int, start: float, end: float) -> list[float]:
    """Gaps between tokens in that span, but for each answer's first tokens."""
    return [
        later[clock] - earlier[clock]
        for times in seen
        for earlier, later in pairwise(times[20:])
        if start <= earlier[0] and later[0] <= end
    ]


def percentile(times: Sequence[float], p: float) -> float:
    """Of a list that is not empty."""
    return float(np.percentile(times, p))


def first_tokens(model: LocalModel, requests: int) -> dict[str, float]:
    """Median milliseconds to the first token, with sharing and without, in turns of AT_ONCE requests."""
    system = tokens(SYSTEM_PROMPT, 7)
    seconds: dict[str, list[float]] = {"shared": [], "apart": []}

    def ask(kind: str, number: int) -> None:
        salt = f"apart {number}" if kind == "apart" else ""
        begun = time.perf_counter()
        stream = model.stream(
            Request([*system, *tokens(QUESTION, number)], 4, GREEDY, cache_salt=salt, ignore_eos=True)
        )
        for event in stream:
            if isinstance(event, Delta):
                seconds[kind].append(time.perf_counter() - begun)
                break
        list(stream)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for kind, numbers in _turns(requests):
            list(pool.map(ask, [kind] * len(numbers), numbers))
    medians = {kind: 1000 * statistics.median(times) for kind, times in seconds.items()}
    return {**medians, "ratio": medians["shared"] / medians["apart"]}


def _turns(requests: int) -> Iterator[tuple[str, list[int]]]:
    for start in range(0, requests, AT_ONCE):
        for kind in ("shared", "apart"):
            yield kind, list(range(start, min(start + AT_ONCE, requests)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a GGUF file; default: SmolLM2, pulled where it is missing")
    parser.add_argument("--threads", type=int, default=settings.threads())
    parser.add_argument("--requests", type=int, default=1000, help="of each kind")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.model = arguments.model or sources.pull("smollm2-135m-instruct")
    return arguments


if __name__ == "__main__":
    main()
