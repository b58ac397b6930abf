"""Saving: whole or not at all, never over something that is not a model."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octavo.errors import FormatError, OctavoError
from octavo.models import saving
from octavo.models.checkpoint import GenerationDefaults, open_checkpoint
from octavo.models.saving import save_checkpoint
from octavo.models.transformer import Transformer
from octavo.nn.config import AttentionConfig, MlpConfig, NormConfig, RopeConfig, TransformerConfig

CONFIG = TransformerConfig(
    vocab_size=12,
    hidden_size=8,
    num_layers=1,
    context_length=16,
    norm=NormConfig("rms", 1e-5),
    attention=AttentionConfig(2, 1, 4),
    mlp=MlpConfig(6, "silu", gated=True),
    rope=RopeConfig(1e4, 4),
    tie_embeddings=True,
)


def save(folder: Path, model: Transformer, **options: Any) -> None:
    save_checkpoint(folder, CONFIG, "llama", model.stored_tensors(), None, GenerationDefaults((3,)), **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_model_of_any_type_is_loaded_bit_for_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    model = Transformer(CONFIG, seed=1).to(dtype)
    save(tmp_path / "model", model)
    assert json.loads((tmp_path / "model/config.json").read_text())["torch_dtype"] == str(dtype).removeprefix("torch.")
    again = Transformer.from_checkpoint(open_checkpoint(tmp_path / "model"), dtype=dtype)
    for name, parameter in model.named_parameters():
        assert torch.equal(again.get_parameter(name), parameter), name


def test_a_quantised_model_is_saved_as_the_numbers_it_stands_for(smollm2: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(smollm2)
    save_checkpoint(
        tmp_path / "m", checkpoint.config, "llama", checkpoint.tensors, checkpoint.tokenizer(), checkpoint.generation
    )
    again = open_checkpoint(tmp_path / "m")
    assert again.config == checkpoint.config and again.generation == checkpoint.generation
    for name in ("embed_tokens.weight", "blocks.3.attention.k.weight", "norm.weight"):
        assert np.array_equal(again.tensors[name].dequantize(), checkpoint.tensors[name].dequantize())
    text = "List:\n\n1. one  42"
    assert again.tokenizer().encode(text) == checkpoint.tokenizer().encode(text)


def test_a_model_replaces_one_that_is_there_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    save(tmp_path / "model", Transformer(CONFIG, seed=1), max_shard_bytes=100)
    save(tmp_path / "model", Transformer(CONFIG, seed=2))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not list((tmp_path / "model").glob("*.index.json"))
    norm = open_checkpoint(tmp_path / "model").tensors["embed_tokens.weight"].dequantize()
    assert np.array_equal(norm, Transformer(CONFIG, seed=2).embed_tokens.weight.detach().numpy())


def test_a_disk_that_fills_up_leaves_the_old_model_and_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "model", Transformer(CONFIG, seed=1))
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}

    def full(path: Path, tensors: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saving, "write_safetensors", full)
    with pytest.raises(
        OctavoError, match=r"could not be saved to .*model \(No space left on device\); free some space"
    ):
        save(tmp_path / "model", Transformer(CONFIG, seed=2))
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_with_something_else_in_it_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OctavoError, match=r"holds thesis\.tex"):
        save(tmp_path, Transformer(CONFIG))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(OctavoError, match="is a file"):
        save(tmp_path / "thesis.tex", Transformer(CONFIG))


def test_tensors_that_do_not_fit_the_config_are_refused_by_name(tmp_path: Path) -> None:
    tensors = Transformer(CONFIG).stored_tensors()
    del tensors["blocks.0.mlp.up.weight"]
    with pytest.raises(FormatError, match=r"'blocks\.0\.mlp\.up\.weight' is missing"):
        save_checkpoint(tmp_path / "model", CONFIG, "llama", tensors, None, GenerationDefaults())
    assert list(tmp_path.iterdir()) == []
