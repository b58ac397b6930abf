"""The law of incremental detokenising: pushes and flush add up to decode, whatever the ids and wherever the cuts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from octavo.text.detokenizer import WindowDetokenizer
from octavo.text.tokenizer import Tokenizer


def word_piece() -> Tokenizer:
    words = ["[UNK]", "[CLS]", "hello", "##lo", "wor", "##ld", ",", "'", "s", "!"]
    backend = tokenizers.Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(["[CLS]"])
    return Tokenizer(backend, named={})


def metaspace() -> Tokenizer:
    pieces = ["<unk>", "▁", "▁▁", "a", "▁a", "▁the", "é"]
    backend = tokenizers.Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], 0, False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return Tokenizer(backend, named={})


def pieces_of(tokenizer: Tokenizer, ids: list[int], skip_special: bool) -> list[str]:
    detokenizer = tokenizer.detokenizer(skip_special=skip_special)
    return [*(detokenizer.push(token_id) for token_id in ids), detokenizer.flush()]


def check_law(tokenizer: Tokenizer, ids: list[int]) -> None:
    for skip_special in (True, False):
        assert "".join(pieces_of(tokenizer, ids, skip_special)) == tokenizer.decode(ids, skip_special=skip_special)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_smollm2_ids_add_up_to_decode(smollm2_tokenizer: Tokenizer, data: st.DataObject) -> None:
    token = st.integers(0, smollm2_tokenizer.vocab_size + 1) | st.integers(0, 300)
    check_law(smollm2_tokenizer, data.draw(st.lists(token, max_size=16)))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_stories_ids_add_up_to_decode(stories_tokenizer: Tokenizer, data: st.DataObject) -> None:
    token = st.integers(0, stories_tokenizer.vocab_size + 1) | st.sampled_from([0, 1, 2, 261, 3 + 0xE2, 3 + 0x20])
    check_law(stories_tokenizer, data.draw(st.lists(token, max_size=16)))


@pytest.mark.parametrize("build", [word_piece, metaspace])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_other_decoders_add_up_to_decode(build: Callable[[], Tokenizer], data: st.DataObject) -> None:
    tokenizer = build()
    check_law(tokenizer, data.draw(st.lists(st.integers(0, tokenizer.vocab_size), max_size=12)))


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_whole_characters_come_at_every_cut(
    smollm2_tokenizer: Tokenizer, stories_tokenizer: Tokenizer, text: str
) -> None:
    for tokenizer in (smollm2_tokenizer, stories_tokenizer):
        ids = tokenizer.encode(text, special=False, bos=False)
        whole = tokenizer.decode(ids, skip_special=False)
        pieces = pieces_of(tokenizer, ids, False)
        for cut in range(len(pieces) + 1):
            assert whole.startswith("".join(pieces[:cut]))
        assert whole.count("\ufffd") == "".join(pieces).count("\ufffd")


def test_the_last_byte_of_a_character_releases_it(smollm2_tokenizer: Tokenizer) -> None:
    ids = smollm2_tokenizer.encode("😀")
    assert len(ids) > 1
    assert pieces_of(smollm2_tokenizer, ids, True) == [*[""] * (len(ids) - 1), "😀", ""]


def test_only_the_first_space_of_the_whole_text_is_dropped(stories_tokenizer: Tokenizer) -> None:
    ids = stories_tokenizer.encode("Once upon a time")
    assert pieces_of(stories_tokenizer, ids, True) == ["", "Once", " upon", " a", " time", ""]


def test_an_unfinished_character_is_replaced_by_flush(smollm2_tokenizer: Tokenizer, tmp_path: Path) -> None:
    ids = smollm2_tokenizer.encode("😀")[:-1]
    assert pieces_of(smollm2_tokenizer, ids, True)[-1] == "\ufffd"


def test_decoding_looks_at_a_short_window_however_long_the_text() -> None:
    longest = 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return " ".join(map(str, ids))

    detokenizer = WindowDetokenizer(decode, lambda token_id: True)
    pushed = [detokenizer.push(place) for place in range(500)]
    assert "".join(pushed) + detokenizer.flush() == " ".join(map(str, range(500)))
    assert longest < 50
