"""What supports a sentence, and where that stands."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from octavo.retrieve.support import quote, sentences, stems

PASSAGE = (
    "The mallard is a dabbling duck. It was named by Linnaeus in 1758! Its wings span 81–98 cm.\n\n"
    "Mallards eat weed, snails and worms. A hen lays 8 to 13 eggs."
)


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("It was named by Linnaeus in 1758.", "It was named by Linnaeus in 1758!"),
        ("Mallards eat snails and worms.", "Mallards eat weed, snails and worms."),
        ("The hen laid 13 eggs", "A hen lays 8 to 13 eggs."),
        ("A dabbling duck was named by Linnaeus", "The mallard is a dabbling duck. It was named by Linnaeus in 1758!"),
        ("It was named by Linnaeus in 1759.", None),
        ("It was named by Gmelin in 1758.", None),
        ("Ducks live in London.", None),
        ("", None),
    ],
)
def test_a_sentence_is_supported_by_those_that_say_it(sentence: str, expected: str | None) -> None:
    found = quote(sentence, PASSAGE)
    assert (None if found is None else PASSAGE[found.start : found.end]) == expected


def test_a_sentence_that_only_repeats_the_question_is_no_answer() -> None:
    asked = stems("What do mallards eat?")
    assert quote("Mallards eat.", PASSAGE, asked) is None
    assert quote("Mallards eat worms.", PASSAGE, asked) is not None


def test_chinese_is_supported_by_its_pairs_of_characters() -> None:
    passage = "玄德問其姓名。其人曰：「某姓張，名飛，字翼德。」世居涿郡。"
    found = quote("張飛字翼德，世居涿郡", passage)
    assert found is not None and "世居涿郡" in passage[found.start : found.end]
    assert quote("關羽字雲長", passage) is None


@given(some.text(max_size=200))
def test_sentences_are_in_order_apart_and_hold_all_but_white_space(text: str) -> None:
    places = list(sentences(text))
    assert all(start < end for start, end in places)
    assert all(before[1] <= after[0] for before, after in pairwise(places))
    assert "".join("".join(text[start:end].split()) for start, end in places) == "".join(text.split())


@given(some.text(max_size=80), some.text(max_size=200))
def test_a_quotation_lies_in_its_passage(sentence: str, passage: str) -> None:
    found = quote(sentence, passage)
    assert found is None or 0 <= found.start < found.end <= len(passage)
