"""Families for which the peer has no code of its own: against a family with the same graph, under other names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from octavo.models.checkpoint import GenerationDefaults, open_checkpoint
from octavo.models.saving import save_checkpoint
from octavo.models.transformer import Transformer

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
