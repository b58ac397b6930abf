"""How a config runs on the C kernels: the sizes and switches that they are made with, or what of it they do not know.

Unusual: a switch that `tables/kernel_switches.py` does not list must have its default, so that one added to the config
later is refused until the kernels learn it. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass

import numpy as np
from numpy.typing import NDArray

from octavo.errors import UnsupportedError, brief
from octavo.models.formats.blocks import encoded
from octavo.models.tables.kernel_switches import (
    ACTIVATIONS,
    MAX_GROUP_TOP,
    MAX_GROUPS,
    NORM_KINDS,
    SCORES,
    SWITCHES,
    Switches,
)
from octavo.models.tensors import StoredTensor
from octavo.nn.config import AttentionConfig, GrowthConfig, MoeConfig, RopeConfig, TransformerConfig
from octavo.nn.frequencies import alibi_slopes, at_length, inverse_frequencies
from octavo.nn.kernels.handle import Rotary
from octavo.nn.kernels.layers import Layer
from octavo.nn.kernels.tables.codes import MAX_HEAD_DIM, QK_NORMS
from octavo.nn.shapes import LATENT_NORM_EPS, kept_key


@dataclass(frozen=True)
class Plan:
    """What `KernelModel` is made with. shape: fields of `interface.Shape`. moe: those of `MoeShape`, or None;
    latent: those of `LatentShape`, or None. slopes: of ALiBi, (num_heads,), or None.
    """

    shape: Mapping[str, float]
    moe: Mapping[str, float] | None
    latent: Mapping[str, float] | None
    layers: tuple[Layer, ...]
    rotaries: tuple[Rotary, ...]
    slopes: NDArray[np.float32] | None


def plan(config: TransformerConfig, length: int) -> Plan:
    """How the kernels run a config. Raises UnsupportedError that names a switch or a shape which they do not know.

    length: of the longest sequence that there is memory for; rotary embedding that depends on it has it once for all,
    as kept keys would be wrong if it changed on the way.
    """
    refuse_unknown_switches(config)
    _refuse_unknown_shapes(config)
    layers, ropes = layers_of(config)
    slopes = _slopes(config.attention) if config.attention.alibi else None
    moe = None if config.moe is None else _moe(config.moe)
    rotaries = tuple(Rotary(inverse_frequencies(at_length(rope, length)), rope.attention_factor) for rope in ropes)
    return Plan(_shape(config), moe, _latent(config), layers, rotaries, slopes)


def _latent(config: TransformerConfig) -> dict[str, float] | None:
    attention, latent, rope = config.attention, config.attention.latent, config.rope
    if latent is None or rope is None:
        return None
    return {
        "kv_rank": latent.kv_rank,
        "q_rank": latent.q_rank or 0,
        "rotary_dim": rope.rotary_dim,
        "kept_dim": attention.head_dim - rope.rotary_dim,
        "value_dim": latent.value_dim,
        "eps": LATENT_NORM_EPS,
    }


def _shape(config: TransformerConfig) -> dict[str, float]:
    attention, (kv_heads, key_width) = config.attention, kept_key(config)
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "context_length": config.context_length,
        "num_heads": attention.num_heads,
        "num_kv_heads": kv_heads,
        "head_dim": key_width,
        "intermediate_size": config.mlp.intermediate_size,
        "gated": config.mlp.gated,
        "activation": ACTIVATIONS[config.mlp.activation],
        "norm_kind": NORM_KINDS[config.norm.kind],
        "norm_eps": config.norm.eps,
        "qk_norm": QK_NORMS[attention.qk_norm],
        "qk_norm_after": attention.qk_norm_after_rope,
        "alibi_after": attention.alibi_after_scale,
        "parallel": config.placement in ("parallel", "parallel_two"),
        "post": config.placement == "post",
        "attention_scale": attention.scale or attention.head_dim**-0.5,
        "attention_softcap": attention.softcap or 0,
        "attention_clip": attention.clip or 0,
        "output_gate": attention.output_gate,
        "chunked": attention.chunked,
        **({} if attention.growth is None else _growth(attention.growth)),
        "mlp_limit": config.mlp.limit or 0,
        "embedding_scale": config.embedding_scale,
        "residual_scale": config.residual_scale,
        "logit_scale": config.logit_scale,
        "logit_softcap": config.logit_softcap or 0,
    }


def _growth(growth: GrowthConfig) -> dict[str, float]:
    first = {"growth_first": growth.first, "growth_turned": growth.turned}
    return {"growth": growth.slope, "growth_length": growth.length, **first}


def _moe(moe: MoeConfig) -> dict[str, float]:
    return {
        "experts": moe.num_experts,
        "experts_per_token": moe.experts_per_token,
        "expert_size": moe.intermediate_size,
        "shared_size": moe.shared_size or 0,
        "shared_gated": moe.shared_size is not None and moe.shared_gate,
        "scoring": SCORES[moe.scoring],
        "normalise": moe.normalise,
        "scale_input": moe.scale_input,
        "jitter": moe.jitter,
        "groups": moe.groups,
        "groups_kept": moe.groups_kept,
        "group_top": moe.group_top,
        "scale": moe.scale,
    }


def layers_of(config: TransformerConfig) -> tuple[tuple[Layer, ...], list[RopeConfig]]:
    """What differs from block to block, and the rotary embeddings that their indices mean."""
    each = [config.rope_of(layer) for layer in range(config.num_layers)]
    ropes = list(dict.fromkeys(rope for rope in each if rope is not None))
    places = [None if rope is None else ropes.index(rope) for rope in each]
    experts = [config.moe_of(layer) is not None for layer in range(config.num_layers)]
    windows = map(config.window_of, range(config.num_layers))
    return tuple(map(Layer, places, windows, experts)), ropes


def _slopes(attention: AttentionConfig) -> NDArray[np.float32]:
    """Before the scale they are rounded to bfloat16, as Falcon was trained."""
    slopes = np.asarray(alibi_slopes(attention.num_heads), np.float32)
    if attention.alibi_after_scale:
        return slopes
    return encoded(StoredTensor.from_array(slopes), "bf16").dequantize()


def _refuse_unknown_shapes(config: TransformerConfig) -> None:
    attention = config.attention
    width = kept_key(config)[1]
    if width > MAX_HEAD_DIM:
        raise UnsupportedError(f"the kernels know heads of up to {MAX_HEAD_DIM} features, not {width}")
    if attention.latent is not None and config.placement != "pre":
        raise UnsupportedError(f"the kernels do not know latent attention with the norms' placement {config.placement}")
    if attention.num_heads % attention.num_kv_heads:
        raise UnsupportedError(f"{attention.num_heads} heads cannot share {attention.num_kv_heads} KV heads evenly")
    if config.mlp.activation == "xielu" and (config.mlp.gated or config.moe is not None):
        raise UnsupportedError("the kernels know xIELU in plain MLPs alone, not in gated ones or experts")
    if config.moe is not None:
        _refuse_unknown_experts(config.moe)
    for rope in filter(None, (config.rope, *config.rope_layers)):
        if rope.rotary_dim % 2 or rope.rotary_dim > attention.head_dim:
            raise UnsupportedError(f"rotary_dim {rope.rotary_dim} is odd or wider than a head of {attention.head_dim}")


def _refuse_unknown_experts(moe: MoeConfig) -> None:
    if moe.experts_per_token > moe.num_experts:
        raise UnsupportedError(f"a token cannot go to {moe.experts_per_token} of {moe.num_experts} experts")
    size, rest = divmod(moe.num_experts, moe.groups)
    if rest or moe.groups > MAX_GROUPS or not 1 <= moe.groups_kept <= moe.groups:
        raise UnsupportedError(
            f"{moe.groups_kept} of {moe.groups} groups of {moe.num_experts} experts are no choice that the kernels know"
        )
    if moe.groups > 1 and not 1 <= moe.group_top <= min(size, MAX_GROUP_TOP):
        raise UnsupportedError(f"groups of {size} experts cannot be ranked by their best {moe.group_top}")


def refuse_unknown_switches(part: object, switches: Switches = SWITCHES, what: str = "", prefix: str = "") -> None:
    """Raise UnsupportedError that names the first switch of a config which the kernels do not know and it sets.

    switches: those that they know, of `what`. prefix: where in the config the part is.
    """
    assert is_dataclass(part), f"{prefix} is no part of a config"
    known = switches.get(prefix, {})
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
                f"the kernels do not know {what}{name} {brief(value)}; pip install 'octavo[torch]' runs this model on "
                "torch",
                param=name,
            )
        for inner in value if isinstance(value, tuple) else (value,):
            if is_dataclass(inner) and field.name in known:
                refuse_unknown_switches(inner, switches, what, f"{name}.")
