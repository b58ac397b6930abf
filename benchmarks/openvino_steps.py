"""OpenVINO GenAI's continuous batching, one timed step at a time: a side of race.py, run by an interpreter that has it.

Of its two precisions, bfloat16 and float32, the faster one counts for each figure. Prefix caching is off, since a
repeated prompt would be answered from memory.

Usage: openvino_steps.py FOLDER THREADS STEPS. Prints what llama_steps.c prints.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import numpy as np
import openvino
import openvino_genai
from timing import Times, timed

PROMPT, SEQUENCES = 512, 8


def measure(folder: str, threads: int, steps: int) -> dict[str, Any]:
    """Seconds of loading, and of each step, in the better precision of each."""
    found = [measure_in(precision, folder, threads, steps) for precision in ("bf16", "f32")]
    clock = 1 if threads == 1 else 0
    best = {name: min((one[name] for one in found), key=lambda times: _median(times, clock)) for name in found[0]}
    return {**best, "load": best["load"][0][0]}


def measure_in(precision: str, folder: str, threads: int, steps: int) -> dict[str, Times]:
    """The same in one of them."""
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.max_num_batched_tokens, scheduler.max_num_seqs, scheduler.cache_size = PROMPT, SEQUENCES, 1
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
    start = time.perf_counter()
    pipeline = openvino_genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", options)
    load = time.perf_counter() - start

    def run(prompts: list[list[int]], count: int) -> Times:
        # A model without an end-of-sequence token is refused unless one is named, though none ends an answer here.
        chosen = openvino_genai.GenerationConfig(max_new_tokens=count, eos_token_id=0, ignore_eos=True, do_sample=False)
        inputs = [openvino.Tensor(np.array([prompt], np.int64)) for prompt in prompts]
        handles = [pipeline.add_request(number, tokens, chosen) for number, tokens in enumerate(inputs)]
        times = []
        while pipeline.has_non_finished_requests():
            times.append(timed(pipeline.step))
        assert len(times) == count and len(handles) == len(prompts), "a step gives each request a token"
        return times

    return {
        "load": [(load, load)],
        "decode 1": run([[100]], steps),
        "decode 8": run([[100 + 7 * row] for row in range(SEQUENCES)], steps),
        "prefill 512": [run([list(range(start, start + PROMPT))], 1)[0] for start in (100, 101)],
    }


def _median(times: Times, clock: int) -> float:
    return statistics.median(step[clock] for step in times[1:] or times)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
