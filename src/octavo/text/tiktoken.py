"""Vocabularies of byte sequences by rank: `.tiktoken` files, LLaMA 3's `tokenizer.model`, and Mistral's `tekken.json`.

A file has a base64 text and a rank a line; how a text is split into words first, and which special tokens there are, it
does not say: its name does. There are no merges: two neighbours merge when their bytes together have a rank, the lowest
first, and a word that has one itself is that token. Source: tiktoken 0.14, Meta's and Mistral's published tokenizers.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from octavo.errors import FormatError, UnsupportedError, nearest
from octavo.text.byte_level import LLAMA3, QWEN2, byte_of

_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CL100K = (  # not quite LLaMA 3's: white space at a text's end is one word
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|"
    r"\s++\z|\s*[\r\n]|\s+(?!\S)|\s"
)
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_ENDING}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_ENDING}|\p{{N}}{{1,3}}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_END = "<|endoftext|>"
_MAX_ID = 1 << 21
"""No vocabulary is so large: a higher rank is damage."""


@dataclass(frozen=True)
class Kind:
    """What a file's name says. special: texts to ids, given how many ranks there are. roles: of special tokens."""

    pattern: str
    special: Callable[[int], Mapping[str, int]]
    roles: Mapping[str, str] = field(default_factory=lambda: {"eos_token": _END})
    nfc: bool = False


def _llama3(count: int) -> dict[str, int]:
    named = {
        0: "begin_of_text", 1: "end_of_text", 4: "finetune_right_pad_id", 6: "start_header_id", 7: "end_header_id",
        8: "eom_id", 9: "eot_id", 10: "python_tag",
    }  # fmt: skip
    reserved = iter(range(256))
    texts = [named.get(index) or f"reserved_special_token_{next(reserved)}" for index in range(256)]
    return {f"<|{text}|>": count + index for index, text in enumerate(texts)}


def _qwen(count: int) -> dict[str, int]:
    texts = [_END, "<|im_start|>", "<|im_end|>", *(f"<|extra_{index}|>" for index in range(205))]
    return {text: count + index for index, text in enumerate(texts)}


def _harmony(count: int) -> dict[str, int]:
    named = {
        199998: "startoftext", 199999: "endoftext", 200002: "return", 200003: "constrain", 200005: "channel",
        200006: "start", 200007: "end", 200008: "message", 200012: "call", 200018: "endofprompt",
    }  # fmt: skip
    return {f"<|{named.get(index, f'reserved_{index}')}|>": index for index in range(199998, 201088)}


KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("r50k_base", "p50k_base", "gpt2"), Kind(_GPT2, lambda count: {_END: 50256})),
    "cl100k_base": Kind(
        _CL100K,
        lambda count: {
            _END: 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "o200k_base": Kind(_O200K, lambda count: {_END: 199999, "<|endofprompt|>": 200018}),
    "o200k_harmony": Kind(_O200K, _harmony, {"bos_token": "<|startoftext|>", "eos_token": "<|return|>"}),
    "qwen": Kind(QWEN2, _qwen, nfc=True),
    "tokenizer": Kind(LLAMA3, _llama3, {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}),
}  # fmt: skip
"""By the name of the file without its suffix; LLaMA 3's is `tokenizer.model`."""

Vocabulary = tuple[tokenizers.Tokenizer, dict[str, str]]


def is_tiktoken(path: Path) -> bool:
    """Whether a file holds base64 texts with ranks; a SentencePiece model begins with bytes that no such line has."""
    with path.open("rb") as file:
        line = file.readline(4096).split()
    return len(line) == 2 and line[1].isdigit() and _decoded(line[0]) is not None


def open_tiktoken(path: Path) -> Vocabulary:
    """The library's tokenizer of a file, and the roles of its special tokens.

    Raises UnsupportedError for a file of a name that is not known, FormatError for a damaged one.
    """
    kind = KINDS.get(path.stem)
    if kind is None:
        raise UnsupportedError(
            f"{path} does not say how its texts are split, and its name is none of {', '.join(KINDS)}"
            f"{nearest(path.stem, KINDS) or ';'} rename it, or take a folder with tokenizer.json"
        )
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        parts = line.split()
        if not parts:
            continue
        token = _decoded(parts[0])
        if len(parts) != 2 or not token or not parts[1].isdigit() or int(parts[1][:8]) >= _MAX_ID or token in ranks:
            raise FormatError(f"{path}, line {number} is no new base64 text with a rank; fetch it again")
        ranks[token] = int(parts[1][:8])
    special = kind.special(len(ranks))
    backend = _backend(ranks, special, kind.pattern, str(path))
    if kind.nfc:
        backend.normalizer = normalizers.NFC()
    return backend, {role: text for role, text in kind.roles.items() if text in special}


TEKKEN_SPECIAL = (
    "<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
    "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]",
)  # fmt: skip
"""Of files before version 11, which do not list theirs."""
TEKKEN_ROLES = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def open_tekken(path: Path) -> Vocabulary:
    """The library's tokenizer of a `tekken.json`, whose special tokens come before the ranks, and their roles.

    Raises FormatError for a damaged file.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        config = raw["config"]
        count, total = int(config["default_num_special_tokens"]), int(config["default_vocab_size"])
        listed = [str(token["token_str"]) for token in raw.get("special_tokens") or ()] or list(TEKKEN_SPECIAL)
        kept = [token for token in raw["vocab"] if token["rank"] < total - count]
        ranks = {_required(token["token_bytes"]): int(token["rank"]) + count for token in kept}
        pattern = str(config["pattern"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"{path} is no tekken vocabulary ({type(error).__name__}: {error}); fetch it again") from None
    if not len(listed) <= count < total < _MAX_ID or len(ranks) != total - count:
        raise FormatError(f"{path} has {len(ranks)} tokens and {len(listed)} special ones, not {total} and {count}")
    texts = listed + [f"<SPECIAL_{index}>" for index in range(len(listed), count)]
    special = {text: index for index, text in enumerate(texts)}
    backend = _backend(ranks, special, pattern, str(path))
    return backend, {role: text for role, text in TEKKEN_ROLES.items() if text in special}


def _backend(ranks: Mapping[bytes, int], special: Mapping[str, int], pattern: str, source: str) -> tokenizers.Tokenizer:
    alphabet = {byte: character for character, byte in byte_of().items()}
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise FormatError(f"{source} lacks the byte {missing[0]}, so that not every text has tokens; fetch it again")
    ids = {"".join(map(alphabet.__getitem__, token)): rank for token, rank in ranks.items()}
    if len({*ids.values(), *special.values()}) != len(ids) + len(special):
        raise FormatError(f"{source} gives two tokens one rank; fetch it again")
    pairs = [("".join(map(alphabet.__getitem__, left)), "".join(map(alphabet.__getitem__, right)))
             for left, right in _merges(ranks)]  # fmt: skip
    try:
        backend = tokenizers.Tokenizer(models.BPE({**ids, **special}, pairs, ignore_merges=True))
        split = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    except Exception as error:  # the library raises bare Exception
        raise FormatError(f"{source} does not make a tokenizer: {error}") from None
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    ordered = sorted(special, key=special.__getitem__)
    backend.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in ordered])
    return backend


def _merges(ranks: Mapping[bytes, int]) -> Iterable[tuple[bytes, bytes]]:
    """Every pair of tokens whose bytes together are a token, the lowest rank first."""
    for token in sorted(ranks, key=ranks.__getitem__):
        cuts = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        pairs = [(left, right) for left, right in cuts if left in ranks and right in ranks]
        yield from sorted(pairs, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))


def _decoded(text: bytes | str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _required(text: Any) -> bytes:
    token = _decoded(text) if isinstance(text, str) else None
    if not token:
        raise ValueError(f"{text!r} is not base64")
    return token
