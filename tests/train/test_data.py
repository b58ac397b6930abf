"""Laws of windows: what is a target, how often, in what order, and that two numbers resume it."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import FormatError, OctavoError
from octavo.train.data import Shuffled, Tokens, Windows, all_windows

LENGTHS = st.lists(st.integers(0, 60), min_size=1, max_size=8).filter(lambda lengths: max(lengths) > 1)


def documents(lengths: list[int]) -> list[Tokens]:
    """Documents whose tokens are all different, so that a token says where it comes from."""
    edges = np.cumsum([0, *lengths])
    return [np.arange(start, start + n, dtype=np.int32) for start, n in zip(edges, lengths, strict=False)]


def windows_of_epoch(source: Windows, epoch: int) -> list[Tokens]:
    source.restore({"epoch": epoch, "index": 0})
    windows: list[Tokens] = []
    while sum(len(window) - 1 for window in windows) < source.num_targets:
        windows += source.draw(1)
    return windows


@given(lengths=LENGTHS, context=st.integers(1, 20), seed=st.integers(0, 5), epoch=st.integers(0, 2))
def test_each_token_but_a_documents_first_is_a_target_once_an_epoch(
    lengths: list[int], context: int, seed: int, epoch: int
) -> None:
    texts = documents(lengths)
    windows = windows_of_epoch(Windows(texts, context, seed), epoch)
    targets = Counter(int(token) for window in windows for token in window[1:])
    assert targets == Counter(int(token) for text in texts for token in text[1:])
    assert all(2 <= len(window) <= context + 1 for window in windows)
    assert all((np.diff(window) == 1).all() for window in windows)
    starts = {int(text[0]) for text in texts if len(text)}
    assert not any(int(token) in starts for window in windows for token in window[1:]), "crossed into a document"


@given(lengths=LENGTHS, context=st.integers(1, 20))
def test_validation_windows_cover_each_target_once_in_order(lengths: list[int], context: int) -> None:
    texts = documents(lengths)
    targets = [int(token) for window in all_windows(texts, context) for token in window[1:]]
    assert targets == [int(token) for text in texts for token in text[1:]]


@given(lengths=LENGTHS, before=st.integers(0, 50), after=st.integers(1, 50))
def test_a_restored_source_goes_on_with_the_same_windows(lengths: list[int], before: int, after: int) -> None:
    texts = documents(lengths)
    source = Windows(texts, 7, seed=3)
    source.draw(before)
    state = json.loads(json.dumps(source.state()))
    expected = source.draw(after)
    other = Windows(texts, 7, seed=3)
    other.restore(state)
    assert all(np.array_equal(a, b) for a, b in zip(other.draw(after), expected, strict=True))


def test_epochs_and_seeds_differ_in_cut_and_order() -> None:
    texts = documents([500])
    first, second = (windows_of_epoch(Windows(texts, 8, 0), epoch) for epoch in (0, 1))
    other = windows_of_epoch(Windows(texts, 8, 1), 0)
    as_sets = [{tuple(window.tolist()) for window in windows} for windows in (first, second, other)]
    assert as_sets[0] != as_sets[1] and as_sets[0] != as_sets[2]
    assert [int(window[0]) for window in first] != sorted(int(window[0]) for window in first)


def test_a_text_without_targets_and_a_foreign_state_are_refused() -> None:
    with pytest.raises(OctavoError, match="no two tokens"):
        Windows(documents([1, 0, 1]), 4, 0)
    with pytest.raises(FormatError, match="position 999"):
        Windows(documents([30]), 4, 0).restore({"epoch": 0, "index": 999})


def test_an_order_goes_on_where_it_was() -> None:
    whole = Shuffled(range(7), 3)
    expected = [whole.draw(3) for _ in range(8)]
    assert sorted([number for draw in expected for number in draw][:7]) == list(range(7))
    part = Shuffled(range(7), 3)
    for _ in range(4):
        part.draw(3)
    resumed = Shuffled(range(7), 3)
    resumed.restore(part.state())
    assert [resumed.draw(3) for _ in range(4)] == expected[4:]
