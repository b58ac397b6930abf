"""Steps in which each row runs one token, as one batch; on a GPU as CUDA graphs, recorded at first need.

Unusual: a graph has fixed shapes, so rows and blocks are filled up to the next of a few sizes. Added rows write into a
block that belongs to nobody. What a step reads of the host is one small matrix: tokens, positions, blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octavo.models.runner import BLOCK_SIZE, Row
from octavo.nn.config import TransformerConfig
from octavo.nn.paged import PagedDecode, PagedMemory

if TYPE_CHECKING:
    from octavo.models.transformer import Transformer

Decoding = Literal["rows", "batch", "graphs"]
"""How rows of one token run: one after another, as a batch, or as one that a GPU records and repeats."""

FEWEST_BLOCKS = 16
"""Of a recorded step."""
MOST_ROWS = 512
"""More rows than that are not recorded."""


@dataclass(frozen=True)
class _Recorded:
    """A graph with the memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: Tensor
    outputs: tuple[Tensor, Tensor]


class Decoder:
    """Runs a model on a memory whose last block is no row's."""

    def __init__(self, model: Transformer, memory: PagedMemory, length: int, *, graphs: bool) -> None:
        """length: of the longest sequence. graphs: whether steps are recorded and repeated, on a GPU."""
        self._model = model
        self._memory = memory
        self._length = length
        self._records = graphs
        self._recorded: dict[tuple[int, int], _Recorded] = {}
        self._pool = torch.cuda.graph_pool_handle() if graphs else None

    @torch.inference_mode()
    def step(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Logits (rows, vocab_size) and hidden states (rows, hidden_size), which the next step may overwrite."""
        blocks = max(row.start for row in rows) // BLOCK_SIZE + 1
        recorded = self._recording(rows, blocks) if self._records and len(rows) <= MOST_ROWS else None
        if recorded is None:
            return self._run(torch.from_numpy(self._inputs(rows, len(rows), blocks)).to(self._memory.keys.device))
        inputs = self._inputs(rows, *_size(len(rows), blocks))
        recorded.inputs.copy_(torch.from_numpy(inputs), non_blocking=True)
        recorded.graph.replay()
        logits, hidden = recorded.outputs
        return logits[: len(rows)], hidden[: len(rows)]

    def _inputs(self, rows: Sequence[Row], count: int, blocks: int) -> NDArray[np.int32]:
        """(count, 2 + blocks): a row's token, its position and its blocks, those of the positions up to it."""
        inputs = np.zeros((count, 2 + blocks), np.int32)
        inputs[len(rows) :, 2] = len(self._memory.keys[0]) // BLOCK_SIZE - 1
        for line, row in zip(inputs, rows, strict=False):
            needed = row.start // BLOCK_SIZE + 1
            line[0], line[1] = row.tokens[0], row.start
            line[2 : 2 + needed] = row.blocks[:needed]
        return inputs

    def _run(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        wide = inputs.long()
        tokens, positions, blocks = wide[:, :1], wide[:, 1:2], wide[:, 2:]
        x = self._model.embed(tokens, positions)
        cache = PagedDecode(self._memory, blocks, positions)
        hidden = self._model.hidden(x, positions, cache, length=self._length)[:, 0]
        return self._model.logits(hidden).float(), hidden

    def _recording(self, rows: Sequence[Row], blocks: int) -> _Recorded | None:
        size = _size(len(rows), blocks)
        if size not in self._recorded:
            inputs = torch.from_numpy(self._inputs(rows, *size)).to(self._memory.keys.device)
            try:
                self._recorded[size] = self._record(inputs)
            except RuntimeError:  # an operation that cannot be recorded, or no memory for it
                self._records = False
                return None
        return self._recorded[size]

    def _record(self, inputs: Tensor) -> _Recorded:
        """Run once, so that all that is made at first use is there, and record a second run."""
        stream = torch.cuda.Stream(inputs.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(inputs.device))
        with torch.cuda.stream(stream):
            self._run(inputs)
        torch.cuda.current_stream(inputs.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
            outputs = self._run(inputs)
        return _Recorded(graph, inputs, outputs)


def fastest(config: TransformerConfig, device: torch.device) -> Decoding:
    """How rows of one token are best run on a device."""
    if device.type != "cuda":
        return "rows"
    # Which experts are chosen is asked of the device on the way, which a recorded step cannot do.
    return "batch" if any(config.moe_of(layer) for layer in range(config.num_layers)) else "graphs"


def is_single(row: Row) -> bool:
    """Whether a row runs one token, and as the model itself does."""
    return len(row.tokens) == 1 and row.parents is None and not row.adapter


def _size(rows: int, blocks: int) -> tuple[int, int]:
    """The next size that is recorded: of rows 1, 2, 3, 4, 6, 8, 12, 16 and so on, of blocks powers of two."""
    power = 1 << (rows - 1).bit_length()
    return (3 * power // 4 if rows <= 3 * power // 4 else power), max(FEWEST_BLOCKS, 1 << (blocks - 1).bit_length())
