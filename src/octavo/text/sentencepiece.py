"""SentencePiece models (Kudo and Richardson 2018, arXiv 1808.06226): our own reader, and the library tokenizer of one.

A `tokenizer.model` is a protocol buffer; only the few fields that matter are read, by hand. A BPE model stores no
merges: two pieces merge when their concatenation is a piece, the best score first, so the merge list is derived.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import tokenizers
from tokenizers import Regex, decoders, models, normalizers

from octavo.errors import FormatError, UnsupportedError
from octavo.text.protobuf import as_bytes, as_int, fields

NORMAL: Final = 1
UNKNOWN: Final = 2
CONTROL: Final = 3
USER_DEFINED: Final = 4
UNUSED: Final = 5
BYTE: Final = 6


@dataclass(frozen=True)
class PieceModel:
    """What a SentencePiece model says. pieces, scores (log-probabilities, or minus a merge's rank), types: one an id.

    charsmap: the compiled normalisation table, empty for none. The ids are -1 where the model has no such token.
    """

    pieces: Sequence[str]
    scores: Sequence[float]
    types: Sequence[int]
    kind: Literal["bpe", "unigram"]
    byte_fallback: bool
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    charsmap: bytes = b""
    bos_id: int = -1
    eos_id: int = -1
    pad_id: int = -1

    @property
    def unk_id(self) -> int | None:
        """The id of the unknown token; None when no piece is of that type."""
        return self.types.index(UNKNOWN) if UNKNOWN in self.types else None


def read_model(path: Path) -> PieceModel:
    """Read a SentencePiece model file. Raises FormatError when it is not one, UnsupportedError for word or char."""
    try:
        return _parse(path.read_bytes())
    except (IndexError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise FormatError(f"{path} is not a SentencePiece model, or is truncated") from error


def build_backend(model: PieceModel, *, prefix_after_special: bool = True) -> tokenizers.Tokenizer:
    """The library tokenizer of a model, without special tokens or post-processor.

    prefix_after_special: whether the prefix space is put again after each special token (the older behaviour).
    """
    unk = None if model.unk_id is None else model.pieces[model.unk_id]
    ids = {piece: place for place, piece in enumerate(model.pieces)}
    if model.kind == "unigram":
        scored = list(zip(model.pieces, model.scores, strict=True))
        core: models.Model = models.Unigram(scored, model.unk_id, model.byte_fallback)
    else:
        core = models.BPE(ids, _merges(model, ids), unk_token=unk, fuse_unk=True, byte_fallback=model.byte_fallback)
    backend = tokenizers.Tokenizer(core)
    steps = _normalizers(model, prefix=model.add_dummy_prefix and prefix_after_special)
    if model.add_dummy_prefix and not prefix_after_special:
        metaspace = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        backend.pre_tokenizer = metaspace
        steps = steps[:-1]  # Metaspace replaces the spaces itself
    elif model.kind == "unigram" and (torn := _torn_control_pieces(model)) is not None:
        backend.pre_tokenizer = torn
    if steps:
        backend.normalizer = normalizers.Sequence(steps)
    strip = [decoders.Strip(" ", 1, 0)] if model.add_dummy_prefix else []
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return backend


def _normalizers(model: PieceModel, *, prefix: bool) -> list[normalizers.Normalizer]:
    steps: list[normalizers.Normalizer] = []
    if model.charsmap:
        try:
            steps.append(normalizers.Precompiled(model.charsmap))
        except Exception as error:  # the library raises bare Exception
            raise FormatError(f"the SentencePiece model's table of characters is damaged: {error}") from None
    if model.remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex(r"\A +|[ ▁]+\z"), ""))
        steps.append(normalizers.Replace(Regex(r" {2,}"), " "))
    if prefix:
        steps.append(normalizers.Prepend("▁"))
    steps.append(normalizers.Replace(" ", "▁"))
    return steps


def _torn_control_pieces(model: PieceModel) -> tokenizers.pre_tokenizers.PreTokenizer | None:
    """A split after the first letter of what spells a control piece or a byte, so that no text becomes one by it.

    A unigram core takes any piece that it finds; where texts of special tokens mean them, they never reach it.
    """
    texts = [piece for piece, kind in zip(model.pieces, model.types, strict=True) if kind in (CONTROL, UNKNOWN)]
    spelled = [f"{re.escape(text[0])}(?={re.escape(text[1:])})" for text in texts if len(text) > 1]
    spelled += ["<(?=0x[0-9A-F]{2}>)"] if BYTE in model.types else []
    return tokenizers.pre_tokenizers.Split(Regex("|".join(spelled)), behavior="isolated") if spelled else None


def _merges(model: PieceModel, ids: dict[str, int]) -> list[tuple[str, str]]:
    """Every pair of pieces whose concatenation is a piece, the best-scored concatenation first."""
    parts = {piece for piece, place in ids.items() if model.types[place] not in (CONTROL, UNKNOWN, BYTE)}
    order = sorted(
        (place for place, kind in enumerate(model.types) if kind in (NORMAL, USER_DEFINED)),
        key=lambda place: -model.scores[place],
    )
    merges = []
    for place in order:
        piece = model.pieces[place]
        splits = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        pairs = [(left, right) for left, right in splits if left in parts and right in parts]
        if len(pairs) > 1:
            pairs.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        merges.extend(pairs)
    return merges


def _parse(data: bytes) -> PieceModel:
    pieces, scores, types = [], [], []
    trainer: dict[int, bytes | int] = {}
    normalizer: dict[int, bytes | int] = {}
    for number, value in fields(data):
        if number == 1:
            piece = dict(fields(as_bytes(value)))
            pieces.append(as_bytes(piece[1]).decode() if 1 in piece else "")
            scores.append(struct.unpack("<f", as_bytes(piece[2]))[0] if 2 in piece else 0.0)
            types.append(as_int(piece.get(3, NORMAL)))
        elif number == 2:
            trainer = dict(fields(as_bytes(value)))
        elif number == 3:
            normalizer = dict(fields(as_bytes(value)))
    if not pieces:
        raise ValueError("no pieces")
    kind = as_int(trainer.get(3, 1))
    if kind not in (1, 2):
        raise UnsupportedError(
            f"the SentencePiece model is of type {kind} (word or char); only unigram and BPE are read"
        )
    return PieceModel(
        pieces=pieces,
        scores=scores,
        types=types,
        kind="unigram" if kind == 1 else "bpe",
        byte_fallback=bool(trainer.get(35, 0)),
        add_dummy_prefix=bool(normalizer.get(3, 1)),
        remove_extra_whitespaces=bool(normalizer.get(4, 1)),
        charsmap=as_bytes(normalizer.get(2, b"")),
        bos_id=as_int(trainer.get(41, 1)),
        eos_id=as_int(trainer.get(42, 2)),
        pad_id=as_int(trainer.get(43, -1)),
    )
