"""Every way to split keeps its one law: a chunk is exactly its range of the document, no longer than asked."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import OctavoError, UnknownNameError
from octavo.retrieve.chunking import split
from octavo.retrieve.chunking.sentences import sentence_ranges
from octavo.retrieve.chunking.splitting import By
from octavo.retrieve.documents import Document, read
from octavo.retrieve.documents.formats.code import layout_symbols, python_symbols
from octavo.retrieve.documents.formats.markdown import find_spans
from octavo.text import Tokenizer

WAYS: list[By] = [way for way in get_args(By) if way != "tokens"]
LINES = st.sampled_from(
    ["# Head", "## Sub head", "```", "def f():", "    x = 1", "class A:", "A sentence. Another one!",
     "一句話。又一句？", "", "| a | b |", "|---|---|", "  ", "- item", "word " * 12, "長" * 40,
     "e\u0301", "fn go() {", "}", "a\x0cb", "c\u2028d\x85", "\x1c"]
)  # fmt: skip
TEXTS = st.lists(LINES, max_size=40).map("\n".join)


def markdown(text: str) -> Document:
    return Document("a.md", "a", text, "text/markdown", find_spans(text))


def code(text: str) -> Document:
    return Document("a.rs", "a", text, "text/x-rust", layout_symbols(text, "rust"))


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.sampled_from(WAYS), st.integers(5, 120), st.floats(0, 0.5), st.sampled_from([markdown, code]))
def test_chunks_are_exact_and_small_and_lose_nothing(text: str, by: By, size: int, share: float, make: Any) -> None:
    document = make(text)
    chunks = split(document, by=by, chunk_size=size, overlap=int(size * share))
    covered = set[int]()
    for chunk in chunks:
        assert document.text[chunk.start : chunk.end] == chunk.text
        assert chunk.text == chunk.text.strip() and 0 < len(chunk.text) <= size
        assert chunk.line == document.text[: chunk.start].count("\n") + 1
        covered.update(range(chunk.start, chunk.end))
    assert all(character.isspace() for at, character in enumerate(document.text) if at not in covered)
    assert [chunk.start for chunk in chunks] == sorted(chunk.start for chunk in chunks)


@pytest.fixture(scope="module")
def tokenizer(stories: Path) -> Tokenizer:
    return Tokenizer.from_folder(stories)


@pytest.fixture(scope="module")
def byte_level(shared: Path) -> Tokenizer:
    return Tokenizer.train_bpe([(shared / "data/docs/rust-book-ch03-06.md").read_text()[:50000]], 600)


@settings(max_examples=80, deadline=None)
@given(TEXTS, st.sampled_from(get_args(By)), st.integers(6, 60), st.floats(0, 0.5), st.booleans())
def test_chunks_measured_in_tokens_fit_and_lose_nothing(
    tokenizer: Tokenizer, byte_level: Tokenizer, text: str, by: By, size: int, share: float, bytes_: bool
) -> None:
    chosen = byte_level if bytes_ else tokenizer
    document = markdown(text)
    chunks = split(document, by=by, chunk_size=size, overlap=int(size * share), tokenizer=chosen)
    covered = set[int]()
    for chunk in chunks:
        assert document.text[chunk.start : chunk.end] == chunk.text
        assert len(chosen.backend.encode(chunk.text, add_special_tokens=False).ids) <= size
        covered.update(range(chunk.start, chunk.end))
    assert all(character.isspace() for at, character in enumerate(document.text) if at not in covered)


def test_token_windows_fill_their_size_and_overlap(byte_level: Tokenizer, shared: Path) -> None:
    document = markdown((shared / "data/docs/rust-book-ch03-06.md").read_text()[:40000])
    chunks = split(document, by="tokens", chunk_size=256, overlap=32, tokenizer=byte_level)
    sizes = [len(byte_level.encode(chunk.text, bos=False)) for chunk in chunks]
    assert max(sizes) <= 256 and sum(sizes[:-1]) / len(sizes[:-1]) > 240
    assert all(later.start < earlier.end for earlier, later in pairwise(chunks))


@pytest.mark.parametrize("size", [2, 5, 16])
def test_token_windows_without_overlap_share_no_character(byte_level: Tokenizer, size: int) -> None:
    text = "支持中文。没有空格的长句子, and é 🦆."
    chunks = split(markdown(text), by="tokens", chunk_size=size, overlap=0, tokenizer=byte_level)
    assert all(earlier.end <= later.start for earlier, later in pairwise(chunks))
    assert "".join(chunk.text for chunk in chunks).replace(" ", "") == text.replace(" ", "")


def test_a_chunk_whose_first_word_costs_more_alone_still_fits(byte_level: Tokenizer, shared: Path) -> None:
    document = markdown((shared / "data/docs/rust-book-ch03-06.md").read_text()[:20000])
    ways: list[By] = ["recursive", "sentences"]
    for by in ways:
        chunks = split(document, by=by, chunk_size=12, overlap=0, tokenizer=byte_level)
        assert max(len(byte_level.backend.encode(chunk.text).ids) for chunk in chunks) <= 12


def test_a_section_that_fits_is_one_chunk_with_its_path() -> None:
    text = "# A\n\n## B\n\nshort\n\n## C\n\n" + "long words " * 20 + "\n\n```\ncode\n\nmore code\n```\n"
    chunks = split(markdown(text), by="headings", chunk_size=100, overlap=0)
    assert chunks[0].text == "# A\n\n## B\n\nshort" and chunks[0].headings == ("A",)
    assert all(chunk.headings == ("A", "C") for chunk in chunks[1:])
    assert any("```\ncode\n\nmore code\n```" in chunk.text for chunk in chunks)


def test_code_is_cut_at_its_functions() -> None:
    source = Path(random.__file__).read_text()
    document = Document("random.py", "random", source, "text/x-python", python_symbols(source))
    chunks = split(document, chunk_size=1500)
    whole = [span for span in document.spans if span.end - span.start <= 1500 and span.label != "Random"]
    held = [span for span in whole if any(c.start <= span.start + 8 and span.end <= c.end + 2 for c in chunks)]
    assert len(held) >= 0.95 * len(whole)
    assert len(chunks) < len(whole)


def test_real_markdown_keeps_its_fences_whole(shared: Path) -> None:
    document = read(shared / "data/docs/rust-book-ch03-06.md")
    chunks = split(document, by="headings", chunk_size=700, overlap=0)
    fences = [span for span in document.spans if span.kind == "block" and span.end - span.start <= 700]
    torn = [span for span in fences if not any(c.start <= span.start and span.end <= c.end for c in chunks)]
    assert len(fences) > 100 and torn == []


@pytest.mark.parametrize(
    "sentences",
    [
        ["Hello World. ", "My name is Jonas."],
        ["What is your name? ", "My name is Jonas."],
        ["There it is! ", "I found it."],
        ["My name is Jonas E. Smith."],
        ["Please turn to p. 55."],
        ["Were Jane and co. at the party?"],
        ["They closed the deal with Pitt, Briggs & Co. at noon."],
        ["I can see Mt. Fuji from here."],
        ["St. Michael's Church is on 5th st. near the light."],
        ["That is JFK Jr.'s book."],
        ["I visited the U.S.A. last year."],
        ["She has $100.00 in her bag. ", "It is there."],
        ["He teaches science (He previously worked for 5 years as an engineer.) at the local University."],
        ['She turned to him, "This is great." she said.'],
        ["Dr. Smith et al. wrote it, e.g. in Fig. 3. ", "We agree."],
        ["I live in the U.S. ", "How about you?"],
        ["她說：「你好嗎？」", "他說：「很好。」", "然後離開了……"],
        ["這是第一句。", "這是第二句！", "English follows. ", "好。"],
        ["A title\n\n", "First line\nsecond line. ", "Next."],
        ["The list:\n", "- one\n", "- two"],
    ],
)
def test_sentences_end_where_a_reader_would_end_them(sentences: list[str]) -> None:
    text = "".join(sentences)
    assert [text[start:end] for start, end in sentence_ranges(text)] == sentences


def test_sentences_agree_with_pysbd_on_real_paragraphs(shared: Path) -> None:
    import gzip

    peer = pytest.importorskip("pysbd", reason="the oracle is not installed")
    data = json.loads(gzip.decompress((shared / "data/qa/squad2-dev.json.gz").read_bytes()))["data"]
    texts = [paragraph["context"] for article in data[:8] for paragraph in article["paragraphs"][:8]]
    segmenter = peer.Segmenter(language="en", clean=False, char_span=True)
    both = ours_only = theirs_only = 0
    for text in texts:
        ours = {len(text[:end].rstrip()) for _, end in sentence_ranges(text)}
        theirs = {len(text[: span.end].rstrip()) for span in segmenter.segment(text)}
        both, ours_only, theirs_only = (
            both + len(ours & theirs),
            ours_only + len(ours - theirs),
            theirs_only + len(theirs - ours),
        )
    assert 2 * both / (2 * both + ours_only + theirs_only) >= 0.97, (both, ours_only, theirs_only)


def test_what_cannot_be_done_is_refused_by_name() -> None:
    document = markdown("text")
    with pytest.raises(UnknownNameError, match="did you mean 'recursive'"):
        split(document, by="recursiv")
    with pytest.raises(OctavoError, match="needs a tokenizer"):
        split(document, by="tokens")
    with pytest.raises(OctavoError, match="overlap 1000"):
        split(document, chunk_size=100, overlap=1000)
