"""BERT's WordPiece from its `vocab.txt`, a token a line, with the rules of tokenizer_config.json.

Source: Schuster and Nakajima 2012; the defaults are those of BERT's own code (lower case without accents, a space
around each Chinese character, words of over 100 characters unknown).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors

from octavo.errors import FormatError

if TYPE_CHECKING:
    from octavo.text.tokenizer import Tokenizer

NAMED: Final = {
    "unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"
}  # fmt: skip
MAX_WORD: Final = 100
RULES: tuple[str, ...] = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
"""Keys of tokenizer_config.json that decide how a text is cut."""


def open_vocabulary(path: Path, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """The library's tokenizer of a vocab.txt. config: of tokenizer_config.json, whose texts of special tokens win.

    Raises FormatError for a file that is not UTF-8 or lacks a special token.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise FormatError(f"{path} is not UTF-8; fetch it again") from None
    pieces = lines[:-1] if lines[-1] == "" else lines
    vocabulary = {piece.removesuffix("\r"): index for index, piece in enumerate(pieces)}
    named = {role: _text(config.get(role), text) for role, text in NAMED.items()}
    for role in ("unk_token", "sep_token", "cls_token"):
        if named[role] not in vocabulary:
            raise FormatError(f"{path} lacks {named[role]!r}, the {role}; is it a WordPiece vocabulary?")
    backend = tokenizers.Tokenizer(
        models.WordPiece(vocabulary, unk_token=named["unk_token"], max_input_chars_per_word=MAX_WORD)
    )
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=bool(config.get("tokenize_chinese_chars", True)),
        strip_accents=config.get("strip_accents"),
        lowercase=bool(config.get("do_lower_case", True)),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    first, last = named["cls_token"], named["sep_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=[first, "$A", last],
        pair=[first, "$A", last, "$B:1", f"{last}:1"],
        special_tokens=[(first, vocabulary[first]), (last, vocabulary[last])],
    )
    present = [AddedToken(text, special=True, normalized=False) for text in named.values() if text in vocabulary]
    backend.add_special_tokens(present)
    return backend


def save_vocabulary(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a WordPiece tokenizer as vocab.txt and tokenizer_config.json, half the size of a tokenizer.json."""
    vocabulary = tokenizer.backend.get_vocab(with_added_tokens=False)
    pieces = sorted(vocabulary, key=lambda piece: vocabulary[piece])
    assert [vocabulary[piece] for piece in pieces] == list(range(len(pieces))), "a vocabulary without gaps"
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    rules = {key: tokenizer.config[key] for key in RULES if key in tokenizer.config}
    config: dict[str, Any] = {**rules, **tokenizer.named, "tokenizer_class": "BertTokenizer"}
    text = json.dumps(config, ensure_ascii=False, indent=2)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def _text(token: Any, default: str) -> str:
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else default
