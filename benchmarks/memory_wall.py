"""Claim: decoding comes near to what memory allows and never past it, and `octavo fit` says beforehand what that is.

SmolLM2-135M decodes one sequence on the kernels; between the runs the same machine's bandwidth is measured over as many
bytes as a token reads. Printed: the ratio of the two speeds, its median and its spread.
"""

from __future__ import annotations

import argparse
import statistics
import time

from octavo import Request, Sampling, load
from octavo.examine.sizing.cost import bytes_read, kv_values
from octavo.examine.sizing.machine import measure_bandwidth
from octavo.generate.local import LocalModel

PROMPT = "The history of the printing press begins"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    ratios = []
    with load(arguments.model, context=512) as model:
        config = model.checkpoint.config
        stored = {name: tensor.nbytes for name, tensor in model.checkpoint.tensors.items()}
        read = bytes_read(config, stored) + 2 * kv_values(config, arguments.tokens)
        for _ in range(arguments.rounds):
            bound = measure_bandwidth(read) / read
            speed = decode_speed(model, arguments.tokens)
            ratios.append(speed / bound)
            print(f"measured {speed:.1f} tokens/s, memory allows {bound:.1f}: {speed / bound:.2f}")
    print(f"of the bound: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def decode_speed(model: LocalModel, tokens: int) -> float:
    """Tokens a second after the first, one sequence."""
    request = Request(PROMPT, max_tokens=tokens, sampling=Sampling(temperature=0), ignore_eos=True)
    times = [time.perf_counter() for _ in model.stream(request)]
    return (tokens - 1) / (times[-1] - times[0])


if __name__ == "__main__":
    main()
