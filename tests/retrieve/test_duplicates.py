"""Planted near-duplicates are found, all others kept, the same every time, as comparing every pair would say."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import OctavoError
from octavo.retrieve.chunking.duplicates import SHINGLE, Duplicate, find_duplicates


def similarity(first: str, second: str) -> float:
    """Jaccard of shingles, the plain way."""
    sets = []
    for text in (first, second):
        folded = " ".join(text.casefold().split())
        sets.append({folded[at : at + SHINGLE] for at in range(max(1, len(folded) - SHINGLE + 1))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def by_every_pair(texts: list[str], threshold: float) -> list[Duplicate]:
    kept: list[int] = []
    found = []
    for index, text in enumerate(texts):
        if not any(character.isalnum() for character in text):
            continue
        best = max(((similarity(text, texts[other]), -other) for other in kept), default=(0.0, 0))
        if best[0] >= threshold:
            found.append(Duplicate(index, -best[1], best[0]))
        else:
            kept.append(index)
    return found


WORDS = st.sampled_from(["drake", "duck", "pond", "swims", "eats", "鴨子", "在", "湖", "!", " "])
TEXTS = st.lists(st.lists(WORDS, max_size=12).map(" ".join), max_size=12)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.sampled_from([0.7, 0.8, 0.95, 1.0]))
def test_it_says_what_comparing_every_pair_says(texts: list[str], threshold: float) -> None:
    expected, found = by_every_pair(texts, threshold), find_duplicates(texts, threshold)
    assert [(item.index, item.of) for item in found] == [(item.index, item.of) for item in expected]
    assert [item.similarity for item in found] == pytest.approx([item.similarity for item in expected])


def test_planted_duplicates_are_found_among_real_paragraphs(shared: Path) -> None:
    data = json.loads(gzip.decompress((shared / "data/qa/squad2-dev.json.gz").read_bytes()))["data"]
    texts = list(dict.fromkeys(paragraph["context"] for article in data for paragraph in article["paragraphs"]))[:500]
    half = len(texts) // 2
    chance = random.Random(7)
    planted: list[tuple[int, int]] = []
    for original in chance.sample(range(len(texts)), half):
        words = texts[original].split()
        for _ in range(max(1, len(words) // 60)):
            words[chance.randrange(len(words))] = "edited"
        planted.append((len(texts), original))
        texts.append("\n ".join(words).upper())
    found = {(item.index, item.of) for item in find_duplicates(texts)}
    true = found & set(planted)
    precision, recall = len(true) / len(found), len(true) / len(planted)
    assert precision == 1.0 and recall >= 0.95, f"precision {precision:.3f}, recall {recall:.3f}"
    assert found == {(item.index, item.of) for item in find_duplicates(texts)}


def test_what_says_nothing_is_no_duplicate_and_a_silly_threshold_is_refused() -> None:
    assert find_duplicates(["---", "---", "", "a", "A "]) == [Duplicate(4, 3, 1.0)]
    with pytest.raises(OctavoError, match=r"threshold 0\.5"):
        find_duplicates([], 0.5)
