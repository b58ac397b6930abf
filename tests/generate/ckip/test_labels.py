"""CKIP's rules on hand-made labels and scores, and its dictionaries' files."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.errors import FormatError, OctavoError
from octavo.generate.ckip.dictionary import Dictionary, cut, joined
from octavo.generate.ckip.labels import Entity, lenient_entities, marked, normalized, restored, strict_entities


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("B-P I-P E-P", [(0, 3, "P")]),
        ("B-P E-P S-G", [(0, 2, "P"), (2, 3, "G")]),
        ("B-P I-G E-P", []),
        ("B-P E-G E-P", []),
        ("B-P O E-P", []),
        ("I-P E-P O", []),
        ("B-P B-P E-P", [(1, 3, "P")]),
        ("B-P S-G E-P", [(1, 2, "G")]),
        ("B-P I-P I-P", []),
        ("O S-A-B O", [(1, 2, "A-B")]),
    ],
)
def test_strict_entities_begin_and_end_in_one_type(labels: str, expected: list[tuple[int, int, str]]) -> None:
    found = strict_entities("趙小蘭", labels.split())
    assert found == [Entity(start, end, kind, "趙小蘭"[start:end]) for start, end, kind in expected]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("P:B P:I P:E", [(0, 3, "P")]),
        ("P:B G:I G:E", [(0, 3, "G")]),
        ("P:B O P:E", []),
        ("P:B G:S P:E", [(1, 2, "G")]),
        ("P:I P:E O", []),
        ("P:B P:B P:E", [(1, 3, "P")]),
        ("P:B P:E P:E", [(0, 2, "P")]),
    ],
)
def test_lenient_entities_take_the_type_of_their_end(labels: str, expected: list[tuple[int, int, str]]) -> None:
    found = lenient_entities("趙小蘭", labels.split())
    assert found == [Entity(start, end, kind, "趙小蘭"[start:end]) for start, end, kind in expected]


def test_marking_and_reading_entities_are_each_other_s_inverse() -> None:
    entities = [(0, 1, "A"), (2, 4, "B"), (4, 7, "A")]
    assert marked(8, entities) == ["S-A", "O", "B-B", "E-B", "B-A", "I-A", "E-A", "O"]
    assert [(e.start, e.end, e.type) for e in strict_entities("x" * 8, marked(8, entities))] == entities
    lenient = marked(8, entities, "{type}:{part}")
    assert [(e.start, e.end, e.type) for e in lenient_entities("x" * 8, lenient)] == entities
    assert marked(4, [(0, 3, "A"), (2, 4, "B")]) == ["B-A", "I-A", "E-A", "O"]


def test_normalising_remembers_where_each_character_came_from() -> None:
    assert normalized("Ａ½") == ("A1⁄2", [0, 1, -1, -1])
    assert restored(["P:B", "P:E", "O"], [0, -1, 1]) == ["P:S", "O"]
    assert restored(["P:B", "P:I", "P:E"], [0, 1, -1]) == ["P:B", "P:E"]
    assert restored(["P:B", "G:E", "O", "P:E"], [0, -1, 1, -1]) == ["P:B", "O"]


def test_a_recommended_word_is_joined_only_where_both_ends_fit() -> None:
    words = ["土地", "公有", "政策"]
    assert joined(words, Dictionary({"土地公有": 1})) == ["土地公有", "政策"]
    assert joined(words, Dictionary({"土地公": 1})) == words
    assert joined(words, Dictionary({"地公有": 1})) == words


def test_a_coerced_word_is_cut_out_of_any_other() -> None:
    words = ["土地", "公有", "政策"]
    assert joined(words, coerced=Dictionary({"地公": 1})) == ["土", "地公", "有", "政策"]
    both = joined(words, Dictionary({"土地公有": 1}), Dictionary({"有政": 1}))
    assert both == ["土地公", "有政", "策"]


def test_of_overlapping_words_weight_then_length_then_place_decides() -> None:
    def spans(weights: dict[str, float]) -> list[tuple[int, int]]:
        return Dictionary(weights).spans("土地公有政")

    assert spans({"土地公": 1, "公有": 2}) == [(2, 4)]
    assert spans({"土地公": 1, "公有": 1}) == [(0, 3)]
    assert spans({"地公": 1, "公有": 1}) == [(1, 3)]
    assert spans({"": 1, "沒有": 1}) == []


def test_a_dictionary_is_a_file_of_words_with_weights(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("土地公 1\n公有\t2\n\n政策\n", encoding="utf-8")
    assert Dictionary.read(path).spans("土地公有政策") == [(2, 4), (4, 6)]
    for line in ("土地公 heavy", "土地公 1 2", "土地公 nan"):
        path.write_text(f"公有\n{line}\n", encoding="utf-8")
        with pytest.raises(FormatError, match="line 2"):
            Dictionary.read(path)
    with pytest.raises(OctavoError, match="cannot be read"):
        Dictionary.read(tmp_path / "absent")


def test_a_text_is_cut_where_words_begin() -> None:
    assert cut("土地公", [False, False, True]) == ["土地", "公"]
    assert cut("", []) == []
