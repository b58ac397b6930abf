"""Threads that other programs keep waiting: nothing waits for them, and nothing that is computed changes.

Judged by processor time: a thread that waits for another burns it, so what waiting costs shows on a busy machine too.
"""

from __future__ import annotations

import os
import runpy
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.errors import MissingDependencyError
from octavo.models.runner import Row
from octavo.nn.config import AttentionConfig, MlpConfig, NormConfig, RopeConfig, TransformerConfig
from octavo.nn.kernels import binding

try:
    LEVEL = binding.machine_levels()[-1]
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)
MODELS: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "models/test_compiled.py"))
TASKS = Path("/proc/self/task")
CONFIG = TransformerConfig(
    vocab_size=4000, hidden_size=256, num_layers=8, context_length=96, norm=NormConfig("rms", 1e-5),
    attention=AttentionConfig(8, 2, 32), mlp=MlpConfig(768, "silu", gated=True), rope=RopeConfig(1e4, 32),
    tie_embeddings=True,
)  # fmt: skip


def step_of(runner: Any, position: int) -> tuple[float, Any]:
    began = time.process_time()
    logits = runner.step([Row(np.array([position], np.int32), position, range(6), 0)]).logits
    return time.process_time() - began, logits


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not say where a thread may run")
def test_threads_that_get_no_processor_are_left_out() -> None:
    source, everywhere = MODELS["encoded"](MODELS["loud_model"](CONFIG), "q4_1"), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(everywhere)})  # four threads on one core: three are always in each other's way
    try:
        with MODELS["kernels"](source, LEVEL, threads=1) as alone, MODELS["kernels"](source, LEVEL, threads=4) as four:
            pairs = [(step_of(alone, at % 90), step_of(four, at % 90)) for at in range(300)]
    finally:
        os.sched_setaffinity(0, everywhere)
    assert all(np.array_equal(one[1], other[1]) for one, other in pairs)
    late = pairs[30:]
    one, other = (statistics.median(pair[side][0] for pair in late) for side in (0, 1))
    assert other <= 1.5 * one, f"{other * 1e3:.2f} ms against {one * 1e3:.2f} ms"


def seconds_of_threads() -> dict[str, float]:
    return {task.name: int((task / "schedstat").read_text().split()[0]) / 1e9 for task in TASKS.iterdir()}


@pytest.mark.skipif(not TASKS.exists(), reason="this system does not say what a thread has computed")
def test_a_thread_that_was_left_out_is_tried_again() -> None:
    source, everywhere = MODELS["encoded"](MODELS["loud_model"](CONFIG), "q4_1"), os.sched_getaffinity(0)
    before = seconds_of_threads()
    with MODELS["kernels"](source, LEVEL, threads=2) as runner:
        workers = seconds_of_threads().keys() - before.keys()
        try:
            os.sched_setaffinity(0, {min(everywhere)})
            for worker in workers:
                os.sched_setaffinity(int(worker), {min(everywhere)})
            for at in range(100):
                step_of(runner, at % 90)
        finally:
            os.sched_setaffinity(0, everywhere)
            for worker in workers:
                os.sched_setaffinity(int(worker), everywhere)
        cramped, end = seconds_of_threads(), time.monotonic() + 2.5  # tried again each second, at the least
        while time.monotonic() < end:
            step_of(runner, 7)
        free = seconds_of_threads()
    assert len(workers) == 1
    assert all(free[worker] > cramped[worker] for worker in workers)
