"""transformers in bfloat16 with its own cache, one timed step at a time: a side of race.py.

Usage: transformers_steps.py FOLDER THREADS STEPS. Prints what llama_steps.c prints.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from timing import Times, timed
from transformers import AutoModelForCausalLM


def measure(model: Path, threads: int, steps: int) -> dict[str, Any]:
    """Seconds of loading, and of each step."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    peer = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).eval()
    load = time.perf_counter() - start

    def decode(batch: int) -> Times:
        cache: Any = None
        times = []

        def step(tokens: torch.Tensor) -> None:
            nonlocal cache
            cache = peer(tokens, past_key_values=cache, use_cache=True).past_key_values

        for position in range(steps):
            tokens = torch.arange(batch)[:, None] * 7 + 100 + position
            times.append(timed(lambda tokens=tokens: step(tokens)))  # type: ignore[misc]
        return times

    prompt = torch.arange(100, 612)[None]
    with torch.inference_mode():
        result: dict[str, Any] = {"load": load, "decode 1": decode(1), "decode 8": decode(8)}
        result["prefill 512"] = [timed(lambda: peer(prompt, logits_to_keep=1)) for _ in range(2)]
    return result


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
