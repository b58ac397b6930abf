"""The table of model families: one row a file. Adding a family is adding a file and its line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from octavo.errors import UnknownNameError, UnsupportedError, nearest
from octavo.models.families.afmoe import AFMOE
from octavo.models.families.albert import ALBERT
from octavo.models.families.apertus import APERTUS
from octavo.models.families.arcee import ARCEE
from octavo.models.families.aria_text import ARIA_TEXT
from octavo.models.families.baichuan import BAICHUAN
from octavo.models.families.bart import BART, MVP
from octavo.models.families.bert import BERT, ERNIE
from octavo.models.families.big_bird import BIG_BIRD
from octavo.models.families.biogpt import BIOGPT
from octavo.models.families.bloom import BLOOM
from octavo.models.families.clip_vision import CLIP_VISION
from octavo.models.families.codegen import CODEGEN
from octavo.models.families.codet5p import CODET5P_BIMODAL, CODET5P_EMBEDDING
from octavo.models.families.cohere import COHERE
from octavo.models.families.cohere2 import COHERE2
from octavo.models.families.cwm import CWM
from octavo.models.families.dbrx import DBRX
from octavo.models.families.deberta_v2 import DEBERTA_V2
from octavo.models.families.deepseek_v2 import DEEPSEEK_V2
from octavo.models.families.deepseek_v3 import DEEPSEEK_V3
from octavo.models.families.distilbert import DISTILBERT
from octavo.models.families.dots1 import DOTS1
from octavo.models.families.electra import ELECTRA
from octavo.models.families.ernie4_5 import ERNIE4_5
from octavo.models.families.ernie4_5_moe import ERNIE4_5_MOE
from octavo.models.families.eurobert import EUROBERT
from octavo.models.families.exaone import EXAONE
from octavo.models.families.exaone4 import EXAONE4
from octavo.models.families.exaone_moe import EXAONE_MOE
from octavo.models.families.falcon import FALCON
from octavo.models.families.flex_olmo import FLEX_OLMO
from octavo.models.families.flint import FLINT
from octavo.models.families.gemma import GEMMA
from octavo.models.families.gemma2 import GEMMA2
from octavo.models.families.gemma3 import GEMMA3
from octavo.models.families.glm import GLM
from octavo.models.families.glm4 import GLM4
from octavo.models.families.glm4_moe import GLM4_MOE
from octavo.models.families.glm4_moe_lite import GLM4_MOE_LITE, SARVAM_MLA
from octavo.models.families.gpt2 import GPT2, GPT_SW3
from octavo.models.families.gpt3 import GPT3
from octavo.models.families.gpt_bigcode import GPT_BIGCODE
from octavo.models.families.gpt_neo import GPT_NEO
from octavo.models.families.gpt_neox import GPT_NEOX
from octavo.models.families.gpt_oss import GPT_OSS
from octavo.models.families.gptj import GPTJ
from octavo.models.families.granite import GRANITE
from octavo.models.families.granite_swa import GRANITE_MOE_SWA, GRANITE_SWA
from octavo.models.families.granitemoe import GRANITE_MOE, GRANITE_MOE_SHARED
from octavo.models.families.granitemoehybrid import GRANITE_MOE_HYBRID
from octavo.models.families.gte import GTE, NEW
from octavo.models.families.helium import HELIUM
from octavo.models.families.hunyuan import HUNYUAN
from octavo.models.families.hunyuan_moe import HUNYUAN_MOE
from octavo.models.families.hy_v3 import HY_V3
from octavo.models.families.hyperclovax import HYPERCLOVAX
from octavo.models.families.internlm2 import INTERNLM2
from octavo.models.families.internlm3 import INTERNLM3
from octavo.models.families.jais2 import JAIS2
from octavo.models.families.jina_embeddings_v3 import JINA_EMBEDDINGS_V3
from octavo.models.families.llama import IQUESTCODER, LLAMA
from octavo.models.families.llama4 import LLAMA4
from octavo.models.families.marian import MARIAN
from octavo.models.families.mbart import BLENDERBOT, M2M_100, MBART, PEGASUS, PLBART
from octavo.models.families.megatron_bert import MEGATRON_BERT
from octavo.models.families.mellum import MELLUM
from octavo.models.families.minicpm import MINICPM
from octavo.models.families.minicpm3 import MINICPM3
from octavo.models.families.minimax_m2 import MINIMAX_M2
from octavo.models.families.ministral import MINISTRAL
from octavo.models.families.ministral3 import MINISTRAL3
from octavo.models.families.mistral import MISTRAL
from octavo.models.families.mixtral import MIXTRAL
from octavo.models.families.modernbert import MODERNBERT
from octavo.models.families.mpnet import MPNET
from octavo.models.families.mpt import MPT
from octavo.models.families.nanochat import NANOCHAT
from octavo.models.families.nemotron import NEMOTRON
from octavo.models.families.nomic_bert import NOMIC_BERT
from octavo.models.families.olmo import OLMO
from octavo.models.families.olmo2 import OLMO2
from octavo.models.families.olmo3 import OLMO3
from octavo.models.families.olmoe import OLMOE
from octavo.models.families.openai_gpt import OPENAI_GPT
from octavo.models.families.opt import OPT
from octavo.models.families.persimmon import PERSIMMON
from octavo.models.families.phi import PHI
from octavo.models.families.phi3 import PHI3
from octavo.models.families.phimoe import PHIMOE
from octavo.models.families.qwen2 import QWEN2
from octavo.models.families.qwen2_moe import QWEN2_MOE
from octavo.models.families.qwen3 import QWEN3
from octavo.models.families.qwen3_moe import QWEN3_MOE
from octavo.models.families.rembert import REMBERT
from octavo.models.families.roberta import CAMEMBERT, DATA2VEC, ROBERTA, XLM_ROBERTA
from octavo.models.families.roberta_prelayernorm import ROBERTA_PRELAYERNORM, XLM_ROBERTA_XL
from octavo.models.families.roformer import ROFORMER
from octavo.models.families.sarvam_moe import SARVAM_MOE
from octavo.models.families.seed_oss import SEED_OSS
from octavo.models.families.siglip_vision import SIGLIP_VISION
from octavo.models.families.smollm3 import SMOLLM3
from octavo.models.families.solar_open import SOLAR_OPEN
from octavo.models.families.stablelm import STABLELM
from octavo.models.families.starcoder2 import STARCODER2
from octavo.models.families.t5 import MT5, T5
from octavo.models.families.vaultgemma import VAULTGEMMA
from octavo.models.families.vit import VIT
from octavo.models.families.xglm import XGLM
from octavo.models.families.xlm import FLAUBERT, XLM
from octavo.models.families.youtu import YOUTU
from octavo.models.mapping.family import Family, GgufLayout
from octavo.models.mapping.tables.refused import REFUSED

ROWS = (
    GPT2, LLAMA, MISTRAL, MIXTRAL, QWEN2, QWEN2_MOE, QWEN3, QWEN3_MOE, SMOLLM3, OLMO2, OLMOE, GRANITE, PHI3, PHI,
    GPT_NEOX, GEMMA, GEMMA2, GEMMA3, COHERE, COHERE2, GLM, GLM4, FALCON,
    GPT3, OPENAI_GPT, GPT_NEO, GPTJ, GPT_BIGCODE, STARCODER2, OPT, BLOOM, MPT, STABLELM, OLMO, OLMO3, NEMOTRON, ARCEE,
    SEED_OSS, HELIUM, ERNIE4_5, EXAONE4, HUNYUAN, INTERNLM2, GRANITE_MOE,
    GRANITE_MOE_SHARED, DEEPSEEK_V2, DEEPSEEK_V3, GLM4_MOE, DOTS1, GPT_OSS,
    EXAONE, ERNIE4_5_MOE, MINISTRAL3, BAICHUAN,
    MINISTRAL, CWM, YOUTU, HYPERCLOVAX, JAIS2, INTERNLM3, MINICPM,
    ARIA_TEXT, BIOGPT, CODEGEN, EXAONE_MOE, FLEX_OLMO, FLINT, GLM4_MOE_LITE,
    SARVAM_MLA, GRANITE_MOE_SWA, GRANITE_SWA, GRANITE_MOE_HYBRID, HUNYUAN_MOE, HY_V3, MELLUM,
    MINICPM3, MINIMAX_M2, PERSIMMON, SOLAR_OPEN, VAULTGEMMA, IQUESTCODER, GPT_SW3,
    SARVAM_MOE, LLAMA4, PHIMOE, APERTUS, AFMOE, NANOCHAT, XGLM, DBRX,
    BERT, ROBERTA, XLM_ROBERTA, CAMEMBERT, ALBERT, MODERNBERT, DISTILBERT, ELECTRA, MPNET, NOMIC_BERT,
    ERNIE, EUROBERT, GTE, NEW, JINA_EMBEDDINGS_V3, MEGATRON_BERT, DATA2VEC, ROBERTA_PRELAYERNORM, XLM_ROBERTA_XL,
    ROFORMER, REMBERT, BIG_BIRD, XLM, FLAUBERT, DEBERTA_V2, T5, MT5, MARIAN, BART, MVP, MBART, PLBART, PEGASUS,
    BLENDERBOT, M2M_100, CODET5P_BIMODAL, CODET5P_EMBEDDING, VIT, CLIP_VISION, SIGLIP_VISION,
)  # fmt: skip
GGUF_ALIASES = {"qwen2vl": "qwen2", "qwen3vl": "qwen3", "qwen3vlmoe": "qwen3moe", "xverse": "llama"}
"""Architectures that are another's when they read text alone; positions of a text are one number, not three."""
FAMILIES: dict[str, Family] = {family.name: family for family in ROWS}


