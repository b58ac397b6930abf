"""Windows of a long text: every token in one of them, each with its exact characters, framed as `transformers` does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import UnsupportedError
from octavo.text.tokenizer import Tokenizer
from octavo.text.windows import PairReader

TEXT = "The Treaty of Verdun (843) divided the Carolingian Empire among sons of Louis the Pious: naïve 首都 words. "


@pytest.fixture(scope="module")
def tokenizer(minilm: Path) -> Tokenizer:
    return Tokenizer.from_folder(minilm)


def test_windows_equal_those_of_transformers(minilm: Path, tokenizer: Tokenizer) -> None:
    from transformers import AutoTokenizer

    question, text = "Who divided the empire?", TEXT * 12
    peer = AutoTokenizer.from_pretrained(minilm)
    expected = peer(
        question, text, truncation="only_second", max_length=96, stride=20,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    reader = PairReader(tokenizer)
    made = reader.windows(reader.pieces(question).ids, reader.pieces(text), 96, 20)
    assert [window.ids for window in made] == expected["input_ids"]
    assert [window.types for window in made] == expected["token_type_ids"]
    for window, offsets in zip(made, expected["offset_mapping"], strict=True):
        assert list(window.ranges) == offsets[window.first : -1]


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=400), st.integers(80, 128), st.integers(0, 8))
def test_every_token_is_read_and_its_characters_are_the_texts(text: str, size: int, overlap: int) -> None:
    reader = PairReader(_shared())
    pieces = reader.pieces(text)
    windows = reader.windows(reader.pieces("who?").ids, pieces, size, overlap)
    assert {pair for window in windows for pair in window.ranges} == set(pieces.ranges)
    assert all(len(window.ids) == len(window.types) <= size for window in windows)
    assert all(0 <= start <= end <= len(text) for start, end in pieces.ranges)


def test_characters_lead_to_their_tokens(tokenizer: Tokenizer) -> None:
    pieces = PairReader(tokenizer).pieces(TEXT)
    start = TEXT.index("Carolingian Empire")
    first, last = pieces.within(start, start + len("Carolingian Empire")) or (0, 0)
    assert TEXT[pieces.ranges[first][0] : pieces.ranges[last - 1][1]] == "Carolingian Empire"
    assert pieces.within(len(TEXT) + 5, len(TEXT) + 9) is None


def test_a_tokenizer_without_a_frame_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"no \[CLS\] and \[SEP\]"):
        PairReader(Tokenizer.train_bpe(["some text"], 300))


def _shared() -> Tokenizer:
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers

    words = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "who": 3, "?": 4, "a": 5, "##a": 6, "b": 7, "0": 8}
    backend = tokenizers.Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return Tokenizer(backend, named={"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"})
