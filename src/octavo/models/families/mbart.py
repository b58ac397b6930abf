"""mBART, PLBart, Pegasus and BlenderBot: BART's encoder-decoder with norms before the sublayers, or without a norm of
the embeddings, or with positions as sines.

Source: Liu et al. 2020 (arXiv 2001.08210), Ahmad et al. 2021 (arXiv 2103.06333), Zhang et al. 2019 (arXiv 1912.08777),
Roller et al. 2020 (arXiv 2004.13637), and the hub's configs.
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
