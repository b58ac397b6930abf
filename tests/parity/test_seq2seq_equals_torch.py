"""The Transformer of 2017 against torch's own `nn.Transformer`, norms on each sum, as printed, or before sublayers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from octavo.models.transformer import Transformer
from octavo.nn.config import AttentionConfig, EncoderConfig, MlpConfig, NormConfig, TransformerConfig

WIDTH, HEADS, WIDE, LAYERS, VOCAB, PLACES = 48, 4, 96, 3, 60, 40


def theirs(placement: str) -> nn.Transformer:
    """Sums that are normalised each have no other norm after the last block, as in the paper; torch's default has."""
    shape = {"dim_feedforward": WIDE, "dropout": 0.0, "batch_first": True, "norm_first": placement == "pre"}
    last = (lambda: nn.LayerNorm(WIDTH)) if placement == "pre" else (lambda: None)
    block = nn.TransformerEncoderLayer(WIDTH, HEADS, **shape)  # type: ignore[arg-type]
    encoder = nn.TransformerEncoder(block, LAYERS, last(), enable_nested_tensor=False)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(WIDTH, HEADS, **shape), LAYERS, last())  # type: ignore[arg-type]
    return nn.Transformer(WIDTH, HEADS, custom_encoder=encoder, custom_decoder=decoder, batch_first=True)


def ours(placement: str) -> Transformer:
    assert placement in ("pre", "post")
    side = TransformerConfig(
        VOCAB, WIDTH, LAYERS, PLACES, NormConfig("layer", 1e-5),
        AttentionConfig(HEADS, HEADS, WIDTH // HEADS, qkv_bias=True, output_bias=True),
        MlpConfig(WIDE, "relu", gated=False, bias=True), rope=None, tie_embeddings=True, placement=placement,  # type: ignore[arg-type]
        embedding_scale=math.sqrt(WIDTH), sinusoidal=True, encoder=EncoderConfig(),
    )  # fmt: skip
    return Transformer(replace(side, encoder=None, memory=side))


def named_as_ours(state: dict[str, Tensor], placement: str) -> dict[str, Tensor]:
    """torch's parameters by our names."""
    suffix = "_norm" if placement == "pre" else "_output_norm"
    parts = {
        "encoder": {"self_attn": "attention", "norm1": f"attention{suffix}", "norm2": f"mlp{suffix}"},
        "decoder": {
            "self_attn": "attention", "multihead_attn": "cross_attention", "norm1": f"attention{suffix}",
            "norm2": f"cross_attention{suffix}", "norm3": f"mlp{suffix}",
        },
    }  # fmt: skip
    named = {}
    for name, tensor in state.items():
        side, *path = name.split(".")
        prefix = "memory." if side == "encoder" else ""
        if path[0] == "norm":
            named[f"{prefix}norm.{path[1]}"] = tensor
            continue
        _, layer, part, *rest = path
        block = f"{prefix}blocks.{layer}."
        part = {**parts[side], "linear1": "mlp.up", "linear2": "mlp.down"}[part]
        kind = rest[-1].removeprefix("in_proj_")
        if rest[-1].startswith("in_proj"):
            named.update(
                {f"{block}{part}.{one}.{kind}": third for one, third in zip("qkv", tensor.chunk(3), strict=True)}
            )
        else:
            named[f"{block}{part}.{'o.' if rest[0] == 'out_proj' else ''}{kind}"] = tensor
    return named


def embedded(tokens: Tensor, table: Tensor) -> Tensor:
    """Section 3.4 and 3.5 of the paper, sines in the first half as Marian has them."""
    angles = torch.arange(PLACES)[:, None] / 10000 ** (torch.arange(WIDTH // 2) * 2 / WIDTH)
    places = torch.cat([angles.sin(), angles.cos()], -1)
    return table[tokens] * math.sqrt(WIDTH) + places[: tokens.shape[1]]


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_a_padded_batch_equals_torch(placement: str) -> None:
    torch.manual_seed(4)
    peer, model = theirs(placement).eval(), ours(placement)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        table = torch.randn(VOCAB, WIDTH) * 0.2
        state = {**named_as_ours(peer.state_dict(), placement), "embed_tokens.weight": table}
        model.load_state_dict(state, strict=False)
        assert {name for name, _ in model.named_parameters()} == set(state)
        source, target = torch.randint(VOCAB, (3, 17)), torch.randint(VOCAB, (3, 12))
        mask = torch.arange(17)[None] < torch.tensor([17, 5, 1])[:, None]
        hidden = peer(
            embedded(source, table),
            embedded(target, table),
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(12),
            src_key_padding_mask=mask.logical_not(),
            memory_key_padding_mask=mask.logical_not(),
            tgt_is_causal=True,
        )
        got = model(target, memory=model.remember(source, mask))
    assert (got - hidden @ table.T).abs().max() < 1e-5 * (hidden @ table.T).abs().max()
