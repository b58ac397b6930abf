"""GGUF files of every family that has them: names from the format's own library, numbers from a tiny peer's folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from octavo.errors import UnsupportedError
from octavo.models.checkpoint import open_checkpoint
from octavo.models.families import FAMILIES, GGUF_ALIASES
from octavo.models.transformer import Transformer
from octavo.nn.config import TransformerConfig

Tiny = Callable[[str], tuple[Path, Any]]
VARIANTS = {
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "smollm3": gguf.MODEL_ARCH.SMOLLM3,
    "olmo2": gguf.MODEL_ARCH.OLMO2,
    "granite": gguf.MODEL_ARCH.GRANITE,
    "phi3": gguf.MODEL_ARCH.PHI3,
    "phi": gguf.MODEL_ARCH.PHI2,
    "gpt_neox": gguf.MODEL_ARCH.GPTNEOX,
    "gemma": gguf.MODEL_ARCH.GEMMA,
    "gemma2-scaled-by-head": gguf.MODEL_ARCH.GEMMA2,
    "gemma3-scaled-by-head": gguf.MODEL_ARCH.GEMMA3,
    "cohere": gguf.MODEL_ARCH.COMMAND_R,
    "cohere2": gguf.MODEL_ARCH.COHERE2,
    "glm4": gguf.MODEL_ARCH.GLM4,
    "stablelm": gguf.MODEL_ARCH.STABLELM,
    "stablelm-parallel": gguf.MODEL_ARCH.STABLELM,
    "starcoder2-plain": gguf.MODEL_ARCH.STARCODER2,
    "gpt_bigcode": gguf.MODEL_ARCH.STARCODER,
    "bloom": gguf.MODEL_ARCH.BLOOM,
    "mpt": gguf.MODEL_ARCH.MPT,
    "olmo-clipped": gguf.MODEL_ARCH.OLMO,
    "nemotron": gguf.MODEL_ARCH.NEMOTRON,
    "arcee": gguf.MODEL_ARCH.ARCEE,
    "seed_oss": gguf.MODEL_ARCH.SEED_OSS,
    "ernie4_5": gguf.MODEL_ARCH.ERNIE4_5,
    "exaone4": gguf.MODEL_ARCH.EXAONE4,
    "hunyuan": gguf.MODEL_ARCH.HUNYUAN_DENSE,
    "falcon-7b": gguf.MODEL_ARCH.FALCON,
    "falcon-40b": gguf.MODEL_ARCH.FALCON,
    "exaone": gguf.MODEL_ARCH.EXAONE,
    "jais2": gguf.MODEL_ARCH.JAIS2,
    "ministral3-grown": gguf.MODEL_ARCH.MISTRAL3,
    "ernie4_5_moe": gguf.MODEL_ARCH.ERNIE4_5_MOE,
    "mixtral": gguf.MODEL_ARCH.LLAMA,
    "qwen2_moe-all": gguf.MODEL_ARCH.QWEN2MOE,
    "qwen3_moe-all": gguf.MODEL_ARCH.QWEN3MOE,
    "olmoe": gguf.MODEL_ARCH.OLMOE,
    "granitemoeshared": gguf.MODEL_ARCH.GRANITE_MOE,
    "gpt_oss-plain": gguf.MODEL_ARCH.GPT_OSS,
    "gpt_oss-yarn": gguf.MODEL_ARCH.GPT_OSS,
    "olmo3": gguf.MODEL_ARCH.OLMO2,
    "olmo3-scaled": gguf.MODEL_ARCH.OLMO2,
    "dots1-plain": gguf.MODEL_ARCH.DOTS1,
    "glm4_moe": gguf.MODEL_ARCH.GLM4_MOE,
    "deepseek_v2": gguf.MODEL_ARCH.DEEPSEEK2,
    "deepseek_v3": gguf.MODEL_ARCH.DEEPSEEK2,
    "deepseek_v3-published-yarn": gguf.MODEL_ARCH.DEEPSEEK2,
}
PERMUTED = (
    gguf.MODEL_ARCH.SMOLLM3, gguf.MODEL_ARCH.GRANITE, gguf.MODEL_ARCH.OLMO, gguf.MODEL_ARCH.ARCEE,
    gguf.MODEL_ARCH.LLAMA, gguf.MODEL_ARCH.GRANITE_MOE, gguf.MODEL_ARCH.INTERNLM2,
    gguf.MODEL_ARCH.MISTRAL3, gguf.MODEL_ARCH.MINICPM, gguf.MODEL_ARCH.BAICHUAN, gguf.MODEL_ARCH.XVERSE,
)  # fmt: skip
ONE_MORE = (gguf.MODEL_ARCH.GEMMA, gguf.MODEL_ARCH.GEMMA2, gguf.MODEL_ARCH.GEMMA3, gguf.MODEL_ARCH.NEMOTRON)


def converted(name: str, values: NDArray[np.float32], arch: int, config: TransformerConfig) -> NDArray[np.float32]:
    """What ggml's converter does to a hub tensor of this architecture."""
    attention = config.attention
    heads = {"q_proj": attention.num_heads, "k_proj": attention.num_kv_heads}.get(name.split(".")[-2])
    if arch in PERMUTED and heads:
        return values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    if arch in ONE_MORE and name.endswith("norm.weight"):
        return values + 1
    if "query_key_value" in name:
        shared = attention.num_heads // attention.num_kv_heads
        groups = values.reshape(attention.num_kv_heads, shared + 2, attention.head_dim, *values.shape[1:])
        parts = (groups[:, :-2], groups[:, -2], groups[:, -1])
        return np.concatenate([part.reshape(-1, *values.shape[1:]) for part in parts])
    return values[0] if name.endswith("shared_expert_gate.weight") else values


