"""Files of ranks against `tiktoken` itself and Mistral's own reader, with vocabularies that tiktoken learns here."""

from __future__ import annotations

import base64
import json
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from hypothesis import given, settings
from tiktoken._educational import bpe_train
from tiktoken_ext import openai_public
from tokenizers import AddedToken

from octavo.errors import FormatError, UnsupportedError
from octavo.text.tiktoken import KINDS
from octavo.text.tokenizer import Tokenizer

STRANGE = runpy.run_path(str(Path(__file__).with_name("strange.py")))
SAMPLE = " ".join(STRANGE["PIECES"]) + (
    " the cat sat on the mat, and the other cats sat there too; don't they'll aaaa aaaaaaaa    \n\n  1999 2000 "
    "價格是價格 кириллица кирилл 한국 한국어 return return x    return y"
) * 3  # fmt: skip


@cache
def ranks(pattern: str) -> dict[bytes, int]:
    """A small vocabulary, learnt by the library's own teaching code."""
    learnt: dict[bytes, int] = bpe_train(SAMPLE, 480, pattern, visualise=None)
    return learnt


def published(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the library says of an encoding: pattern and special tokens, without fetching its ranks."""
    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda *args, **options: {})
    found: dict[str, Any] = getattr(openai_public, name)()
    return found


def write(path: Path, table: dict[bytes, int]) -> None:
    path.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in table.items()))


@pytest.fixture(scope="module", params=["r50k_base", "cl100k_base", "o200k_base", "o200k_harmony"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    """(ours, the library's) of one encoding's rules."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        said = published(request.param, monkeypatch)
    table = ranks(said["pat_str"])
    folder = tmp_path_factory.mktemp(request.param)
    write(folder / f"{request.param}.tiktoken", table)
    oracle = tiktoken.Encoding(
        "x", pat_str=said["pat_str"], mergeable_ranks=table, special_tokens=said["special_tokens"]
    )
    return Tokenizer.from_folder(folder), oracle


@settings(max_examples=150, deadline=None)
@given(text=STRANGE["texts"])
def test_ids_and_text_are_those_of_tiktoken(pair: tuple[Tokenizer, Any], text: str) -> None:
    ours, oracle = pair
    ids = oracle.encode(text, disallowed_special=())
    assert ours.encode(text, special=False) == ids
    assert ours.decode(ids) == text
    assert b"".join(map(ours.token_bytes, ids)) == text.encode()
    stream = ours.detokenizer()
    assert "".join(map(stream.push, ids)) + stream.flush() == text


def test_special_tokens_have_the_librarys_ids(pair: tuple[Tokenizer, Any]) -> None:
    ours, oracle = pair
    second_names = {"<|reserved_200018|>"}  # of <|endofprompt|>
    for text in oracle.special_tokens_set - second_names:
        assert ours.encode(f"a{text}b") == oracle.encode(f"a{text}b", allowed_special="all"), text
        assert ours.token_id(text) in ours.special_ids


def test_llama_3s_model_has_its_special_tokens_and_puts_bos_first(tmp_path: Path) -> None:
    table = ranks(KINDS["tokenizer"].pattern)
    write(tmp_path / "tokenizer.model", table)
    ours = Tokenizer.from_folder(tmp_path)
    ids = ours.encode("don't <|eot_id|>")
    oracle = tiktoken.Encoding("x", pat_str=KINDS["tokenizer"].pattern, mergeable_ranks=table, special_tokens={})
    assert ids == [480, *oracle.encode("don't "), 480 + 9]
    assert (ours.named["eos_token"], ours.token_id("<|end_header_id|>")) == ("<|end_of_text|>", 487)
    assert ours.token_id("<|reserved_special_token_247|>") == 480 + 255


def test_a_saved_vocabulary_of_ranks_is_the_same_tokenizer(pair: tuple[Tokenizer, Any], tmp_path: Path) -> None:
    ours, _ = pair
    ours.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    text = "".join(STRANGE["PIECES"]) + "<|endoftext|>"
    assert again.encode(text) == ours.encode(text) and again.special_ids == ours.special_ids


def tekken(table: dict[bytes, int], *, listed: bool) -> dict[str, Any]:
    special = [{"rank": i, "token_str": text, "is_control": True} for i, text in enumerate(["<unk>", "<s>", "</s>"])]
    vocab = [
        {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
        for token, rank in sorted(table.items(), key=lambda item: item[1])
    ]
    return {
        "config": {
            "pattern": KINDS["o200k_base"].pattern, "num_vocab_tokens": len(vocab), "default_vocab_size": 450 + 30,
            "default_num_special_tokens": 30, "version": "v11" if listed else "v3",
        },
        "vocab": vocab, **({"special_tokens": special} if listed else {}),
    }  # fmt: skip


@pytest.mark.parametrize("listed", [False, True])
def test_tekken_files_are_read_as_mistrals_own_reader_does(listed: bool, tmp_path: Path) -> None:
    (tmp_path / "tekken.json").write_text(json.dumps(tekken(ranks(KINDS["o200k_base"].pattern), listed=listed)))
    ours = Tokenizer.from_folder(tmp_path)
    library = pytest.importorskip("mistral_common.tokens.tokenizers.tekken", reason="mistral-common is not installed")
    oracle = library.Tekkenizer.from_file(tmp_path / "tekken.json")
    for text in [*STRANGE["PIECES"], SAMPLE]:
        assert ours.encode(text, special=False) == oracle.encode(text, bos=True, eos=False), text
    assert ours.token_id("<SPECIAL_29>") == 29 and (ours.bos_id, ours.eos_id) == (1, 2)
    assert ours.token_id("[INST]") == (None if listed else 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("IQ== 0\n!! 1\n", "line 2 is no new base64 text"),
        ("IQ== 0\nIQ== 1\n", "line 2 is no new base64 text"),
        ("IQ== 0\nIg== x\n", "line 2 is no new base64 text"),
        ("IQ== 0\nIg== 99999999999999999999\n", "line 2 is no new base64 text"),
        ("IQ== 0\n", "lacks the byte 0"),
        ("".join(f"{base64.b64encode(bytes([b])).decode()} 7\n" for b in range(256)), "gives two tokens one rank"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "cl100k_base.tiktoken").write_text(content)
    with pytest.raises(FormatError, match=words):
        Tokenizer.from_folder(tmp_path)


def test_a_file_whose_rules_are_not_known_is_refused_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "cl100k.tiktoken", ranks(KINDS["tokenizer"].pattern))
    with pytest.raises(UnsupportedError, match="did you mean 'cl100k_base'"):
        Tokenizer.from_folder(tmp_path)


def test_added_tokens_beside_a_file_come_after_it(tmp_path: Path) -> None:
    write(tmp_path / "qwen.tiktoken", ranks(KINDS["qwen"].pattern))
    ours = Tokenizer.from_folder(tmp_path)
    assert ours.token_id("<|im_start|>") == 481 and ours.encode("e\u0301") == ours.encode("é")
    assert isinstance(ours.backend.get_added_tokens_decoder()[480], AddedToken)
