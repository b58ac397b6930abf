"""GGUF files, written by the format's own library from a tiny checkpoint, against the checkpoint's peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants
from numpy.typing import NDArray

from octavo.errors import OctavoError, UnknownNameError, UnsupportedError
from octavo.models.checkpoint import Checkpoint, GenerationDefaults, open_checkpoint
from octavo.models.saving import save_checkpoint
from octavo.models.transformer import Transformer
from octavo.nn.config import RopeConfig

Tiny = Callable[[str], tuple[Path, Any]]
Arrays = dict[str, NDArray[np.float32]]
LLAMA_NAMES = {
    "embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output", "attention_norm": "attn_norm",
    "attention.q": "attn_q", "attention.k": "attn_k", "attention.v": "attn_v", "attention.o": "attn_output",
    "mlp_norm": "ffn_norm", "mlp.gate": "ffn_gate", "mlp.up": "ffn_up", "mlp.down": "ffn_down",
}  # fmt: skip


def to_pairs(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Half layout to pair layout, as the converter of ggml does it."""
    half = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return half.swapaxes(1, 2).reshape(rows.shape)


def llama_arrays(checkpoint: Checkpoint) -> Arrays:
    attention = checkpoint.config.attention
    arrays: Arrays = {}
    for name, tensor in checkpoint.tensors.items():
        stem, _, leaf = name.rpartition(".")
        values = tensor.dequantize()
        if stem.startswith("blocks."):
            _, index, part = stem.split(".", 2)
            if part in ("attention.q", "attention.k"):
                values = to_pairs(values, attention.num_heads if part.endswith("q") else attention.num_kv_heads)
            arrays[f"blk.{index}.{LLAMA_NAMES[part]}.{leaf}"] = values
        else:
            arrays[f"{LLAMA_NAMES[stem]}.{leaf}"] = values
    return arrays


def write_llama(path: Path, checkpoint: Checkpoint, arrays: Arrays, *, kind: str = "F32", **extra: float) -> None:
    config = checkpoint.config
    assert config.rope is not None
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.mlp.intermediate_size)
    writer.add_head_count(config.attention.num_heads)
    writer.add_head_count_kv(config.attention.num_kv_heads)
    writer.add_key_length(config.attention.head_dim)
    writer.add_value_length(config.attention.head_dim)
    writer.add_layer_norm_rms_eps(config.norm.eps)
    writer.add_rope_freq_base(config.rope.theta)
    writer.add_vocab_size(config.vocab_size)
    for key, value in extra.items():
        writer.add_float32(f"llama.{key}", value)
    add_tensors(writer, arrays, kind)


def add_tensors(writer: GGUFWriter, arrays: Arrays, kind: str) -> None:
    for name, array in arrays.items():
        if array.ndim == 2 and kind != "F32":
            kind_id = GGMLQuantizationType[kind]
            writer.add_tensor(name, quants.quantize(array, kind_id), raw_dtype=kind_id)
        else:
            writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def ids() -> torch.Tensor:
    return torch.randint(0, 160, (2, 40), generator=torch.Generator().manual_seed(1))


def difference(checkpoint: Checkpoint, peer: Any) -> float:
    with torch.no_grad():
        expected = peer(ids()).logits
    ours = Transformer.from_checkpoint(checkpoint).requires_grad_(False)(ids())
    return float((ours - expected).abs().max())


@pytest.mark.parametrize("name", ["llama", "llama-tied", "llama-biases", "llama-head-dim", "llama-mqa", "mistral"])
def test_a_llama_file_gives_the_logits_of_its_source(name: str, tiny: Tiny, tmp_path: Path) -> None:
    folder, peer = tiny(name)
    source = open_checkpoint(folder)
    write_llama(tmp_path / "tiny.gguf", source, llama_arrays(source))
    checkpoint = open_checkpoint(tmp_path / "tiny.gguf")
    assert checkpoint.config == source.config
    assert difference(checkpoint, peer) <= 1e-4


def test_divisors_in_the_file_scale_the_frequencies(tiny: Tiny, tmp_path: Path) -> None:
    folder, peer = tiny("llama-llama3")
    source = open_checkpoint(folder)
    assert source.config.rope is not None
    arrays = llama_arrays(source)
    arrays["rope_freqs.weight"] = np.array(source.config.rope.freq_factors, np.float32)
    write_llama(tmp_path / "tiny.gguf", source, arrays)
    checkpoint = open_checkpoint(tmp_path / "tiny.gguf")
    assert difference(checkpoint, peer) <= 1e-4
    save_checkpoint(
        tmp_path / "saved", checkpoint.config, checkpoint.family, checkpoint.tensors, None, GenerationDefaults()
    )
    assert open_checkpoint(tmp_path / "saved").config == checkpoint.config


def test_linear_scaling_in_the_file_is_read_in_both_spellings(tiny: Tiny, tmp_path: Path) -> None:
    folder, peer = tiny("llama-linear")
    source = open_checkpoint(folder)
    write_llama(tmp_path / "old.gguf", source, llama_arrays(source), **{"rope.scale_linear": 4.0})
    assert difference(open_checkpoint(tmp_path / "old.gguf"), peer) <= 1e-4


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_a_quantised_file_is_its_dequantised_source(kind: str, tiny: Tiny, tmp_path: Path) -> None:
    folder, _ = tiny("llama")
    source = open_checkpoint(folder)
    arrays = {name: a for name, a in llama_arrays(source).items() if "ffn_down" not in name or kind[0] != "Q"}
    downs = {name: a for name, a in llama_arrays(source).items() if name not in arrays}
    write_mixed(tmp_path / "tiny.gguf", source, arrays, downs, kind)
    opened = open_checkpoint(tmp_path / "tiny.gguf")
    assert opened.tensors["blocks.0.attention.q.weight"].encoding == kind.lower()
    for name, tensor in opened.tensors.items():
        exact = source.tensors[name].dequantize()
        if tensor.encoding == "f32":
            assert np.array_equal(tensor.dequantize(), exact)
        else:
            kind_id = GGMLQuantizationType[kind]
            assert np.array_equal(tensor.dequantize(), quants.dequantize(quants.quantize(exact, kind_id), kind_id))


