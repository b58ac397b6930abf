"""The parts of a block against plain formulas, and the config's parameters against the module's."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from octavo.models.transformer import Transformer
from octavo.nn.config import AttentionConfig, MlpConfig, MoeConfig, NormConfig, RopeConfig, TransformerConfig
from octavo.nn.linear import Linear
from octavo.nn.moe import Moe
from octavo.nn.norms import HeadNorm, LayerNorm, RmsNorm
from octavo.nn.rotary import cos_sin, rotate
from octavo.nn.scoring import Scoring, alibi_slopes, scaled_attention, visible
from octavo.nn.shapes import parameter_shapes

CONFIG = TransformerConfig(
    vocab_size=50,
    hidden_size=24,
    num_layers=2,
    context_length=32,
    norm=NormConfig("rms", 1e-5),
    attention=AttentionConfig(4, 2, 8),
    mlp=MlpConfig(40, "silu", gated=True),
    rope=RopeConfig(1e4, 8),
    tie_embeddings=False,
)
SHAPES: dict[str, TransformerConfig] = {
    "gated": CONFIG,
    "tied": replace(CONFIG, tie_embeddings=True),
    "learned positions, plain, biases": replace(
        CONFIG,
        rope=None,
        norm=NormConfig("layer", 1e-5),
        attention=AttentionConfig(3, 1, 8, qkv_bias=True, output_bias=True),
        mlp=MlpConfig(40, "gelu_tanh", gated=False, bias=True),
    ),
    "sandwich, heads normalised, windows, two rotary embeddings, caps": replace(
        CONFIG,
        norm=NormConfig("rms", 1e-5, offset=True, round_last=True),
        placement="sandwich",
        attention=AttentionConfig(4, 2, 8, qk_norm="head", scale=0.3, softcap=3.0),
        windows=(5, None),
        rope_layers=(RopeConfig(100.0, 4), RopeConfig(1e4, 8)),
        embedding_scale=3.0,
        logit_softcap=5.0,
    ),
    "output norms, q and k normalised whole, scales": replace(
        CONFIG,
        placement="output",
        attention=AttentionConfig(4, 2, 8, qk_norm="full"),
        residual_scale=0.5,
        logit_scale=2.0,
    ),
    "parallel, heads with a norm each, a block without positions": replace(
        CONFIG,
        norm=NormConfig("layer_without_bias", 1e-5),
        placement="parallel",
        attention=AttentionConfig(4, 2, 8, qk_norm="per_head"),
        rope_layers=(CONFIG.rope, None),
    ),
    "parallel with two norms, ALiBi, a biased head": replace(
        CONFIG,
        norm=NormConfig("layer", 1e-5),
        placement="parallel_two",
        attention=AttentionConfig(4, 4, 6, alibi=True),
        rope=None,
        head_bias=True,
    ),
    "experts in one block, with a shared one": replace(CONFIG, moe=MoeConfig(4, 2, 16, False, 12, (False, True))),
    "experts alone": replace(CONFIG, moe=MoeConfig(3, 2, 16, True, None, (True, True))),
    "biases on q, k, v alone": replace(CONFIG, attention=AttentionConfig(4, 4, 6, qkv_bias=True), rope=None),
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_parameters_have_the_canonical_names_and_shapes_in_order(config: TransformerConfig) -> None:
    names = {name: tuple(parameter.shape) for name, parameter in Transformer(config).named_parameters()}
    assert names == parameter_shapes(config)


@pytest.mark.parametrize("rotary_dim", [8, 4, 2])
def test_rotation_turns_each_pair_by_its_angle_and_passes_the_rest(rotary_dim: int) -> None:
    x, positions = noise(2, 3, 5, 8), torch.tensor([[0, 1, 2, 7, 100], [3, 4, 5, 6, 7]])
    turned = rotate(x, *cos_sin(RopeConfig(100.0, rotary_dim), positions))
    half = rotary_dim // 2
    for feature in range(half):
        angle = positions.double() * 100.0 ** (-2 * feature / rotary_dim)
        turn = torch.polar(torch.ones_like(angle), angle)[:, None]
        expected = torch.complex(x[..., feature], x[..., feature + half]) * turn
        assert torch.allclose(turned[..., feature], expected.real.float(), atol=1e-6)
        assert torch.allclose(turned[..., feature + half], expected.imag.float(), atol=1e-6)
    assert torch.equal(turned[..., rotary_dim:], x[..., rotary_dim:])


def test_rotated_scores_depend_on_the_distance_alone() -> None:
    q, k = noise(1, 1, 1, 64), noise(1, 1, 1, 64, seed=1)

    def score(at: int, behind: int) -> float:
        turns = [cos_sin(RopeConfig(1e4, 64), torch.tensor([[place]])) for place in (at, at - behind)]
        return float((rotate(q, *turns[0]) * rotate(k, *turns[1])).sum())

    assert score(7000, 5) == pytest.approx(score(5, 5), abs=1e-4)


def test_rms_norm_rounds_before_it_multiplies_the_weight() -> None:
    norm = RmsNorm(64, 1e-5).to(torch.bfloat16).requires_grad_(False)
    norm.weight.copy_(noise(64))
    x = noise(7, 64, seed=1).to(torch.bfloat16)
    exact = x.float() / (x.float().pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    assert torch.equal(norm(x), exact.to(torch.bfloat16) * norm.weight)


def test_a_norm_with_an_offset_multiplies_one_more_and_may_round_once() -> None:
    norm = RmsNorm(64, 1e-5, offset=True, round_last=True).to(torch.bfloat16).requires_grad_(False)
    norm.weight.copy_(0.2 * noise(64))
    x = noise(7, 64, seed=1).to(torch.bfloat16)
    exact = x.float() / (x.float().pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    assert torch.equal(norm(x), (exact * (1 + norm.weight.float())).to(torch.bfloat16))


def test_each_head_is_normalised_on_its_own() -> None:
    norm = HeadNorm(12, 3, 1e-3).requires_grad_(False)
    norm.weight.copy_(noise(12))
    x = noise(5, 12, seed=2)
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        alone = LayerNorm(4, 1e-3, bias=False).requires_grad_(False)
        alone.weight.copy_(norm.weight[part])
        assert torch.allclose(norm(x)[:, part], alone(x[:, part]), atol=1e-6)


def test_layer_norm_is_the_formula() -> None:
    norm = LayerNorm(32, 1e-3).requires_grad_(False)
    norm.weight.copy_(noise(32))
    norm.bias.copy_(noise(32, seed=1))
    x = noise(5, 32, seed=2)
    centred = x - x.mean(-1, keepdim=True)
    expected = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-3).sqrt() * norm.weight + norm.bias
    assert torch.allclose(norm(x), expected, atol=1e-6)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_is_the_formula_with_grouped_heads(kv_heads: int) -> None:
    q, k, v = noise(2, 4, 6, 8), noise(2, kv_heads, 6, 8, seed=1), noise(2, kv_heads, 6, 8, seed=2)
    whole = scaled_attention(q, k, v, Scoring())
    for head in range(4):
        group = head // (4 // kv_heads)
        scores = q[:, head] @ k[:, group].transpose(1, 2) / math.sqrt(8)
        scores = scores.masked_fill(~torch.ones(6, 6, dtype=torch.bool).tril(), -math.inf)
        assert torch.allclose(whole[:, head], scores.softmax(-1) @ v[:, group], atol=1e-6)


@pytest.mark.parametrize(("tokens", "start"), [(20, 0), (7, 13), (1, 19)])
@pytest.mark.parametrize("window", [None, 1, 8, 20])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_scores_are_capped_and_windowed_wherever_the_queries_begin(
    tokens: int, start: int, window: int | None, softcap: float | None
) -> None:
    q, k, v = noise(1, 4, 20, 8), noise(1, 2, 20, 8, seed=1), noise(1, 2, 20, 8, seed=2)
    scoring = Scoring(scale=0.7, softcap=softcap, window=window)
    first = scoring.first_seen(start)
    got = scaled_attention(q[:, :, start:], k[:, :, first:], v[:, :, first:], scoring, start=start, first_key=first)
    for head in range(4):
        scores = 0.7 * q[0, head] @ k[0, head // 2].T
        scores = scores if softcap is None else softcap * (scores / softcap).tanh()
        for query in range(20):
            for key in range(20):
                if key > query or (window is not None and key <= query - window):
                    scores[query, key] = -math.inf
        assert torch.allclose(got[0, head], (scores.softmax(-1) @ v[0, head // 2])[start:], atol=1e-6)


def test_alibi_adds_a_slope_for_each_step_back_scaled_as_the_scores() -> None:
    assert alibi_slopes(4) == (2**-2, 2**-4, 2**-6, 2**-8)
    assert alibi_slopes(6) == (*alibi_slopes(4), 2**-1, 2**-3)
    q, k, v = noise(1, 4, 9, 8), noise(1, 4, 9, 8, seed=1), noise(1, 4, 9, 8, seed=2)
    got = scaled_attention(q, k, v, Scoring(slopes=alibi_slopes(4)))
    back = (torch.arange(9)[:, None] - torch.arange(9)).float()
    for head, slope in enumerate(alibi_slopes(4)):
        scores = (q[0, head] @ k[0, head].T - slope * back) / math.sqrt(8)
        scores = scores.masked_fill(back < 0, -math.inf)
        assert torch.allclose(got[0, head], scores.softmax(-1) @ v[0, head], atol=1e-6)


def test_a_padded_mask_shows_true_earlier_keys_and_leaves_no_query_blind() -> None:
    mask = torch.tensor([[False, False, True, True]])
    seen = visible(4, 4, 0, Scoring(), mask, mask.device)[0, 0]
    assert seen.int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]


@pytest.mark.parametrize(("normalise", "shared"), [(True, None), (False, 12)])
def test_experts_mix_the_answers_of_those_that_score_highest(normalise: bool, shared: int | None) -> None:
    mlp = MlpConfig(40, "silu", gated=True)
    layer = Moe(MoeConfig(5, 2, 16, normalise, shared, (True,)), mlp, 8).requires_grad_(False)
    for index, parameter in enumerate(layer.parameters()):
        parameter.copy_(noise(*parameter.shape, seed=index) / 2)
    x = noise(2, 7, 8)
    got = layer(x)
    for row, place in ((0, 0), (1, 6), (0, 3)):
        token = x[row, place]
        scores = (layer.router.weight @ token).softmax(0)
        first, second = scores.argsort(descending=True)[:2].tolist()
        total = scores[first] + scores[second] if normalise else 1.0
        expected = sum(scores[index] / total * layer.experts[index](token) for index in (first, second))
        if layer.shared is not None and layer.shared_gate is not None:
            expected = expected + layer.shared_gate(token).sigmoid() * layer.shared(token)
        assert torch.allclose(got[row, place], expected, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_says_what_it_stores(bias: bool) -> None:
    layer = Linear(6, 4, bias=bias).to(torch.bfloat16)
    assert layer.nbytes == 6 * 4 * 2
    assert layer.dequantize() is layer.weight
    assert (layer.bias is not None) == bias


def test_fresh_weights_have_the_published_spread_and_follow_the_seed() -> None:
    config = replace(CONFIG, hidden_size=128, vocab_size=500, num_layers=8, attention=AttentionConfig(4, 2, 32))
    config = replace(config, rope=RopeConfig(1e4, 32))
    model = Transformer(config, seed=3)
    weights = dict(model.named_parameters())
    assert weights["embed_tokens.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert weights["blocks.5.attention.q.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    for name in ("blocks.5.attention.o.weight", "blocks.0.mlp.down.weight"):
        assert weights[name].std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert torch.equal(weights["norm.weight"], torch.ones(128))
    same, other = Transformer(config, seed=3).state_dict(), Transformer(config, seed=4).state_dict()
    assert all(torch.equal(tensor, same[name]) for name, tensor in model.state_dict().items())
    assert not torch.equal(same["embed_tokens.weight"], other["embed_tokens.weight"])


def test_gradients_reach_every_parameter() -> None:
    for config in SHAPES.values():
        model = Transformer(config)
        tokens = torch.randint(0, 50, (2, 32), generator=torch.Generator().manual_seed(0))
        model(tokens).logsumexp(-1).pow(2).sum().backward()
        silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        # A bias of k shifts all scores of a query alike, so the softmax does not see it.
        assert [name for name in silent if not name.endswith("attention.k.bias")] == []


def test_the_tokens_after_a_position_do_not_change_it() -> None:
    for config in SHAPES.values():
        model = Transformer(config).requires_grad_(False)
        tokens = torch.randint(0, 50, (1, 20), generator=torch.Generator().manual_seed(0))
        changed: Any = tokens.clone()
        changed[0, 12:] = (changed[0, 12:] + 1) % 50
        assert torch.allclose(model(tokens)[0, :12], model(changed)[0, :12], atol=1e-6)
        assert not torch.allclose(model(tokens)[0, 12:], model(changed)[0, 12:], atol=1e-3)
