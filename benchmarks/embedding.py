"""Claims: on the CPU, Octavo embeds at least 2.5 times as fast as sentence-transformers in float32, 1.4 in bfloat16.

all-MiniLM-L6-v2 on texts of 128 tokens, tokenising included, at the default weights and in int8; one text at a time,
and 32 at once. The sides take turns in one process; a ratio is the median over the rounds with
its quartiles. With --threads 1 speeds are by processor time. Least cosines to the peer's float32 vectors stand beside,
as speed alone says nothing.

    python benchmarks/embedding.py [--model FOLDER] [--batch 1 32] [--rounds 9] [--threads 2] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from timing import timed, verdict

from octavo.fetching import sources
from octavo.generate.embed import Embedder

WORDS = ("the", "tower", "stands", "by", "a", "river", "and", "people", "walk", "over", "its", "old", "stone", "bridge")
GATES = {(1, "float32"): (2.5, 5.0), (32, "float32"): (2.5, 4.0), (32, "bfloat16"): (1.4, 2.3)}
"""Batch and the peer's type -> the ratio that one kind of our weights must reach, and the one aimed at."""
COSINE = 0.995
"""Below it no speed counts."""


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    os.environ["OCTAVO_THREADS"] = str(arguments.threads)
    model = arguments.model or sources.pull("all-minilm-l6-v2")
    sides = {**octavo_sides(model), **peer_sides(model, arguments.threads)}
    for batch in arguments.batch:
        texts = sentences(batch)
        reference = sides["sentence-transformers float32"](texts)
        cosines = {name: float((embed(texts) * reference).sum(axis=1).min()) for name, embed in sides.items()}
        rounds = [{name: seconds(embed, texts) for name, embed in sides.items()} for _ in range(arguments.rounds)]
        clock = 1 if arguments.threads == 1 else 0
        report(batch, [{name: one[clock] for name, one in found.items()} for found in rounds], cosines, arguments)


def sentences(count: int, tokens: int = 128) -> list[str]:
    """Texts of common words, one token each, so that with [CLS] and [SEP] they are `tokens` long."""
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(WORDS, tokens - 2)) for _ in range(count)]


def octavo_sides(model: Path) -> dict[str, Callable[[list[str]], Any]]:
    """Our embedder with each kind of weights, by the runner's own name."""
    embedders = [Embedder.load(str(model), runner="kernels", weights=weights) for weights in ("bf16", "int8")]
    return {f"octavo {embedder.runner.name}": embedder.embed for embedder in embedders}


def peer_sides(model: Path, threads: int) -> dict[str, Callable[[list[str]], Any]]:
    """sentence-transformers as its documentation has it, in both types that a CPU runs."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    made = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        peer = SentenceTransformer(str(model), device="cpu", model_kwargs={"dtype": dtype})
        made[f"sentence-transformers {name}"] = _peer(peer)
    return made


def _peer(peer: Any) -> Callable[[list[str]], Any]:
    return lambda texts: peer.encode(texts, batch_size=32, show_progress_bar=False).astype(np.float32)


def seconds(embed: Callable[[list[str]], Any], texts: list[str]) -> tuple[float, float]:
    """Wall and processor seconds a text, over at least 8 of them."""
    turns = max(1, 8 // len(texts))
    wall, processor = timed(lambda: [embed(texts) for _ in range(turns)])
    return wall / turns / len(texts), processor / turns / len(texts)


def report(
    batch: int, rounds: list[dict[str, float]], cosines: dict[str, float], arguments: argparse.Namespace
) -> None:
    """Print speeds, cosines, and our ratios to the peers."""
    figures: dict[str, Any] = {}
    for name, cosine in cosines.items():
        speed = 1 / statistics.median(one[name] for one in rounds)
        figures[name] = {"per_second": speed, "least_cosine": cosine}
        for peer in cosines if name.startswith("octavo") else ():
            if not peer.startswith("octavo"):
                figures[name][f"/ {peer}"] = statistics.quantiles([one[peer] / one[name] for one in rounds], n=4)
    if arguments.json:
        print(json.dumps({"batch": batch, "threads": arguments.threads, **figures}))
        return
    kind = "processor" if arguments.threads == 1 else "wall"
    print(f"embedding {batch} at once, {arguments.threads} threads, {kind} time, {len(rounds)} rounds")
    for name, found in figures.items():
        print(f"  {name:34} {found['per_second']:7.1f} /s  least cosine {found['least_cosine']:.5f}")
        for peer, value in found.items():
            if peer.startswith("/"):
                low, middle, high = value
                gates = GATES.get((batch, peer.split()[-1]))
                asked = verdict(gates, (middle,)) if found["least_cosine"] >= COSINE else ""
                print(f"    {peer}: {middle:.2f} (quartiles {low:.2f} to {high:.2f}){asked}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
