"""Chunked cross-attention obeys RETRO's laws: causal by chunks, nothing at first, and the same however it is run."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from octavo.errors import UnsupportedError
from octavo.models.transformer import Transformer
from octavo.nn.config import AttentionConfig, MlpConfig, NormConfig, RopeConfig, TransformerConfig
from octavo.retrieve.systems.retro.torch_block import RetrievalBlock, add_retrieval
from octavo.retrieve.systems.retro.torch_cross_attention import (
    ChunkedAttentionConfig,
    ChunkedCrossAttention,
    Neighbours,
)

CHUNK, CHUNKS = 4, 5
TOKENS = CHUNK * CHUNKS
NORM = NormConfig("rms", 1e-5)
CONFIG = ChunkedAttentionConfig(24, 10, num_heads=3, head_dim=8, norm=NORM, chunk_size=CHUNK)
DECODER = TransformerConfig(
    vocab_size=50, hidden_size=24, num_layers=4, context_length=64, norm=NORM, attention=AttentionConfig(3, 3, 8),
    mlp=MlpConfig(48, "silu", gated=True), rope=RopeConfig(10000.0, 8), tie_embeddings=True,
)  # fmt: skip


def made(seed: int = 0) -> ChunkedCrossAttention:
    """With an output that says something."""
    cross = ChunkedCrossAttention(CONFIG, seed=seed).requires_grad_(False)
    for parameter in cross.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed + 1)) * 0.3)
    return cross


def neighbours(seed: int = 0, batch: int = 2) -> Neighbours:
    generator = torch.Generator().manual_seed(seed)
    return Neighbours(torch.randn(batch, CHUNKS, 2, 8, 10, generator=generator))


def states(batch: int = 2, tokens: int = TOKENS) -> torch.Tensor:
    return torch.randn(batch, tokens, 24, generator=torch.Generator().manual_seed(9))


def by_the_paper(cross: ChunkedCrossAttention, x: torch.Tensor, found: Neighbours) -> torch.Tensor:
    """Token by token, as figure 2 and equation 3 of the paper define it, with torch's own multi-head attention."""
    peer = nn.MultiheadAttention(24, 3, bias=False, kdim=10, vdim=10, batch_first=True)
    peer.load_state_dict({
        "q_proj_weight": cross.q.weight, "k_proj_weight": cross.k.weight, "v_proj_weight": cross.v.weight,
        "out_proj.weight": cross.o.weight,
    })  # fmt: skip
    result = torch.zeros_like(x)
    for position in range(CHUNK - 1, x.shape[1]):
        chunk = (position - (CHUNK - 1)) // CHUNK
        if chunk < found.states.shape[1]:
            keys = found.states[:, chunk].flatten(1, 2)
            result[:, position] = peer(cross.norm(x[:, position : position + 1]), keys, keys)[0][:, 0]
    return result


@torch.no_grad()
def test_it_is_the_paper_s_definition_in_torch_s_own_attention() -> None:
    cross = made()
    expected = by_the_paper(cross, states(), neighbours())
    assert (cross(states(), neighbours()) - expected).abs().max() <= 1e-5
    assert expected[:, CHUNK - 1 :].abs().min() > 0


