"""`CompiledRunner`: a checkpoint on the C kernels, the default on a CPU. No torch here.

Weights keep their encoding where it has a kernel (f32, bf16, q8_0, q4_0, q4_1). f16 becomes f32, which loses nothing;
other blocks (q5_*, *_k) become bf16, whose rounding is far below theirs. KV memory is bf16, or f32 when all matrices of
the blocks are f32, so that an fp32 model stays one. Packed weights replace the file's pages in memory as they are made.
"""

from __future__ import annotations

import threading
from collections.abc import Container, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from octavo import settings
from octavo.errors import FormatError, UnsupportedError
from octavo.models.packed import PackCache, PackedMatrix
from octavo.models.runner import BLOCK_SIZE, Row, StepOutput
from octavo.models.tensors import StoredTensor
from octavo.nn.config import TransformerConfig
from octavo.nn.frequencies import inverse_frequencies
from octavo.nn.kernels.binding import ENCODINGS, MAX_HEAD_DIM, choose_level
from octavo.nn.kernels.handle import KernelModel

ACTIVATIONS = {"silu": 0, "gelu": 1, "gelu_tanh": 2, "relu": 3}
NORM_KINDS = {"rms": 0, "layer": 1}
BLOCK_MATRICES = {f"attention.{name}": name for name in "qkvo"} | {
    f"mlp.{name}": name for name in ("gate", "up", "down")
}
"""Canonical name inside a block -> the kernels' slot."""
SWITCHES: Mapping[str, Mapping[str, Container[object] | None]] = {
    "": dict.fromkeys(
        ("vocab_size", "hidden_size", "num_layers", "context_length", "norm", "attention", "mlp", "rope",
         "tie_embeddings")
    ),
    "norm.": {"kind": NORM_KINDS, "eps": None},
    "attention.": dict.fromkeys(("num_heads", "num_kv_heads", "head_dim", "qkv_bias", "output_bias")),
    "mlp.": {"intermediate_size": None, "activation": ACTIVATIONS, "gated": None, "bias": None},
    "rope.": dict.fromkeys(("theta", "rotary_dim", "freq_factors")),
}  # fmt: skip
"""The switches that the kernels know, by their place in a config; and of which values, where not of all."""
CONVERTED_ROWS = 4096
"""Rows expanded at a time, so that a large table never stands in memory as fp32."""


class Weights(Protocol):
    """What of a `Checkpoint` a runner reads."""

    @property
    def config(self) -> TransformerConfig: ...
    @property
    def tensors(self) -> Mapping[str, StoredTensor]: ...
    def release(self) -> None:
        """Drop the source's pages that were read."""


