"""Two scripts of Chinese: what one says is found and read in the other, and every character keeps its place."""

from __future__ import annotations

import sys

import pytest

from octavo.generate.tasks.reading import Reader
from octavo.retrieve.search import Search
from octavo.retrieve.stores.sqlite import SqliteStore
from octavo.retrieve.stores.store import Place, Source
from octavo.text.scripts import chinese
from octavo.text.scripts.chinese import in_both, traditional

SIMPLIFIED = "台湾铁路的发展始于1887年，刘铭传设立全台铁路商务总局。"


@pytest.fixture(autouse=True)
def opencc() -> None:
    pytest.importorskip("opencc")


def test_characters_and_texts_have_their_other_form() -> None:
    assert [traditional(character) for character in "国铁x鐵。"] == ["國", "鐵", "x", "鐵", "。"]
    assert in_both("铁路 1887") == "铁路 1887 鐵路 1887"
    assert in_both("鐵路") == "鐵路 铁路"
    assert in_both("rail") == "rail" and in_both("人") == "人"


def test_without_opencc_a_text_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opencc", None)
    chinese._conversion.cache_clear()
    assert (traditional("国"), in_both("国")) == ("国", "国")
    chinese._conversion.cache_clear()


def test_a_question_in_one_script_finds_documents_in_the_other() -> None:
    store = SqliteStore(None)
    for name, text in (("t", "臺灣鐵路的發展"), ("s", "中国经济的发展"), ("other", "水草和蝸牛")):
        store.put(Source(name, text, ""), [Place(0, len(text))], None)
    assert [hit.passage.document for hit in Search(store).find("铁路")] == ["t"]
    assert [hit.passage.document for hit in Search(store).find("經濟")] == ["s"]
    store.close()


def test_a_simplified_text_is_read_as_its_traditional_form_and_marked_as_it_stands() -> None:
    with Reader.load() as reader:
        pieces = reader._pairs.pieces(SIMPLIFIED)
        assert [SIMPLIFIED[start:end] for start, end in pieces.ranges[:4]] == ["台", "湾", "铁", "路"]
        assert pieces.ids[2] == reader._pairs.pieces("鐵").ids[0]
        known = reader._pairs.pieces("naïve 首都").ids
        assert known == reader._pairs._backend.encode("naïve 首都", add_special_tokens=False).ids
        assert reader.knows("谁设立全台铁路商务总局？")
        found = reader.answer("谁设立全台铁路商务总局？", [SIMPLIFIED])
        assert found.text == SIMPLIFIED[found.start : found.end] == "刘铭传"