@given(chunk=st.integers(0, CHUNKS - 1), seed=st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_a_chunk_s_neighbours_change_nothing_before_its_last_token_to_the_bit(chunk: int, seed: int) -> None:
    cross, found = made(), neighbours()
    other = found.states.clone()
    other[:, chunk] = torch.randn(other[:, chunk].shape, generator=torch.Generator().manual_seed(seed + 100))
    before, after = cross(states(), found), cross(states(), Neighbours(other))
    first = (chunk + 1) * CHUNK - 1
    reach = slice(first, first + CHUNK)
    assert torch.equal(before[:, :first], after[:, :first])
    assert (before[:, reach] != after[:, reach]).any(-1).all()
    assert torch.equal(before[:, first + CHUNK :], after[:, first + CHUNK :])


def test_the_first_tokens_get_nothing() -> None:
    result = made()(states(), neighbours())
    assert not result[:, : CHUNK - 1].any() and result[:, CHUNK - 1].all()


@given(cuts=st.lists(st.integers(1, TOKENS - 1), max_size=6, unique=True))
@settings(max_examples=40, deadline=None)
def test_tokens_run_in_pieces_are_as_run_at_once(cuts: list[int]) -> None:
    cross, x = made(), states()
    edges = [0, *sorted(cuts), TOKENS]
    pieces = [cross(x[:, a:b], neighbours(), start=a) for a, b in pairwise(edges)]
    assert torch.allclose(torch.cat(pieces, 1), cross(x, neighbours()), atol=1e-5)


def test_tokens_past_the_last_chunk_s_reach_get_nothing() -> None:
    x = states(tokens=TOKENS + 2 * CHUNK)
    result = made()(x, neighbours())
    end = TOKENS + CHUNK - 1
    assert result[:, end - 1].all() and not result[:, end:].any()
    assert not made()(x[:, end:], neighbours(), start=end).any()


def test_padding_is_not_attended_and_a_chunk_without_neighbours_gives_nothing() -> None:
    cross, found = made(), neighbours()
    mask = torch.ones(2, CHUNKS, 2, 8, dtype=torch.bool)
    assert torch.allclose(cross(states(), replace(found, mask=mask)), cross(states(), found), atol=1e-6)
    mask[:, 1, :, 5:] = False
    mask[0, 2] = False
    noisy = torch.where(mask[..., None], found.states, torch.full_like(found.states, 1e3))
    masked = cross(states(), replace(found, mask=mask))
    assert torch.equal(masked, cross(states(), Neighbours(noisy, mask)))
    short = Neighbours(found.states[:, 1:2, :, :5])
    first = 2 * CHUNK - 1
    expected = cross(states()[:, first : first + CHUNK], short, start=CHUNK - 1)
    assert torch.allclose(masked[:, first : first + CHUNK], expected, atol=1e-6)
    reach = slice(3 * CHUNK - 1, 4 * CHUNK - 1)
    assert not masked[0, reach].any() and masked[1, reach].all() and torch.isfinite(masked).all()


def model_with(cross: list[ChunkedCrossAttention]) -> tuple[Transformer, list[RetrievalBlock]]:
    model = Transformer(DECODER, seed=3).requires_grad_(False)
    for parameter in model.parameters():
        parameter.mul_(4 if parameter.ndim > 1 else 1)
    return model, add_retrieval(model.blocks, dict(zip((1, 3), cross, strict=True)))


def attend_to(blocks: list[RetrievalBlock], found: Neighbours | None) -> None:
    for block in blocks:
        block.neighbours = found


IDS = torch.randint(0, 50, (2, TOKENS), generator=torch.Generator().manual_seed(5))


def test_a_decoder_with_fresh_retrieval_is_its_base_to_the_bit() -> None:
    base, _ = model_with([ChunkedCrossAttention(CONFIG), ChunkedCrossAttention(CONFIG)])
    model, blocks = model_with([ChunkedCrossAttention(CONFIG), ChunkedCrossAttention(CONFIG)])
    plain = Transformer(DECODER, seed=3).requires_grad_(False)
    for parameter in plain.parameters():
        parameter.mul_(4 if parameter.ndim > 1 else 1)
    attend_to(blocks, neighbours())
    with torch.no_grad():  # where gradients are recorded, training's kernels round otherwise than the base's
        assert torch.equal(model(IDS), plain(IDS))
        assert torch.equal(base(IDS), plain(IDS)), "and without neighbours"


def test_a_decoder_with_retrieval_is_causal_in_its_neighbours_to_the_bit() -> None:
    model, blocks = model_with([made(1), made(2)])
    found = neighbours()
    other = found.states.clone()
    other[:, 2] += 1
    attend_to(blocks, found)
    before = model(IDS)
    attend_to(blocks, Neighbours(other))
    after = model(IDS)
    attend_to(blocks, None)
    first = 3 * CHUNK - 1
    assert torch.equal(before[:, :first], after[:, :first])
    assert (before[:, first:] != after[:, first:]).any(-1).all()
    assert not torch.allclose(before, model(IDS), atol=1e-3)


def test_gradients_reach_the_output_first_and_then_all_of_it() -> None:
    cross = ChunkedCrossAttention(CONFIG)
    found = neighbours()
    cross(states(), found).sum().backward()
    assert cross.o.weight.grad is not None and cross.o.weight.grad.abs().sum() > 0
    with torch.no_grad():
        cross.o.weight.add_(0.1)
    cross.zero_grad()
    cross(states(), found).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in cross.parameters())


def test_a_parallel_block_is_refused() -> None:
    model = Transformer(replace(DECODER, placement="parallel"))
    with pytest.raises(UnsupportedError, match="between attention and MLP"):
        add_retrieval(model.blocks, {0: made()})