def write_mixed(path: Path, checkpoint: Checkpoint, arrays: Arrays, plain: Arrays, kind: str) -> None:
    """Rows of 112 are not whole blocks of 32: they stay float32 beside the quantised ones."""
    config = checkpoint.config
    writer = GGUFWriter(path, "llama")
    for key, value in {
        "context_length": config.context_length, "embedding_length": config.hidden_size,
        "block_count": config.num_layers, "feed_forward_length": config.mlp.intermediate_size,
        "attention.head_count": config.attention.num_heads, "attention.head_count_kv": config.attention.num_kv_heads,
    }.items():  # fmt: skip
        writer.add_uint32(f"llama.{key}", value)
    writer.add_layer_norm_rms_eps(config.norm.eps)
    for name, array in plain.items():
        writer.add_tensor(name, array)
    add_tensors(writer, arrays, kind)


def test_a_gpt2_file_gives_the_logits_of_its_source(tiny: Tiny, tmp_path: Path) -> None:
    folder, peer = tiny("gpt2")
    source = open_checkpoint(folder)
    config = source.config
    writer = GGUFWriter(tmp_path / "tiny.gguf", "gpt2")
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.mlp.intermediate_size)
    writer.add_head_count(config.attention.num_heads)
    writer.add_layer_norm_eps(config.norm.eps)
    add_tensors(writer, gpt2_arrays(source), "F32")
    checkpoint = open_checkpoint(tmp_path / "tiny.gguf")
    assert checkpoint.config == config
    assert difference(checkpoint, peer) <= 1e-4


def gpt2_arrays(checkpoint: Checkpoint) -> Arrays:
    names = {**LLAMA_NAMES, "embed_positions": "position_embd"}
    arrays: Arrays = {}
    for name, tensor in checkpoint.tensors.items():
        stem, _, leaf = name.rpartition(".")
        _, index, part = stem.split(".", 2) if stem.startswith("blocks.") else ("", "", stem)
        if part in ("attention.q", "attention.k", "attention.v"):
            fused = f"blk.{index}.attn_qkv.{leaf}"
            before = [arrays[fused]] if fused in arrays else []
            arrays[fused] = np.concatenate([*before, tensor.dequantize()])
        else:
            arrays[f"blk.{index}.{names[part]}.{leaf}" if index else f"{names[part]}.{leaf}"] = tensor.dequantize()
    return arrays


def test_partial_rotary_rows_are_put_in_order(tiny: Tiny, tmp_path: Path) -> None:
    folder, _ = tiny("llama")
    source = open_checkpoint(folder)
    rope = RopeConfig(1e4, 8)
    partial = replace(source, config=replace(source.config, rope=rope))
    arrays = llama_arrays(source)
    for name in [name for name in arrays if ".attn_q." in name or ".attn_k." in name]:
        canonical = name.replace("blk", "blocks").replace("attn_", "attention.")
        heads = source.tensors[canonical].dequantize().reshape(-1, 16, 64)
        turned = heads[:, :8].reshape(-1, 2, 4, 64).swapaxes(1, 2).reshape(-1, 8, 64)
        arrays[name] = np.concatenate([turned, heads[:, 8:]], axis=1).reshape(-1, 64)
    writer = GGUFWriter(tmp_path / "tiny.gguf", "llama")
    writer.add_rope_dimension_count(8)
    for key, value in {"context_length": 128, "embedding_length": 64, "block_count": 4, "feed_forward_length": 112,
                       "attention.head_count": 4, "attention.head_count_kv": 2}.items():  # fmt: skip
        writer.add_uint32(f"llama.{key}", value)
    writer.add_layer_norm_rms_eps(1e-5)
    add_tensors(writer, arrays, "F32")
    opened = open_checkpoint(tmp_path / "tiny.gguf")
    assert opened.config == partial.config
    for name, tensor in source.tensors.items():
        assert np.array_equal(opened.tensors[name].dequantize(), tensor.dequantize()), name


@pytest.mark.parametrize(
    ("extra", "error", "words"),
    [
        ({"rope.scaling.attn_factor": 2.0}, UnsupportedError, "attn_factor"),
        ({"attention.clamp_kqv": 8.0}, UnknownNameError, "attention.clamp_kqv"),
    ],
)
def test_metadata_that_would_change_the_model_is_refused_by_name(
    extra: dict[str, float], error: type[OctavoError], words: str, tiny: Tiny, tmp_path: Path
) -> None:
    folder, _ = tiny("llama")
    source = open_checkpoint(folder)
    write_llama(tmp_path / "tiny.gguf", source, llama_arrays(source), **extra)
    with pytest.raises(error, match=words):
        open_checkpoint(tmp_path / "tiny.gguf")
    key = "llama." + next(iter(extra))
    assert open_checkpoint(tmp_path / "tiny.gguf", ignore_keys=[key]).config == source.config