class CompiledRunner:
    """Implements `Runner`. threads None: `settings.threads()`. cache: where packed weights are kept between loads.

    Raises MissingDependencyError (library not built), UnsupportedError (a switch or shape without kernels), FormatError
    (a tensor is missing or has another shape), OctavoError (a forced level that the machine lacks, no memory).
    """

    def __init__(
        self, checkpoint: Weights, *, num_blocks: int, threads: int | None = None, cache: PackCache | None = None
    ) -> None:
        assert num_blocks >= 1, "a runner needs KV memory"
        self.config = checkpoint.config
        refuse_unknown_switches(self.config)
        self.num_blocks = num_blocks
        forced = settings.kernels()
        level = choose_level(None if forced == "torch" else forced)
        self.name = f"kernels {level}"
        self._checkpoint = checkpoint
        shape = _shape(self.config, checkpoint.tensors, num_blocks, threads or settings.threads())
        rope = self.config.rope
        frequencies = np.empty(0) if rope is None else np.ascontiguousarray(inverse_frequencies(rope), np.float64)
        self._model = KernelModel(level, frequencies, **shape)
        self.max_tokens = self._model.max_tokens
        self._packed: dict[str, PackedMatrix] = {} if cache is None else cache.read()
        self._slots: dict[str, tuple[int, str, str]] = {}
        self._writing: threading.Thread | None = None
        try:
            self._load()
            if cache is not None and not self._slots.keys() <= self._packed.keys():
                self._write(cache)
        except BaseException:
            self.close()
            raise

    def step(self, rows: Sequence[Row], *, hidden: bool = False) -> StepOutput:
        """Run the rows' tokens; see `Runner.step`. Raises ValueError for ids, positions or blocks out of range."""
        counts = [len(row.tokens) for row in rows]
        needed = [(row.start + count + BLOCK_SIZE - 1) // BLOCK_SIZE for row, count in zip(rows, counts, strict=True)]
        tables = np.zeros((len(rows), max(needed, default=0)), np.int32)
        wanted: list[NDArray[np.int32]] = []
        first = 0
        for index, (row, count, blocks) in enumerate(zip(rows, counts, needed, strict=True)):
            _check_row(row, count, blocks)
            tables[index, :blocks] = row.blocks[:blocks]
            wanted.append(np.arange(first + row.logits_from, first + count, dtype=np.int32))
            first += count
        if not 1 <= first <= self.max_tokens:
            raise ValueError(f"a step takes 1 to {self.max_tokens} tokens, not {first}")
        logits, states = self._model.step(
            np.concatenate([row.tokens for row in rows]),
            np.repeat(np.arange(len(rows), dtype=np.int32), counts),
            np.concatenate([np.arange(row.start, row.start + len(row.tokens), dtype=np.int32) for row in rows]),
            tables,
            np.concatenate(wanted),
            hidden=hidden,
        )
        return StepOutput(logits, states)

    def refresh(self) -> None:
        """Pack all weights again from the checkpoint's tensors."""
        self._finish_writing()
        self._packed = {}
        self._load()

    def close(self) -> None:
        """Free threads and memory. Idempotent."""
        self._finish_writing()
        self._model.close()

    def _load(self) -> None:
        self._set_matrix("embed_tokens.weight", 0, "embed")
        if self.config.rope is None:
            self._set_matrix("embed_positions.weight", 0, "positions")
        if not self.config.tie_embeddings:
            self._set_matrix("lm_head.weight", 0, "head")
        self._set_norm("norm", 0, "norm")
        for layer in range(self.config.num_layers):
            self._set_block(layer)
            self._checkpoint.release()

    def _set_block(self, layer: int) -> None:
        attention, mlp = self.config.attention, self.config.mlp
        for norm in ("attention_norm", "mlp_norm"):
            self._set_norm(f"blocks.{layer}.{norm}", layer, norm)
        biased = {"q": attention.qkv_bias, "k": attention.qkv_bias, "v": attention.qkv_bias, "o": attention.output_bias}
        for name, slot in BLOCK_MATRICES.items():
            if slot == "gate" and not mlp.gated:
                continue
            self._set_matrix(f"blocks.{layer}.{name}.weight", layer, slot)
            if biased.get(slot, mlp.bias):
                self._model.set_bias(layer, slot, self._vector(f"blocks.{layer}.{name}.bias"))

    def _set_norm(self, name: str, layer: int, slot: str) -> None:
        self._model.set_norm(layer, slot, self._vector(f"{name}.weight"), bias=False)
        if self.config.norm.kind == "layer":
            self._model.set_norm(layer, slot, self._vector(f"{name}.bias"), bias=True)

    def _set_matrix(self, name: str, layer: int, slot: str) -> None:
        packed = self._packed.get(name)
        if packed is not None:
            self._slots[name] = layer, slot, packed.encoding
            self._model.use_matrix(layer, slot, packed.encoding, packed.rows, packed.columns, packed.data)
            return
        tensor = _expanded(_take(self._checkpoint.tensors, name))
        rows, columns = tensor.shape
        self._slots[name] = layer, slot, tensor.encoding
        try:
            self._model.set_matrix(layer, slot, tensor.encoding, rows, columns, tensor.data)
        except ValueError as error:
            raise FormatError(f"tensor {name!r} does not fit the config: {error}") from None

    def _write(self, cache: PackCache) -> None:
        """Write the packed weights behind the model's back: they do not change before `_finish_writing`."""
        matrices = {}
        for name, (layer, slot, encoding) in self._slots.items():
            data = self._model.packed(layer, slot, encoding)
            matrices[name] = PackedMatrix(encoding, *self._model.matrix_shape(slot), data)
        self._writing = threading.Thread(target=cache.write, args=(matrices,), name="octavo-packed")
        self._writing.start()

    def _finish_writing(self) -> None:
        if self._writing is not None:
            self._writing.join()
            self._writing = None

    def _vector(self, name: str) -> NDArray[np.float32]:
        return np.ascontiguousarray(_take(self._checkpoint.tensors, name).dequantize())


def _shape(
    config: TransformerConfig, tensors: Mapping[str, StoredTensor], num_blocks: int, threads: int
) -> dict[str, float]:
    """The fields of `binding.Shape`. Raises UnsupportedError for what has no kernel."""
    attention, rotary_dim = config.attention, config.rope.rotary_dim if config.rope else 0
    if attention.head_dim > MAX_HEAD_DIM:
        raise UnsupportedError(f"the kernels know heads of up to {MAX_HEAD_DIM} features, not {attention.head_dim}")
    if attention.num_heads % attention.num_kv_heads:
        raise UnsupportedError(f"{attention.num_heads} heads cannot share {attention.num_kv_heads} KV heads evenly")
    if rotary_dim % 2 or rotary_dim > attention.head_dim:
        raise UnsupportedError(f"rotary_dim {rotary_dim} is odd or wider than a head of {attention.head_dim}")
    names = [name for name in BLOCK_MATRICES if name != "mlp.gate" or config.mlp.gated]
    encodings = {
        _take(tensors, f"blocks.{i}.{name}.weight").encoding for i in range(config.num_layers) for name in names
    }
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_layers": config.num_layers,
        "context_length": config.context_length,
        "num_heads": attention.num_heads,
        "num_kv_heads": attention.num_kv_heads,
        "head_dim": attention.head_dim,
        "intermediate_size": config.mlp.intermediate_size,
        "gated": config.mlp.gated,
        "activation": ACTIVATIONS[config.mlp.activation],
        "norm_kind": NORM_KINDS[config.norm.kind],
        "norm_eps": config.norm.eps,
        "rotary_dim": rotary_dim,
        "num_blocks": num_blocks,
        "threads": threads,
        "cache_f32": encodings <= {"f32", "f16"},
    }


