"""`KernelModel`: one model inside the kernels' library, with every size and range checked before C sees it.

A wrong argument is a ValueError here, never a crash there. Two models share nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo.errors import OctavoError
from octavo.nn.encodings import BLOCK_FORMATS
from octavo.nn.kernels.binding import level_bit, library, refuse
from octavo.nn.kernels.checks import Floats, Int32s, check_done, check_floats, check_indices, check_range
from octavo.nn.kernels.indices import Indices, address, explain, laid_out
from octavo.nn.kernels.layers import Layer, layer_shapes
from octavo.nn.kernels.matrices import matrix_shape, norm_width
from octavo.nn.kernels.tables.codes import ADAPTED, ENCODINGS, EXPERTS, HEADS, MATRICES, NORMS, OF_HEADS, VECTORS
from octavo.nn.kernels.tables.interface import LatentShape, MoeShape, RotaryShape, Shape, Step

WRONG_INDEX = 1
"""What `octavo_step` returns for an index that is out of range."""
AS_READ: Mapping[str, Callable[[Floats], Floats]] = {
    "mlp.correction_bias": lambda scores: scores,
    "attention.sinks": lambda scores: scores * np.float32(np.log2(np.e)),  # powers of two there
    "mlp.alpha_p": lambda x: np.logaddexp(np.float32(0), x),
    "mlp.alpha_n": lambda x: np.logaddexp(np.float32(0), x) + np.float32(0.5),
}
"""What the library reads of a vector."""
STORED = ("f32", "bf16")
"""Encodings of matrices that products can read row after row."""
NEUTRAL = dict.fromkeys(("embedding_scale", "residual_scale", "logit_scale"), 1.0)


@dataclass(frozen=True)
class Rotary:
    """A rotary embedding. frequencies: (dim / 2,) float64, radians a position. factor: of cosines and sines."""

    frequencies: NDArray[np.float64]
    factor: float = 1.0


class KernelModel:
    """Weights packed for one instruction set, KV memory, threads. Not thread-safe; `close()` frees it all.

    shape: every field of `interface.Shape` but level and those that follow from the other arguments. level: a key of
    LEVELS that this machine has. slopes: of ALiBi, (num_heads,), or None. moe: every field of `MoeShape`, where
    layers have experts; latent: of `LatentShape`, where attention is latent. Raises OctavoError when memory or
    threads are refused.
    """

    def __init__(
        self,
        level: str,
        layers: Sequence[Layer],
        rotaries: Sequence[Rotary],
        *,
        slopes: Floats | None = None,
        moe: Mapping[str, float] | None = None,
        latent: Mapping[str, float] | None = None,
        **shape: float,
    ) -> None:
        self._library = library()
        self._shape: Any = Shape(
            level=level_bit(level),
            num_layers=len(layers),
            num_rotaries=len(rotaries),
            moe=MoeShape(**moe or {}),
            latent=LatentShape(**latent or {}),
            **NEUTRAL | shape,
        )
        self._layers = tuple(layers)
        self._handle: int | None = None
        self._used: dict[tuple[int, str], NDArray[np.uint8]] = {}
        self._all_windowed = all(layer.window is not None for layer in layers)
        described = layer_shapes(layers, len(rotaries))
        rotary_shapes = (RotaryShape * len(rotaries))(*map(_rotary_shape, rotaries))
        refuse(self._library.octavo_refusal(ctypes.byref(self._shape), described, rotary_shapes))
        if slopes is not None:
            check_floats(slopes, self._shape.num_heads)
        self._handle = self._library.octavo_create(
            ctypes.byref(self._shape), described, rotary_shapes, None if slopes is None else slopes.ctypes.data
        )
        if self._handle is None:
            raise OctavoError(
                f"the system refused memory or threads for a model with {self._shape.num_blocks} KV blocks and "
                f"{self._shape.threads} threads; shorten the context or set OCTAVO_THREADS lower"
            )
        self.max_tokens: int = self._library.octavo_max_tokens()

    def close(self) -> None:
        """Join the threads and free the memory. Idempotent."""
        handle, self._handle = getattr(self, "_handle", None), None
        if handle is not None:
            self._library.octavo_destroy(handle)
            self._used.clear()

    __del__ = close

    def set_matrix(
        self, layer: int, slot: str, encoding: str, rows: int, columns: int, data: NDArray[np.uint8]
    ) -> None:
        """Pack a matrix. data: (rows, bytes of a row) in `encoding`. layer is ignored for embed, positions and head."""
        check_source(encoding, rows, columns, data)
        place = self._place(layer, slot, encoding, rows, columns)
        check_done(self._library.octavo_set_matrix(self._open(), *place, data.ctypes.data), slot)

    def use_matrix(
        self, layer: int, slot: str, encoding: str, rows: int, columns: int, packed: NDArray[np.uint8]
    ) -> None:
        """Take a matrix that `packed()` gave for the same encoding and shape. It is kept and read, never written."""
        if packed.shape != (packed_bytes(encoding, rows, columns),) or packed.dtype != np.uint8:
            raise ValueError(f"{packed.shape} bytes are no packed {rows} x {columns} matrix in {encoding}")
        if not packed.flags.c_contiguous:
            raise ValueError("packed must be contiguous bytes")
        place = self._place(layer, slot, encoding, rows, columns)
        self._library.octavo_use_matrix(self._open(), *place, packed.ctypes.data)
        self._used[layer, slot] = packed

    def use_rows(self, layer: int, slot: str, encoding: str, rows: int, columns: int, data: NDArray[np.uint8]) -> None:
        """Take a matrix in f32 or bf16 as it is, as for `set_matrix`; it is kept, and each product packs it anew.

        The bits are those of the packed matrix. Products with one token take about twice as long.
        """
        if encoding not in STORED or slot.startswith("heads."):
            raise ValueError(f"{slot} in {encoding} must be packed")
        check_source(encoding, rows, columns, data)
        self._library.octavo_use_rows(
            self._open(), *self._place(layer, slot, encoding, rows, columns), data.ctypes.data
        )
        self._used[layer, slot] = data

    def packed(self, layer: int, slot: str, encoding: str) -> NDArray[np.uint8]:
        """The packed bytes of a matrix that was set in `encoding`; valid until it is set again or the model closed."""
        address = self._library.octavo_packed_matrix(
            self._open(), layer, self._number(layer, slot), ENCODINGS[encoding]
        )
        if not address:
            raise ValueError(f"{slot} of layer {layer} is not set in {encoding}")
        size = packed_bytes(encoding, *self.matrix_shape(slot))
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def set_bias(self, layer: int, slot: str, values: Floats) -> None:
        """The bias (out,) of a matrix."""
        check_floats(values, self.matrix_shape(slot)[0])
        number = self._number(layer, slot)
        check_done(self._library.octavo_set_bias(self._open(), layer, number, values.ctypes.data, values.size), slot)

    def set_norm(self, layer: int, slot: str, values: Floats, *, bias: bool) -> None:
        """The weight or the bias of a norm. layer is ignored for the final one, `norm`.

        values: (hidden_size,); for q_norm and k_norm (head_dim,), or all heads' features where qk_norm says so.
        """
        self._check_layer(layer)
        number, latent = NORMS[slot], bool(self._shape.latent.kv_rank)
        if number in OF_HEADS and slot.endswith("_a_norm") != latent:
            raise ValueError(f"there is no norm {slot}")
        check_floats(values, norm_width(self._shape, slot))
        check_done(
            self._library.octavo_set_norm(self._open(), layer, number, bias, values.ctypes.data, values.size), slot
        )

    def step(self, indices: Indices, *, hidden: bool, embedding: Floats | None = None) -> tuple[Floats, Floats | None]:
        """Run tokens and return the logits (wanted, vocab_size), and the hidden states after the final norm if asked.

        embedding: (m, hidden_size), where the indices speak of some.
        """
        shape, wanted = self._shape, len(indices.wanted)
        _memory, sizes, places = laid_out(indices)  # the array must live as long as its addresses are used
        count = 0 if embedding is None else len(embedding)
        if embedding is not None:
            check_floats(embedding, count, shape.hidden_size)
        logits = np.empty((wanted, shape.vocab_size), np.float32)
        states = np.empty((wanted, shape.hidden_size), np.float32) if hidden else None
        step = Step(*sizes, count, *places, address(embedding), address(logits), address(states))
        status = self._library.octavo_step(self._open(), ctypes.byref(step))
        if status == WRONG_INDEX:
            reach = shape.context_length if self._all_windowed else shape.num_blocks
            explain(indices, shape, self.max_tokens, reach, count)
        check_done(status, "the step's threads")
        return logits, states

    def move(self, blocks: Int32s, start: int, slots: Int32s) -> None:
        """What lies at a row's slots is moved to start, start + 1 and on. blocks: ids; slots: ascending, from start."""
        for array in (blocks, slots):
            check_indices(array, 1)
        check_range("block id", blocks.tolist(), self._shape.num_blocks)
        check_range("slot", slots.tolist(), len(blocks) * 16)
        if start < 0 or np.any(np.diff(slots, prepend=start - 1) < 1):
            raise ValueError("slots must ascend and lie at or behind where they are moved to")
        pointers = blocks.ctypes.data, start, slots.ctypes.data
        self._library.octavo_move(self._open(), *pointers, len(slots))

    def set_adapter(self, adapter: int, layer: int, slot: str, down: Floats, up: Floats) -> None:
        """What an adapter adds to a matrix: up @ down. slot: one of ADAPTED. down: (rank, in), up: (out, rank)."""
        self._check_layer(layer)
        rows, columns = self.matrix_shape(slot)
        rank = len(down)
        if not 0 <= adapter < self._shape.num_adapters or not 1 <= rank <= self._shape.adapter_rank:
            raise ValueError(f"adapter {adapter} of rank {rank} was not made room for")
        check_floats(down, rank, columns)
        check_floats(up, rows, rank)
        sizes = ADAPTED.index(slot), rank, rows, columns
        pointers = down.ctypes.data, up.ctypes.data
        check_done(self._library.octavo_set_adapter(self._open(), adapter, layer, *sizes, *pointers), "an adapter")

    def set_vector(self, layer: int, slot: str, values: Floats) -> None:
        """A key of VECTORS. mlp.correction_bias: what is added to each expert's score for the choice alone, (experts,).

        attention.sinks: each head's score of seeing nothing, (num_heads,). mlp.alpha_p, mlp.alpha_n: xIELU's, (1,).
        """
        self._check_layer(layer)
        sizes = {"attention.sinks": self._shape.num_heads, "mlp.correction_bias": self._shape.moe.experts}
        check_floats(values, sizes.get(slot, 1))
        values = AS_READ[slot](values)
        check_done(
            self._library.octavo_set_vector(self._open(), layer, VECTORS[slot], values.ctypes.data, values.size), slot
        )

    def matrix_shape(self, slot: str) -> tuple[int, int]:
        """Rows and columns of a matrix, as `matrices.matrix_shape` has it."""
        return matrix_shape(self._shape, slot)

    def _place(self, layer: int, slot: str, encoding: str, rows: int, columns: int) -> tuple[int, int, int, int, int]:
        """A matrix as the library is told of it. Raises ValueError for another shape than it has."""
        if (rows, columns) != self.matrix_shape(slot):
            raise ValueError(f"{slot} must be {self.matrix_shape(slot)}, not {(rows, columns)}")
        return layer, self._number(layer, slot), ENCODINGS[encoding], rows, columns

    def _number(self, layer: int, slot: str) -> int:
        """The library's number of a matrix. Raises ValueError for a layer or a matrix that is not there."""
        self._check_layer(layer)
        owner, _, leaf = slot.rpartition(".")
        if not owner:
            return MATRICES[leaf]
        if leaf in ("key", "value"):
            head = int(owner.removeprefix("heads."))
            if not self._shape.latent.kv_rank or not 0 <= head < self._shape.num_heads:
                raise ValueError(f"there is no matrix {slot}")
            return HEADS + 2 * head + (leaf == "value")
        experts = self._shape.moe.experts if leaf in ("gate", "up", "down") else 0
        expert = experts if owner == "shared" else int(owner.removeprefix("experts."))
        if not self._layers[layer].moe or not 0 <= expert < (experts and experts + (owner == "shared")):
            raise ValueError(f"layer {layer} has no matrix {slot}")
        return EXPERTS + 3 * expert + MATRICES[leaf] - MATRICES["gate"]

    def _check_layer(self, layer: int) -> None:
        if not 0 <= layer < self._shape.num_layers:
            raise ValueError(f"layer {layer} of {self._shape.num_layers}")

    def _open(self) -> int:
        if self._handle is None:
            raise ValueError("the model is closed")
        return self._handle


