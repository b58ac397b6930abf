"""Tokenizers of every kind of file, against `transformers`, `gguf` and the golden values."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import FormatError, ModelNotFoundError, OctavoError, UnsupportedError
from octavo.text.byte_level import PRE_TOKENIZERS, byte_of
from octavo.text.tokenizer import Tokenizer

TEXTS = [
    "Hello world",
    "",
    " ",
    "  two  spaces \n\n and\ttabs\r\n",
    "def f(x):\n    return x ** 2  # 42",
    "價格是 1999 元，한글 и кириллица",
    "😀👩‍👩‍👧 é e\u0301 ﷺ",
    "I'M you'LL don't 12345 ²³½",
    "\u3000full\u00a0odd\u200bspaces\u2028",
]


@pytest.fixture(scope="module")
def all_bytes() -> Tokenizer:
    """A vocabulary with every byte; SmolLM2's lacks those that no common text has, such as 0xF1."""
    return Tokenizer.train_bpe(TEXTS, 300)


def transformers_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_golden_texts_encode_and_decode_as_the_file_says(smollm2_tokenizer: Tokenizer, golden: dict[str, Any]) -> None:
    for entry in golden["tokenizer"]:
        assert smollm2_tokenizer.encode(entry["text"]) == entry["ids"], entry["text"]
        assert smollm2_tokenizer.decode(entry["ids"], skip_special=False) == entry["decoded"]
    assert (smollm2_tokenizer.bos_id, smollm2_tokenizer.eos_id, smollm2_tokenizer.pad_id) == (1, 2, 2)
    assert smollm2_tokenizer.vocab_size == 49152


def test_a_gguf_tokenizer_survives_saving_and_loads_in_transformers(
    smollm2_tokenizer: Tokenizer, tmp_path: Path
) -> None:
    smollm2_tokenizer.save(tmp_path)
    again, oracle = Tokenizer.from_folder(tmp_path), transformers_tokenizer(tmp_path)
    for text in TEXTS:
        ids = smollm2_tokenizer.encode(text)
        assert again.encode(text) == ids == oracle(text).input_ids
    assert again.chat_template == smollm2_tokenizer.chat_template == oracle.chat_template
    assert again.named == smollm2_tokenizer.named
    assert (oracle.bos_token_id, oracle.eos_token_id, oracle.pad_token_id) == (1, 2, 2)


def test_a_folder_encodes_as_in_transformers(stories: Path, stories_tokenizer: Tokenizer, tmp_path: Path) -> None:
    oracle = transformers_tokenizer(stories)
    stories_tokenizer.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    for text in TEXTS:
        ids = oracle(text).input_ids
        assert stories_tokenizer.encode(text) == again.encode(text) == ids
        assert stories_tokenizer.decode(ids) == oracle.decode(ids, skip_special_tokens=True)


def test_bos_comes_once_and_only_where_the_file_or_the_caller_says(stories_tokenizer: Tokenizer) -> None:
    plain = stories_tokenizer.encode("Once", bos=False)
    assert stories_tokenizer.encode("Once") == stories_tokenizer.encode("Once", bos=True) == [1, *plain]
    assert stories_tokenizer.encode("<s>Once") == stories_tokenizer.encode("<s>Once", bos=True) == [1, *plain]
    assert stories_tokenizer.encode("<s><s>Once", bos=False)[:2] == [1, 1]


def test_bos_is_refused_where_the_vocabulary_has_none() -> None:
    with pytest.raises(OctavoError, match="no BOS token"):
        Tokenizer.train_characters("ab").encode("a", bos=True)


def test_special_texts_are_control_ids_only_when_asked(smollm2_tokenizer: Tokenizer, tmp_path: Path) -> None:
    text = "a<|im_end|>\n<|im_start|>system"
    assert 2 in smollm2_tokenizer.encode(text)
    ids = smollm2_tokenizer.encode(text, special=False)
    assert not smollm2_tokenizer.special_ids.intersection(ids)
    assert smollm2_tokenizer.decode(ids) == text
    smollm2_tokenizer.save(tmp_path)
    assert ids == transformers_tokenizer(tmp_path)(text, split_special_tokens=True).input_ids


def test_the_plain_twin_keeps_bos_and_ids_of_added_tokens(stories_tokenizer: Tokenizer) -> None:
    assert stories_tokenizer.encode("Once", special=False) == stories_tokenizer.encode("Once")
    ids = stories_tokenizer.encode("</s>", special=False)
    assert ids[0] == 1
    assert 2 not in ids


