"""`CompiledRunner`: a checkpoint on the C kernels, the default on a CPU. No torch here.

Weights keep their values: every encoding has a kernel but f16, which becomes f32. KV memory is bf16, or f32 when all
matrices of the blocks are f32, so that an fp32 model stays one. Packed weights replace the file's pages in memory as
they are made, or are mapped where an earlier load has packed them. A first load that will write them does not wait for
them: dense matrices are multiplied as they lie in their file until the packed ones are on disk. The bits are the same.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

import numpy as np

from octavo import settings
from octavo.errors import FormatError
from octavo.models.checkpoint import Checkpoint
from octavo.models.formats.peft import Adapter
from octavo.models.kernel_plan import plan
from octavo.models.packing.cache import PackCache, PackedMatrix
from octavo.models.packing.quantizing import Quantization
from octavo.models.packing.taking import taken, turned
from octavo.models.runner import BLOCK_SIZE, Row, StepOutput, check_path
from octavo.models.tensors import StoredTensor
from octavo.nn.frequencies import sine_table
from octavo.nn.kernels.binding import choose_level
from octavo.nn.kernels.handle import STORED, KernelModel
from octavo.nn.kernels.indices import Indices
from octavo.nn.kernels.tables.codes import CACHES, NORMS, VECTORS
from octavo.nn.shapes import BARE, block_norms, parameter_shapes, qk_norm_widths

TABLES = {"embed_tokens": "embed", "embed_positions": "positions", "lm_head": "head"}
"""Canonical name -> the kernels' slot, outside of blocks."""
LATENT = {"attention.q_b": "q", "attention.kv_a": "k", "attention.k_rope": "v"}
"""The same of latent attention's matrices."""


