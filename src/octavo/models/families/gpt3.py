"""GPT-3: GPT-2's graph at eight published sizes; every second block sees a band of the nearest tokens alone.

Heads need not fill the width: as printed, two of the sizes do not multiply out. The width of the band is unpublished;
256 here. No peer has the family, so its config.json is our own: GPT-2's with `head_dim` and `band`.
Source: Brown et al. 2020 (arXiv 2005.14165), table 2.1; Child et al. 2019 (arXiv 1904.10509) for the band.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import gpt2
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.nn.config import AttentionConfig, MlpConfig, NormConfig, TransformerConfig

SHAPES = {
    "125M": (12, 768, 12, 64), "350M": (24, 1024, 16, 64), "760M": (24, 1536, 16, 96), "1.3B": (24, 2048, 24, 128),
    "2.7B": (32, 2560, 32, 80), "6.7B": (32, 4096, 32, 128), "13B": (40, 5140, 40, 128), "175B": (96, 12288, 96, 128),
}  # fmt: skip
"""Label -> layers, width, heads, width of a head, as printed."""
VOCABULARY, CONTEXT, BAND = 50257, 2048, 256


def shaped(label: str, *, band: int = BAND) -> TransformerConfig:
    """The config of a published size."""
    layers, width, heads, head_dim = SHAPES[label]
    config = TransformerConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        num_layers=layers,
        context_length=CONTEXT,
        norm=NormConfig("layer", 1e-5),
        attention=AttentionConfig(heads, heads, head_dim, qkv_bias=True, output_bias=True),
        mlp=MlpConfig(4 * width, "gelu_tanh", gated=False, bias=True),
        rope=None,
        tie_embeddings=True,
    )
    return banded(config, band)


def banded(config: TransformerConfig, band: int) -> TransformerConfig:
    """The config with a band in every second block, beginning with the second."""
    return replace(config, windows=tuple(band if layer % 2 else None for layer in range(config.num_layers)))


def read_config(reader: ConfigReader) -> TransformerConfig:
    """Our config.json to switches."""
    config = gpt2.read_config(reader, head_dim=reader.integer("head_dim", high=65536))
    return banded(config, reader.integer("band", default=BAND))


def write_config(config: TransformerConfig) -> dict[str, Any]:
    """Switches to a config.json that `read_config` reads to the same switches."""
    bands = [window for window in config.windows if window is not None]
    return {**gpt2.write_config(config), "head_dim": config.attention.head_dim, "band": bands[0] if bands else BAND}


GPT3 = Family(
    name="gpt3",
    architecture="GPT3LMHeadModel",
    read_config=read_config,
    write_config=write_config,
    rules=gpt2.RULES,
    prefix="transformer.",
    harmless_keys=gpt2.HARMLESS,
)