def hub_tensors(folder: Path, arch: int) -> dict[str, NDArray[np.float32]]:
    """A folder's tensors with the experts of a block in one, as ggml's converter lays them."""
    stacks: dict[str, dict[int, NDArray[np.float32]]] = {}
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, values in load_file(folder / "model.safetensors").items():
        if match := re.fullmatch(r"(.*\.experts)\.(\d+)\.(.*)", name):
            stacks.setdefault(f"{match[1]}.{match[3]}", {})[int(match[2])] = values
        elif arch == gguf.MODEL_ARCH.GPT_OSS and ".experts." in name:
            tensors |= of_gpt_oss(name, values)
        elif arch == gguf.MODEL_ARCH.GRANITE_MOE and name.endswith("input_linear.weight"):
            half = values.shape[-2] // 2
            tensors[name.replace("input_linear", "input_gate")] = values[..., :half, :]
            tensors[name.replace("input_linear", "input_up")] = values[..., half:, :]
        else:
            tensors[name] = values
    return tensors | {name: np.stack([part[i] for i in range(len(part))]) for name, part in stacks.items()}


def of_gpt_oss(name: str, values: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    turned = values if name.endswith("bias") else values.swapaxes(1, 2)
    leaf = "bias" if name.endswith("bias") else "weight"
    stem = name.removesuffix("_bias")
    if "gate_up" not in name:
        return {f"{stem}.{leaf}": turned}
    plain = stem.removesuffix("gate_up_proj")
    return {f"{plain}gate_proj.{leaf}": turned[:, 0::2], f"{plain}up_proj.{leaf}": turned[:, 1::2]}


RENAMED = {
    "embed_out.weight": "output.weight", "self_attn.sinks": "attn_sinks.weight",
    "block_sparse_moe.input_gate": "ffn_gate_exps", "block_sparse_moe.input_up": "ffn_up_exps",
    "shared_mlp.input_gate": "ffn_gate_shexp", "shared_mlp.input_up": "ffn_up_shexp",
    "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
    "mlp.moe_statics.e_score_correction_bias": "exp_probs_b.bias",
    "mlp.experts.gate_proj.bias": "ffn_gate_exps.bias", "mlp.experts.up_proj.bias": "ffn_up_exps.bias",
}  # fmt: skip
"""Names that the converter makes itself."""


def gguf_name(name: str, names: Any) -> str:
    for own, renamed in RENAMED.items():
        if name == own:
            return renamed
        match = re.fullmatch(rf"model\.layers\.(\d+)\.{re.escape(own)}(\.weight)?", name)
        if match:
            return f"blk.{match[1]}.{renamed}{match[2] or ''}"
    found: str | None = names.get_name(name, (".weight", ".bias")) or names.get_name(
        name.removeprefix("transformer."), (".weight", ".bias")
    )
    assert found is not None, name
    return found


def write(path: Path, folder: Path, arch: int, extra: dict[str, Any], *, cut: bool = False) -> None:
    config = open_checkpoint(folder).config
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.mlp.intermediate_size)
    writer.add_head_count(config.attention.num_heads)
    writer.add_head_count_kv(config.attention.num_kv_heads)
    (writer.add_layer_norm_rms_eps if config.norm.kind == "rms" else writer.add_layer_norm_eps)(config.norm.eps)
    if config.rope is not None:
        writer.add_rope_freq_base(config.rope.theta)
        writer.add_rope_dimension_count(config.rope.rotary_dim)
        writer.add_key_length(config.attention.head_dim)
        latent = config.attention.latent
        writer.add_value_length(config.attention.head_dim if latent is None else latent.value_dim)
    if config.moe is not None:
        writer.add_expert_count(config.moe.num_experts)
        writer.add_expert_used_count(config.moe.experts_per_token)
    for key, value in extra.items():
        kinds: dict[Any, Any] = {
            bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string
        }  # fmt: skip
        kinds[type(value)](f"{gguf.MODEL_ARCH_NAMES[arch]}.{key}", value)
    names = gguf.get_tensor_name_map(arch, config.num_layers)
    for name, values in (cut_in_two(folder, config) if cut else hub_tensors(folder, arch)).items():
        writer.add_tensor(gguf_name(name, names), np.ascontiguousarray(converted(name, values, arch, config)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32}
GROUPED: dict[str, Any] = {
    "expert_feed_forward_length": 32, "expert_shared_count": 2, "leading_dense_block_count": 1,
    "expert_weights_scale": 1.5, "expert_weights_norm": True, "expert_gating_func": 2,
}  # fmt: skip
BY_GROUP = {"expert_group_count": 2, "expert_group_used_count": 1}
SOFTMAX = {**GROUPED, "expert_gating_func": 1, "expert_weights_norm": False}
RANKS = {"attention.kv_lora_rank": 32, "attention.q_lora_rank": 24}
FOUR_GROUPS = {"expert_group_count": 4, "expert_group_used_count": 2}
EXTRA: dict[str, dict[str, Any]] = {
    "ministral3-grown": {
        "rope.scaling.type": "yarn", "rope.scaling.factor": 16.0, "rope.scaling.original_context_length": 8,
        "rope.scaling.yarn_beta_fast": 32.0, "rope.scaling.yarn_beta_slow": 1.0,
        "rope.scaling.yarn_log_multiplier": 1.0, "attention.temperature_scale": 0.4,
    },
    "ernie4_5_moe": {
        "expert_feed_forward_length": 48, "expert_shared_count": 2, "expert_shared_feed_forward_length": 56,
        "leading_dense_block_count": 1, "interleave_moe_layer_step": 1,
    },
    "gpt_oss-yarn": {"expert_feed_forward_length": 112, "attention.sliding_window": 8, **YARN},
    "olmo3": {"attention.sliding_window": 8},
    "olmo3-scaled": {"attention.sliding_window": 8, **YARN},
    "dots1-plain": {**GROUPED, **BY_GROUP},
    "glm4_moe": {**GROUPED, **BY_GROUP},
    "deepseek_v2": {**SOFTMAX, **RANKS, **FOUR_GROUPS},
    "deepseek_v3": {**GROUPED, **RANKS, **FOUR_GROUPS},
    "deepseek_v3-published-yarn": {
        **GROUPED, **RANKS, **YARN, "rope.scaling.yarn_log_multiplier": 0.1
    },
    "granite": {"attention.scale": 0.2, "embedding_scale": 3.0, "residual_scale": 0.5, "logit_scale": 1.5},
    "gemma2-scaled-by-head": {
        "attention.sliding_window": 8, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0
    },
    "gemma3-scaled-by-head": {"attention.sliding_window": 8, "final_logit_softcapping": 5.0},
    "cohere": {"logit_scale": 0.5},
    "cohere2": {"logit_scale": 0.5, "attention.sliding_window": 8},
    "stablelm-parallel": {"use_parallel_residual": True},
    "olmo-clipped": {"attention.clamp_kqv": 1.0},
    "exaone4": {"attention.sliding_window": 8},
    "qwen2_moe-all": {"expert_feed_forward_length": 48, "expert_shared_feed_forward_length": 72},
    "qwen3_moe-all": {"expert_feed_forward_length": 48},
    "granitemoeshared": {
        "attention.scale": 0.2, "logit_scale": 2.0, "expert_shared_feed_forward_length": 40
    },
    "gpt_oss-plain": {"expert_feed_forward_length": 112, "attention.sliding_window": 8},
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_a_file_gives_the_logits_of_its_source(name: str, tiny: Tiny, tmp_path: Path) -> None:
    folder, peer = tiny(name)
    write(tmp_path / "tiny.gguf", folder, VARIANTS[name], EXTRA.get(name, {}))
    checkpoint = open_checkpoint(tmp_path / "tiny.gguf")
    assert checkpoint.config == open_checkpoint(folder).config
    tokens = torch.randint(0, 160, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = peer(tokens).logits
    ours = Transformer.from_checkpoint(checkpoint).requires_grad_(False)(tokens)
    assert float((ours - expected).abs().max()) <= 1e-4


def cut_in_two(folder: Path, config: TransformerConfig) -> dict[str, NDArray[np.float32]]:
    """Latent attention's second matrix as newer converters write it: keys, turned, and values, apart."""
    latent, tensors = config.attention.latent, hub_tensors(folder, gguf.MODEL_ARCH.DEEPSEEK2)
    assert latent is not None
    for name in [name for name in tensors if "kv_b_proj" in name]:
        heads = tensors.pop(name).reshape(config.attention.num_heads, -1, latent.kv_rank)
        tensors[name.replace("kv_b", "k_b")] = heads[:, : -latent.value_dim].swapaxes(1, 2)
        tensors[name.replace("kv_b", "v_b")] = heads[:, -latent.value_dim :]
    return tensors


def test_a_newer_deepseek_file_is_the_same_model(tiny: Tiny, tmp_path: Path) -> None:
    folder, _ = tiny("deepseek_v3")
    widths = {"attention.key_length_mla": 24, "attention.value_length_mla": 12}
    extra = {**EXTRA["deepseek_v3"], **widths}
    write(tmp_path / "tiny.gguf", folder, gguf.MODEL_ARCH.DEEPSEEK2, extra, cut=True)
    ours, source = open_checkpoint(tmp_path / "tiny.gguf"), open_checkpoint(folder)
    assert ours.config == source.config
    for name, tensor in source.tensors.items():
        assert np.array_equal(ours.tensors[name].dequantize(), tensor.dequantize()), name


ALIKE = {
    gguf.MODEL_ARCH.INTERNLM2: ("llama", "internlm2", {}),
    gguf.MODEL_ARCH.MINICPM: (
        "granite-minicpm",
        "minicpm",
        {"embedding_scale": 12.0, "residual_scale": 0.7, "logit_scale": 2.0},
    ),
    gguf.MODEL_ARCH.BAICHUAN: ("llama-mha", "baichuan", {}),
    gguf.MODEL_ARCH.XVERSE: ("llama", "llama", {}),
    gguf.MODEL_ARCH.QWEN2VL: ("qwen2", "qwen2", {"n_deepstack_layers": 0}),
    gguf.MODEL_ARCH.QWEN3VL: ("qwen3", "qwen3", {"n_deepstack_layers": 3}),
    gguf.MODEL_ARCH.QWEN3VLMOE: ("qwen3_moe-all", "qwen3_moe", {"expert_feed_forward_length": 48}),
}
"""Architectures whose graph another family's tiny model has: that model, and the family that reads the file."""


@pytest.mark.parametrize("arch", ALIKE, ids=[gguf.MODEL_ARCH_NAMES[arch] for arch in ALIKE])
def test_an_architecture_may_be_another_by_its_graph(arch: gguf.MODEL_ARCH, tiny: Tiny, tmp_path: Path) -> None:
    name, family, extra = ALIKE[arch]
    folder, peer = tiny(name)
    write(tmp_path / "tiny.gguf", folder, arch, extra)
    checkpoint = open_checkpoint(tmp_path / "tiny.gguf")
    assert checkpoint.family == family
    tokens = torch.randint(0, 160, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = peer(tokens).logits
    ours = Transformer.from_checkpoint(checkpoint).requires_grad_(False)(tokens)
    assert float((ours - expected).abs().max()) <= 1e-4


def test_every_architecture_is_tried_and_another_is_refused_by_name(tmp_path: Path) -> None:
    tried = {gguf.MODEL_ARCH_NAMES[arch] for arch in VARIANTS.values()} | {
        gguf.MODEL_ARCH_NAMES[arch] for arch in ALIKE
    }
    tried |= {"llama", "gpt2"}
    assert tried - set(GGUF_ALIASES) == {
        family.gguf.architecture for family in FAMILIES.values() if family.gguf is not None
    }
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnsupportedError, match="architecture 'mamba'"):
        open_checkpoint(tmp_path / "other.gguf")
