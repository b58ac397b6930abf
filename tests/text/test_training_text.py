"""Vocabularies learned here are ordinary: transformers loads them and encodes equally."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from octavo.errors import OctavoError
from octavo.text.tokenizer import Tokenizer


def test_tinyshakespeare_has_65_characters(shared: Path, tmp_path: Path) -> None:
    text = next((shared / "data/text").glob("*shakespeare*.txt")).read_text()
    tokenizer = Tokenizer.train_characters(text)
    assert tokenizer.vocab_size == 65
    ids = tokenizer.encode(text[:5000])
    order = {character: place for place, character in enumerate(sorted(set(text)))}
    assert ids == [order[character] for character in text[:5000]]
    assert tokenizer.decode(ids) == text[:5000]
    tokenizer.save(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path)(text[:5000]).input_ids == ids
    assert AutoTokenizer.from_pretrained(tmp_path).decode(ids) == text[:5000]
    assert Tokenizer.from_folder(tmp_path).encode(text[:5000]) == ids


def test_an_unknown_character_is_refused_by_name() -> None:
    with pytest.raises(OctavoError, match="'é' is not in the vocabulary"):
        Tokenizer.train_characters("abc\n").encode("abé")
    with pytest.raises(OctavoError, match="empty"):
        Tokenizer.train_characters("")


def test_a_trained_bpe_loads_in_transformers_and_encodes_equally(shared: Path, tmp_path: Path) -> None:
    lines = (shared / "data/text/tinystories-valid-sample.txt").read_text().splitlines()
    tokenizer = Tokenizer.train_bpe(iter(lines[:12]), 600, ["<|endoftext|>", "<|user|>"])
    assert tokenizer.vocab_size == 600
    assert tokenizer.bos_id == tokenizer.eos_id == 0
    tokenizer.save(tmp_path)
    oracle = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*lines[12:], "價格 😀<|user|>x", "  \n"]:
        ids = tokenizer.encode(text)
        assert oracle(text).input_ids == Tokenizer.from_folder(tmp_path).encode(text) == ids
        assert tokenizer.decode(ids, skip_special=False) == text
    assert len(tokenizer.encode(lines[-1])) < len(lines[-1].encode()) / 2


def test_a_vocabulary_too_small_for_all_bytes_is_refused() -> None:
    with pytest.raises(OctavoError, match="at least 257"):
        Tokenizer.train_bpe(["abc"], 256)
