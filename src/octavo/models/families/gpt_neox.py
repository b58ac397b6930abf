"""GPT-NeoX, Pythia, StableLM-alpha: attention and plain MLP side by side, each with its LayerNorm; partial rotary.

Hub files hold q, k and v in one matrix, by head.
Source: Black et al. 2022 (arXiv 2204.06745), and the hub's `gpt_neox` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, with_biases, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.keys import KeyRule, linear_rules
from octavo.models.mapping.rope import RopeSpelling
from octavo.models.mapping.tables import gguf_names
from octavo.nn.config import NormConfig, TransformerConfig

SPELLING = RopeSpelling(partial=0.25, theta_key="rotary_emb_base", partial_key="rotary_pct")


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    norm = NormConfig("layer", reader.number("layer_norm_eps"))
    config = read_decoder(reader, norm, gated=False, activation="gelu", rope=SPELLING)
    bias = reader.flag("attention_bias", default=True)
    parallel = reader.flag("use_parallel_residual", default=True)
    config = with_biases(config, qkv=bias, output=bias, mlp=True)
    return replace(config, placement="parallel_two" if parallel else "pre")


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    written = write_decoder(config)
    theta, partial = written.pop("rope_theta"), written.pop("partial_rotary_factor", 1.0)
    return {
        **written,
        "rotary_emb_base": theta,
        "rotary_pct": partial,
        "attention_bias": config.attention.qkv_bias,
        "use_parallel_residual": config.placement == "parallel_two",
    }


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata of the architecture `gptneox` in hub spelling."""
    config = gguf_decoder.decoder_config(reader, present)
    spelt = {"rotary_pct": config.pop("partial_rotary_factor"), "rotary_emb_base": config.pop("rope_theta")}
    parallel = reader.flag("use_parallel_residual", default=True)
    return {**config, **spelt, "hidden_act": "gelu", "use_parallel_residual": parallel}


DROPOUTS = ("hidden_dropout", "classifier_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob")
LAYER = "gpt_neox.layers.{i}."
RULES = (
    KeyRule("gpt_neox.embed_in.weight", ("embed_tokens.weight",)),
    *linear_rules(LAYER + "input_layernorm", "blocks.{i}.attention_norm"),
    *linear_rules(LAYER + "attention.query_key_value", *gguf_names.QKV, layout="groups"),
    *linear_rules(LAYER + "attention.dense", "blocks.{i}.attention.o"),
    *linear_rules(LAYER + "post_attention_layernorm", "blocks.{i}.mlp_norm"),
    *linear_rules(LAYER + "mlp.dense_h_to_4h", "blocks.{i}.mlp.up"),
    *linear_rules(LAYER + "mlp.dense_4h_to_h", "blocks.{i}.mlp.down"),
    *linear_rules("gpt_neox.final_layer_norm", "norm"),
    KeyRule("embed_out.weight", ("lm_head.weight",)),
)
GPT_NEOX = Family(
    name="gpt_neox",
    architecture="GPTNeoXForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=RULES,
    prefix="gpt_neox.",
    gguf=GgufLayout(
        "gptneox",
        gguf_hub_config,
        gguf_names.FUSED_RULES,
        metadata=lambda config: {"use_parallel_residual": config.placement == "parallel_two"},
    ),
    harmless_keys={
        **dict.fromkeys(DROPOUTS, "dropout acts in training only"),
        "is_decoder": "it always is one",
    },
    harmless_tensors=(r"gpt_neox\.layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)",),
)