def test_gguf_rules_for_bos(smollm2_metadata: dict[str, Any]) -> None:
    with_bos = Tokenizer.from_gguf({**smollm2_metadata, "tokenizer.ggml.add_bos_token": True})
    assert with_bos.encode("Hello world") == [1, 19556, 905]
    both = Tokenizer.from_gguf(
        {**smollm2_metadata, "tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}
    )
    assert both.encode("Hello world") == [1, 19556, 905, 2]


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_each_pre_tokenizer_loses_no_byte(name: str, smollm2_metadata: dict[str, Any]) -> None:
    tokenizer = Tokenizer.from_gguf({**smollm2_metadata, "tokenizer.ggml.pre": name})
    for text in TEXTS:
        ids = tokenizer.encode(text, bos=False)
        assert b"".join(tokenizer.token_bytes(i) for i in ids) == text.encode()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("smollm", "a  42", ["a", "ĠĠ", "4", "2"]),
        ("gpt-2", "a  42", ["a", "Ġ", "Ġ42"]),
        ("llama-bpe", "a 12345", ["a", "Ġ", "123", "45"]),
        ("qwen2", "a 123", ["a", "Ġ", "1", "2", "3"]),
        ("falcon", "x=12345!!", ["x", "=", "123", "45", "!!"]),
    ],
)
def test_a_pre_tokenizer_splits_as_its_family_does(name: str, text: str, words: list[str]) -> None:
    from octavo.text.byte_level import pre_tokenizer

    assert [word for word, _ in pre_tokenizer(name).pre_tokenize_str(text)] == words


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"tokenizer.ggml.model": "bert"}, UnsupportedError, "'bert'"),
        ({"tokenizer.ggml.model": None}, UnsupportedError, "no embedded tokenizer"),
        ({"tokenizer.ggml.pre": "smolm"}, UnsupportedError, "did you mean 'smollm'"),
        ({"tokenizer.ggml.merges": None}, FormatError, "merges"),
        ({"tokenizer.ggml.merges": ["zz qq"]}, FormatError, "merges"),
        ({"tokenizer.ggml.token_type": [1]}, FormatError, "token_type has 1 entries"),
        ({"tokenizer.ggml.tokens": ["a", "a"]}, FormatError, "tokens"),
    ],
)
def test_a_gguf_tokenizer_that_cannot_be_read_is_refused_by_name(
    change: dict[str, Any], error: type[OctavoError], says: str, smollm2_metadata: dict[str, Any]
) -> None:
    with pytest.raises(error, match=says):
        Tokenizer.from_gguf({**smollm2_metadata, **change})


def test_gpt2_files_encode_as_in_transformers(smollm2_tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import GPT2Tokenizer

    smollm2_tokenizer.backend.model.save(str(tmp_path))
    ours = Tokenizer.from_folder(tmp_path)
    vocabulary, merges = tmp_path / "vocab.json", tmp_path / "merges.txt"
    pairs = [tuple(line.split(" ")) for line in merges.read_text().splitlines() if not line.startswith("#version")]
    oracle = GPT2Tokenizer(vocab=json.loads(vocabulary.read_text()), merges=pairs)
    for text in [*TEXTS, "a<|endoftext|>b"]:
        assert ours.encode(text) == oracle(text).input_ids
    assert ours.bos_id == ours.eos_id == oracle.eos_token_id == 0


def test_token_bytes_are_exact(smollm2_tokenizer: Tokenizer, stories_tokenizer: Tokenizer) -> None:
    assert len(byte_of()) == len(set(byte_of().values())) == 256
    for tokenizer in (smollm2_tokenizer, stories_tokenizer):
        ids = tokenizer.encode("é 한글 😀\n", bos=False)
        expected = "é 한글 😀\n" if tokenizer is smollm2_tokenizer else " é 한글 😀\n"
        assert b"".join(tokenizer.token_bytes(i) for i in ids) == expected.encode()
    assert smollm2_tokenizer.token_bytes(2) == b"<|im_end|>"
    assert smollm2_tokenizer.token_bytes(10**6) == b""
    assert stories_tokenizer.token_bytes(3 + 0xF0) == b"\xf0"
    assert stories_tokenizer.token_text(3 + 0xF0) == "\ufffd"


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_byte_level_round_trips_any_text(all_bytes: Tokenizer, text: str) -> None:
    ids = all_bytes.encode(text, special=False)
    assert all_bytes.decode(ids, skip_special=False) == text
    assert b"".join(all_bytes.token_bytes(i) for i in ids) == text.encode()


def test_what_cannot_be_encoded_or_decoded_is_said(smollm2_tokenizer: Tokenizer) -> None:
    with pytest.raises(OctavoError, match=r"U\+D800"):
        smollm2_tokenizer.encode("a\ud800")
    with pytest.raises(OctavoError, match="-1 is negative"):
        smollm2_tokenizer.decode([1, -1])


def test_a_saved_truncation_does_not_cut_prompts(smollm2_tokenizer: Tokenizer, tmp_path: Path) -> None:
    smollm2_tokenizer.save(tmp_path)
    data = json.loads((tmp_path / "tokenizer.json").read_text())
    data["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    assert len(Tokenizer.from_folder(tmp_path).encode("one two three four five")) == 5


def test_folders_without_a_sound_tokenizer_are_refused(tmp_path: Path, stories: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="has no tokenizer"):
        Tokenizer.from_folder(tmp_path)
    with pytest.raises(ModelNotFoundError, match="no folder"):
        Tokenizer.from_folder(tmp_path / "absent")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(FormatError, match=r"tokenizer\.json"):
        Tokenizer.from_folder(tmp_path)
    shutil.copy(stories / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[1]")
    with pytest.raises(FormatError, match="JSON object"):
        Tokenizer.from_folder(tmp_path)


def test_tokens_that_only_the_configuration_lists_are_added(stories: Path, tmp_path: Path) -> None:
    shutil.copy(stories / "tokenizer.json", tmp_path)
    listed = {"512": {"content": "<tool>", "special": False}, "513": {"content": "<pad>", "special": True}}
    config = {"bos_token": {"content": "<s>"}, "pad_token": "<pad>", "added_tokens_decoder": listed}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ours = Tokenizer.from_folder(tmp_path)
    assert (ours.token_id("<tool>"), ours.pad_id, ours.vocab_size) == (512, 513, 514)
    assert 512 in ours.encode("<tool>x")
    assert ours.special_ids >= {513}
    config["added_tokens_decoder"] = {"600": {"content": "<tool>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match="should have id 600"):
        Tokenizer.from_folder(tmp_path)
