"""gpt-oss as published, four-bit experts in `_blocks` and `_scales`, against transformers' own unpacking of them."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from octavo.errors import FormatError
from octavo.models.checkpoint import open_checkpoint
from octavo.models.transformer import Transformer

EXPERTS = ("gate_up_proj", "down_proj")
SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 160, "max_position_embeddings": 128, "num_local_experts": 3,
    "num_experts_per_tok": 2, "sliding_window": 8, "head_dim": 16, "pad_token_id": None,
    "rope_parameters": {"rope_theta": 500.0, "rope_type": "default"},
}  # fmt: skip


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """A folder with random packed experts, and the same tensors as transformers unpacks them."""
    folder = tmp_path_factory.mktemp("gpt-oss")
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt_oss", **SIZES))
    runpy.run_path(str(Path(__file__).parents[1] / "parity/tiny.py"))["jitter"](model, 0)
    model.save_pretrained(folder)
    tensors, random = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(0)
    unpacked = dict(tensors)
    for name, dense in tensors.items():
        if name.endswith(EXPERTS):
            experts, width, rows = dense.shape  # (in, out) as saved; packed rows are outputs
            blocks = torch.randint(0, 256, (experts, rows, width // 32, 16), generator=random, dtype=torch.uint8)
            scales = torch.randint(122, 126, (experts, rows, width // 32), generator=random, dtype=torch.uint8)
            unpacked[name] = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
            unpacked |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    stored = {name: values for name, values in unpacked.items() if not name.endswith(EXPERTS)}
    save_file(stored, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "mxfp4"}}))
    return folder, {name: unpacked[name] for name in tensors}


def test_packed_experts_are_the_numbers_that_transformers_unpacks(packed: tuple[Path, dict[str, Tensor]]) -> None:
    folder, unpacked = packed
    tensors = open_checkpoint(folder).tensors
    for expert in range(3):
        down = tensors[f"blocks.1.mlp.experts.{expert}.down.weight"]
        gate, up = (tensors[f"blocks.1.mlp.experts.{expert}.{name}.weight"] for name in ("gate", "up"))
        assert {down.encoding, gate.encoding, up.encoding} == {"mxfp4"}
        theirs = {name: unpacked[f"model.layers.1.mlp.experts.{name}"][expert].T.numpy() for name in EXPERTS}
        assert np.array_equal(down.dequantize(), theirs["down_proj"])
        assert np.array_equal(gate.dequantize(), theirs["gate_up_proj"][0::2])
        assert np.array_equal(up.dequantize(), theirs["gate_up_proj"][1::2])


def test_the_logits_are_those_of_the_peer_with_unpacked_experts(packed: tuple[Path, dict[str, Tensor]]) -> None:
    folder, unpacked = packed
    peer = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt_oss", **SIZES), attn_implementation="eager")
    peer.load_state_dict(unpacked)
    ids = torch.randint(0, 160, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = peer.eval()(ids).logits
    ours = Transformer.from_checkpoint(open_checkpoint(folder)).requires_grad_(False)(ids)
    assert float((ours - expected).abs().max()) <= 1e-4


def test_blocks_and_scales_that_do_not_fit_are_refused(packed: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    tensors = load_file(packed[0] / "model.safetensors")
    name = "model.layers.0.mlp.experts.down_proj_scales"
    save_file({**tensors, name: tensors[name][:, :-1].contiguous()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((packed[0] / "config.json").read_text())
    with pytest.raises(FormatError, match="do not fit together as MXFP4"):
        open_checkpoint(tmp_path)
