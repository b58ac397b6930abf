"""Rows that run one token as one batch, and as what a GPU records: equal to the peer and to rows one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from octavo.generate.engine import Engine
from octavo.generate.lm import Delta, Request, Sampling
from octavo.generate.local import LocalModel
from octavo.models.checkpoint import open_checkpoint
from octavo.models.runner import Row
from octavo.models.transformer import TorchRunner, Transformer

Tiny = Callable[[str], tuple[Path, PreTrainedModel]]
FAMILIES = (
    "llama", "llama-biases", "mistral-window", "qwen2-window", "qwen3", "smollm3-window", "gemma2", "gemma3", "cohere2",
    "granite", "phi3", "phi3-longrope", "gpt2", "gpt_neo", "falcon-7b", "falcon-rw", "mixtral-window", "qwen2_moe",
    "mpt", "deepseek_v2", "deepseek_v3", "gpt_oss",
    "llama4", "afmoe", "phimoe", "nanochat", "xglm", "ministral3-grown",
)  # fmt: skip
BOUND = {"cpu": 1e-4, "cuda": 1e-3}
GREEDY = Sampling(temperature=0)
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
on_devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=cuda)])


@pytest.fixture(autouse=True)
def full_float32() -> Iterator[None]:
    """Products in float32 are just that."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def runner_of(folder: Path, device: str, **options: Any) -> TorchRunner:
    decode = "batch" if device == "cpu" else None
    return TorchRunner(open_checkpoint(folder), num_blocks=24, device=device, **{"decode": decode, **options})


def texts(lengths: tuple[int, ...]) -> list[NDArray[np.int32]]:
    return [np.random.default_rng(length).integers(0, 160, length).astype(np.int32) for length in lengths]


@on_devices
@pytest.mark.parametrize("name", FAMILIES)
def test_rows_of_one_token_equal_the_peer_beside_a_prompt(name: str, device: str, tiny: Tiny) -> None:
    folder, peer = tiny(name)
    runner = runner_of(folder, device)
    long, other, short = texts((44, 30, 6))
    owned = ([5, 0, 7], [2, 9], [11])
    runner.step([Row(long[:20], 0, owned[0], 20), Row(other[:17], 0, owned[1], 17)])
    got: dict[int, list[Any]] = {0: [], 1: [], 2: []}
    for step in range(13):  # rows of lengths of their own, over borders of blocks, a prompt among them once
        rows = {0: Row(long[20 + step : 21 + step], 20 + step, owned[0], 0)}
        if step == 4:
            rows[2] = Row(short, 0, owned[2], 1)
        rows[1] = Row(other[17 + step : 18 + step], 17 + step, owned[1], step % 3 == 1)
        output = runner.step(list(rows.values()))
        parts = np.split(output.logits, np.cumsum([len(row.tokens) - row.logits_from for row in rows.values()])[:-1])
        for number, part in zip(rows, parts, strict=True):
            got[number].append(part)
    with torch.no_grad():
        wholes = [torch.from_numpy(text.astype(np.int64))[None] for text in (long, other, short)]
        expected = [peer(whole).logits[0].numpy() for whole in wholes]
    kept = [step for step in range(13) if step % 3 != 1]
    assert np.abs(np.concatenate(got[0]) - expected[0][20:33]).max() <= BOUND[device]
    assert np.abs(np.concatenate(got[1]) - expected[1][[17 + step for step in kept]]).max() <= BOUND[device]
    assert np.abs(np.concatenate(got[2]) - expected[2][1:]).max() <= BOUND[device]


@on_devices
def test_the_hidden_states_of_rows_of_one_token_come_when_asked(device: str, tiny: Tiny) -> None:
    folder, _ = tiny("llama")
    (text,) = texts((9,))
    outputs = []
    for decode in ("rows", None if device == "cuda" else "batch"):
        runner = runner_of(folder, device, decode=decode)
        runner.step([Row(text[:8], 0, [3], 8)])
        outputs.append(runner.step([Row(text[8:], 8, [3], 0)], hidden=True).hidden)
    assert outputs[0] is not None and outputs[1] is not None and outputs[1].shape == (1, 64)
    assert np.abs(outputs[0] - outputs[1]).max() <= BOUND[device]


