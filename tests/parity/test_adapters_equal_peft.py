"""Adapters that PEFT wrote, against PEFT itself: logits of the adapted model on both runners."""

from __future__ import annotations

import runpy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octavo.models.checkpoint import open_checkpoint
from octavo.models.compiled import CompiledRunner
from octavo.models.formats.peft import read_adapter
from octavo.models.runner import Row
from octavo.models.transformer import TorchRunner

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft = pytest.importorskip("peft", reason="peft is not installed")

PEERS = runpy.run_path(str(Path(__file__).with_name("tiny.py")))
LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"target_modules": LLAMA, "r": 4, "lora_alpha": 16}),
    "rank-stabilised": ("llama", {"target_modules": LLAMA, "r": 8, "lora_alpha": 8, "use_rslora": True}),
    "ranks by module": ("llama", {"target_modules": LLAMA, "r": 4, "lora_alpha": 9, "rank_pattern": {"q_proj": 12}}),
    "qwen2": ("qwen2", {"target_modules": ["q_proj", "v_proj"], "r": 4, "lora_alpha": 16}),
    "gpt2": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "r": 4, "lora_alpha": 16}),
    "phi3": ("phi3", {"target_modules": ["qkv_proj", "gate_up_proj", "o_proj"], "r": 4, "lora_alpha": 16}),
    "gpt_neox": ("gpt_neox", {"target_modules": ["query_key_value", "dense_h_to_4h"], "r": 4, "lora_alpha": 16}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_an_adapter_of_the_peer_has_its_logits(case: str, tmp_path: Path) -> None:
    name, fields = CASES[case]
    model = PEERS["make_tiny"](name, tmp_path / "model")
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **fields)).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter_name, parameter in adapted.named_parameters():
        if "lora_" in parameter_name:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(noise * 0.5 / parameter.shape[-1] ** 0.5)
    adapted.save_pretrained(tmp_path / "adapter")
    tokens = torch.randint(0, 160, (1, 40), generator=generator)
    with torch.no_grad():
        expected = adapted(tokens).logits[0].numpy()
        with adapted.disable_adapter():
            plain = adapted(tokens).logits[0].numpy()
    assert np.abs(expected - plain).max() > 0.1
    checkpoint = open_checkpoint(tmp_path / "model")
    adapters = [read_adapter("a", tmp_path / "adapter", checkpoint)]
    ids = tokens[0].numpy().astype(np.int32)
    for runner in (
        TorchRunner(checkpoint, num_blocks=6, adapters=adapters),
        CompiledRunner(checkpoint, num_blocks=6, threads=2, adapters=adapters),
    ):
        for number, logits in ((1, expected), (0, plain)):
            got = runner.step([Row(ids, 0, range(3 * number, 3 * number + 3), 0, adapter=number)]).logits
            assert np.abs(got - logits).max() <= 1e-4
        runner.close()
