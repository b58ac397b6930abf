"""Claim: on a GPU the torch runner decodes faster than `generate` of transformers, one text or many at once.

Random bfloat16 weights in the shapes of Qwen2.5-0.5B and TinyLlama-1.1B, prompts of 128. Ours with rows one after
another, as a batch, and as recorded graphs, steps and the way of the logits to the host apart; theirs with the growing
and with the static cache, greedy. Printed: tokens/s at batch 1, 8 and 64, a prompt of 512, and what share of the
device's measured bandwidth reading the weights once a step takes. On a CPU it runs, in miniature, to be tried.

    python benchmarks/torch_decoding.py [--shapes 0.5b,1.1b] [--seconds 120] [--out FILE.jsonl]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from octavo.models.checkpoint import open_checkpoint
from octavo.models.runner import BLOCK_SIZE, Row
from octavo.models.transformer import TorchRunner

COMMON = {"max_position_embeddings": 2048, "eos_token_id": None, "pad_token_id": 0, "bos_token_id": 0}
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
             "intermediate_size": 128, "vocab_size": 512, "tie_word_embeddings": True},
    "0.5b": {"hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
             "intermediate_size": 4864, "vocab_size": 151936, "tie_word_embeddings": True},
    "1.1b": {"hidden_size": 2048, "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4,
             "intermediate_size": 5632, "vocab_size": 32000, "tie_word_embeddings": False},
}  # fmt: skip
PROMPT, NEW, LONG = 128, 64, 1536
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WAYS = ("graphs", "batch") if DEVICE == "cuda" else ("batch",)
BEGUN = time.perf_counter()


def main() -> None:
    """Measure and print, each line as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="0.5b,1.1b")
    parser.add_argument("--seconds", type=float, default=120, help="after which nothing more is begun")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    def say(**found: Any) -> None:
        load = round(os.getloadavg()[0], 1)
        line = json.dumps({"at": round(time.perf_counter() - BEGUN, 1), "load": load, **found})
        print(line, flush=True)
        if arguments.out:
            with arguments.out.open("a") as file:
                file.write(line + "\n")

    def attempt(name: str, measure: Callable[[], dict[str, Any]], **also: Any) -> None:
        if time.perf_counter() - BEGUN > arguments.seconds:
            say(name=name, skipped="no time left", **also)
            return
        try:
            say(name=name, **also, **measure())
        except Exception:
            say(name=name, failed=traceback.format_exc()[-3000:], **also)

    say(device=torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu", torch=torch.__version__)
    bandwidth = copied()
    say(name="copy", gigabytes_a_second=bandwidth)
    shapes = arguments.shapes.split(",")
    with tempfile.TemporaryDirectory() as temporary:
        for shape in shapes:
            compare(shape, Path(temporary) / shape, attempt, bandwidth, compiled=shape == shapes[-1])


def compare(shape: str, folder: Path, attempt: Callable[..., None], bandwidth: float, *, compiled: bool) -> None:
    """All of one shape. attempt: measures and prints, or says why not. compiled: whether the peer is, too, last."""
    attempt("written", partial(written, shape, folder), shape=shape)
    for decode, batch in ((decode, batch) for decode in WAYS for batch in (1, 8, 64)):
        measure = partial(ours, folder, decode, batch, bandwidth)
        attempt(f"octavo {decode}", measure, shape=shape, batch=batch)
    for batch in (1, 8):
        measure = partial(ours, folder, WAYS[0], batch, bandwidth, context=LONG)
        attempt(f"octavo {WAYS[0]}, context {LONG}", measure, shape=shape, batch=batch)
    attempt("octavo prefill", partial(our_prefill, folder), shape=shape)
    peer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(DEVICE).eval()
    attempt("transformers prefill", partial(their_prefill, peer), shape=shape)
    for cache, batch in ((None, 1), (None, 8), (None, 64), ("static", 1), ("static", 64)):
        name = f"transformers {cache or 'growing'} cache"
        attempt(name, partial(theirs, peer, batch, cache), shape=shape, batch=batch)
    attempt("parity", partial(parity, folder), shape=shape)
    if DEVICE == "cuda":
        attempt("profile", partial(profiled, folder), shape=shape)
    attempt("octavo rows", partial(ours, folder, "rows", 1, bandwidth), shape=shape, batch=1)
    if DEVICE == "cuda" and compiled:
        measure = partial(theirs, peer, 1, "static", compiled=True)
        attempt("transformers static cache, compiled", measure, shape=shape, batch=1)


def copied() -> float:
    """GB/s of a copy on the device, bytes read and written."""
    size = 1 << (30 if DEVICE == "cuda" else 26)
    one = torch.zeros(size, dtype=torch.uint8, device=DEVICE)
    other = torch.empty_like(one)
    return round(2 * size / timed(lambda: other.copy_(one), 8) / 1e9, 1)


def written(shape: str, folder: Path) -> dict[str, Any]:
    """A checkpoint with random weights."""
    config = AutoConfig.for_model("llama", **{**COMMON, **SHAPES[shape]})
    with torch.device(DEVICE):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    return {"weights": sum(part.numel() for part in model.parameters())}


def runner_of(folder: Path, **options: Any) -> TorchRunner:
    return TorchRunner(open_checkpoint(folder), num_blocks=1024, dtype=torch.bfloat16, device=DEVICE, **options)


def prompt(seed: int, length: int, vocab: int) -> Any:
    return np.random.default_rng(seed).integers(0, vocab, length).astype(np.int32)


def ours(folder: Path, decode: str, batch: int, bandwidth: float, context: int = PROMPT) -> dict[str, Any]:
    """A step with its logits at the host, and the same with its choice alone there, and without either."""
    runner = runner_of(folder, decode=decode)
    blocks = -(-(context + NEW) // BLOCK_SIZE)
    owned = [list(range(at * blocks, (at + 1) * blocks)) for at in range(batch)]
    for at, own in enumerate(owned):
        for start in range(0, context, 512):
            text = prompt(at, min(512, context - start), runner.config.vocab_size)
            runner.step([Row(text, start, own, len(text))])
    tokens, steps, begun_all = [1] * batch, [], time.perf_counter()
    for step in range(NEW):
        rows = [Row([token], context + step, own, 0) for token, own in zip(tokens, owned, strict=True)]
        begun = time.perf_counter()
        logits = runner.step(rows).logits
        steps.append(time.perf_counter() - begun)
        tokens = logits.argmax(1).tolist()
        if time.perf_counter() - begun_all > 3 and step > 8:
            break
    median = statistics.median(steps[4:])
    found: dict[str, Any] = {"ms": 1e3 * median, "first_ms": 1e3 * steps[0], "tokens_a_second": batch / median}
    if (decoder := runner._decoder) is not None:
        found["ms_with_choice"] = 1e3 * timed(lambda: decoder.step(rows)[0].argmax(1).cpu(), 20)
        alone = timed(lambda: decoder.step(rows), 20)
        found["ms_on_device"] = 1e3 * alone
        weights = sum(part.nbytes for name, part in runner._model.named_parameters() if "embed" not in name)
        if runner.config.tie_embeddings:
            weights += runner._model.embed_tokens.weight.nbytes
        found["share_of_bandwidth"] = weights / alone / 1e9 / bandwidth
    runner.close()
    return {key: round(value, 4) for key, value in found.items()}


def our_prefill(folder: Path) -> dict[str, Any]:
    runner = runner_of(folder)
    row = [Row(prompt(0, 512, runner.config.vocab_size), 0, range(32), 511)]
    seconds = timed(lambda: runner.step(row), 10)
    runner.close()
    return {"ms": round(1e3 * seconds, 3), "tokens_a_second": round(512 / seconds)}


@torch.inference_mode()
def their_prefill(peer: Any) -> dict[str, Any]:
    ids = torch.from_numpy(prompt(0, 512, peer.config.vocab_size).astype(np.int64))[None].to(DEVICE)
    seconds = timed(lambda: peer(ids, logits_to_keep=1, use_cache=True).logits.float().cpu(), 10)
    return {"ms": round(1e3 * seconds, 3), "tokens_a_second": round(512 / seconds)}


@torch.inference_mode()
def theirs(peer: Any, batch: int, cache: str | None, *, compiled: bool = False) -> dict[str, Any]:
    """Their time of NEW tokens less that of a quarter of them, so that the prompt's is out."""
    ids = torch.stack(
        [torch.from_numpy(prompt(at, PROMPT, peer.config.vocab_size).astype(np.int64)) for at in range(batch)]
    )
    ids = ids.to(DEVICE)
    options: dict[str, Any] = {"do_sample": False, "pad_token_id": 0, "cache_implementation": cache}
    if not compiled:
        options["disable_compile"] = True

    def made(count: int) -> float:
        begun = time.perf_counter()
        peer.generate(ids, max_new_tokens=count, min_new_tokens=count, **options)
        synchronise()
        return time.perf_counter() - begun

    first, many, few = made(NEW if compiled else NEW // 4), made(NEW), made(NEW // 4)
    a_step = (many - few) / (NEW - NEW // 4)
    return {"ms": round(1e3 * a_step, 4), "tokens_a_second": round(batch / a_step, 4), "first_seconds": round(first, 2)}


def parity(folder: Path) -> dict[str, Any]:
    """Logits of the three ways after a prompt: how far apart, beside how far bfloat16 is from float32."""
    found = {}
    tokens = prompt(5, 40, 500)
    for decode in ("rows", "batch", "graphs") if DEVICE == "cuda" else ("rows", "batch"):
        runner = runner_of(folder, decode=decode)
        runner.step([Row(tokens[:39], 0, range(3), 39)])
        found[decode] = runner.step([Row(tokens[39:], 39, range(3), 0)]).logits[0]
        runner.close()
    exact = TorchRunner(open_checkpoint(folder), num_blocks=4, device=DEVICE)
    expected = exact.step([Row(tokens, 0, range(3), 39)]).logits[0]
    exact.close()
    return {
        "std": float(expected.std()),
        **{f"{name} from float32": float(np.abs(logits - expected).max()) for name, logits in found.items()},
        **{f"{name} from rows": float(np.abs(logits - found["rows"]).max()) for name, logits in found.items()},
    }


def profiled(folder: Path) -> dict[str, Any]:
    """The kernels of one batched step of one row, by their time."""
    runner = runner_of(folder, decode="batch")
    rows = [Row([1], 200, range(13), 0)]
    for _ in range(3):
        runner.step(rows)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        runner.step(rows)
        synchronise()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)
    runner.close()
    return {
        "kernels": sum(event.count for event in events),
        "us": sum(event.self_device_time_total for event in events),
        "most": [[event.key[:90], event.count, round(event.self_device_time_total)] for event in events[:25]],
    }


def timed(work: Callable[[], object], times: int) -> float:
    """The median of the seconds that it takes."""
    for _ in range(3):
        work()
    taken = []
    for _ in range(times):
        synchronise()
        begun = time.perf_counter()
        work()
        synchronise()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def synchronise() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
