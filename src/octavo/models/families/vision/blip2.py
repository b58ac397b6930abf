"""BLIP-2: a ViT, queries that gather from it (the Q-Former), one layer into the language model. MiniGPT-4 is this with
a LLaMA.

Source: Li et al. 2023 (arXiv 2301.12597), Zhu et al. 2023 (arXiv 2304.10592), and the hub's `blip-2` config.
"""

from __future__ import annotations

from dataclasses import replace

from octavo.errors import FormatError
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.encoder import read_body
from octavo.models.mapping.image import read_image_encoder
from octavo.models.mapping.keys import KeyRule, layer_rules, linear_rules
from octavo.models.mapping.tables.config_keys import IMAGE_HARMLESS
from octavo.models.mapping.tables.encoder_names import CLIP_REST
from octavo.models.mapping.vision_row import VisionParts, VisionRow
from octavo.nn.config import EncoderConfig, TransformerConfig
from octavo.nn.vision.config import ProjectorConfig

QFORMER_HARMLESS = (
    "vocab_size", "max_position_embeddings", "use_qformer_text_input", "hidden_dropout_prob", "pad_token_id",
    "attention_probs_dropout_prob", "initializer_range", "model_type", "position_embedding_type", "dtype",
)  # fmt: skip


def read(reader: ConfigReader, text_size: int) -> VisionParts:
    """The hub's config to parts."""
    tower, qformer = read_tower(reader), reader.section("qformer_config")
    if qformer is None:
        raise FormatError(f"{reader.source} lacks qformer_config; fetch it again")
    queries = _queries(qformer, tower, reader.integer("num_query_tokens", default=32))
    token = reader.integer("image_token_index", "image_token_id", low=0)
    return VisionParts(queries, ProjectorConfig(queries.hidden_size, text_size), token)


def read_tower(reader: ConfigReader) -> TransformerConfig:
    """The ViT of vision_config."""
    vision = reader.section("vision_config")
    if vision is None:
        raise FormatError(f"{reader.source} lacks vision_config; fetch it again")
    vision.skip("model_type", "attention_dropout", "initializer_range", "dtype", *IMAGE_HARMLESS)
    return read_image_encoder(vision, qkv_bias=vision.flag("qkv_bias", default=True))


def _queries(reader: ConfigReader, tower: TransformerConfig, count: int) -> TransformerConfig:
    """BERT's blocks over learned queries, which read the tower in every so many of them."""
    reader.skip(*QFORMER_HARMLESS)
    body = read_body(reader, eps=1e-12)
    every = reader.integer("cross_attention_frequency", default=2)
    read = reader.integer("encoder_hidden_size", default=tower.hidden_size)
    if read != tower.hidden_size:
        raise FormatError(f"{reader.source} has queries that read a width of {read}, not {tower.hidden_size}")
    return replace(
        tower,
        context_length=count,
        placement="post",
        embedding_norm=True,
        encoder=EncoderConfig(queries=count),
        memory=tower,
        memory_layers=tuple(layer % every == 0 for layer in range(body["num_layers"])),
        **body,
    )


def rules(config: TransformerConfig) -> tuple[KeyRule, ...]:
    """The tower's tensors, which are the memory's, and the queries'."""
    q_layer, q_block = "qformer.encoder.layer.{i}.", "blocks.{i}."
    attentions = (("attention", "attention"), ("crossattention", "cross_attention"))
    return (
        *tower_rules("memory."),
        KeyRule("query_tokens", ("embed_queries.weight",), "one_row"),
        *linear_rules("qformer.layernorm", "embed_norm"),
        *(
            rule
            for stored, name in attentions
            for rule in (
                *linear_rules(f"{q_layer}{stored}.attention.query", f"{q_block}{name}.q"),
                *linear_rules(f"{q_layer}{stored}.attention.key", f"{q_block}{name}.k"),
                *linear_rules(f"{q_layer}{stored}.attention.value", f"{q_block}{name}.v"),
                *linear_rules(f"{q_layer}{stored}.output.dense", f"{q_block}{name}.o"),
                *linear_rules(f"{q_layer}{stored}.output.LayerNorm", f"{q_block}{name}_output_norm"),
            )
        ),
        *linear_rules(q_layer + "intermediate_query.dense", q_block + "mlp.up"),
        *linear_rules(q_layer + "output_query.dense", q_block + "mlp.down"),
        *linear_rules(q_layer + "output_query.LayerNorm", q_block + "mlp_output_norm"),
    )


def tower_rules(owner: str) -> tuple[KeyRule, ...]:
    """The tower's tensors; their canonical names begin with `owner`."""
    tower, layer, block = "vision_model.", "vision_model.encoder.layers.{i}.", owner + "blocks.{i}."
    stacked = tuple(f"{block}attention.{name}" for name in "qkv")
    return (
        KeyRule(tower + "embeddings.class_embedding", (owner + "embed_class.weight",), "one_row"),
        KeyRule(tower + "embeddings.position_embedding", (owner + "embed_positions.weight",), "one_row"),
        KeyRule(tower + "embeddings.patch_embedding.weight", (owner + "embed_patches.weight",), "patches"),
        KeyRule(tower + "embeddings.patch_embedding.bias", (owner + "embed_patches.bias",)),
        *linear_rules(layer + "self_attn.qkv", *stacked),
        *linear_rules(layer + "self_attn.projection", block + "attention.o"),
        *layer_rules(layer, block, CLIP_REST),
        *linear_rules(tower + "post_layernorm", owner + "norm"),
    )


BLIP2 = VisionRow(
    name="blip-2",
    read=read,
    rules=rules,
    projector={"out": "language_projection"},
    harmless_keys={
        **dict.fromkeys(("image_text_hidden_size", "use_decoder_only_language_model"), "of other uses of the towers"),
        "tie_word_embeddings": "the text_config's own counts",
        **dict.fromkeys(("initializer_factor", "initializer_range"), "training only"),
        "is_encoder_decoder": "the text_config's model_type says it",
    },
    harmless_tensors=(r"qformer\.embeddings\..*",),
)
