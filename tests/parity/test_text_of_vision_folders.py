"""The language model of a folder that sees, alone: against the live peer of the whole, which reads text only."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageTextToText

from octavo.errors import OctavoError
from octavo.models.checkpoint import open_checkpoint
from octavo.models.mapping.tables.wrapped_texts import CLASS_DEFAULTS
from octavo.models.transformer import Transformer

TINY = runpy.run_path(str(Path(__file__).with_name("tiny.py")))
SIZES = runpy.run_path(str(Path(__file__).with_name("tiny_sizes.py")))
TEXT = {**SIZES["SIZES"], "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SIGHT = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
PATCHES = {"depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 64}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "mrope_section": [2, 3, 3]}}
CLIP, SIGLIP = {**SIGHT, "model_type": "clip_vision_model"}, {**SIGHT, "model_type": "siglip_vision_model"}
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "gemma3": ("gemma3_text", {"head_dim": 16, "sliding_window": 8, "num_hidden_layers": 6}, SIGHT, "gemma3_text"),
    "mistral3": ("mistral", {"head_dim": 24}, {**SIGHT, "model_type": "pixtral", "head_dim": 16}, "mistral"),
    "llava": ("llama", {}, CLIP, "llama"),
    "llava of pixtral": ("mistral", {"head_dim": 24}, {**SIGHT, "model_type": "pixtral", "head_dim": 16}, "mistral"),
    "fuyu": ("persimmon", {"num_key_value_heads": None, "rms_norm_eps": None}, {}, "persimmon"),
    "got_ocr2": ("qwen2", {}, {"hidden_size": 32, "num_hidden_layers": 1, "mlp_dim": 48}, "qwen2"),
    "vipllava": ("llama", {}, CLIP, "llama"),
    "llava_next": ("llama", {}, CLIP, "llama"),
    "llava_onevision": ("qwen2", {}, SIGLIP, "qwen2"),
    "internvl": ("qwen2", {}, {**SIGHT, "image_size": [28, 28], "patch_size": [14, 14]}, "qwen2"),
    "qwen2_vl": ("qwen2_vl_text", MROPE, {"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2}, "qwen2"),
    "qwen2_5_vl": ("qwen2_5_vl_text", MROPE, {**PATCHES, "fullatt_block_indexes": [0]}, "qwen2"),
    "qwen3_vl": ("qwen3_vl_text", {**MROPE, "head_dim": 16}, {**PATCHES, "deepstack_visual_indexes": [0]}, "qwen3"),
    "qwen3_vl_moe": (
        "qwen3_vl_moe_text", {**MROPE, "head_dim": 16, **SIZES["QWEN_EXPERTS"]},
        {**PATCHES, "deepstack_visual_indexes": [0]}, "qwen3_moe",
    ),
    "smolvlm": ("llama", {}, SIGHT, "llama"),
    "idefics2": ("mistral", {}, SIGHT, "mistral"),
    "llama4": (
        "llama4_text", {"intermediate_size_mlp": 80, "head_dim": 16, "num_local_experts": 4, "attention_chunk_size": 8},
        {**SIGHT, "vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32}, "llama4_text",
    ),
    "aya_vision": (  # the peer's whole leaves the scale of the logits out
        "cohere2", {"head_dim": 16, "sliding_window": 8, "logit_scale": 1.0, "rms_norm_eps": None}, SIGLIP, "cohere2",
    ),
    "aria": ("aria_text", {"moe_num_experts": 4, "moe_topk": 2}, SIGHT, "aria_text"),
}  # fmt: skip


def made(name: str, folder: Path, **changes: Any) -> torch.nn.Module:
    """The peer's model of a variant, jittered, from its folder."""
    kind, own, sight, _ = VARIANTS[name]
    text = {key: value for key, value in {**TEXT, "model_type": kind, **own, **changes}.items() if value is not None}
    config = AutoConfig.for_model(name.split()[0], text_config=text, **({"vision_config": sight} if sight else {}))
    model = AutoModelForImageTextToText.from_config(config, attn_implementation="eager")
    TINY["jitter"](model, 0)
    model.save_pretrained(folder)
    again: torch.nn.Module = AutoModelForImageTextToText.from_pretrained(folder, attn_implementation="eager").eval()
    return again


def error(folder: Path, peer: torch.nn.Module) -> float:
    """The largest difference of logits, of text alone."""
    tokens = torch.randint(20, 160, (2, 30), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        text = peer.language_model if peer.config.model_type == "llama4" else peer  # the whole needs an image there
        expected = text(tokens).logits
    assert expected.std() > 0.5, "the tiny model says nothing"
    ours = Transformer.from_checkpoint(open_checkpoint(folder)).requires_grad_(False)(tokens)
    return float((ours - expected).abs().max())


@pytest.mark.parametrize("name", VARIANTS)
def test_the_text_of_a_model_that_sees_loads_alone(name: str, tmp_path: Path) -> None:
    peer = made(name, tmp_path)
    assert error(tmp_path, peer) <= 1e-4
    assert open_checkpoint(tmp_path).family == VARIANTS[name][3]


def test_experts_as_published_lie_the_other_way_round(tmp_path: Path) -> None:
    peer = made("qwen3_vl_moe", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    stacks = [name for name in weights if ".experts." in name]
    assert len(stacks) == 8
    for name in stacks:
        weights[name] = weights[name].transpose(1, 2).contiguous()
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert error(tmp_path, peer) <= 1e-4


def test_older_files_of_qwen2_vl_have_the_keys_of_the_text_beside_the_others(tmp_path: Path) -> None:
    peer = made("qwen2_vl", tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    text = raw.pop("text_config")
    theta = text.pop("rope_parameters")["rope_theta"]
    flat = {**text, **raw, "rope_theta": theta, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}
    (tmp_path / "config.json").write_text(json.dumps(flat))
    assert error(tmp_path, peer) <= 1e-4


def test_a_text_config_may_leave_out_what_its_class_says() -> None:
    for kind, said in CLASS_DEFAULTS.items():
        config = AutoConfig.for_model(kind)
        assert {key: getattr(config, key) for key in said} == said


def test_what_a_text_config_needs_is_refused_by_name(tmp_path: Path) -> None:
    made("llava", tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    for change, words in (
        ({"text_config": 3}, "text_config 3"),
        ({"text_config": {**raw["text_config"], "model_type": "mamba"}}, "'mamba'"),
        ({"text_config": {**raw["text_config"], "gate": 1}}, "'gate'"),
        ({"quantization_config": {"quant_method": "gptq"}}, "gptq"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**raw, **change}))
        with pytest.raises(OctavoError, match=words):
            open_checkpoint(tmp_path)
