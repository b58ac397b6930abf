"""CKIP's rule for encoders: every character is a token, by its own entry in the vocabulary, as it is written.

Neither lower case nor WordPiece: a character without an entry (an emoji, a space) is the unknown token, and still has
a place and a label. A sentence is cut into pieces that fit the encoder; with delimiters, after each of them, too.
Source of the rule: ckip-transformers, whose answers it gives. No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from octavo.errors import OctavoError, UnsupportedError
from octavo.text.tokenizer import Tokenizer

DELIMITERS: Final = "，,。：:；;！!？?"
"""After which a sentence may be cut."""


@dataclass(frozen=True)
class Pieces:
    """rows: token ids of each piece, its two special tokens among them.

    places: for each sentence and each of its units, where its first character stands in all rows one after another;
    None for a unit without characters.
    """

    rows: list[list[int]]
    places: list[list[int | None]]


class CharacterReader:
    """Sentences as an encoder of CKIP reads them.

    context: tokens of the encoder. max_length: characters of a piece; None: as many as the encoder and its tokenizer's
    `model_max_length` allow beside two special tokens. Raises OctavoError for more, and UnsupportedError for a
    tokenizer that lacks a token to begin, to end, or for the unknown.
    """

    def __init__(self, tokenizer: Tokenizer, context: int, max_length: int | None = None) -> None:
        named = {role: tokenizer.named.get(f"{role}_token") for role in ("cls", "sep", "unk")}
        ids = {role: None if text is None else tokenizer.token_id(text) for role, text in named.items()}
        first, last, unknown = ids["cls"], ids["sep"], ids["unk"]
        if first is None or last is None or unknown is None:
            raise UnsupportedError("this model's tokenizer lacks [CLS], [SEP] or [UNK]; give one of BERT's kind")
        self._first, self._last, self._unknown = first, last, unknown
        self._tokenizer = tokenizer
        stated = tokenizer.config.get("model_max_length")
        longest = (min(context, stated) if isinstance(stated, int) and stated > 2 else context) - 2
        self.max_length = longest if max_length is None else max_length
        if not 1 <= self.max_length <= longest:
            raise OctavoError(f"max_length is {max_length}; this model takes 1 to {longest}", param="max_length")

    def ids(self, text: str) -> list[int]:
        """A token a character."""
        found = map(self._tokenizer.token_id, text)
        return [self._unknown if token is None else token for token in found]

    def pieces(self, sentences: Sequence[Sequence[str]], delimiters: str = "") -> Pieces:
        """Sentences of units (characters, or words) to rows. delimiters: units after which a sentence is cut.

        Of a unit longer than a piece, the first characters are read.
        """
        longest, ends, read = self.max_length, set(delimiters), 0
        rows: list[list[int]] = []
        places: list[list[int | None]] = []
        for sentence in sentences:
            row: list[int] = []
            found: list[int | None] = []
            for unit in sentence:
                ids = self.ids(unit[:longest])
                if row and len(row) + len(ids) > longest:
                    rows.append(row)
                    read, row = read + len(row) + 2, []
                found.append(read + 1 + len(row) if ids else None)
                row += ids
                if unit in ends:
                    rows.append(row)
                    read, row = read + len(row) + 2, []
            if row:
                rows.append(row)
                read += len(row) + 2
            places.append(found)
        return Pieces([[self._first, *row, self._last] for row in rows], places)
