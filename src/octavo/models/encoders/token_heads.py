"""BGE-M3's two heads beside its encoder: a weight for each token of a text, and a vector for each token.

They lie in pickles of their own, `sparse_linear.pt` and `colbert_linear.pt`, of which torch reads the tensors alone.
Source: Chen et al. 2024 (arXiv 2402.03216), and the published files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from octavo.errors import FormatError, UnsupportedError
from octavo.models.encoders.runner import Floats
from octavo.models.formats.folder import read_weights

SPARSE_NAME, MULTI_NAME = "sparse_linear.pt", "colbert_linear.pt"


@dataclass(frozen=True)
class TokenHeads:
    """sparse: (1, hidden_size) and (1,). multi: (width, hidden_size) and (width,)."""

    sparse: tuple[Floats, Floats]
    multi: tuple[Floats, Floats]

    def weights(self, hidden: Floats) -> Floats:
        """(tokens, hidden_size) to (tokens,): how much each token says, 0 and more."""
        matrix, bias = self.sparse
        result: Floats = np.maximum(hidden @ matrix.T + bias, 0)[:, 0]
        return result

    def vectors(self, hidden: Floats) -> Floats:
        """(tokens, hidden_size) to (tokens, width), each of length 1."""
        matrix, bias = self.multi
        made = hidden @ matrix.T + bias
        result: Floats = made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12)
        return result


def has_token_heads(folder: Path) -> bool:
    """Whether a folder has both."""
    return all((folder / name).is_file() for name in (SPARSE_NAME, MULTI_NAME))


def read_token_heads(folder: Path, hidden_size: int) -> TokenHeads:
    """The heads of a folder. Raises UnsupportedError where it has none, FormatError where they do not fit."""
    for name in (SPARSE_NAME, MULTI_NAME):
        if not (folder / name).is_file():
            raise UnsupportedError(f"{folder} has no {name}; give BGE-M3, or a model made of it")
    sparse, multi = (_linear(folder / name, hidden_size) for name in (SPARSE_NAME, MULTI_NAME))
    if len(sparse[0]) != 1:
        raise FormatError(f"{folder / SPARSE_NAME} gives {len(sparse[0])} weights a token, not one; fetch it again")
    return TokenHeads(sparse, multi)


def _linear(path: Path, hidden_size: int) -> tuple[Floats, Floats]:
    entries = read_weights(path)
    if entries.keys() != {"weight", "bias"}:
        raise FormatError(f"{path} holds {', '.join(entries)}, not a weight and a bias; fetch it again")
    weight, bias = (entries[name].read().dequantize() for name in ("weight", "bias"))
    if weight.ndim != 2 or weight.shape[1] != hidden_size or bias.shape != weight.shape[:1]:
        raise FormatError(f"{path} does not fit states of {hidden_size} features; fetch it again")
    return weight, bias
