"""`Transformer`: decoders and encoders in torch, for training, GPUs and as the kernels' reference; and its runner.

Parameters carry the canonical names of `nn/shapes.py`. Unusual: `embed`, `hidden` and `logits` are seams of their own,
so that embeddings can be handed in, hidden states read out, and logits made at the wanted positions only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from octavo.errors import ContextLengthError
from octavo.models.checkpoint import Checkpoint
from octavo.models.formats.peft import Adapter
from octavo.models.runner import BLOCK_SIZE, Row, StepOutput, check_path
from octavo.models.tensors import StoredTensor
from octavo.models.torch_decoding import Decoder, Decoding, fastest, is_single
from octavo.models.torch_tensors import SharedFiles, floats, from_torch, to_torch
from octavo.nn.attention import Attention
from octavo.nn.block import Block, Memory, init_weights
from octavo.nn.config import TransformerConfig
from octavo.nn.encoder_decoder.relative import Distances, RelativeBias
from octavo.nn.head import Head, TiedOutput
from octavo.nn.linear import Linear, LowRankRows
from octavo.nn.mlp import Mlp
from octavo.nn.norms import RmsNorm, make_norm
from octavo.nn.paged import Cache, PagedMemory, PagedStep, Span, chains
from octavo.nn.rotary import cos_sin
from octavo.nn.scoring import positions_of, scaled_attention
from octavo.nn.vision.patches import cut


class Transformer(nn.Module):
    """A decoder or an encoder by its config, with fresh weights from `seed` (left unset on the meta device)."""

    def __init__(self, config: TransformerConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self._ropes = [config.rope_of(layer) for layer in range(config.num_layers)]
        self._make_embeddings(config)
        relative, heads = config.attention.relative, config.attention.num_heads
        self.relative_bias = None if relative is None else RelativeBias(relative, heads, causal=config.encoder is None)
        apart = config.attention.disentangled
        self.distances = None if apart is None else Distances(apart, config.norm, config.hidden_size)
        self.memory = None if config.memory is None else Transformer(config.memory, seed=seed)
        if self.memory is not None:
            self.memory.embed_tokens = self.embed_tokens
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_stored_blocks))
        self.norm = make_norm(config.norm, config.hidden_size) if config.has_final_norm else None
        if isinstance(self.norm, RmsNorm) and config.encoder is None:
            self.norm.feeds_products = True
        self.head = None if config.head is None else Head(config, config.head)
        self.lm_head = _output(config) if config.has_logits else None
        if not next(self.parameters()).is_meta:
            init_weights(self, config.num_layers, offset=config.norm.offset, seed=seed)

    def _make_embeddings(self, config: TransformerConfig) -> None:
        width, encoder = config.embedding_size, config.encoder
        types, narrow = (0, False) if encoder is None else (encoder.token_types, encoder.embedding_size is not None)
        patches, queries = config.patches, config.num_queries
        self.embed_tokens = _embedding(config.vocab_size, width)
        self.embed_patches = (
            Linear(patches.channels * patches.patch_size**2, width, bias=patches.bias) if patches else None
        )
        self.embed_class = _embedding(1, width) if patches is not None and patches.class_token else None
        self.embed_queries = _embedding(queries, width) if queries else None
        self.embed_positions = _embedding(config.num_positions, width) if config.learned_positions else None
        self.embed_types = _embedding(types, width) if types else None
        self.embed_norm = make_norm(config.norm, width) if config.embedding_norm else None
        self.embed_projection = Linear(width, config.hidden_size, bias=True) if narrow else None

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        shared: bool = False,
    ) -> Transformer:
        """The checkpoint's weights, read one by one into `dtype` on `device`; memory peaks little above them.

        shared: weights on the CPU that have that type on disk stay in the files' pages, which must then stay as they
        are; for running, not for training.
        """
        with torch.device("meta"):
            model = cls(checkpoint.config)
        files = SharedFiles(checkpoint.files if shared and torch.device(device).type == "cpu" else ())
        for name, _ in list(model.named_parameters()):
            tensor = files.find(checkpoint.tensors[name], dtype)
            if tensor is None:
                tensor = to_torch(checkpoint.tensors[name], dtype=dtype, device=device, release=checkpoint.release)
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, nn.Parameter(tensor))
            checkpoint.release()
        return model

    def embed(self, tokens: Tensor, positions: Tensor, types: Tensor | None = None) -> Tensor:
        """tokens, positions, types: (batch, tokens) integers -> (batch, tokens, hidden_size). types None: all 0."""
        return self.placed(self.words(tokens), positions, types)

    def words(self, tokens: Tensor) -> Tensor:
        """What tokens are before their places are known: (batch, tokens) -> (batch, tokens, embedding_size)."""
        x: Tensor = self.embed_tokens(tokens)
        if self.config.embedding_scale != 1:
            x = x * torch.full((), self.config.embedding_scale, dtype=x.dtype, device=x.device)
        return x

    def placed(self, x: Tensor, positions: Tensor, types: Tensor | None = None) -> Tensor:
        """`words`, or what stands in for them, at their positions, as the first block reads them."""
        if self.embed_types is not None:
            x = x + self.embed_types(torch.zeros_like(positions) if types is None else types)
        if self.config.sinusoidal:
            x = x + sinusoids(positions, x.shape[-1], self.config.fairseq_sines).type_as(x)
        if self.embed_positions is not None:
            x = x + self.embed_positions(positions + self.embed_positions.num_embeddings - self.config.context_length)
        x = x if self.embed_norm is None else self.embed_norm(x)
        return x if self.embed_projection is None else self.embed_projection(x)

    def see(self, pixels: Tensor) -> Tensor:
        """Hidden states of images: of their patches, or of the queries that have read those.

        pixels: (batch, channels, height, width) -> (batch, positions, hidden_size).
        """
        memory: Sequence[Memory] = ()
        if self.embed_queries is not None:
            x, memory = self.embed_queries.weight.expand(len(pixels), -1, -1), self.remember(pixels)
        else:
            assert self.embed_patches is not None and self.config.patches is not None, "the model sees images"
            x = self.embed_patches(cut(pixels.type_as(self.embed_patches.weight), self.config.patches))
            if self.embed_class is not None:
                x = torch.cat((self.embed_class.weight.expand(len(x), 1, -1), x), dim=1)
            if self.embed_positions is not None:
                x = x + self.embed_positions.weight
        x = x if self.embed_norm is None else self.embed_norm(x)
        return self.hidden(x, torch.arange(x.shape[1], device=x.device)[None], memory=memory)

    def hidden(
        self,
        x: Tensor,
        positions: Tensor,
        cache: Cache | None = None,
        *,
        mask: Tensor | None = None,
        length: int | None = None,
        memory: Sequence[Memory] = (),
    ) -> Tensor:
        """The blocks and the final norm. x: (batch, tokens, hidden_size) -> the same.

        cache: where keys and values are kept and read; None: the tokens are whole sequences, and each sees those before
        it. mask: (batch, tokens) bool, false at padding; only without a cache. length: as `rotary.cos_sin` has it.
        memory: what `remember` gave.
        """
        turns = {rope: cos_sin(rope, positions, length) for rope in set(self._ropes) if rope is not None}
        distances = None if self.distances is None else self.distances(x.shape[1])
        bias = None if self.relative_bias is None or cache is not None else self.relative_bias(x.shape[1], x.shape[1])
        whole = partial(scaled_attention, mask=mask, bias=bias)
        memories = iter(memory)
        for layer, rope in enumerate(self._ropes):
            block = self.blocks[layer % len(self.blocks)]
            attend = whole if cache is None else partial(cache.attend, layer)
            read = next(memories, None) if self.config.reads_memory(layer) else None
            x = block(x, distances if rope is None else turns[rope], attend, read)
        return x if self.norm is None else self.norm(x)

    def remember(self, tokens: Tensor, mask: Tensor | None = None) -> list[Memory]:
        """Encode a source for the blocks to read. tokens: (batch, tokens), or pixels where the encoder sees images.

        Returns the keys, values and the mask of each block that reads them.
        """
        assert self.memory is not None, "the model has an encoder"
        return self.remembered(self.memory(tokens, mask), mask)

    def remembered(self, encoded: Tensor, mask: Tensor | None = None) -> list[Memory]:
        """The same of an encoder's states, (batch, tokens, hidden_size)."""
        seen = None if mask is None else mask.bool()
        readers = [block.cross_attention for block in self.blocks]
        return [(*reader.keys_values(encoded), seen) for reader in readers if isinstance(reader, Attention)]

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., hidden_size) -> (..., vocab_size)."""
        head, scale, cap = self.lm_head, self.config.logit_scale, self.config.logit_softcap
        if head is None or isinstance(head, TiedOutput):
            logits = functional.linear(hidden, self.embed_tokens.weight, None if head is None else head.bias)
        else:
            logits = head(hidden)
        if scale != 1:
            logits = logits * scale
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def scores(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the model says of hidden states: its logits, an encoder's scores of its labels, or `hidden` itself."""
        x = hidden if self.head is None else self.head(hidden, mask)
        return self.logits(x) if self.config.has_logits else x

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        types: Tensor | None = None,
        memory: Sequence[Memory] = (),
    ) -> Tensor:
        """tokens: (batch, tokens) -> `scores`; of a decoder logits (batch, tokens, vocab_size), each from the tokens up
        to its own.

        mask: (batch, tokens), false or 0 at padding, on either side; positions count the true tokens. types: as in
        `embed`. memory: what `remember` gave of the source, where the model has an encoder. An encoder of images takes
        pixels, (batch, channels, height, width), for `tokens`, and no more.
        Raises ContextLengthError for more tokens than the context holds.
        """
        if self.config.sees_images:
            return self.scores(self.see(tokens))
        if tokens.shape[1] > self.config.context_length:
            raise ContextLengthError(
                f"{tokens.shape[1]} tokens are more than the model's context of {self.config.context_length}"
            )
        mask = None if mask is None else mask.bool()
        positions = positions_of(tokens.shape[1], mask, tokens.device).expand_as(tokens)
        x = self.hidden(self.embed(tokens, positions, types), positions, mask=mask, memory=memory)
        return self.scores(x, mask)

    def join(self) -> None:
        """Make products that read the same in one from now on, without a second copy of the weights: for running."""
        for module in self.modules():
            if isinstance(module, Attention | Mlp):
                module.join()

    def stored_tensors(self) -> dict[str, StoredTensor]:
        """The parameters by canonical name, for saving; on the CPU they share memory with the model."""
        return {name: from_torch(parameter) for name, parameter in self.named_parameters()}


