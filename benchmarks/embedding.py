"""Claim: on the CPU, Octavo embeds at least 1.4 times as fast as the best of sentence-transformers (float32, bfloat16).

all-MiniLM-L6-v2 on texts of 128 tokens, tokenising included, at the default weights and in int8. The sides take turns
in one process, a batch each; a ratio is the median over the rounds with its quartiles, by the clock and by processor
time (for a busy machine). Least cosines to the peer's float32 vectors stand beside, as speed alone says nothing.

    python benchmarks/embedding.py [--model FOLDER] [--batch 64] [--rounds 9] [--threads 2] [--json]
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

from octavo.fetching import sources
from octavo.generate.embed import Embedder

WORDS = ("the", "tower", "stands", "by", "a", "river", "and", "people", "walk", "over", "its", "old", "stone", "bridge")


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    os.environ["OCTAVO_THREADS"] = str(arguments.threads)
    model = arguments.model or sources.pull("all-minilm-l6-v2")
    sides = {**octavo_sides(model), **peer_sides(model, arguments.threads)}
    texts = sentences(arguments.batch)
    reference = sides["sentence-transformers float32"](texts)
    cosines = {name: float((embed(texts) * reference).sum(axis=1).min()) for name, embed in sides.items()}
    rounds = [{name: timed(embed, texts) for name, embed in sides.items()} for _ in range(arguments.rounds)]
    report(rounds, cosines, arguments)


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


def timed(embed: Callable[[list[str]], Any], texts: list[str]) -> tuple[float, float]:
    """Wall and processor seconds a text."""
    wall, processor = time.perf_counter(), time.process_time()
    embed(texts)
    return (time.perf_counter() - wall) / len(texts), (time.process_time() - processor) / len(texts)


def report(
    rounds: list[dict[str, tuple[float, float]]], cosines: dict[str, float], arguments: argparse.Namespace
) -> None:
    """Print speeds, cosines, and our ratios to the faster peer of each round."""
    peers = [name for name in cosines if not name.startswith("octavo")]
    figures: dict[str, Any] = {}
    for name in cosines:
        speeds = [1 / statistics.median(one[name][place] for one in rounds) for place in (0, 1)]
        figures[name] = {"per_second": speeds[0], "per_processor_second": speeds[1], "least_cosine": cosines[name]}
        for place, kind in enumerate(("ratio", "ratio_of_processor_time") if name not in peers else ()):
            ratios = [min(one[peer][place] for peer in peers) / one[name][place] for one in rounds]
            figures[name][kind] = statistics.quantiles(ratios, n=4)
    if arguments.json:
        print(json.dumps({"batch": arguments.batch, "threads": arguments.threads, **figures}))
        return
    print(f"embedding, {arguments.batch} texts of 128 tokens, {arguments.threads} threads, {len(rounds)} rounds")
    for name, found in figures.items():
        line = f"{found['per_second']:7.1f} /s {found['per_processor_second']:7.1f} /processor s"
        print(f"  {name:34} {line}  least cosine {found['least_cosine']:.5f}")
        for kind in ("ratio", "ratio_of_processor_time"):
            if kind in found:
                low, middle, high = found[kind]
                print(f"  {'':34} {kind.replace('_', ' ')} {middle:.2f} (quartiles {low:.2f} to {high:.2f})")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
