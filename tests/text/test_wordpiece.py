"""WordPiece from vocab.txt and from tokenizer.json, against `transformers`: texts, pairs, truncation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizer

from octavo.errors import FormatError, OctavoError
from octavo.text.tokenizer import Encoded, Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [*"abcdefghijklmnopqrstuvwxyzéABCé0123456789價格.,!'", *"[]"]
VOCABULARY = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), "hello", "##llo", "the", "##ing", "World"]
TEXTS = [
    "Hello WORLD", "", " ", "naïve café é", "價格 is 42元!", "don't [MASK] this", "a" * 101, "a" * 100,
    "tabs\tand\r\nlines \u200b\u00ad\u3000", "\ufffd\x00\x07", "😀 emoji", "##ing the", "[SEP] [UNK]",
]  # fmt: skip
CONFIGS: list[dict[str, Any]] = [
    {},
    {"do_lower_case": False},
    {"strip_accents": False},
    {"tokenize_chinese_chars": False},
]


def make(folder: Path, config: dict[str, Any]) -> tuple[Tokenizer, Any]:
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **config}))
    return Tokenizer.from_folder(folder), BertTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: next(iter(config), "default"))
def test_vocab_txt_gives_the_ids_of_transformers(config: dict[str, Any], tmp_path: Path) -> None:
    ours, oracle = make(tmp_path, config)
    assert [ours.encode(text) for text in TEXTS] == [oracle(text).input_ids for text in TEXTS]
    assert ours.pad_id == 0 and ours.unk_id == 1


def test_any_text_gives_the_ids_of_transformers(tmp_path: Path) -> None:
    ours, oracle = make(tmp_path, {})

    @settings(max_examples=150, deadline=None)
    @given(st.text(max_size=60))
    def law(text: str) -> None:
        assert ours.encode(text) == oracle(text).input_ids

    law()


@pytest.mark.parametrize("limit", [5, 9, 64])
def test_pairs_and_truncation_equal_transformers(limit: int, tmp_path: Path) -> None:
    ours, oracle = make(tmp_path, {})
    pairs = [("hello there", "the world is big"), ("a b c d e f g h", "x"), ("x", "a b c d e f g h")]
    theirs = [oracle(*pair, truncation=True, max_length=limit) for pair in pairs]
    assert ours.encode_batch(pairs, max_tokens=limit) == [
        Encoded(entry.input_ids, entry.token_type_ids) for entry in theirs
    ]
    texts = ["hello the world again and again", "", "a"]
    cut = [oracle(text, truncation=True, max_length=limit).input_ids for text in texts]
    assert [item.ids for item in ours.encode_batch(texts, max_tokens=limit)] == cut
    assert ours.encode(texts[0]) == oracle(texts[0]).input_ids, "cutting left the tokenizer as it was"


def test_a_batch_with_half_a_character_is_refused_in_words(tmp_path: Path) -> None:
    ours, _ = make(tmp_path, {})
    with pytest.raises(OctavoError, match="U\\+D800"):
        ours.encode_batch(["fine", "\ud800"])


def test_a_file_without_the_special_tokens_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("one\ntwo\n")
    with pytest.raises(FormatError, match=r"lacks '\[UNK\]'"):
        Tokenizer.from_folder(tmp_path)


def test_both_files_of_minilm_give_the_ids_of_transformers(minilm: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    oracle = AutoTokenizer.from_pretrained(minilm)
    for name in ("vocab.txt", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((minilm / name).read_bytes())
    for tokenizer in (Tokenizer.from_folder(minilm), Tokenizer.from_folder(tmp_path)):
        assert [tokenizer.encode(text) for text in TEXTS] == [oracle(text).input_ids for text in TEXTS]
        assert tokenizer.vocab_size == 30522
