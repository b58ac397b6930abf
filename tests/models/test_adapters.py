"""Low-rank adapters: a row with one is the merged model's, beside rows with others and with none."""

from __future__ import annotations

import json
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from octavo.errors import MissingDependencyError, OctavoError
from octavo.models.checkpoint import GenerationDefaults, open_checkpoint
from octavo.models.compiled import CompiledRunner
from octavo.models.formats.peft import Adapter, LowRank, read_adapter
from octavo.models.runner import Row
from octavo.models.saving import save_checkpoint
from octavo.models.transformer import TorchRunner, Transformer
from octavo.nn.kernels import binding
from octavo.nn.shapes import parameter_shapes

try:
    LEVELS = binding.machine_levels()
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)

COMPILED: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("kernel_models.py")))
CONFIGS, encoded, dequantized, loud_model, sequence = (
    COMPILED[name] for name in ("CONFIGS", "encoded", "dequantized", "loud_model", "sequence")
)


def adapter(config: Any, name: str, rank: int, only: str = "") -> Adapter:
    random = np.random.default_rng(rank)
    factors = {}
    for matrix, shape in parameter_shapes(config).items():
        if matrix.startswith("blocks") and len(shape) == 2 and only in matrix:
            down = random.normal(0, shape[1] ** -0.5, (rank, shape[1])).astype(np.float32)
            factors[matrix] = LowRank(down, random.normal(0, 0.4, (shape[0], rank)).astype(np.float32))
    return Adapter(name, factors)


def merged(model: Transformer, adapter: Adapter) -> Transformer:
    model = dequantized(encoded(model, "f32"))
    for name, pair in adapter.factors.items():
        model.get_parameter(name).add_(torch.from_numpy(pair.up @ pair.down))
    return model


def compiled(model: Transformer, adapters: Sequence[Adapter], level: str, encoding: str = "f32") -> CompiledRunner:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCTAVO_KERNELS", level)
        return CompiledRunner(encoded(model, encoding), num_blocks=24, threads=3, adapters=adapters)


@pytest.mark.parametrize(
    ("level", "name"), [*((level, "llama") for level in LEVELS), (LEVELS[-1], "biases"), (LEVELS[-1], "parallel")]
)
def test_rows_with_different_adapters_in_one_step_equal_the_merged_models(level: str, name: str) -> None:
    model = loud_model(CONFIGS[name])
    adapters = [adapter(model.config, "a", 4), adapter(model.config, "b", 40, only="attention")]
    models = [model, *(merged(model, each) for each in adapters)]
    runners = [compiled(model, adapters, level), TorchRunner(model, num_blocks=24, adapters=adapters)]
    texts = [sequence(model.config, length, seed=length) for length in (30, 21, 9, 17, 5)]
    for runner in runners:
        for start, end in ((0, -2), (-2, -1), (-1, None)):  # a prompt, and tokens one by one
            rows = [
                Row(text[start:end], start % len(text), range(4 * at, 4 * at + 4), 0, adapter=at % 3)
                for at, text in enumerate(texts)
            ]
            got = np.split(runner.step(rows).logits, np.cumsum([len(row.tokens) for row in rows])[:-1])
            for at, (text, logits) in enumerate(zip(texts, got, strict=True)):
                whole = TorchRunner(models[at % 3], num_blocks=2).step([Row(text, 0, range(2), 0)]).logits
                assert np.abs(logits - whole[start:end]).max() <= 2e-4
        runner.close()


@pytest.mark.parametrize("encoding", ["bf16", "q8_0", "q4_1"])
def test_a_row_s_bits_do_not_depend_on_its_neighbours_adapters(encoding: str) -> None:
    model = loud_model(CONFIGS["llama"])
    text = sequence(model.config, 30)
    plain = compiled(model, [], LEVELS[-1], encoding)
    runner = compiled(model, [adapter(model.config, "a", 8), adapter(model.config, "b", 16)], LEVELS[-1], encoding)
    alone = [runner.step([Row(text, 0, range(2), 0, adapter=number)]).logits for number in range(3)]
    assert np.array_equal(alone[0], plain.step([Row(text, 0, range(2), 0)]).logits)
    assert np.abs(alone[0] - alone[1]).max() > 0.1
    rows = [Row(text, 0, range(2 * number, 2 * number + 2), 0, adapter=number) for number in (2, 0, 1)]
    together = np.split(runner.step(rows).logits, 3)
    for number, logits in zip((2, 0, 1), together, strict=True):
        assert np.array_equal(logits, alone[number])
    with pytest.raises(ValueError, match=r"adapter 3 is not in 0 \.\. 2"):
        runner.step([Row(text, 0, range(2), 0, adapter=3)])


FIELDS = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 6, "bias": "none", "target_modules": []}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    tensors = Transformer(CONFIGS["llama"]).stored_tensors()
    save_checkpoint(folder, CONFIGS["llama"], "llama", tensors, None, GenerationDefaults())
    return folder


def write(folder: Path, module: str = "model.layers.1.self_attn.k_proj", rows: int = 32, **fields: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**FIELDS, **fields}))
    parts = {"A": np.ones((2, 64), np.float32), "B": np.ones((rows, 2), np.float32)}
    tensors = {f"base_model.model.{module}.lora_{part}.weight": array for part, array in parts.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def test_alpha_and_rank_scale_an_adapter(model: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(model)
    for fields, scale in (({}, 3.0), ({"use_rslora": True}, 6 / 2**0.5), ({"lora_alpha": 1}, 0.5)):
        read = read_adapter("a", write(tmp_path / "a", **fields), checkpoint)
        assert read.factors.keys() == {"blocks.1.attention.k.weight"}
        assert np.allclose(read.factors["blocks.1.attention.k.weight"].up, scale)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"use_dora": True}, "use_dora True, which is not supported"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save \['lm_head'\]"),
        ({"bias": "all"}, "bias 'all'"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
        ({"peft_type": "IA3"}, "peft_type 'IA3'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights 'pissa'"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"use_rslor": True}, "use_rslor.*use_rslora"),
        ({"lora_alpha": 0}, "lora_alpha 0; it must be a number above 0"),
        ({"module": "model.layers.9.self_attn.k_proj"}, "adapts 'model.layers.9.self_attn.k_proj', which model"),
        ({"module": "model.embed_tokens"}, "only attention's projections"),
        ({"rows": 33}, r"matrix of \[33, 64\], but the model's is \[32, 64\]"),
    ],
)
def test_what_is_not_done_here_is_refused_by_name(
    model: Path, tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(OctavoError, match=words):
        read_adapter("a", write(tmp_path / "a", **fields), open_checkpoint(model))


def test_an_adapter_of_other_tensors_or_without_files_is_refused(model: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(model)
    with pytest.raises(OctavoError, match=r"no adapter_config.json"):
        read_adapter("a", tmp_path, checkpoint)
    folder = write(tmp_path / "a")
    save_file({"base_model.model.lm_head.weight": np.ones((2, 2), np.float32)}, folder / "adapter_model.safetensors")
    with pytest.raises(OctavoError, match=r"lm_head.weight.*only low-rank pairs"):
        read_adapter("a", folder, checkpoint)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(OctavoError, match="pickle"):
        read_adapter("a", folder, checkpoint)
