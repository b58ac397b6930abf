"""Families for which the peer has no code of its own: against a family with the same graph, under other names."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo.errors import OctavoError
from octavo.models.checkpoint import GenerationDefaults, open_checkpoint
from octavo.models.families.gpt3 import SHAPES, banded, shaped
from octavo.models.saving import save_checkpoint
from octavo.models.transformer import Transformer
from octavo.nn.shapes import parameter_shapes

Tiny = Callable[[str], tuple[Path, Any]]
INTERN_NAMES = {
    "model.embed_tokens": "model.tok_embeddings", "self_attn.o_proj": "attention.wo", "lm_head": "output",
    "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3", "mlp.down_proj": "feed_forward.w2",
    "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def to_intern(folder: Path, into: Path) -> None:
    """A LLaMA's folder in InternLM 2's names: q, k and v by key-value head, two queries, a key, a value."""
    weights = load_file(folder / "model.safetensors")
    renamed: dict[str, torch.Tensor] = {}
    for layer in range(4):
        q, k, v = (weights.pop(f"model.layers.{layer}.self_attn.{name}_proj.weight") for name in "qkv")
        groups = (part.reshape(2, -1, 16, 64) for part in (q, k, v))
        renamed[f"model.layers.{layer}.attention.wqkv.weight"] = torch.cat(tuple(groups), 1).reshape(-1, 64)
    for name, tensor in weights.items():
        for old, new in INTERN_NAMES.items():
            name = name.replace(old, new)
        renamed[name] = tensor
    save_file(renamed, into / "model.safetensors")
    raw = json.loads((folder / "config.json").read_text())
    rope = raw.pop("rope_parameters")
    del raw["attention_bias"], raw["mlp_bias"]
    raw |= {"model_type": "internlm2", "bias": False, "rope_theta": rope["rope_theta"], "auto_map": {"AutoModel": "x"}}
    (into / "config.json").write_text(json.dumps(raw))


def test_baichuan_is_a_llama_with_one_matrix_of_q_k_and_v(tiny: Tiny, tmp_path: Path) -> None:
    folder, peer = tiny("llama-mha")
    weights = load_file(folder / "model.safetensors")
    for layer in range(4):
        name = f"model.layers.{layer}.self_attn."
        weights[f"{name}W_pack.weight"] = torch.cat([weights.pop(f"{name}{part}_proj.weight") for part in "qkv"])
    save_file(weights, tmp_path / "model.safetensors")
    raw = json.loads((folder / "config.json").read_text())
    raw["rope_theta"] = raw.pop("rope_parameters")["rope_theta"]
    for key in ("attention_bias", "mlp_bias", "num_key_value_heads", "head_dim"):
        raw.pop(key, None)
    raw |= {"model_type": "baichuan", "model_max_length": 128, "auto_map": {"AutoModel": "x"}}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    tokens = torch.randint(0, 160, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = peer(tokens).logits
    checkpoint = open_checkpoint(tmp_path)
    ours = Transformer.from_checkpoint(checkpoint).requires_grad_(False)(tokens)
    assert float((ours - expected).abs().max()) <= 1e-4
    save_checkpoint(tmp_path / "saved", checkpoint.config, "baichuan", checkpoint.tensors, None, GenerationDefaults())
    again = load_file(tmp_path / "saved/model.safetensors")
    assert again.keys() == weights.keys() and all(torch.equal(again[name], weights[name]) for name in weights)
    assert open_checkpoint(tmp_path / "saved").config == checkpoint.config
    for change, words in (
        ({"z_loss_weight": 0}, "z_loss_weight"),
        ({"max_position_embeddings": None}, "lacks the field"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**raw, **change}))
        with pytest.raises(OctavoError, match=words):
            open_checkpoint(tmp_path)


def test_internlm2_is_a_llama_under_other_names(tiny: Tiny, tmp_path: Path) -> None:
    folder, peer = tiny("llama")
    to_intern(folder, tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    tokens = torch.randint(0, 160, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = peer(tokens).logits
    ours = Transformer.from_checkpoint(checkpoint).requires_grad_(False)(tokens)
    assert float((ours - expected).abs().max()) <= 1e-4
    save_checkpoint(tmp_path / "saved", checkpoint.config, "internlm2", checkpoint.tensors, None, GenerationDefaults())
    again, saved = load_file(tmp_path / "saved/model.safetensors"), load_file(tmp_path / "model.safetensors")
    assert again.keys() == saved.keys()
    assert all(torch.equal(again[name], saved[name]) for name in saved)


def test_minicpm_is_a_granite_by_other_words(tiny: Tiny, tmp_path: Path) -> None:
    folder, peer = tiny("granite-minicpm")
    raw = json.loads((folder / "config.json").read_text())
    scales = {"scale_emb": 12.0, "scale_depth": 1.4, "dim_model_base": 32}
    kept = {
        key: value for key, value in raw.items() if "multi" not in key and key not in ("logits_scaling", "mlp_bias")
    }
    (tmp_path / "config.json").write_text(json.dumps({**kept, **scales, "model_type": "minicpm"}))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    tokens = torch.randint(0, 160, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = peer(tokens).logits
    ours = Transformer.from_checkpoint(checkpoint).requires_grad_(False)(tokens)
    assert float((ours - expected).abs().max()) <= 1e-4
    save_checkpoint(tmp_path / "saved", checkpoint.config, "minicpm", checkpoint.tensors, None, GenerationDefaults())
    assert open_checkpoint(tmp_path / "saved").config == checkpoint.config


@pytest.mark.parametrize("label", SHAPES)
def test_a_published_size_of_gpt3_has_the_parameters_that_it_is_called_after(label: str) -> None:
    count = sum(math.prod(shape) for shape in parameter_shapes(shaped(label)).values())
    called = float(label[:-1]) * {"M": 1e6, "B": 1e9}[label[-1]]
    assert count / called == pytest.approx(1.17 if label == "1.3B" else 1, abs=0.03)  # its heads are many


def test_gpt3_with_a_band_as_wide_as_the_text_is_dense_and_a_narrow_one_hides_what_is_far(tmp_path: Path) -> None:
    tiny = replace(shaped("125M"), vocab_size=160, hidden_size=64, num_layers=2, context_length=64, windows=())
    attention = replace(tiny.attention, num_heads=3, num_kv_heads=3, head_dim=24)
    tiny = replace(tiny, attention=attention, mlp=replace(tiny.mlp, intermediate_size=112))
    tokens = torch.randint(0, 160, (1, 40), generator=torch.Generator().manual_seed(1))
    configs = (tiny, banded(tiny, 40), banded(tiny, 8))
    dense, wide, narrow = (Transformer(config).requires_grad_(False) for config in configs)
    assert torch.allclose(dense(tokens), wide(tokens), atol=1e-6)
    assert not torch.allclose(dense(tokens)[0, 20:], narrow(tokens)[0, 20:], atol=1e-4)
    both = replace(banded(tiny, 8), windows=(8, 8))
    changed = tokens.clone()
    changed[0, 0] = (changed[0, 0] + 1) % 160
    local = Transformer(both).requires_grad_(False)
    assert torch.equal(local(tokens)[0, 15:], local(changed)[0, 15:]), "two bands of 8 reach 14 tokens back"
    save_checkpoint(tmp_path / "saved", narrow.config, "gpt3", narrow.stored_tensors(), None, GenerationDefaults())
    again = open_checkpoint(tmp_path / "saved")
    assert again.config == narrow.config
    assert torch.equal(Transformer.from_checkpoint(again)(tokens), narrow(tokens))
