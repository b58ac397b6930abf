"""Trees of guesses: each chain in a tree has what it has alone, and what is kept of it lies where a chain's would."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from octavo.errors import MissingDependencyError
from octavo.models.compiled import CompiledRunner
from octavo.models.runner import MAX_TREE, Row
from octavo.models.transformer import TorchRunner
from octavo.nn.kernels import binding

try:
    LEVELS = binding.machine_levels()
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)

COMPILED: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("kernel_models.py")))
CONFIGS, kernels, encoded, loud_model, sequence = (
    COMPILED[name] for name in ("CONFIGS", "kernels", "encoded", "loud_model", "sequence")
)
BLOCKS = range(12)
Ids = NDArray[np.int32]
every_level = pytest.mark.parametrize("level", LEVELS)


def path_to(parents: Sequence[int], at: int) -> list[int]:
    path = []
    while at >= 0:
        path.append(at)
        at = parents[at]
    return path[::-1]


@st.composite
def trees(draw: st.DrawFn, most: int = 9) -> tuple[int, ...]:
    size = draw(st.integers(1, most))
    return (-1, *(draw(st.integers(max(0, index - 4), index - 1)) for index in range(1, size)))


def tree_row(text: Ids, tokens: Ids, parents: Sequence[int], blocks: Sequence[int] = BLOCKS) -> Row:
    return Row(tokens, len(text), blocks, 0, np.array(parents, np.int32))


def alone(runner: CompiledRunner | TorchRunner, text: Ids, chain: Ids, blocks: Sequence[int] = BLOCKS) -> Any:
    """The logits of a chain after a text, run one token a step."""
    runner.step([Row(text, 0, blocks, len(text))])
    rows = (Row(chain[at : at + 1], len(text) + at, blocks, 0) for at in range(len(chain)))
    return np.concatenate([runner.step([row]).logits for row in rows])


def check_tree(
    runner: CompiledRunner | TorchRunner, text: Ids, tokens: Ids, parents: Sequence[int], bound: float
) -> None:
    """Every chain, and then what follows one that was kept."""
    leaves = sorted({*range(len(parents))} - {*parents})
    expected = {at: alone(runner, text, tokens[path_to(parents, at)]) for at in leaves}
    after = sequence(runner.config, 3, seed=9)
    for leaf in (leaves[0], leaves[-1]):
        path = path_to(parents, leaf)
        following = alone(runner, text, np.concatenate((tokens[path], after)))[len(path) :]
        runner.step([Row(text, 0, BLOCKS, len(text))])
        row = tree_row(text, tokens, parents)
        logits = runner.step([row]).logits
        for at in leaves:
            assert np.abs(logits[path_to(parents, at)] - expected[at]).max() <= bound
        runner.accept(row, path)
        got = runner.step([Row(after, len(text) + len(path), BLOCKS, 0)]).logits
        assert np.abs(got - following).max() <= bound


@pytest.mark.parametrize(
    ("name", "level"),
    [
        *(("windows", level) for level in LEVELS),
        *((name, LEVELS[-1]) for name in ("wide heads", "soft caps", "alibi", "sinks", "gpt2", "latent")),
    ],
)
def test_chains_in_a_tree_have_the_bits_that_they_have_alone(name: str, level: str) -> None:
    config = CONFIGS[name]
    source = encoded(loud_model(config), "f32")
    with kernels(source, level, threads=2) as runner:

        @settings(max_examples=2, deadline=None)
        @given(st.integers(1, 40), trees())
        def law(length: int, parents: tuple[int, ...]) -> None:
            check_tree(runner, sequence(config, length), sequence(config, len(parents), seed=5), parents, 0)

        law()


@every_level
@pytest.mark.parametrize("cache", ["f32", "bf16", "int8"])
def test_what_is_kept_of_a_tree_lies_where_a_chain_would_have_put_it(cache: str, level: str) -> None:
    config = CONFIGS["llama"]
    parents = (-1, 0, 0, 2, 1, 0, 5, 3, 6, 8, *(9 + at // 2 for at in range(10)))
    with kernels(encoded(loud_model(config), "bf16"), level, threads=3, kv_cache=cache) as runner:
        for length in (13, 16):
            check_tree(runner, sequence(config, length), sequence(config, len(parents), seed=5), parents, 0)


@every_level
def test_a_tree_of_sixty_four_guesses_fits_in_one_pass_beside_other_rows(level: str) -> None:
    config = CONFIGS["llama"]
    text, other = sequence(config, 31), sequence(config, 40, seed=3)
    chain, bush = tuple(range(-1, MAX_TREE)), (-1, *[0] * MAX_TREE)
    tokens = sequence(config, MAX_TREE + 1, seed=5)
    with kernels(encoded(loud_model(config), "q4_1"), level, threads=3) as runner:
        straight = alone(runner, text, tokens)
        stars = [alone(runner, text, tokens[[0, at]])[1] for at in (1, 30, 64)]
        plain = runner.step([Row(other, 0, BLOCKS, 0)]).logits
        apart = range(12, 24)
        runner.step([Row(text, 0, BLOCKS, len(text)), Row(text, 0, apart, len(text)), Row(other[:20], 0, [7, 8], 20)])
        rows = [
            tree_row(text, tokens, bush),
            Row(other[20:], 20, [7, 8, 9], 0),
            tree_row(text, tokens, chain, apart),
        ]
        rows[0] = tree_row(text, tokens, bush, [0, 1, 2, 3, 4, 5])
        logits = runner.step(rows).logits
        for place, expected in zip((1, 30, 64), stars, strict=True):
            assert np.array_equal(logits[place], expected)
        assert np.array_equal(logits[65:85], plain[20:])
        assert np.array_equal(logits[85:], straight)


@pytest.mark.parametrize("name", ["llama", "windows", "alibi", "sinks"])
def test_torch_and_kernels_agree_on_trees(name: str) -> None:
    config = CONFIGS[name]
    model = loud_model(config)
    reference = TorchRunner(model, num_blocks=24)
    text, parents = sequence(config, 37), (-1, 0, 1, 2, 0, 4, 4, 1, 7)
    tokens = sequence(config, len(parents), seed=5)
    check_tree(reference, text, tokens, parents, 1e-4)
    with kernels(encoded(model, "f32"), LEVELS[-1]) as runner:
        for each in (reference, runner):
            each.step([Row(text, 0, BLOCKS, len(text))])
        row = tree_row(text, tokens, parents)
        assert np.abs(runner.step([row]).logits - reference.step([row]).logits).max() <= 1e-4


@pytest.mark.parametrize(
    ("parents", "words"),
    [
        ((0, 0), "token 0 of a tree cannot follow token 0"),
        ((-1, 1), "token 1 of a tree cannot follow token 1"),
        ((-1, -1), "token 1 of a tree cannot follow token -1"),
        ((-1,), "parent for each"),
    ],
)
def test_what_is_no_tree_is_an_error_before_it_reaches_c(parents: tuple[int, ...], words: str) -> None:
    config = CONFIGS["llama"]
    with kernels(encoded(loud_model(config), "f32"), "c") as runner:
        with pytest.raises(ValueError, match=words):
            runner.step([tree_row(sequence(config, 4), sequence(config, 2), parents)])
        row = tree_row(sequence(config, 4), sequence(config, 3), (-1, 0, 0))
        for path in ([], [1], [0, 2, 1], [0, 3]):
            with pytest.raises(ValueError, match="chain"):
                runner.accept(row, path)
        long = tree_row(sequence(config, 4), sequence(config, 66), tuple(range(-1, 65)))
        with pytest.raises(ValueError, match="1 to 65 tokens"):
            runner.step([long])
