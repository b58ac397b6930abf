"""Search by words, by meaning and by both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from octavo.errors import OctavoError
from octavo.retrieve.filters import read_condition
from octavo.retrieve.search import Search, reciprocal_ranks, relative_scores, without_repeats
from octavo.retrieve.stores.sqlite import SqliteStore
from octavo.retrieve.stores.store import Hit, Passage, Place, Source, VectorSpace

TEXTS = {
    "swim.md": "ducks swim on the pond",
    "fly.md": "geese fly south in autumn",
    "both.md": "geese swim and fly",
    "zh.txt": "玄德曰張飛",
}


@pytest.fixture
def search(encoder: Any) -> Iterator[Search]:
    """The texts, each a document."""
    store = SqliteStore(None, VectorSpace("words", encoder.dimensions))
    for name, text in TEXTS.items():
        source = Source(name, text, "1", {"type": name.rpartition(".")[2], "size": len(text)})
        store.put(source, [Place(0, len(text))], encoder.embed([text]))
    yield Search(store, encoder)
    store.close()


def found(hits: list[Hit]) -> list[str]:
    return [hit.passage.document for hit in hits]


def hits(*scored: tuple[str, float]) -> list[Hit]:
    return [Hit(Passage(name, "", Place(0, 1), "x"), score) for name, score in scored]


def test_each_way_finds_what_it_looks_for(search: Search) -> None:
    for mode in ("words", "vectors", "hybrid", "rrf"):
        assert found(search.find("swim fly geese", 3, mode=mode))[0] == "both.md", mode
    assert search.find("swim fly geese", 3) == search.find("swim fly geese", 3, mode="hybrid")


def test_a_question_whose_words_the_encoder_does_not_know_is_searched_by_words_alone(search: Search) -> None:
    assert found(search.find("張飛", 3)) == ["zh.txt"]


def test_a_passage_that_the_encoder_does_not_know_is_never_near(search: Search) -> None:
    assert "zh.txt" not in found(search.find("ducks", 10, mode="vectors"))


def test_without_an_encoder_words_are_searched_and_meaning_is_refused(search: Search) -> None:
    words = Search(search.store)
    assert found(words.find("ducks", 3)) == ["swim.md"]
    with pytest.raises(OctavoError, match="no encoder"):
        words.find("ducks", 3, mode="vectors")
    with pytest.raises(OctavoError, match="1 or more"):
        words.find("ducks", 0)


@pytest.mark.parametrize("mode", ["words", "vectors", "hybrid"])
def test_a_filter_holds_in_every_mode(search: Search, mode: Any) -> None:
    where = read_condition("type=txt")
    assert set(found(search.find("swim 張飛", 5, mode=mode, where=where))) <= {"zh.txt"}
    assert found(search.find("fly", 5, mode=mode, where=read_condition("document=fly.md"))) == ["fly.md"]


def test_reciprocal_rank_fusion_is_the_paper_s_sum() -> None:
    fused = reciprocal_ranks([hits(("a", 9), ("b", 8)), hits(("b", 0.2), ("c", 0.1))])
    assert found(fused) == ["b", "a", "c"]
    assert [hit.score for hit in fused] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])


def test_relative_scores_keep_how_sure_a_ranking_is() -> None:
    fused = relative_scores([hits(("a", 20), ("b", 5)), hits(("b", 0.5), ("a", 0.45))])
    assert [(hit.passage.document, hit.score) for hit in fused] == [("a", pytest.approx(0.95)), ("b", 0.625)]
    assert relative_scores([[], hits(("c", 2.0))])[0].score == 0.5
    assert relative_scores([[], []]) == []


def test_copies_of_a_passage_take_one_place() -> None:
    duck = "Mallards are ducks that eat weed and snails, and they nest in the reeds of quiet ponds."
    texts = [duck, duck.upper(), duck.replace("quiet", "many quiet"), "Geese eat grass.", "Swans eat weed, too."]
    many = [Hit(Passage(f"{at}.md", "", Place(0, len(text)), text), 1 - at / 10) for at, text in enumerate(texts)]
    assert found(without_repeats(many, 5)) == ["0.md", "3.md", "4.md"]
    assert found(without_repeats(many, 2)) == ["0.md", "3.md"]