def _rotary_shape(rotary: Rotary) -> RotaryShape:
    values = rotary.frequencies
    if values.dtype != np.float64 or values.ndim != 1 or not values.flags.c_contiguous:
        raise ValueError("frequencies must be contiguous float64 of one dimension")
    return RotaryShape(2 * len(values), rotary.factor, values.ctypes.data)


def product(level: str, encoding: str, rows: int, columns: int, data: NDArray[np.uint8], x: Floats) -> Floats:
    """x (tokens, columns) times a matrix's transpose, on one thread: (tokens, rows). data: as for `set_matrix`.

    The same code as in a model, with the activations rounded as there: for tests and measurements.
    """
    check_source(encoding, rows, columns, data)
    check_floats(x, len(x), columns)
    if rows < 1 or columns < 1 or len(x) > library().octavo_max_tokens():
        raise ValueError(f"{len(x)} tokens by {rows} x {columns} are no product that the kernels make at once")
    y = np.empty((len(x), rows), np.float32)
    arguments = (level_bit(level), ENCODINGS[encoding], rows, columns, data.ctypes.data, x.ctypes.data, len(x))
    check_done(library().octavo_product(*arguments, y.ctypes.data), "a product")
    return y


def quantize(target: str, encoding: str, rows: int, columns: int, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A matrix in f32 or bf16 as one in int8, q4_0 or q4_1: (rows, bytes of a row), as for `set_matrix`.

    int8: a scale a row, absmax / 127 of its turned groups. q4_0: for each 32 columns the scale of least squared error.
    q4_1: from the least to the largest of each 32. columns of q4_*: a multiple of 32.
    """
    check_source(encoding, rows, columns, data)
    if encoding not in ("f32", "bf16") or target not in ("int8", "q4_0", "q4_1"):
        raise ValueError(f"nothing quantises {encoding} to {target}")
    size = source_row_bytes(target, columns)
    out = np.empty((rows, size), np.uint8)
    codes = ENCODINGS[target], ENCODINGS[encoding]
    check_done(
        library().octavo_quantize(*codes, rows, columns, data.ctypes.data, out.ctypes.data), "a quantised matrix"
    )
    return out


def source_row_bytes(encoding: str, columns: int) -> int:
    """Bytes of a source row. Raises ValueError for a width of broken blocks."""
    if encoding == "int8":
        return 4 + -(-columns // 32) * 32
    block = BLOCK_FORMATS[encoding]
    if columns % block.weights:
        raise ValueError(f"{columns} columns are no whole blocks of {encoding}")
    return columns // block.weights * block.bytes


def check_source(encoding: str, rows: int, columns: int, data: NDArray[np.uint8]) -> None:
    """Raise ValueError unless data holds a matrix of that encoding and shape, row after row."""
    if data.shape != (rows, source_row_bytes(encoding, columns)):
        raise ValueError(f"{data.shape} bytes are no {rows} x {columns} matrix in {encoding}")
    if data.dtype != np.uint8 or not data.flags.c_contiguous:
        raise ValueError("data must be contiguous bytes")


def pack(encoding: str, rows: int, columns: int, data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The packed bytes of a matrix. data: as for `set_matrix`."""
    check_source(encoding, rows, columns, data)
    packed = np.zeros(packed_bytes(encoding, rows, columns), np.uint8)
    library().octavo_pack(ENCODINGS[encoding], rows, columns, data.ctypes.data, packed.ctypes.data)
    return packed


def packed_bytes(encoding: str, rows: int, columns: int) -> int:
    """Bytes of a packed matrix."""
    size: int = library().octavo_packed_bytes(ENCODINGS[encoding], rows, columns)
    return size


def checksum(data: NDArray[np.uint8]) -> int:
    """Of contiguous bytes: notices damage, not malice."""
    if data.dtype != np.uint8 or not data.flags.c_contiguous:
        raise ValueError("data must be contiguous bytes")
    value: int = library().octavo_checksum(data.ctypes.data, data.size)
    return value
