"""Our SentencePiece reader against the `sentencepiece` library, on models trained here and on a real one."""

from __future__ import annotations

import contextlib
import io
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
import regex
import sentencepiece
from hypothesis import assume, given, settings

from octavo.errors import FormatError, UnsupportedError
from octavo.text.sentencepiece import read_model
from octavo.text.tokenizer import Tokenizer

STRANGE = runpy.run_path(str(Path(__file__).with_name("strange.py")))
TEXTS = [
    "Once upon a time, there was a little girl.",
    "",
    " ",
    "   ",
    " leading and trailing ",
    "two  spaces   three",
    "def f(x):\n    return x ** 2\n",
    "價格是 1999 元，한글 и кириллица",
    "😀👩‍👩‍👧 é e\u0301 ﬁ ① Ａ",
    "odd\u3000full\u00a0nb\u200bzero\u2028line\ttab",
    "▁already",
    "x" * 200,
]


def train(tmp_path: Path, shared: Path, **options: Any) -> Path:
    """A small model of stories and other scripts, in a folder as Llama's."""
    lines = (shared / "data/text/tinystories-valid-sample.txt").read_text().splitlines()[:12]
    lines += ["價格是 1999 元", "한글 и кириллица", "def f(x): return x", "é à ü"] * 20
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=550, minloglevel=2, num_threads=1, **options
    )
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return folder


def compare(folder: Path, texts: list[str]) -> None:
    ours = Tokenizer.from_folder(folder)
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    for text in texts:
        ids = oracle.encode(text)
        assert ours.encode(text, bos=False) == ids, text
        # The library drops every leading space where a model removes extra ones; the tokenizer.json form drops one.
        if oracle.unk_id() not in ids and not text.startswith("▁"):
            assert ours.decode(ids) == oracle.decode(ids), text


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity"},
        {
            "model_type": "bpe",
            "byte_fallback": True,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
        },
        {"model_type": "bpe", "byte_fallback": True, "add_dummy_prefix": False, "remove_extra_whitespaces": False},
        {"model_type": "bpe"},
        {"model_type": "unigram"},
        {"model_type": "unigram", "byte_fallback": True, "normalization_rule_name": "nfkc"},
    ],
    ids=["llama-like", "spaces-kept", "no-prefix", "bpe-unk", "unigram", "unigram-bytes"],
)
def test_every_kind_of_model_encodes_as_sentencepiece(tmp_path: Path, shared: Path, options: dict[str, Any]) -> None:
    folder = train(tmp_path, shared, **options)
    stories = (shared / "data/text/tinystories-valid-sample.txt").read_text().splitlines()[12:]
    compare(folder, [*TEXTS, *stories])


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity"},
        {"model_type": "unigram"},
        {"model_type": "unigram", "byte_fallback": True},
    ],
    ids=["bpe", "unigram", "unigram-bytes"],
)
def test_any_text_has_the_ids_of_sentencepiece(tmp_path: Path, shared: Path, options: dict[str, Any]) -> None:
    folder = train(tmp_path, shared, **options)
    ours = Tokenizer.from_folder(folder)
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))

    @settings(max_examples=150, deadline=None)
    @given(STRANGE["texts"])
    def law(text: str) -> None:
        # Normalising by a table, the `tokenizers` library takes a character with its accents for the character alone.
        assume(options.get("normalization_rule_name") == "identity" or len(regex.findall(r"\X", text)) == len(text))
        ids, theirs = ours.encode(text, special=False, bos=False), oracle.encode(text)
        # Of two ways to cut a text that are equally probable, the libraries may take either.
        equal = options["model_type"] == "unigram" and abs(score(ids) - score(theirs)) < 1e-3
        assert ids == theirs or equal

    def score(ids: list[int]) -> float:
        return sum(oracle.get_score(token) for token in ids)

    law()


def test_the_real_model_equals_its_own_tokenizer_json(
    stories: Path, stories_tokenizer: Tokenizer, tmp_path: Path, shared: Path
) -> None:
    shutil.copy(stories / "tokenizer.model", tmp_path)
    compare(tmp_path, TEXTS)
    ours = Tokenizer.from_folder(tmp_path)
    sample = (shared / "data/text/tinystories-valid-sample.txt").read_text().splitlines()[:100]
    for text in [*TEXTS, *sample]:
        assert ours.encode(text) == stories_tokenizer.encode(text)
    assert (ours.bos_id, ours.eos_id, ours.unk_id) == (1, 2, 0)


def test_the_gguf_kind_llama_equals_sentencepiece(stories: Path) -> None:
    model = read_model(stories / "tokenizer.model")
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": list(model.pieces),
        "tokenizer.ggml.scores": list(model.scores),
        "tokenizer.ggml.token_type": list(model.types),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.remove_extra_whitespaces": True,
    }
    ours = Tokenizer.from_gguf(metadata)
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(stories / "tokenizer.model"))
    for text in TEXTS:
        assert ours.encode(text) == [1, *oracle.encode(text)]
    with pytest.raises(FormatError, match="scores"):
        Tokenizer.from_gguf({**metadata, "tokenizer.ggml.scores": [0.0]})


def test_merges_follow_the_scores_whatever_the_order_of_ids(stories: Path, stories_tokenizer: Tokenizer) -> None:
    model = read_model(stories / "tokenizer.model")
    order = [*range(3), *reversed(range(3, len(model.pieces)))]
    ours = Tokenizer.from_gguf(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": [model.pieces[place] for place in order],
            "tokenizer.ggml.scores": [model.scores[place] for place in order],
            "tokenizer.ggml.token_type": [model.types[place] for place in order],
            "tokenizer.ggml.remove_extra_whitespaces": True,
        }
    )
    for text in TEXTS:
        assert [order[i] for i in ours.encode(text, bos=False)] == stories_tokenizer.encode(text, bos=False)


def test_user_defined_symbols_are_whole_words(tmp_path: Path, shared: Path) -> None:
    folder = train(
        tmp_path, shared, model_type="bpe", user_defined_symbols=["<tool>"], add_dummy_prefix=False,
        remove_extra_whitespaces=False,
    )  # fmt: skip
    compare(folder, ["a<tool>b", "<tool>", "x <tool> y"])


def test_legacy_false_puts_the_prefix_space_only_first(stories: Path, tmp_path: Path) -> None:
    shutil.copy(stories / "tokenizer.model", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"legacy": false}')
    ours = Tokenizer.from_folder(tmp_path)
    legacy = Tokenizer.from_folder(stories)
    assert ours.encode("Once") == legacy.encode("Once")
    assert ours.decode(ours.encode("</s>Once", bos=False)) == "Once"
    assert len(ours.encode("</s>the", bos=False)) != len(legacy.encode("</s>the", bos=False)) or (
        ours.encode("</s>the", bos=False) != legacy.encode("</s>the", bos=False)
    )


def test_every_truncation_of_a_model_is_refused_or_shorter(stories: Path, tmp_path: Path) -> None:
    data = (stories / "tokenizer.model").read_bytes()
    whole = read_model(stories / "tokenizer.model")
    path = tmp_path / "tokenizer.model"
    for size in range(0, len(data), 97):
        path.write_bytes(data[:size])
        with contextlib.suppress(FormatError, UnsupportedError):
            assert len(read_model(path).pieces) <= len(whole.pieces)
    path.write_bytes(b"not a model at all")
    with pytest.raises(FormatError, match="not a SentencePiece model"):
        read_model(path)
