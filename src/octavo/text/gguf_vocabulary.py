"""The tokenizer that a GGUF file embeds in its `tokenizer.ggml.*` keys.

Two kinds: `gpt2` (byte-level BPE with merges and a named split rule) and `llama` (SentencePiece pieces with scores,
whose merges are implied by the scores). Building must be quick: it is part of the cold start of every run.
Source: the GGUF specification and the keys of published files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import tokenizers
from tokenizers import AddedToken, decoders, models, processors

from octavo.errors import FormatError, UnsupportedError
from octavo.text.byte_level import pre_tokenizer
from octavo.text.sentencepiece import CONTROL, NORMAL, UNKNOWN, USER_DEFINED, PieceModel, build_backend
from octavo.text.tokenizer import Tokenizer

_PREFIX = "tokenizer.ggml."
_ROLES: Final = {
    "bos": "bos_token",
    "eos": "eos_token",
    "unknown": "unk_token",
    "padding": "pad_token",
    "seperator": "sep_token",  # the format's own spelling
    "cls": "cls_token",
    "mask": "mask_token",
}
_BOS_BY_DEFAULT: Final = ("llama-bpe", "llama3", "llama-v3")


def build_from_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
    """Build the tokenizer of a GGUF file from its key-value pairs; see `Tokenizer.from_gguf`."""
    kind = metadata.get(_PREFIX + "model")
    if kind not in ("gpt2", "llama"):
        what = "no embedded tokenizer" if kind is None else f"a tokenizer of the kind {kind!r}"
        raise UnsupportedError(f"the GGUF file has {what}; only the kinds 'gpt2' and 'llama' can be read")
    tokens = _list(metadata, "tokens")
    types = _list(metadata, "token_type", len(tokens)) if _PREFIX + "token_type" in metadata else [NORMAL] * len(tokens)
    backend = _byte_level(metadata, tokens) if kind == "gpt2" else _pieces(metadata, tokens, types)
    add_special(backend, tokens, types)
    named = {}
    for key, role in _ROLES.items():
        token_id = metadata.get(f"{_PREFIX}{key}_token_id")
        if token_id is not None and 0 <= int(token_id) < len(tokens):
            named[role] = tokens[int(token_id)]
    bos_default = kind == "llama" or metadata.get(_PREFIX + "pre") in _BOS_BY_DEFAULT
    bos = named.get("bos_token") if metadata.get(_PREFIX + "add_bos_token", bos_default) else None
    eos = named.get("eos_token") if metadata.get(_PREFIX + "add_eos_token", False) else None
    set_affixes(backend, bos, eos)
    return Tokenizer(backend, named=named, templates=_templates(metadata))


def set_affixes(backend: tokenizers.Tokenizer, bos: str | None, eos: str | None) -> None:
    """Make the backend put BOS before and EOS after each text; None: not."""
    affixes = [(text, backend.token_to_id(text)) for text in (bos, eos) if text is not None]
    if not affixes:
        return
    before, after = [bos] if bos else [], [eos] if eos else []
    single = [*before, "$A", *after]
    pair = [*single, *(f"{text}:1" for text in before), "$B:1", *(f"{text}:1" for text in after)]
    backend.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=list(dict.fromkeys(affixes))
    )


def add_special(backend: tokenizers.Tokenizer, tokens: Sequence[str], types: Sequence[int]) -> None:
    """Declare control and unknown tokens as special, user-defined ones as whole words; their ids stay."""
    added = [
        AddedToken(text, special=kind != USER_DEFINED, normalized=False)
        for text, kind in zip(tokens, types, strict=True)
        if kind in (CONTROL, UNKNOWN, USER_DEFINED) and text
    ]
    backend.add_tokens(added)


def _byte_level(metadata: Mapping[str, Any], tokens: list[str]) -> tokenizers.Tokenizer:
    vocabulary = {text: place for place, text in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise FormatError(f"{_PREFIX}tokens repeats {len(tokens) - len(vocabulary)} of its {len(tokens)} tokens")
    pairs = [tuple(line.split(" ")) for line in _list(metadata, "merges")]
    name = str(metadata.get(_PREFIX + "pre", "default"))
    try:
        model = models.BPE(vocabulary, pairs, ignore_merges=name in _BOS_BY_DEFAULT)
    except Exception as error:  # the library raises bare Exception for a merge of unknown tokens
        raise FormatError(f"{_PREFIX}merges does not fit the vocabulary: {error}") from error
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizer(name)
    backend.decoder = decoders.ByteLevel()
    return backend


def _pieces(metadata: Mapping[str, Any], tokens: list[str], types: list[int]) -> tokenizers.Tokenizer:
    scores = [float(score) for score in _list(metadata, "scores", len(tokens))]
    prefix = bool(metadata.get(_PREFIX + "add_space_prefix", True))
    model = PieceModel(
        pieces=tokens,
        scores=scores,
        types=types,
        kind="bpe",
        byte_fallback="<0x00>" in tokens,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=bool(metadata.get(_PREFIX + "remove_extra_whitespaces", False)),
    )
    return build_backend(model)


def _list(metadata: Mapping[str, Any], key: str, length: int | None = None) -> list[Any]:
    value = metadata.get(_PREFIX + key)
    if value is None or isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
        raise FormatError(f"the GGUF file's tokenizer lacks the list {_PREFIX}{key}")
    if length is not None and len(value) != length:
        raise FormatError(f"{_PREFIX}{key} has {len(value)} entries where {_PREFIX}tokens has {length}")
    items: list[Any] = value if isinstance(value, list) else value.tolist() if hasattr(value, "tolist") else list(value)
    return items


def _templates(metadata: Mapping[str, Any]) -> dict[str, str]:
    start = "tokenizer.chat_template"
    templates = {
        key.removeprefix(start + "."): str(value) for key, value in metadata.items() if key.startswith(start + ".")
    }
    if start in metadata:
        templates["default"] = str(metadata[start])
    return templates
