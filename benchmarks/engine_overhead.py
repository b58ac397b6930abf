"""Claim: the engine costs at most a tenth of the bare kernel step at batch 1: scheduling, sampling, text and events.

Also: microseconds a token for sampling alone, at vocabularies of 49 and 262 thousand, batch 1 and 8, on logits that a
real model made; and tokens a step and speed with prompt lookup on texts that repeat themselves. Rounds take turns; on a
busy machine use --threads 1: figures are then of processor time.

    python benchmarks/engine_overhead.py [--model FILE.gguf] [--threads 2] [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from octavo import settings
from octavo.fetching import sources
from octavo.generate.engine import Engine
from octavo.generate.lm import Request, Sampling, complete
from octavo.generate.local import LocalModel
from octavo.generate.propose.ngram import NGramProposer
from octavo.generate.sample import Sampler
from octavo.models.checkpoint import open_checkpoint
from octavo.models.compiled import CompiledRunner
from octavo.models.runner import Row

CONTEXT, TOKENS = 1024, 100
SAMPLINGS = {
    "greedy": Sampling(temperature=0),
    "temperature": Sampling(temperature=0.8, seed=0),
    "top-p": Sampling(temperature=0.8, top_p=0.95, seed=0),
    "top-k, top-p": Sampling(temperature=0.8, top_k=40, top_p=0.95, seed=0),
}
REPEATING = (
    "Repeat this text word for word: {text}",
    "Correct the spelling, and change nothing else: {text}",
)
TEXTS = (
    "The quick brown fox jumps over the lazy dog near the quiet river bank, while seven small birds sing in the trees.",
    "def area(width, height):\n    return width * height\n\ndef volume(width, height, depth):\n    return area(width, height) * depth",  # noqa: E501
)


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    checkpoint = open_checkpoint(arguments.model)

    def model(*, guessing: bool) -> LocalModel:
        runner = CompiledRunner(checkpoint, num_blocks=2 * CONTEXT // 16, threads=arguments.threads)
        proposer = NGramProposer() if guessing else None
        return LocalModel(checkpoint, Engine(runner, proposer=proposer), CONTEXT, draft_tokens=8 if guessing else 0)

    with model(guessing=False) as plain, model(guessing=True) as guessing:
        result = {
            "overhead": overhead(plain, clock, arguments.rounds),
            "sampling us": sampling(plain, clock),
            "prompt lookup": lookup(plain, guessing, clock),
        }
    if arguments.json:
        print(json.dumps({"threads": arguments.threads, **result}))
        return
    kind = "processor" if arguments.threads == 1 else "wall"
    print(f"{arguments.model.name}, {arguments.threads} threads, {kind} time, load {os.getloadavg()[0]:.1f}")
    for part, figures in result.items():
        print(f"  {part}:")
        for name, value in figures.items():
            print(f"    {name}: {value}")


def overhead(model: LocalModel, clock: Callable[[], float], rounds: int) -> dict[str, str]:
    """The engine's time a token over that of the runner's step, for each sampling."""
    bare = [_bare(model, clock) for _ in range(rounds)]
    ratios: dict[str, list[float]] = {name: [] for name in SAMPLINGS}
    for at in range(rounds):
        bare[at] = _bare(model, clock)
        for name, chosen in SAMPLINGS.items():
            request = Request([100], TOKENS, chosen, ignore_eos=True)
            begun = clock()
            complete(model, request)
            ratios[name].append((clock() - begun) / TOKENS / bare[at])
    shown = {name: f"{statistics.median(r):.3f} ({min(r):.3f} to {max(r):.3f})" for name, r in ratios.items()}
    return {"bare step, ms": f"{1000 * statistics.median(bare):.2f}", **shown}


def _bare(model: LocalModel, clock: Callable[[], float]) -> float:
    """Seconds of a step, over the same positions that the engine decodes."""
    token = np.array([100], np.int32)
    begun = clock()
    for position in range(TOKENS):
        model.engine.runner.step([Row(token, position, range(64), 0)])
    return (clock() - begun) / TOKENS


def sampling(model: LocalModel, clock: Callable[[], float]) -> dict[str, str]:
    """Microseconds a token of choosing alone."""
    prompt = model.encode("The history of the city begins with a small village near the river, where")
    rows = [Row(np.array(prompt, np.int32), 0, range(64), len(prompt) - 8)]
    small = model.engine.runner.step(rows).logits  # (8, vocab_size)
    large = np.concatenate([small, *[small - 12] * 5], axis=1)[:, :262144].copy()  # a tail, as larger ones have
    result = {}
    for name, chosen in SAMPLINGS.items():
        sampler = Sampler(chosen, ())
        for logits, vocabulary in ((small, "49k"), (large, "262k")):
            for batch in (1, 8):
                times = []
                for _ in range(30):
                    begun = clock()
                    for row in logits[:batch]:
                        sampler.choose(row)
                    times.append((clock() - begun) / batch)
                result[f"{name}, {vocabulary}, batch {batch}"] = f"{1e6 * statistics.median(times):.0f}"
    return result


def lookup(plain: LocalModel, guessing: LocalModel, clock: Callable[[], float]) -> dict[str, Any]:
    """Speed with guesses over speed without, and how many tokens a step gives."""
    ratios, tokens, steps = [], 0, 0
    for words in REPEATING:
        for text in TEXTS:
            request = Request(
                [{"role": "user", "content": words.format(text=text)}], TOKENS, Sampling(temperature=0), ignore_eos=True
            )
            seconds = []
            for model in (plain, guessing):
                complete(model, request)  # so that the prompt's blocks are at hand for both
                begun = clock()
                answer = complete(model, request)
                seconds.append(clock() - begun)
            ratios.append(seconds[0] / seconds[1])
            tokens += answer.finished.completion_tokens
            steps += answer.finished.completion_tokens - answer.finished.accepted_tokens
    return {
        "speed, with over without": f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        "tokens a step": f"{tokens / steps:.2f}",
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a GGUF file; default: SmolLM2, pulled where it is missing")
    parser.add_argument("--threads", type=int, default=settings.threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.model = arguments.model or sources.pull("smollm2-135m-instruct")
    return arguments


if __name__ == "__main__":
    main()
