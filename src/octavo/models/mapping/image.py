"""What hub configs of image encoders share: the body in CLIP's spelling, and the names of its tensors."""

from __future__ import annotations

from typing import Any

from octavo.errors import FormatError
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.keys import KeyRule, layer_rules
from octavo.models.mapping.tables.encoder_names import BLOCK, CLIP_ATTENTION, CLIP_REST
from octavo.models.mapping.tables.spellings import ACTIVATIONS, HUB_ACTIVATIONS
from octavo.nn.config import (
    AttentionConfig,
    EncoderConfig,
    HeadConfig,
    MlpConfig,
    NormConfig,
    PatchConfig,
    TransformerConfig,
)


def read_image_encoder(
    reader: ConfigReader,
    *,
    class_token: bool = True,
    bias: bool = True,
    embedding_norm: bool = False,
    final_norm: bool = True,
    qkv_bias: bool = True,
    activation: str = "gelu",
    eps: float = 1e-6,
    layers_left_out: int = 0,
    head: HeadConfig | None = None,
) -> TransformerConfig:
    """A hub config to switches. class_token, bias: as in `PatchConfig`. activation, eps: where the config does not say.

    layers_left_out: so many of the last blocks are not run, because an earlier one's output is wanted.
    """
    width, heads = reader.integer("hidden_size"), reader.integer("num_attention_heads", high=65536)
    image, patch = reader.integer("image_size", high=16384), reader.integer("patch_size", high=16384)
    layers = reader.integer("num_hidden_layers", high=4096)
    if image < patch or layers <= layers_left_out:
        raise FormatError(f"{reader.source} has an image_size of {image}, patches of {patch} and {layers} blocks")
    patches = PatchConfig(image, patch, reader.integer("num_channels", default=3, high=64), class_token, bias)
    return TransformerConfig(
        vocab_size=0,
        hidden_size=width,
        num_layers=layers - layers_left_out,
        context_length=patches.num_positions,
        norm=NormConfig("layer", reader.number("layer_norm_eps", default=eps)),
        attention=AttentionConfig(
            heads, heads, reader.shared_out(width, heads, "num_attention_heads"), qkv_bias=qkv_bias, output_bias=True
        ),
        mlp=MlpConfig(
            reader.integer("intermediate_size"),
            reader.choice("hidden_act", table=ACTIVATIONS, default=activation),
            gated=False,
            bias=True,
        ),
        rope=None,
        tie_embeddings=True,
        final_norm=final_norm,
        encoder=EncoderConfig(embedding_norm=embedding_norm, patches=patches, head=head),
    )


def write_image_encoder(config: TransformerConfig) -> dict[str, Any]:
    """Switches to the keys that `read_image_encoder` reads."""
    assert config.patches is not None, "not an encoder of images"
    return {
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.attention.num_heads,
        "intermediate_size": config.mlp.intermediate_size,
        "hidden_act": HUB_ACTIVATIONS[config.mlp.activation],
        "layer_norm_eps": config.norm.eps,
        "image_size": config.patches.image_size,
        "patch_size": config.patches.patch_size,
        "num_channels": config.patches.channels,
    }


def clip_rules(prefix: str) -> tuple[KeyRule, ...]:
    """The body in CLIP's names, which SigLIP and Idefics share; it begins with `prefix`."""
    return (
        KeyRule(prefix + "embeddings.patch_embedding.weight", ("embed_patches.weight",), "patches"),
        KeyRule(prefix + "embeddings.patch_embedding.bias", ("embed_patches.bias",)),
        KeyRule(prefix + "embeddings.class_embedding", ("embed_class.weight",), "bare_row"),
        KeyRule(prefix + "embeddings.position_embedding.weight", ("embed_positions.weight",)),
        *layer_rules(prefix, "", {"pre_layrnorm": "embed_norm", "post_layernorm": "norm"}),
        *layer_rules(prefix + "encoder.layers.{i}.", BLOCK, {**CLIP_ATTENTION, **CLIP_REST}),
    )