@pytest.mark.parametrize("name", ["llama", "llama-biases", "qwen3", "gpt2", "phi3", "mixtral"])
def test_joined_products_share_memory_with_the_weights_and_change_nothing(name: str, tiny: Tiny) -> None:
    model = Transformer.from_checkpoint(open_checkpoint(tiny(name)[0])).requires_grad_(False)
    tokens = torch.arange(12)[None]
    before, names = model(tokens), set(model.state_dict())
    size = sum(parameter.untyped_storage().nbytes() for parameter in model.parameters())
    model.join()
    q, k = model.blocks[0].attention.q.weight, model.blocks[0].attention.k.weight
    assert q.untyped_storage().data_ptr() == k.untyped_storage().data_ptr() and set(model.state_dict()) == names
    storages = {part.untyped_storage().data_ptr(): part.untyped_storage().nbytes() for part in model.parameters()}
    assert sum(storages.values()) == size, "weights are held twice"
    assert (model(tokens) - before).abs().max() <= 1e-5
    model.blocks[0].attention.v.weight.mul_(1.5)
    assert (model(tokens) - before).abs().max() > 1e-3, "what is written into a weight is seen"


def test_a_live_module_keeps_its_products_apart(tiny: Tiny) -> None:
    model = Transformer.from_checkpoint(open_checkpoint(tiny("llama")[0]))
    TorchRunner(model, num_blocks=2)
    weights = {name: part.untyped_storage().nbytes() == part.nbytes for name, part in model.named_parameters()}
    assert all(weights.values()), weights


@cuda
def test_a_gpu_records_each_size_once_and_repeats_it(tiny: Tiny) -> None:
    folder, _ = tiny("llama")
    runner = runner_of(folder, "cuda")
    assert runner._decoder is not None and runner.name == "torch cuda"
    for count in (1, 2, 3, 1, 3):
        runner.step([Row(np.array([5], np.int32), 0, [block], 0) for block in range(count)])
    assert sorted(runner._decoder._recorded) == [(1, 16), (2, 16), (3, 16)] and runner._decoder._records


@cuda
@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe"])
def test_experts_are_decoded_as_a_batch_that_is_not_recorded(name: str, tiny: Tiny) -> None:
    runner = runner_of(tiny(name)[0], "cuda")
    runner.step([Row(np.array([5], np.int32), 0, [0], 0)])
    assert runner._decoder is not None and not runner._decoder._recorded


@cuda
def test_an_operation_that_cannot_be_recorded_is_run_plainly(tiny: Tiny) -> None:
    folder, _ = tiny("mixtral")
    runner, plain = runner_of(folder, "cuda", decode="graphs"), runner_of(folder, "cuda", decode="rows")
    row = [Row(np.array([5], np.int32), 0, [0], 0)]
    assert np.abs(runner.step(row).logits - plain.step(row).logits).max() <= BOUND["cuda"]
    assert runner._decoder is not None and not runner._decoder._records


def answers(model: LocalModel, requests: list[Request], *, together: bool) -> list[list[tuple[int, float]]]:
    """The tokens of each, with how far the likeliest was ahead of the second; together: some while others run."""

    def read(stream: Any) -> list[tuple[int, float]]:
        said = []
        for event in stream:
            for each in event.logprobs if isinstance(event, Delta) else ():
                said.append((each.id, each.top[0].logprob - each.top[1].logprob))
        return said

    if not together:
        return [read(model.stream(request)) for request in requests]
    streams = []
    for at, request in enumerate(requests):
        streams.append(model.stream(request))
        if at % 3 == 2:
            next(streams[-1])  # wait until it runs
    left = model.stream(replace(requests[0], max_tokens=200))
    with ThreadPoolExecutor(len(streams)) as pool:
        results = list(pool.map(read, streams[:1]))
        left.close()
        results += pool.map(read, streams[1:])
    return results


@on_devices
def test_requests_together_are_answered_as_one_by_one(device: str, stories: Path) -> None:
    checkpoint = open_checkpoint(stories)
    runner = TorchRunner(checkpoint, num_blocks=64, device=device, decode="batch" if device == "cpu" else None)
    prompts = ["Once upon a time", "The cat", "One day, a little girl named Lily", "Tom and", "Once upon a hill " * 9]
    requests = [
        Request(prompt, max_tokens=24 + 5 * at, logprobs=2, sampling=GREEDY) for at, prompt in enumerate(prompts * 2)
    ]
    with LocalModel(checkpoint, Engine(runner), 512) as model:
        alone = answers(model, requests, together=False)
        together = answers(model, requests, together=True)
        assert model.engine.kv_usage == 0
    for request, one, other in zip(requests, alone, together, strict=True):
        assert len(one) >= request.max_tokens - 1 or len(one) == len(other)
        parted = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a[0] != b[0]), None)
        assert parted is None or one[parted][1] < 1e-3, f"{request.prompt}: {one[parted]} is not {other[parted]}"
