"""mBART, PLBart, Pegasus, BlenderBot and M2M-100 (NLLB, too): BART's encoder-decoder with norms before the sublayers,
or without a norm of the embeddings, or with positions as sines.

Source: Liu et al. 2020 (arXiv 2001.08210), Ahmad et al. 2021 (arXiv 2103.06333), Zhang et al. 2019 (arXiv 1912.08777),
Roller et al. 2020 (arXiv 2004.13637), Fan et al. 2020 (arXiv 2010.11125), and the hub's configs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from octavo.models.families import marian
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import Family
from octavo.models.mapping.keys import KeyRule, Layout, linear_rules
from octavo.nn.config import Placement, TransformerConfig


def _row(name: str, classes: str, *, pre: bool, norm: bool, offset: bool = False, sines: bool = False) -> Family:
    """pre: norms before the sublayers. norm: of the embeddings. offset: positions begin at row 2. sines: they are."""

    def read_config(reader: ConfigReader) -> TransformerConfig:
        """A hub config to switches."""
        place: Placement = "pre" if pre else "post"
        config = marian.read_config(reader)
        assert config.memory is not None, "it has two sides"
        memory = replace(config.memory, placement=place, sinusoidal=sines, embedding_norm=norm)
        return replace(config, placement=place, sinusoidal=sines, embedding_norm=norm, memory=memory)

    def write_config(config: TransformerConfig) -> dict[str, Any]:
        """Switches to a hub config that `read_config` reads to the same switches."""
        written = marian.write_config(config)
        del written["share_encoder_decoder_embeddings"]
        return {**written, "architectures": [f"{classes}ForConditionalGeneration"]}

    return Family(
        name=name,
        architecture=f"{classes}ForConditionalGeneration",
        read_config=read_config,
        write_config=write_config,
        rules=(
            *(replace(rule, canonical=_placed(rule, pre)) for rule in marian.MARIAN.rules),
            *(_side("encoder", "memory.", offset)),
            *(_side("decoder", "", offset)),
        ),
        prefix="",
        harmless_keys={
            **marian.MARIAN.harmless_keys,
            **dict.fromkeys(("extra_pos_embeddings", "force_bos_token_to_be_generated"), "peers do not read them"),
        },
        neutral_values={
            "is_encoder_decoder": (True,), "is_decoder": (False,), "add_bias_logits": (False,),
            "normalize_before": (pre,), "add_final_layer_norm": (pre,), "normalize_embedding": (norm,),
            "static_position_embeddings": (sines,),
        },
        harmless_tensors=(
            r"model\.(encoder|decoder)\.embed_tokens\.weight", r"classification_head\..*",
            *(marian.MARIAN.harmless_tensors if sines else ()),
        ),
    )  # fmt: skip


def _placed(rule: KeyRule, pre: bool) -> tuple[str, ...]:
    return tuple(name.replace("_output_norm", "_norm") if pre else name for name in rule.canonical)


def _side(hub: str, ours: str, offset: bool) -> tuple[KeyRule, ...]:
    layout: Layout = "after_two" if offset else "plain"
    return (
        KeyRule(f"model.{hub}.embed_positions.weight", (f"{ours}embed_positions.weight",), layout),
        *linear_rules(f"model.{hub}.layernorm_embedding", f"{ours}embed_norm"),
        *linear_rules(f"model.{hub}.layer_norm", f"{ours}norm"),
    )


MBART = _row("mbart", "MBart", pre=True, norm=True, offset=True)
PLBART = _row("plbart", "PLBart", pre=False, norm=True, offset=True)
PEGASUS = _row("pegasus", "Pegasus", pre=True, norm=False, sines=True)
BLENDERBOT = _row("blenderbot", "Blenderbot", pre=True, norm=False)


def _read_m2m(reader: ConfigReader) -> TransformerConfig:
    """M2M-100's config to switches: Pegasus's with fairseq's sines, which begin after the place of padding."""
    for key, value in {"scale_embedding": True, "activation_function": "relu"}.items():
        reader.raw.setdefault(key, value)
    first = reader.integer("pad_token_id", default=1, low=0) + 1
    config = PEGASUS.read_config(reader)
    assert config.memory is not None, "it has two sides"
    memory = replace(config.memory, fairseq_sines=first, head_bias=False)
    return replace(config, fairseq_sines=first, head_bias=False, memory=memory)


def _write_m2m(config: TransformerConfig) -> dict[str, Any]:
    """The inverse of `_read_m2m`."""
    written, first = PEGASUS.write_config(config), config.fairseq_sines or 1
    return {**written, "architectures": ["M2M100ForConditionalGeneration"], "pad_token_id": first - 1}


M2M_100 = replace(
    PEGASUS,
    name="m2m_100",
    architecture="M2M100ForConditionalGeneration",
    read_config=_read_m2m,
    write_config=_write_m2m,
)