def sinusoids(positions: Tensor, width: int, first: int | None = None) -> Tensor:
    """(batch, tokens) -> (batch, tokens, width) fp32: sines of falling frequencies, then their cosines.

    first: where fairseq's begin; None: they are the paper's.
    """
    half = width // 2
    steps = torch.arange(half, device=positions.device, dtype=torch.float32) / (half - (first is not None))
    angles = (positions[..., None] + (first or 0)).float() / 10000**steps
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


def _output(config: TransformerConfig) -> Linear | TiedOutput | None:
    if not config.tie_embeddings:
        return Linear(config.embedding_size, config.vocab_size, bias=config.head_bias)
    return TiedOutput(config.vocab_size) if config.head_bias else None


def _embedding(rows: int, width: int) -> nn.Embedding:
    # A given weight skips torch's own initialisation, which takes seconds on a large vocabulary.
    table = nn.Embedding(rows, width, _weight=torch.empty(rows, width))
    if not rows:  # what sees images has no vocabulary, and no parameter for it
        del table.weight
        table.register_buffer("weight", torch.empty(0, width, device="cpu"), persistent=False)
    return table


class TorchRunner:
    """The `Runner` on torch. Given a Transformer it runs the live module, weights as they are at each step; what it
    reads from a checkpoint itself it joins into fewer and larger products on a GPU.

    Rows are equal within 1e-5 (float32) whatever else is in the step and however tokens are cut into steps. Rotary
    embedding that depends on the sequence's length (longrope, dynamic) is that of the longest one that fits in here:
    kept keys would be wrong if it changed on the way.
    """

    def __init__(
        self,
        source: Checkpoint | Transformer,
        *,
        num_blocks: int,
        max_tokens: int = 512,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        adapters: Sequence[Adapter] = (),
        decode: Decoding | None = None,
    ) -> None:
        """dtype, device: of the weights and the KV memory read from a checkpoint; a live module keeps its own.

        adapters: what rows may name by their number, from 1 on. decode: how rows of one token run; None: as is fastest.
        """
        if isinstance(source, Checkpoint):
            source = Transformer.from_checkpoint(source, dtype=dtype, device=device, shared=True)
            if not adapters and torch.device(device).type == "cuda":  # a CPU gains nothing, and copies them for it
                source.join()
        weight = source.embed_tokens.weight
        self.config = source.config
        self.name = f"torch {weight.device.type}"
        self.num_blocks = num_blocks
        self.max_tokens = max_tokens
        self._model = source
        self._length = min(source.config.context_length, num_blocks * BLOCK_SIZE)
        self._adapters = _attached(source, adapters)
        self._memory = PagedMemory(source.config, num_blocks + 1, BLOCK_SIZE, dtype=weight.dtype, device=weight.device)
        decode = decode or fastest(source.config, weight.device)
        graphs = decode == "graphs"
        self._decoder = None if decode == "rows" else Decoder(source, self._memory, self._length, graphs=graphs)

    @torch.inference_mode()
    def step(self, rows: Sequence[Row], *, hidden: bool = False) -> StepOutput:
        """As `Runner.step`."""
        assert sum(len(row.tokens) for row in rows) <= self.max_tokens, "a step takes max_tokens at most"
        single = [self._decoder is not None and is_single(row) for row in rows]
        if all(single) or not any(single):
            logits, states = self._decode(rows) if all(single) else self._run(rows)
        else:
            parts = [
                self._decode([row for row, one in zip(rows, single, strict=True) if one]),
                self._run([row for row, one in zip(rows, single, strict=True) if not one]),
            ]
            logits, states = (torch.cat(part) for part in zip(*parts, strict=True))
            later = np.repeat(np.logical_not(single), [len(row.tokens) - row.logits_from for row in rows])
            order = torch.from_numpy(later.argsort(kind="stable").argsort()).to(logits.device)
            logits, states = logits[order], states[order]
        return StepOutput(floats(logits), floats(states) if hidden else None)

    def _decode(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Logits and hidden states of rows of one token, where they are wanted."""
        assert self._decoder is not None, "asked before"
        logits, states = self._decoder.step(rows)
        if any(row.logits_from for row in rows):
            wanted = torch.tensor([not row.logits_from for row in rows], device=logits.device)
            logits, states = logits[wanted], states[wanted]
        return logits, states

    def _run(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """The same of any rows, one after another."""
        spans, wanted = self._plan(rows)
        device = self._memory.keys.device
        tokens = torch.from_numpy(np.concatenate([row.tokens for row in rows]).astype(np.int64))[None].to(device)
        positions = torch.from_numpy(np.concatenate([row.positions for row in rows]).astype(np.int64))[None].to(device)
        self._adapters.tokens = _adapted_tokens(rows, device)
        x = self._model.embed(tokens, positions)
        x = self._model.hidden(x, positions, PagedStep(self._memory, spans), length=self._length)[0, wanted]
        self._adapters.tokens = {}
        return self._model.logits(x), x

    def _plan(self, rows: Sequence[Row]) -> tuple[list[Span], Tensor]:
        """Where the rows' tokens and what leads to them lie, and (wanted,): which tokens' logits are asked for."""
        spans: list[Span] = []
        wanted: list[Tensor] = []
        begin = 0
        for row in rows:
            count = len(row.tokens)
            assert count >= 1 and 0 <= row.logits_from <= count, "a row has tokens, and wants logits of some"
            assert row.positions.max() < self.config.context_length, "a row stays within the context"
            slots = self._memory.slots(row.blocks, row.start + count)
            span = Span(begin, begin + count, slots)
            spans += [span] if row.parents is None else chains(span, row.parents.tolist())
            wanted.append(torch.arange(begin + row.logits_from, begin + count))
            begin += count
        return spans, torch.cat(wanted).to(self._memory.keys.device)

    @torch.inference_mode()
    def accept(self, row: Row, path: Sequence[int]) -> None:
        """As `Runner.accept`."""
        check_path(row, path)
        slots = self._memory.slots(row.blocks, row.start + len(row.tokens))[row.start :]
        self._memory.move(slots[torch.tensor(path, device=slots.device)], slots[: len(path)])

    def refresh(self) -> None:
        """The live module's weights are read at each step: nothing is kept that could be old."""

    def close(self) -> None:
        """Free the KV memory; the runner cannot step after it."""
        self._adapters.remove()
        self._decoder = None
        self._memory = PagedMemory(self.config, 0, BLOCK_SIZE, dtype=torch.float32, device=torch.device("cpu"))


def _attached(model: Transformer, adapters: Sequence[Adapter]) -> LowRankRows:
    rows, device = LowRankRows(), model.embed_tokens.weight.device
    for name in dict.fromkeys(name for adapter in adapters for name in adapter.factors):
        pairs = {
            number: (torch.from_numpy(pair.down).to(device), torch.from_numpy(pair.up).to(device))
            for number, adapter in enumerate(adapters, 1)
            if (pair := adapter.factors.get(name)) is not None
        }
        rows.attach(model.get_submodule(name.removesuffix(".weight")), pairs)
    return rows


def _adapted_tokens(rows: Sequence[Row], device: torch.device) -> dict[int, Tensor]:
    numbers = np.repeat([row.adapter for row in rows], [len(row.tokens) for row in rows])
    return {
        int(adapter): torch.from_numpy(np.flatnonzero(numbers == adapter)).to(device)
        for adapter in np.unique(numbers)
        if adapter
    }