class CompiledRunner:
    """Implements `Runner`. threads None: `settings.threads()`. cache: where packed weights are kept between loads.

    quantize: a key of `QUANTIZATIONS` for dense weights, as they are where None.
    kv_cache: a key of CACHES, what keys and values are kept in; None: `settings.kv_cache()`, else as the weights ask.
    adapters: what rows may name by their number, from 1 on.

    Raises MissingDependencyError (library not built), UnsupportedError (a switch or shape without kernels), FormatError
    (a tensor is missing or has another shape), OctavoError (a forced level that the machine lacks, no memory).
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        num_blocks: int,
        threads: int | None = None,
        quantize: str | None = None,
        cache: PackCache | None = None,
        kv_cache: str | None = None,
        adapters: Sequence[Adapter] = (),
    ) -> None:
        assert num_blocks >= 1, "a runner needs KV memory"
        self.config = checkpoint.config
        planned = plan(self.config, min(self.config.context_length, num_blocks * BLOCK_SIZE))
        self.num_blocks = num_blocks
        level = choose_level(settings.kernels())
        self.level, self.name = level, f"kernels {level}"
        self._checkpoint = checkpoint
        self._quantize = None if quantize is None else Quantization.named(quantize, checkpoint.tensors)
        self.kv_cache = kv_cache or settings.kv_cache() or self._natural_cache()
        self._model = KernelModel(
            level,
            planned.layers,
            planned.rotaries,
            slopes=planned.slopes,
            moe=planned.moe,
            latent=planned.latent,
            num_blocks=num_blocks,
            threads=threads or settings.threads(),
            cache=CACHES[self.kv_cache],
            num_adapters=len(adapters),
            adapter_rank=max((len(pair.down) for each in adapters for pair in each.factors.values()), default=0),
            **planned.shape,
        )
        self.max_tokens = self._model.max_tokens
        self._packed: dict[str, PackedMatrix] = {} if cache is None else cache.read()
        self._slots: dict[str, tuple[int, str, str]] = {}
        self._stored: dict[str, StoredTensor] = {}
        self._written: list[dict[str, PackedMatrix]] = []
        self._writing: threading.Thread | None = None
        try:
            self._load(at_once=cache is None)
            self._adapt(adapters)
            if cache is not None and not self._slots.keys() <= self._packed.keys():
                self._write(cache)
        except BaseException:
            self.close()
            raise

    def step(self, rows: Sequence[Row], *, hidden: bool = False) -> StepOutput:
        """Run the rows' tokens; see `Runner.step`. Raises ValueError for ids, positions or blocks out of range."""
        if self._written:
            self._use_written()
        tokens: list[int] = []
        index: list[int] = []
        positions: list[int] = []
        wanted: list[int] = []
        tables = []
        for number, row in enumerate(rows):
            count = len(row.tokens)
            blocks = -(-(row.start + count) // BLOCK_SIZE)
            _check_row(row, count, blocks)
            wanted += range(len(tokens) + row.logits_from, len(tokens) + count)
            tokens.extend(row.tokens)
            index += [number] * count
            positions += range(row.start, row.start + count) if row.parents is None else row.positions.tolist()
            tables.append(row.blocks[:blocks])
        if not 1 <= len(tokens) <= self.max_tokens:
            raise ValueError(f"a step takes 1 to {self.max_tokens} tokens, not {len(tokens)}")
        indices = Indices(tokens, index, positions, tables, wanted, _parents(rows), _adapters(rows))
        return StepOutput(*self._model.step(indices, hidden=hidden))

    def accept(self, row: Row, path: Sequence[int]) -> None:
        """As `Runner.accept`."""
        check_path(row, path)
        slots = np.asarray(path, np.int32) + np.int32(row.start)
        self._model.move(np.asarray(row.blocks, np.int32), row.start, slots)

    def refresh(self) -> None:
        """Pack all weights again from the checkpoint's tensors."""
        self._finish_writing()
        self._written.clear()
        self._packed = {}
        self._load(at_once=True)

    @property
    def encodings(self) -> list[str]:
        """Of each matrix, as the kernels hold it."""
        return [encoding for _, _, encoding in self._slots.values()]

    def close(self) -> None:
        """Free threads and memory. Idempotent."""
        self._finish_writing()
        self._model.close()

    def _load(self, *, at_once: bool) -> None:
        """at_once: whether every matrix is packed now."""
        self._at_once, self._stored = at_once, {}
        read = ""
        for name, shape in parameter_shapes(self.config).items():
            block, inside = _place(name)
            if block != read:
                self._checkpoint.release()
                read = block
            if inside == "attention.kv_b.weight":
                self._set_heads(name, int(block))
            elif len(shape) == 2:
                self._set_matrix(name, int(block or 0), _slot(inside.removesuffix(".weight")))
            else:
                self._set_vector(name, int(block or 0), *inside.rsplit(".", 1))
        self._set_bare_norms()
        if self.config.sinusoidal:
            shape = self.config.context_length, self.config.hidden_size
            table = sine_table(*shape, self.config.fairseq_sines)
            self._model.set_matrix(0, "positions", "f32", *shape, table.view(np.uint8))
        self._checkpoint.release()

    def _adapt(self, adapters: Sequence[Adapter]) -> None:
        for number, adapter in enumerate(adapters):
            for name, pair in adapter.factors.items():
                block, inside = _place(name)
                slot = _slot(inside.removesuffix(".weight"))
                self._model.set_adapter(number, int(block), slot, pair.down, pair.up)

    def _set_bare_norms(self) -> None:
        """Norms without weights, for which the kernels have weights of one."""
        config, ones = self.config, np.ones(self.config.hidden_size, np.float32)
        bare = config.norm.kind in BARE
        for layer in range(config.num_layers):
            for name in block_norms(config, layer) if bare else ():
                self._model.set_norm(layer, name, ones, bias=False)
            own = config.attention.qk_norm == "turned" or (bare and config.attention.qk_norm != "per_head")
            widths = qk_norm_widths(config.attention) if own else {}
            for name, width in widths.items():
                self._model.set_norm(layer, f"attention.{name}", np.ones(width, np.float32), bias=False)
        for name, there in (("embed_norm", config.embedding_norm), ("norm", config.placement != "post")):
            if there and bare:
                self._model.set_norm(0, name, ones, bias=False)

    def _set_vector(self, name: str, layer: int, owner: str, leaf: str) -> None:
        values = np.ascontiguousarray(_take(self._checkpoint.tensors, name).dequantize())
        if f"{owner}.{leaf}" in VECTORS:
            self._model.set_vector(layer, f"{owner}.{leaf}", values)
            return
        if owner not in NORMS:
            self._model.set_bias(layer, _slot(owner), values)
            return
        per_head = owner.startswith("attention.") and self.config.attention.qk_norm == "per_head"
        if self.config.norm.offset and leaf == "weight" and not per_head:
            values = values + np.float32(1)
        self._model.set_norm(layer, owner, values, bias=leaf == "bias")

    def _natural_cache(self) -> str:
        """f32 where all matrices of the blocks become f32, else bf16."""
        names = [name for name, shape in parameter_shapes(self.config).items() if _place(name)[0] and len(shape) == 2]
        encodings = {_take(self._checkpoint.tensors, name).encoding for name in names}
        return "f32" if self._quantize is None and encodings <= {"f32", "f16"} else "bf16"

    def _set_heads(self, name: str, layer: int) -> None:
        """Latent attention's kv_b, cut into each head's matrices: the key's turned round, as queries go through it."""
        latent, rope, attention = self.config.attention.latent, self.config.rope, self.config.attention
        assert latent is not None and rope is not None, "attention is latent"
        kept, cut = attention.head_dim - rope.rotary_dim, latent.value_dim
        for head in range(attention.num_heads):
            for leaf, begin, size in (("key", 0, kept), ("value", kept, cut)):
                first = head * (kept + cut) + begin
                rows = slice(first, first + size)
                self._set_matrix(f"{name}[{head}.{leaf}]", layer, f"heads.{head}.{leaf}", (name, rows, leaf == "key"))

    def _set_matrix(self, name: str, layer: int, slot: str, part: tuple[str, slice, bool] | None = None) -> None:
        """part: the tensor that it is cut from, the rows, and whether they are turned round; None: it is one itself."""
        packed = self._packed.get(name)
        if packed is not None:
            self._slots[name] = layer, slot, packed.encoding
            self._model.use_matrix(layer, slot, packed.encoding, packed.rows, packed.columns, packed.data)
            return
        if part is None:
            tensor = taken(_take(self._checkpoint.tensors, name))
        else:
            tensor = taken(_take(self._checkpoint.tensors, part[0]).rows(part[1]))
            tensor = turned(tensor) if part[2] else tensor
        rows, columns = tensor.shape
        encoding: str = tensor.encoding
        data = tensor.data
        try:
            if self._quantize is not None and part is None:
                encoding, data = self._quantize.apply(slot, tensor)
            self._slots[name] = layer, slot, encoding
            if self._at_once or part is not None or encoding not in STORED or data.flags.writeable:
                self._model.set_matrix(layer, slot, encoding, rows, columns, data)
            else:  # the file's own bytes, which only it may write
                self._stored[name] = tensor
                self._model.use_rows(layer, slot, encoding, rows, columns, data)
        except ValueError as error:
            raise FormatError(f"tensor {name!r} does not fit the config: {error}") from None

    def _write(self, cache: PackCache) -> None:
        """Write the packed weights behind the model's back: they do not change before `_finish_writing`."""
        matrices = {}
        for name, (layer, slot, encoding) in self._slots.items():
            stored = self._stored.get(name)
            data = self._model.packed(layer, slot, encoding) if stored is None else stored.data
            matrices[name] = PackedMatrix(encoding, *self._model.matrix_shape(slot), data, stored is not None)
        given = cache, matrices, self._model, self._written
        self._writing = threading.Thread(target=_write, args=given, name="octavo-packed")
        self._writing.start()

    def _use_written(self) -> None:
        """Take what has been written in place of matrices as they are stored; pack those where nothing could be."""
        self._packed, self._at_once = self._written.pop(), True
        for name in self._stored:
            self._set_matrix(name, *self._slots[name][:2])
        self._stored = {}
        self._checkpoint.release()

    def _finish_writing(self) -> None:
        if self._writing is not None:
            self._writing.join()
            self._writing = None


def _write(
    cache: PackCache, matrices: Mapping[str, PackedMatrix], owner: KernelModel, written: list[dict[str, PackedMatrix]]
) -> None:
    """owner: the model whose memory the matrices are; the thread keeps it, even if its runner is dropped unclosed.

    written: gets what is there to be used now, nothing where the disk refused it.
    """
    written.append(cache.read(check=False) if cache.write(matrices) else {})


def _place(name: str) -> tuple[str, str]:
    """The block's number and the name inside it; no number outside of blocks."""
    if not name.startswith("blocks."):
        return "", name
    _, block, where = name.split(".", 2)
    return block, where


def _slot(owner: str) -> str:
    """The kernels' name of a matrix."""
    return TABLES.get(owner) or LATENT.get(owner) or owner.removeprefix("attention.").removeprefix("mlp.")


def _take(tensors: Mapping[str, StoredTensor], name: str) -> StoredTensor:
    try:
        return tensors[name]
    except KeyError:
        raise FormatError(f"the checkpoint has no tensor {name!r}; fetch or convert the model again") from None


def _parents(rows: Sequence[Row]) -> list[int] | None:
    """The step's index of the token that each one follows in a tree, -1 in other rows; None where no row is one."""
    if all(row.parents is None for row in rows):
        return None
    found: list[int] = []
    for row in rows:
        first = len(found)
        if row.parents is None:
            found += [-1] * len(row.tokens)
        else:
            found += [first + max(parent, 0) for parent in row.parents.tolist()]
    return found


def _adapters(rows: Sequence[Row]) -> list[int] | None:
    """Of each of the step's tokens, counted from 0, -1 for none; None where no row has one."""
    if not any(row.adapter for row in rows):
        return None
    return [row.adapter - 1 for row in rows for _ in row.tokens]


def _check_row(row: Row, count: int, blocks: int) -> None:
    if count < 1:
        raise ValueError("a row needs at least one token")
    if row.start < 0:
        raise ValueError(f"position {row.start} is before the start")
    if len(row.blocks) < blocks:
        raise ValueError(f"{row.start + count} positions need {blocks} blocks, not {len(row.blocks)}")
    if not 0 <= row.logits_from <= count:
        raise ValueError(f"logits_from {row.logits_from} is not in 0 .. {count}")
