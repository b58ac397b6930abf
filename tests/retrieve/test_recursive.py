"""Recursive splitting equals LangChain's, and its offsets are exact where LangChain's are not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import OctavoError
from octavo.retrieve.chunking.recursive import Recursive

TABLE = [
    ("foo bar baz 123", 7, 3, ["foo bar", "baz", "123"]),
    ("aaaa bbbb cccc dddd", 9, 4, ["aaaa bbbb", "cccc", "dddd"]),
    ("支持中文。没有空格的长句子", 5, 2, ["支持中文。", "文。没有空", "有空格的长", "的长句子"]),
]
PIECES = st.sampled_from(["\n\n", "\n", " ", "  ", "a", "bb", "chunk", "文", "。", ".", "\t", "é", "longer-word"])
TEXTS = st.lists(PIECES, max_size=80).map("".join)


@pytest.mark.parametrize(("text", "size", "overlap", "expected"), TABLE)
def test_the_published_examples_come_out(text: str, size: int, overlap: int, expected: list[str]) -> None:
    assert [text[start:end] for start, end in Recursive(size, overlap).ranges(text)] == expected


@pytest.mark.parametrize(
    ("keep", "expected"),
    [("start", ["Apple", ",banana", ",orange and tomato", "."]), ("end", ["Apple,", "banana,", "orange and tomato."])],
)
def test_a_separator_stays_on_the_chosen_side(keep: Literal["start", "end"], expected: list[str]) -> None:
    text = "Apple,banana,orange and tomato."
    ranges = Recursive(10, 0, separators=(".", ","), keep=keep).ranges(text)
    assert [text[start:end] for start, end in ranges] == expected


def test_offsets_of_a_repeated_passage_are_its_own() -> None:
    text = "chunk chunk"
    assert Recursive(5, 5, separators=(" ", "")).ranges(text) == [(0, 5), (6, 10), (6, 11)]


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (10, 11), (10, -1)])
def test_impossible_sizes_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(OctavoError):
        Recursive(size, overlap)


@settings(max_examples=300, deadline=None)
@given(
    TEXTS,
    st.integers(1, 60),
    st.floats(0, 1),
    st.sampled_from([("\n\n", "\n", " ", ""), ("\n\n", "\n", " "), (". ", "。"), ("a", "")]),
    st.sampled_from(["start", "end"]),
)
def test_splits_equal_langchain_s(
    text: str, size: int, share: float, separators: tuple[str, ...], keep: Literal["start", "end"]
) -> None:
    peer = pytest.importorskip("langchain_text_splitters", reason="the oracle is not installed")
    overlap = int(share * size)
    splitter = peer.RecursiveCharacterTextSplitter(
        chunk_size=size, chunk_overlap=overlap, separators=list(separators), keep_separator=keep
    )
    ranges = Recursive(size, overlap, separators=separators, keep=keep).ranges(text)
    assert [text[start:end] for start, end in ranges] == splitter.split_text(text)


@pytest.mark.parametrize("language", ["python", "js", "rust", "go", "markdown", "html", "java", "cpp"])
def test_regular_expressions_as_separators_equal_langchain_s(language: str) -> None:
    peer = pytest.importorskip("langchain_text_splitters", reason="the oracle is not installed")
    separators = peer.RecursiveCharacterTextSplitter.get_separators_for_language(peer.Language(language))
    source = Path(random.__file__).read_text(encoding="utf-8")[:30000]
    for size, overlap in ((200, 0), (500, 100), (2000, 50)):
        splitter = peer.RecursiveCharacterTextSplitter.from_language(
            peer.Language(language), chunk_size=size, chunk_overlap=overlap
        )
        ranges = Recursive(size, overlap, separators=separators, regex=True).ranges(source)
        assert [source[start:end] for start, end in ranges] == splitter.split_text(source)
