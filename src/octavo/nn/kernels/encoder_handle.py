"""`KernelEncoder`: one encoder inside the kernels' library, with every size and range checked before C sees it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo.errors import OctavoError
from octavo.nn.encodings import Encoding
from octavo.nn.kernels.binding import level_bit, library, refuse
from octavo.nn.kernels.checks import Floats, Int32s, check_done, check_floats
from octavo.nn.kernels.handle import check_source
from octavo.nn.kernels.layers import Layer, layer_shapes
from octavo.nn.kernels.tables.codes import ENCODER_MATRICES, ENCODER_NORMS, ENCODER_TABLES, ENCODINGS
from octavo.nn.kernels.tables.interface import EncoderShape, Texts

CHUNK = 256
"""Tokens that a thread takes through all layers at once, so that its working memory stays in its cache."""


class KernelEncoder:
    """Packed weights, working memory, threads. Not thread-safe; `close()` frees it all.

    shape: the fields of `interface.EncoderShape` but level, chunk and rotary_dim; embedding_size is hidden_size and
    blocks is num_layers where they are left out. level: a key of LEVELS that this machine has. turns: of each rotary,
    (longest, rotary_dim) float32, half cosines, half sines. Raises OctavoError when memory or threads are refused,
    ValueError for layers or turns that do not fit.
    """

    def __init__(self, level: str, layers: Sequence[Layer] = (), turns: Sequence[Floats] = (), **shape: float) -> None:
        self._library = library()
        usual = {"embedding_size": shape["hidden_size"], "blocks": shape["num_layers"]}
        width = turns[0].shape[1] if turns else 0
        self._shape: Any = EncoderShape(level=level_bit(level), chunk=CHUNK, rotary_dim=width, **{**usual, **shape})
        layers = layers or [Layer()] * self._shape.num_layers
        refuse(self._library.octavo_encoder_refusal(ctypes.byref(self._shape)))
        if len(layers) != self._shape.num_layers:
            raise ValueError(f"{len(layers)} layers are described, of {self._shape.num_layers}")
        for table in turns:
            check_floats(table, self._shape.longest, width)
        turns = [np.require(table, requirements="A") for table in turns]
        self._turns = (ctypes.c_void_p * max(1, len(turns)))(*(table.ctypes.data for table in turns))
        self._tables: dict[str, NDArray[Any]] = {f"turns {index}": table for index, table in enumerate(turns)}
        self._handle: int | None = self._library.octavo_encoder_create(
            ctypes.byref(self._shape), layer_shapes(layers, len(turns)), self._turns
        )
        if self._handle is None:
            raise OctavoError(
                f"the system refused memory or threads for an encoder on {self._shape.threads} threads; close programs "
                "or set OCTAVO_THREADS lower"
            )

    def close(self) -> None:
        """Join the threads and free the memory. Idempotent."""
        handle, self._handle = getattr(self, "_handle", None), None
        if handle is not None:
            self._library.octavo_encoder_destroy(handle)

    __del__ = close

    def set_matrix(self, layer: int, slot: str, encoding: Encoding, data: NDArray[np.uint8], bias: Floats) -> None:
        """Pack a matrix of a block, its rows' bytes in `encoding`, with its bias (out,)."""
        rows, columns = self._matrix_shape(slot)
        self._check_layer(layer)
        check_source(encoding, rows, columns, data)
        check_floats(bias, rows)
        number, code = ENCODER_MATRICES[slot], ENCODINGS[encoding]
        pointers = data.ctypes.data, bias.ctypes.data
        sizes = layer, number, code, rows, columns
        check_done(self._library.octavo_encoder_set_matrix(self._open(), *sizes, *pointers), f"the matrix {slot}")

    def set_norm(self, layer: int, slot: str, weight: Floats, bias: Floats) -> None:
        """Weight and bias of a norm, as wide as what it normalises. layer is ignored for embed_norm and norm."""
        self._check_layer(layer)
        width = self._shape.embedding_size if slot == "embed_norm" else self._shape.hidden_size
        for values in (weight, bias):
            check_floats(values, width)
        number, pointers = ENCODER_NORMS[slot], (weight.ctypes.data, bias.ctypes.data)
        check_done(self._library.octavo_encoder_set_norm(self._open(), layer, number, *pointers), f"the norm {slot}")

    def set_table(self, slot: str, rows: NDArray[Any]) -> None:
        """A table of embeddings (rows, embedding_size), float32 or the bits of bfloat16; it is used where it lies."""
        if rows.dtype not in (np.float32, np.uint16) or not rows.flags.c_contiguous:
            raise ValueError("a table is contiguous float32, or uint16 for bfloat16")
        if rows.ndim != 2 or rows.shape[1] != self._shape.embedding_size:
            raise ValueError(f"a table has rows of {self._shape.embedding_size} numbers, not shape {rows.shape}")
        rows = np.require(rows, requirements="A")
        self._tables[slot] = rows
        bf16 = int(rows.dtype == np.uint16)
        self._library.octavo_encoder_set_table(self._open(), ENCODER_TABLES[slot], rows.ctypes.data, bf16)

    def encode(self, tokens: Int32s, types: Int32s, lengths: Sequence[int]) -> Floats:
        """Hidden states (tokens, hidden_size) of texts one after another. tokens, types: (n,) ids; lengths: theirs."""
        if not tokens.dtype == types.dtype == np.int32 or not tokens.shape == types.shape == (sum(lengths),):
            raise ValueError("tokens and types are int32, as many as the lengths say")
        positions = self._tables.get("embed_positions")
        longest = self._shape.longest if positions is None else min(self._shape.longest, len(positions))
        if not 1 <= min(lengths) <= max(lengths) <= longest:
            raise ValueError(f"a text has 1 to {self._shape.longest} tokens")
        for slot, ids in (("embed_tokens", tokens), ("embed_types", types)):
            if not 0 <= int(ids.min()) <= int(ids.max()) < max(1, len(self._tables.get(slot, ()))):
                raise ValueError(f"an id is outside the rows of {slot}")
        start = np.zeros(len(lengths) + 1, np.int32)
        np.cumsum(lengths, out=start[1:])
        chunk = np.array(_chunks(lengths, self._shape.threads), np.int32)
        hidden = np.empty((len(tokens), self._shape.hidden_size), np.float32)
        tokens, types = np.require(tokens, requirements=("C", "A")), np.require(types, requirements=("C", "A"))
        given = Texts(len(chunk) - 1, *(array.ctypes.data for array in (chunk, start, tokens, types, hidden)))
        check_done(self._library.octavo_encode(self._open(), ctypes.byref(given)), "an encoder")
        return hidden

    def _matrix_shape(self, slot: str) -> tuple[int, int]:
        width, mlp = self._shape.hidden_size, self._shape.intermediate_size
        wide = {"up": (mlp, width), "gate": (mlp, width), "down": (width, mlp)}
        return {**wide, "embed_projection": (width, self._shape.embedding_size)}.get(slot, (width, width))

    def _check_layer(self, layer: int) -> None:
        if not 0 <= layer < self._shape.blocks:
            raise ValueError(f"layer {layer} of {self._shape.blocks}")

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError("the encoder is closed")
        return self._handle


def _chunks(lengths: Sequence[int], threads: int) -> list[int]:
    """Where each share of whole texts begins, and their number; a share has at most CHUNK tokens, or is one text."""
    limit = min(CHUNK, -(-sum(lengths) // threads))
    starts, tokens = [0], 0
    for text, length in enumerate(lengths):
        if tokens and tokens + length > limit:
            starts.append(text)
            tokens = 0
        tokens += length
    return [*starts, len(lengths)]
