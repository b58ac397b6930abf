"""MiniCPM 1 and 2: LLaMA's graph with scales of the embeddings, of what each sublayer adds, and of the logits.

Peers run the checkpoint's code for it; here no code of a checkpoint runs. Source: Hu et al. 2024 (arXiv 2404.06395),
and the hub's `minicpm` config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from octavo.models.mapping import gguf_decoder
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.decoder import read_decoder, rms, write_decoder
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.gguf import rounded
from octavo.models.mapping.tables import gguf_names
from octavo.models.mapping.tables.hub_names import LLAMA_RULES, OLD_BUFFERS
from octavo.nn.config import TransformerConfig


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches."""
    config = read_decoder(reader, rms(reader), tie=True)
    return scaled(reader, config, embedding=1.0, depth=config.num_layers**0.5, base=config.hidden_size)


def scaled(
    reader: ConfigReader, config: TransformerConfig, *, embedding: float, depth: float, base: int
) -> TransformerConfig:
    """The config with its scales; a head narrows the states to `base` features before it reads them.

    embedding, depth, base: where the config does not say.
    """
    return replace(
        config,
        embedding_scale=reader.number("scale_emb", default=embedding),
        residual_scale=reader.number("scale_depth", default=depth) / config.num_layers**0.5,
        logit_scale=reader.integer("dim_model_base", default=base) / config.hidden_size,
    )


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a hub config that `read_config` reads to the same switches."""
    return {**write_decoder(config), **write_scales(config)}


def write_scales(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `scaled`."""
    return {
        "scale_emb": config.embedding_scale,
        "scale_depth": round(config.residual_scale * config.num_layers**0.5, 12),
        "dim_model_base": round(config.logit_scale * config.hidden_size),
    }


def gguf_hub_config(reader: ConfigReader, present: Callable[[str], bool]) -> dict[str, Any]:
    """GGUF metadata in hub spelling; what is said of the logits divides them."""
    config = gguf_decoder.decoder_config(reader, present)
    depth = reader.number("residual_scale", default=1.0) * config["num_hidden_layers"] ** 0.5
    return {
        **config,
        "scale_emb": rounded(reader.number("embedding_scale", default=1.0)),
        "scale_depth": round(depth, 6),
        "dim_model_base": round(config["hidden_size"] / reader.number("logit_scale", default=1.0)),
    }


def gguf_metadata(config: TransformerConfig) -> dict[str, Any]:
    """The scales as GGUF files have them."""
    return {
        "embedding_scale": config.embedding_scale, "residual_scale": config.residual_scale,
        "logit_scale": 1 / config.logit_scale,
    }  # fmt: skip


MINICPM = Family(
    name="minicpm",
    architecture="MiniCPMForCausalLM",
    read_config=read_config,
    write_config=write_config,
    rules=LLAMA_RULES,
    gguf=GgufLayout("minicpm", gguf_hub_config, gguf_names.PAIR_RULES, metadata=gguf_metadata),
    neutral_values={"attention_bias": (False,), "num_experts": (0,)},
    harmless_tensors=OLD_BUFFERS,
)
