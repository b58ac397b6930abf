"""RETRO (Borgeaud et al. 2022, arXiv 2112.04426): a decoder that reads, chunk by chunk, what was retrieved for it.

RETROfit: the decoder stays as it was trained; only the cross-attention that is put into it and the encoder of
neighbours learn. The cross-attention's output begins as zeros, so that at step 0 the model is the decoder to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from octavo.errors import ContextLengthError, OctavoError
from octavo.models.transformer import Transformer
from octavo.nn.encoder_decoder.growing import GrowingCache
from octavo.retrieve.systems.retro.database import CHUNK
from octavo.retrieve.systems.retro.torch_block import add_retrieval
from octavo.retrieve.systems.retro.torch_cross_attention import ChunkedAttentionConfig, ChunkedCrossAttention
from octavo.retrieve.systems.retro.torch_neighbour_encoder import NeighbourEncoder
from octavo.retrieve.systems.retro.torch_session import RetrievalSession
from octavo.train.objectives.causal_lm import IGNORED
from octavo.train.objectives.objective import Batch

Ids = NDArray[np.int32]


@dataclass(frozen=True)
class Retrieved:
    """tokens: (n + 1,) of a text. neighbours: for each whole chunk of the first n, the token ids of each neighbour."""

    tokens: Ids
    neighbours: Sequence[Sequence[Ids]]


class Retro(nn.Module):
    """decoder: frozen. encoder, and the cross-attention in the decoder's blocks: what learns."""

    def __init__(self, decoder: Transformer, *, layers: Sequence[int], encoder_layers: int = 2, seed: int = 0) -> None:
        """layers: of the blocks that retrieve, counted from 0. decoder: is changed."""
        super().__init__()
        config = decoder.config
        wrong = [layer for layer in layers if not 0 <= layer < config.num_layers]
        if wrong or not layers:
            raise OctavoError(
                f"retro.layers is {list(layers)}; blocks of this decoder are 0 to {config.num_layers - 1}",
                param="retro.layers",
            )
        attention = config.attention
        shape = ChunkedAttentionConfig(
            config.hidden_size, config.hidden_size, attention.num_heads, attention.head_dim, config.norm, CHUNK
        )
        decoder.requires_grad_(False)
        crosses = {layer: ChunkedCrossAttention(shape, seed=seed + layer) for layer in sorted(layers)}
        self.retrieving = add_retrieval(decoder.blocks, crosses)
        self.decoder = decoder
        self.encoder = NeighbourEncoder(config, encoder_layers, seed=seed)

    def session(self) -> RetrievalSession:
        """For one batch of texts."""
        return RetrievalSession(self.retrieving, self.encoder)

    def embed(self, tokens: Tensor) -> Tensor:
        """Neighbours' ids (batch, neighbours, tokens) by the decoder's table."""
        positions = torch.arange(tokens.shape[-1], device=tokens.device).expand(tokens.shape)
        return self.decoder.embed(tokens, positions)

    def forward(self, tokens: Tensor, neighbours: Tensor, mask: Tensor) -> Tensor:
        """tokens: (batch, n) -> logits (batch, n, vocab_size).

        neighbours: (batch, chunks, neighbours, tokens) ids, for whole chunks only; mask: theirs, false at padding.
        """
        with self.session() as session:
            for chunk in range(neighbours.shape[1]):
                session.retrieve(self.embed(neighbours[:, chunk]), mask[:, chunk])
            logits: Tensor = self.decoder(tokens)
        return logits

    def learnt(self) -> dict[str, Tensor]:
        """What learns, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}


class RetroObjective:
    """Causal language modelling with neighbours; an example is a `Retrieved` text."""

    def collate(self, examples: Sequence[Retrieved]) -> Batch:
        """tokens, targets: (rows, longest); neighbours: (rows, chunks, neighbours, tokens) and their mask."""
        longest = max((len(example.tokens) - 1 for example in examples), default=1)
        tokens = np.zeros((len(examples), longest), np.int64)
        targets = np.full_like(tokens, IGNORED)
        for row, example in enumerate(examples):
            size = len(example.tokens) - 1
            tokens[row, :size], targets[row, :size] = example.tokens[:-1], example.tokens[1:]
        found, mask = pad_neighbours([example.neighbours for example in examples])
        arrays = {"tokens": tokens, "targets": targets, "neighbours": found, "mask": mask}
        count = int((targets != IGNORED).sum())
        return Batch({name: torch.from_numpy(array) for name, array in arrays.items()}, count)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """model: a `Retro`, or whatever takes the same."""
        return self.losses(model, batch).sum()

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """(rows, longest): of each target, 0 at padding."""
        tensors = batch.tensors
        logits = model(tensors["tokens"], tensors["neighbours"], tensors["mask"])
        return functional.cross_entropy(
            logits.float().transpose(1, 2), tensors["targets"], ignore_index=IGNORED, reduction="none"
        )


def pad_neighbours(
    rows: Sequence[Sequence[Sequence[Ids]]],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Ragged neighbours of texts' chunks as (rows, chunks, neighbours, tokens) and which are true tokens."""
    chunks = max((len(row) for row in rows), default=0)
    width = max((len(chunk) for row in rows for chunk in row), default=1)
    longest = max((len(ids) for row in rows for chunk in row for ids in chunk), default=1)
    tokens = np.zeros((len(rows), chunks, max(width, 1), max(longest, 1)), np.int64)
    mask = np.zeros(tokens.shape, np.bool_)
    for at, row in enumerate(rows):
        for place, chunk in enumerate(row):
            for number, ids in enumerate(chunk):
                tokens[at, place, number, : len(ids)] = ids
                mask[at, place, number, : len(ids)] = True
    return tokens, mask


