"""The engine's law on real kernels: any interleaving gives the same bits as one request at a time.

With what a plain model does not have: keys and values in int8, sinks, windows, adapters, experts, latent attention.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.generate.blocks import root_of
from octavo.generate.lm import Delta, Finished, Request, Sampling
from octavo.generate.propose.ngram import NGramProposer
from octavo.generate.scheduler import Scheduler
from octavo.generate.tasks.completion import Completion, Limits
from octavo.models.compiled import CompiledRunner
from octavo.models.formats.peft import Adapter, LowRank
from octavo.nn.shapes import parameter_shapes
from octavo.text.tokenizer import Tokenizer

MODELS: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[1] / "models/kernel_models.py"))
CONFIGS, LLAMA = MODELS["CONFIGS"], MODELS["LLAMA"]
LETTERS = tokenizers.Tokenizer(
    tokenizers.models.BPE({chr(0x4E00 + token): token for token in range(LLAMA.vocab_size)}, [])
)
LETTERS.decoder = tokenizers.decoders.Fuse()
TOKENIZER = Tokenizer(LETTERS, named={})
NUM_BLOCKS = 9
"""Less than five requests take, so that some wait and some are computed again."""


@dataclass(frozen=True)
class Variant:
    """What runs: a config, the encoding of its weights, the cache and whether there are adapters."""

    config: Any
    encoding: str = "bf16"
    cache: str | None = None
    adapters: bool = False


VARIANTS = {
    "int8 cache": Variant(LLAMA, "q8_0", "int8"),
    "windows and int8 cache": Variant(replace(LLAMA, windows=(20, 9)), "bf16", "int8"),
    "sinks": Variant(replace(LLAMA, attention=replace(LLAMA.attention, sinks=True), windows=(20, None)), "q4_1"),
    "adapters": Variant(LLAMA, "q8_0", None, True),
    "adapters and int8 cache": Variant(LLAMA, "bf16", "int8", True),
    "experts": Variant(CONFIGS["experts in some layers, and one for all"], "q8_0"),
    "experts and int8 cache": Variant(CONFIGS["more experts than tokens"], "bf16", "int8"),
    "latent": Variant(CONFIGS["latent"], "q8_0"),
    "latent, experts and int8 cache": Variant(CONFIGS["latent, with queries of low rank"], "bf16", "int8"),
}


@dataclass
class Asked:
    """A request, and the steps at which it comes and is cancelled."""

    request: Request
    adapter: int
    arrives: int
    cancelled: int | None

    def task(self) -> Completion:
        length = self.request.max_tokens
        assert length is not None and not isinstance(self.request.prompt, str)
        root, limits = root_of("", self.adapter), Limits(frozenset(), length)
        prompt: Any = self.request.prompt
        return Completion(prompt, self.request, limits, TOKENIZER, None, root, 4, self.adapter)


BEGINNINGS = st.sampled_from([[], [7] * 16, [7] * 33, [7] * 16 + [9] * 17])
PROMPTS = st.builds(lambda a, b: a + b, BEGINNINGS, st.lists(st.integers(0, 59), min_size=1, max_size=9))
ASKED = st.builds(
    Asked,
    st.builds(
        Request,
        PROMPTS,
        max_tokens=st.integers(2, 14),
        sampling=st.builds(Sampling, temperature=st.sampled_from([0.0, 0.9]), seed=st.integers(0, 3)),
        logprobs=st.just(1),
    ),
    st.integers(0, 1),
    st.integers(0, 9),
    st.sampled_from([None, None, None, 3, 12]),
)


def small_adapter(config: Any) -> Adapter:
    random, factors = np.random.default_rng(5), {}
    for matrix, shape in parameter_shapes(config).items():
        if matrix.startswith("blocks") and len(shape) == 2:
            down = random.normal(0, shape[1] ** -0.5, (4, shape[1])).astype(np.float32)
            factors[matrix] = LowRank(down, random.normal(0, 0.4, (shape[0], 4)).astype(np.float32))
    return Adapter("a", factors)


@pytest.fixture(scope="module", params=VARIANTS)
def made(request: pytest.FixtureRequest) -> Iterator[tuple[CompiledRunner, int]]:
    """A runner, and how many adapters it has."""
    variant = VARIANTS[request.param]
    source = MODELS["encoded"](MODELS["loud_model"](variant.config), variant.encoding)
    adapters = [small_adapter(variant.config)] if variant.adapters else []
    runner = CompiledRunner(source, num_blocks=NUM_BLOCKS, threads=2, kv_cache=variant.cache, adapters=adapters)
    yield runner, len(adapters)
    runner.close()


def said(task: Completion) -> tuple[list[tuple[int, float]], bool]:
    """A task's tokens with the bits of their log-probabilities, and whether it was cancelled."""
    events = task.events.at_hand()
    assert isinstance(events[-1], Finished)
    tokens = [each for event in events if isinstance(event, Delta) for each in event.logprobs]
    return [(each.id, each.logprob) for each in tokens], events[-1].reason == "cancelled"


def run(runner: CompiledRunner, asked: list[Asked], *, guesses: bool) -> list[Completion]:
    window = runner.config.widest_window
    proposer = NGramProposer() if guesses else None
    scheduler = Scheduler(runner, max_running=4, proposer=proposer, window=window)
    tasks = [one.task() for one in asked]
    step = 0
    while scheduler.num_tasks or step <= max(one.arrives for one in asked):
        for one, task in zip(asked, tasks, strict=True):
            if one.arrives == step:
                scheduler.add(task)
            task.cancelled |= one.cancelled is not None and one.arrives + one.cancelled == step
        scheduler.step()
        scheduler.check()
        step += 1
    return tasks


def test_any_interleaving_has_the_bits_of_one_request_at_a_time(made: tuple[CompiledRunner, int]) -> None:
    runner, adapters = made

    @settings(max_examples=40, deadline=None)
    @given(st.lists(ASKED, min_size=2, max_size=5), st.booleans())
    def law(asked: list[Asked], guesses: bool) -> None:
        asked = [replace(one, adapter=one.adapter % (1 + adapters)) for one in asked]
        together = [said(task) for task in run(runner, asked, guesses=guesses)]
        for one, (tokens, cancelled) in zip(asked, together, strict=True):
            alone, _ = said(run(runner, [replace(one, arrives=0, cancelled=None)], guesses=False)[0])
            assert tokens == (alone[: len(tokens)] if cancelled else alone)

    law()