def refuse_unknown_switches(config: TransformerConfig) -> None:
    """Raise UnsupportedError that names the first switch which the kernels do not know and the config sets.

    What is not in SWITCHES must have its default, so that a switch added to the config later is refused until the
    kernels learn it.
    """
    _refuse_unknown(config, "")


def _refuse_unknown(part: object, prefix: str) -> None:
    assert is_dataclass(part), f"{prefix} is no part of a config"
    known = SWITCHES.get(prefix, {})
    for field in fields(part):
        value, name = getattr(part, field.name), prefix + field.name
        if field.name not in known:
            default = field.default if field.default_factory is MISSING else field.default_factory()
            accepted = default is not MISSING and type(value) is type(default) and value == default
        else:
            table = known[field.name]
            accepted = table is None or value in table
        if not accepted:
            raise UnsupportedError(
                f"the kernels do not know {name} {_brief(value)}; pip install 'octavo[torch]' runs this model on torch",
                param=name,
            )
        if is_dataclass(value) and field.name in known:
            _refuse_unknown(value, f"{name}.")


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _take(tensors: Mapping[str, StoredTensor], name: str) -> StoredTensor:
    try:
        return tensors[name]
    except KeyError:
        raise FormatError(f"the checkpoint has no tensor {name!r}; fetch or convert the model again") from None


def _expanded(tensor: StoredTensor) -> StoredTensor:
    """The tensor itself where its encoding has a kernel; f16 as f32, other blocks as bf16."""
    if tensor.encoding in ENCODINGS:
        return tensor
    if tensor.encoding == "f16":
        return StoredTensor.from_array(tensor.dequantize())
    bits = np.empty(tensor.shape, np.uint16)
    for start in range(0, tensor.shape[0], CONVERTED_ROWS):
        part = slice(start, start + CONVERTED_ROWS)
        bits[part] = _to_bf16(tensor.rows(part).dequantize())
    return StoredTensor.from_bits("bf16", bits)


def _to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Rounded to nearest even; values are finite."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def _check_row(row: Row, count: int, blocks: int) -> None:
    if row.tokens.dtype != np.int32 or row.tokens.ndim != 1 or count < 1:
        raise ValueError("a row needs at least one int32 token")
    if row.start < 0:
        raise ValueError(f"position {row.start} is before the start")
    if len(row.blocks) < blocks:
        raise ValueError(f"{row.start + count} positions need {blocks} blocks, not {len(row.blocks)}")
    if not 0 <= row.logits_from <= count:
        raise ValueError(f"logits_from {row.logits_from} is not in 0 .. {count}")