Find = Callable[[Ids], Sequence[Ids]]
"""A whole chunk's token ids -> those of each of its neighbours."""


@torch.inference_mode()
def generate(
    model: Retro,
    prompt: Sequence[int],
    find: Find,
    *,
    max_tokens: int,
    end_ids: Sequence[int] = (),
    temperature: float = 0.0,
    seed: int = 0,
) -> Iterator[int]:
    """Token ids that go on from a prompt; each whole chunk has its neighbours retrieved as soon as it stands.

    temperature 0: the likeliest token. Raises ContextLengthError for more tokens than the decoder's context holds.
    """
    config = model.decoder.config
    if len(prompt) + max_tokens > config.context_length:
        raise ContextLengthError(
            f"{len(prompt)} tokens in the prompt and {max_tokens} to write are more than the decoder's context of "
            f"{config.context_length}"
        )
    random = torch.Generator().manual_seed(seed)
    text: list[int] = []
    begun = 0
    cache = GrowingCache(model.decoder.relative_bias)
    pending = list(prompt)
    with model.session() as session:
        for _ in range(max_tokens):
            text += pending
            while len(text) - begun >= CHUNK:
                found, mask = pad_neighbours([[find(np.array(text[begun : begun + CHUNK], np.int32))]])
                session.retrieve(model.embed(torch.from_numpy(found[:, 0])), torch.from_numpy(mask[:, 0]))
                begun += CHUNK
            start = len(text) - len(pending)
            positions = torch.arange(start, len(text))[None]
            x = model.decoder.embed(torch.tensor([pending]), positions)
            logits = model.decoder.logits(model.decoder.hidden(x, positions, cache)[0, -1]).float()
            if temperature:
                token = int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=random))
            else:
                token = int(logits.argmax())
            if token in end_ids:
                return
            yield token
            pending = [token]


def with_random_neighbours(examples: Sequence[Retrieved], seed: int = 0) -> list[Retrieved]:
    """The same texts with each other's neighbours: what retrieval has to beat."""
    pool = [chunk for example in examples for chunk in example.neighbours]
    order = iter(np.random.Generator(np.random.PCG64(seed)).permutation(len(pool)).tolist())
    return [Retrieved(example.tokens, [pool[next(order)] for _ in example.neighbours]) for example in examples]
