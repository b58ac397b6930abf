"""T5, T5 v1.1 (Flan) and CodeT5+: encoder-decoder with a relative bias; scores are not divided by a root. An encoder
alone is read as one.

Unusual: where the output is tied, logits are, by the root of the width; files say so in two generations of keys.
Source: Raffel et al. 2019 (arXiv 1910.10683), Shazeer 2020 (arXiv 2002.05202), and the hub's `t5` config.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule
from octavo.models.mapping.tables.config_keys import SEARCHED
from octavo.models.mapping.tables.spellings import ACTIVATIONS, HUB_ACTIVATIONS
from octavo.nn.config import (
    AttentionConfig,
    EncoderConfig,
    MlpConfig,
    NormConfig,
    RelativeConfig,
    TransformerConfig,
)

TANH = "gated-gelu"
"""A `feed_forward_proj` whose gelu has always meant the approximation by tanh; any other names its activation."""
FORMS = {f"{gate}{name}": f"{gate}{name}" for name in ACTIVATIONS for gate in ("", "gated-")}
LONGEST = 1 << 20
"""Distances past the last bucket share it, so nothing limits a sequence but memory."""


def read_config(reader: ConfigReader, *, both_sides: tuple[bool, ...] = (True,)) -> TransformerConfig:
    """A hub config to switches. both_sides: what is_encoder_decoder may be where it is not an encoder alone."""
    form = reader.choice("feed_forward_proj", table=FORMS, default="relu")
    heads, layers = reader.integer("num_heads", high=65536), reader.integer("num_layers", high=4096)
    gated, named = form.startswith("gated-"), "gelu_new" if form == TANH else form.removeprefix("gated-")
    activation = reader.choice("dense_act_fn", table=ACTIVATIONS, default=named)
    reader.neutral({"is_gated_act": (gated,)})
    tied = reader.flag("tie_word_embeddings", default=True)
    width = reader.integer("d_model")
    config = TransformerConfig(
        vocab_size=reader.integer("vocab_size"),
        hidden_size=width,
        num_layers=reader.integer("num_decoder_layers", default=layers, high=4096),
        context_length=LONGEST,
        norm=NormConfig("rms", reader.number("layer_norm_epsilon", default=1e-6)),
        attention=AttentionConfig(
            heads,
            heads,
            reader.integer("d_kv"),
            scale=1.0,
            relative=RelativeConfig(
                reader.integer("relative_attention_num_buckets", default=32),
                reader.integer("relative_attention_max_distance", default=128),
            ),
        ),
        mlp=MlpConfig(reader.integer("d_ff"), activation, gated=gated),
        rope=None,
        tie_embeddings=tied,
        logit_scale=width**-0.5 if reader.flag("scale_decoder_outputs", default=tied) else 1.0,
    )
    encoder = replace(config, num_layers=layers, logit_scale=1.0, encoder=EncoderConfig())
    alone = str(reader.raw.get("architectures")).endswith("EncoderModel']")
    reader.neutral({"is_encoder_decoder": (False, True) if alone else both_sides})
    return encoder if alone else replace(config, memory=encoder)


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    attention, relative, memory = config.attention, config.attention.relative, config.memory or config
    assert relative is not None, "T5 counts distances"
    activation = HUB_ACTIVATIONS[config.mlp.activation]
    form = f"{'gated-' if config.mlp.gated else ''}{activation}"
    return {
        "architectures": ["T5EncoderModel" if config.memory is None else "T5ForConditionalGeneration"],
        "vocab_size": config.vocab_size,
        "d_model": config.hidden_size,
        "d_kv": attention.head_dim,
        "d_ff": config.mlp.intermediate_size,
        "num_layers": memory.num_layers,
        "num_decoder_layers": config.num_layers,
        "num_heads": attention.num_heads,
        "relative_attention_num_buckets": relative.buckets,
        "relative_attention_max_distance": relative.max_distance,
        "layer_norm_epsilon": config.norm.eps,
        "feed_forward_proj": TANH if form == "gated-gelu_pytorch_tanh" else form,
        **({"dense_act_fn": activation, "is_gated_act": True} if form == TANH else {}),
        "tie_word_embeddings": config.tie_embeddings,
        "scale_decoder_outputs": config.logit_scale != 1,
        "is_encoder_decoder": config.memory is not None,
    }


def stack(hub: str, ours: str, *, cross: bool) -> tuple[KeyRule, ...]:
    """The blocks of one side."""
    layer, block = f"{hub}.block.{{i}}.layer.", f"{ours}blocks.{{i}}."
    parts = [("SelfAttention", "attention"), *([("EncDecAttention", "cross_attention")] if cross else [])]
    rules = []
    for place, (name, part) in enumerate(parts):
        rules += [KeyRule(f"{layer}{place}.{name}.{m}.weight", (f"{block}{part}.{m}.weight",)) for m in "qkvo"]
        rules.append(KeyRule(f"{layer}{place}.layer_norm.weight", (f"{block}{part}_norm.weight",)))
    mlp = f"{layer}{len(parts)}."
    relative = f"{hub}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return (
        *rules,
        KeyRule(relative, (f"{ours}relative_bias.weight",)),
        KeyRule(f"{mlp}layer_norm.weight", (f"{block}mlp_norm.weight",)),
        KeyRule(f"{mlp}DenseReluDense.wi.weight", (f"{block}mlp.up.weight",), when=lambda config: not config.mlp.gated),
        KeyRule(f"{mlp}DenseReluDense.wi_0.weight", (f"{block}mlp.gate.weight",)),
        KeyRule(f"{mlp}DenseReluDense.wi_1.weight", (f"{block}mlp.up.weight",), when=lambda config: config.mlp.gated),
        KeyRule(f"{mlp}DenseReluDense.wo.weight", (f"{block}mlp.down.weight",)),
        KeyRule(f"{hub}.final_layer_norm.weight", (f"{ours}norm.weight",)),
    )


def _of(rules: tuple[KeyRule, ...], *, alone: bool) -> tuple[KeyRule, ...]:
    """The rules, for encoders without a decoder or for both sides."""

    def holds(rule: KeyRule, config: TransformerConfig) -> bool:
        return (config.memory is None) == alone and rule.when(config)

    return tuple(replace(rule, when=partial(holds, rule)) for rule in rules)


T5 = Family(
    name="t5",
    architecture="T5ForConditionalGeneration",
    read_config=read_config,
    write_config=write_config,
    rules=(
        KeyRule("shared.weight", ("embed_tokens.weight",)),
        KeyRule("encoder.embed_tokens.weight", ("embed_tokens.weight",)),
        *stack("encoder", "memory.", cross=False),
        *_of(stack("encoder", "", cross=False), alone=True),
        *_of(stack("decoder", "", cross=True), alone=False),
        KeyRule("lm_head.weight", ("lm_head.weight",)),
    ),
    prefix="",
    harmless_keys={
        **dict.fromkeys(("dropout_rate", "classifier_dropout"), "dropout acts in training only"),
        "initializer_factor": "training only",
        "n_positions": "distances have no limit",
        **SEARCHED,
        **dict.fromkeys(("output_past", "gradient_checkpointing", "tokenizer_class"), "how peers are called"),
    },
    neutral_values={"is_encoder_decoder": (True, False), "is_decoder": (False,)},
    harmless_tensors=(
        r"(encoder|decoder)\.embed_tokens\.weight",
        r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative.*",
    ),
)
MT5 = replace(
    T5,
    name="mt5",
    architecture="MT5ForConditionalGeneration",
    read_config=lambda reader: replace(read_config(reader), logit_scale=1.0),
    write_config=lambda config: {
        **write_config(config), "architectures": [f"M{write_config(config)['architectures'][0]}"]
    },
)  # fmt: skip
"""Multilingual T5, a T5 v1.1 whose logits are never scaled (Xue et al. 2020, arXiv 2010.11934)."""
