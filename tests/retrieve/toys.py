"""An encoder of words for tests: texts that share words are near. It knows no Chinese, as MiniLM does not."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from octavo.retrieve.stores.store import Vectors


class WordEncoder:
    """Sums a fixed random vector a word. embedded: how many texts it was given."""

    dimensions = 64

    def __init__(self) -> None:
        self.embedded = 0

    def embed(self, texts: Sequence[str], *, kind: Literal["query", "passage", "plain"] = "plain") -> Vectors:
        """(n, 64), each of length 1, or 0 for a text without words."""
        self.embedded += len(texts)
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"[a-z]+", text.lower()):
                vectors[row] += np.random.default_rng(zlib.crc32(word.encode())).standard_normal(self.dimensions)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    def unknown_fraction(self, texts: Sequence[str]) -> float:
        """The share of characters that are not ASCII."""
        text = "".join(texts)
        return sum(not character.isascii() for character in text) / max(1, len(text))