def find_family(model_type: object, source: str) -> Family:
    """The row of a hub config's `model_type`.

    Raises UnknownNameError with the nearest known one, UnsupportedError with what a family needs that is not here.
    """
    if isinstance(model_type, str) and model_type in FAMILIES:
        return FAMILIES[model_type]
    if isinstance(model_type, str) and model_type in REFUSED:
        raise UnsupportedError(
            f"{source} has the model_type {model_type!r}, which needs what is not here: {REFUSED[model_type]}",
            param="model_type",
        )
    known = f"known are {', '.join(FAMILIES)}"
    hint = nearest(model_type, FAMILIES) if isinstance(model_type, str) else ""
    raise UnknownNameError(
        f"{source} has the model_type {model_type!r}, a family that is not here ({known}){hint}", param="model_type"
    )


def find_gguf(metadata: Mapping[str, Any], source: str) -> tuple[Family, GgufLayout]:
    """The row of a GGUF file, by its `general.architecture` and, where that has several, by what else it says."""
    named = metadata.get("general.architecture")
    architecture = GGUF_ALIASES.get(named, named) if isinstance(named, str) else named
    layouts = [(family, family.gguf) for family in FAMILIES.values() if family.gguf is not None]
    found = [(family, layout) for family, layout in layouts if layout.architecture == architecture]
    if not found:
        known = tuple(dict.fromkeys(layout.architecture for _, layout in layouts))
        hint = nearest(architecture, known) if isinstance(architecture, str) else ""
        raise UnsupportedError(
            f"{source} is of the architecture {named!r}, which is not here (known are {', '.join(known)}){hint}",
            param="general.architecture",
        )

    def own(key: str) -> Any:
        return metadata.get(f"{named}.{key}")

    marked = [row for row in found if row[1].when is not None and row[1].when(own)]
    family, layout = (marked or [row for row in found if row[1].when is None] or found)[0]
    return family, replace(layout, architecture=str(named))
