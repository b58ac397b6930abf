"""GGUF files of every family that has them: names from the format's own library, numbers from a tiny peer's folder."""

from __future__ import annotations

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
from octavo.models.families import FAMILIES
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
}
PERMUTED = (gguf.MODEL_ARCH.SMOLLM3, gguf.MODEL_ARCH.GRANITE)
ONE_MORE = (gguf.MODEL_ARCH.GEMMA, gguf.MODEL_ARCH.GEMMA2, gguf.MODEL_ARCH.GEMMA3)


def converted(name: str, values: NDArray[np.float32], arch: int, config: TransformerConfig) -> NDArray[np.float32]:
    """What ggml's converter does to a hub tensor of this architecture."""
    attention = config.attention
    heads = {"q_proj": attention.num_heads, "k_proj": attention.num_kv_heads}.get(name.split(".")[-2])
    if arch in PERMUTED and heads:
        return values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    if arch in ONE_MORE and "norm" in name:
        return values + 1
    if "query_key_value" in name:
        return values.reshape(attention.num_heads, 3, -1).swapaxes(0, 1).reshape(values.shape)
    return values


def write(path: Path, folder: Path, arch: int, extra: dict[str, float]) -> None:
    config = open_checkpoint(folder).config
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.mlp.intermediate_size)
    writer.add_head_count(config.attention.num_heads)
    writer.add_head_count_kv(config.attention.num_kv_heads)
    writer.add_key_length(config.attention.head_dim)
    writer.add_value_length(config.attention.head_dim)
    (writer.add_layer_norm_rms_eps if config.norm.kind == "rms" else writer.add_layer_norm_eps)(config.norm.eps)
    assert config.rope is not None
    writer.add_rope_freq_base(config.rope.theta)
    writer.add_rope_dimension_count(config.rope.rotary_dim)
    for key, value in extra.items():
        (writer.add_uint32 if type(value) is int else writer.add_float32)(f"{gguf.MODEL_ARCH_NAMES[arch]}.{key}", value)
    names = gguf.get_tensor_name_map(arch, config.num_layers)
    for name, values in load_file(folder / "model.safetensors").items():
        renamed = names.get_name("output.weight" if name == "embed_out.weight" else name, (".weight", ".bias"))
        assert renamed is not None or name == "embed_out.weight", name
        writer.add_tensor(renamed or "output.weight", np.ascontiguousarray(converted(name, values, arch, config)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


EXTRA: dict[str, dict[str, float]] = {
    "granite": {"attention.scale": 0.2, "embedding_scale": 3.0, "residual_scale": 0.5, "logit_scale": 1.5},
    "gemma2-scaled-by-head": {
        "attention.sliding_window": 8, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0
    },
    "gemma3-scaled-by-head": {"attention.sliding_window": 8, "final_logit_softcapping": 5.0},
    "cohere": {"logit_scale": 0.5},
    "cohere2": {"logit_scale": 0.5, "attention.sliding_window": 8},
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


def test_every_architecture_is_tried_and_another_is_refused_by_name(tmp_path: Path) -> None:
    tried = {gguf.MODEL_ARCH_NAMES[arch] for arch in VARIANTS.values()} | {"llama", "gpt2"}
    assert tried == {family.gguf.architecture for family in FAMILIES.values() if family.gguf is not None}
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "falcon")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnsupportedError, match="architecture 'falcon'"):
        open_checkpoint(tmp_path / "other.gguf")
