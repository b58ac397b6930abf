"""What hub configs of image encoders share: the body in CLIP's spelling, and the names of its tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.errors import FormatError
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.encoder import read_body, write_body
from octavo.models.mapping.keys import KeyRule, layer_rules
from octavo.models.mapping.tables.encoder_names import BLOCK, CLIP_ATTENTION, CLIP_REST
from octavo.nn.config import EncoderConfig, PatchConfig, TransformerConfig


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
) -> TransformerConfig:
    """A hub config to switches. class_token, bias: as in `PatchConfig`. activation, eps: where the config does not say.

    layers_left_out: so many of the last blocks are not run, because an earlier one's output is wanted.
    """
    image, patch = reader.integer("image_size", high=16384), reader.integer("patch_size", high=16384)
    body = read_body(reader, eps=eps, activation=activation, qkv_bias=qkv_bias)
    if image < patch or body["num_layers"] <= layers_left_out:
        raise FormatError(
            f"{reader.source} has an image_size of {image}, patches of {patch} and {body['num_layers']} blocks"
        )
    patches = PatchConfig(image, patch, reader.integer("num_channels", default=3, high=64), class_token, bias)
    config = TransformerConfig(
        vocab_size=0,
        context_length=patches.num_positions,
        tie_embeddings=True,
        final_norm=final_norm,
        embedding_norm=embedding_norm,
        encoder=EncoderConfig(patches=patches),
        **body,
    )
    return replace(config, num_layers=config.num_layers - layers_left_out)


def write_image_encoder(config: TransformerConfig) -> dict[str, Any]:
    """Switches to the keys that `read_image_encoder` reads."""
    assert config.patches is not None, "not an encoder of images"
    return {
        **write_body(config),
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
