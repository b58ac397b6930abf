"""Choosing a runner, and loading through the meta device without a second copy of the weights."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.errors import MissingDependencyError, OctavoError, UnsupportedError
from octavo.models import loading, torch_loading
from octavo.models.checkpoint import Checkpoint, GenerationDefaults, open_checkpoint
from octavo.models.runner import Row
from octavo.models.saving import save_checkpoint
from octavo.models.transformer import Transformer
from octavo.nn.config import AttentionConfig, EncoderConfig, MlpConfig, NormConfig, RopeConfig, TransformerConfig
from octavo.nn.shapes import parameter_shapes

CONFIG = TransformerConfig(
    vocab_size=64,
    hidden_size=32,
    num_layers=2,
    context_length=64,
    norm=NormConfig("rms", 1e-5),
    attention=AttentionConfig(2, 1, 16),
    mlp=MlpConfig(64, "silu", gated=True),
    rope=RopeConfig(1e4, 16),
    tie_embeddings=False,
)
NO_KERNELS = MissingDependencyError("the C kernels are not built; install a C compiler, or octavo[torch]")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    tensors = Transformer(CONFIG).stored_tensors()
    save_checkpoint(tmp_path / "model", CONFIG, "llama", tensors, None, GenerationDefaults())
    return open_checkpoint(tmp_path / "model")


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NO_KERNELS

    monkeypatch.setattr("octavo.models.compiled.CompiledRunner", refuse)


def test_torch_runs_when_asked_for_by_argument_or_variable(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loading.make_runner(checkpoint, runner="torch", num_blocks=2).name == "torch cpu"
    monkeypatch.setenv("OCTAVO_KERNELS", "torch")
    runner = loading.make_runner(checkpoint, num_blocks=3)
    assert (runner.name, runner.num_blocks) == ("torch cpu", 3)


def test_a_gpu_is_torchs_and_one_that_is_not_there_is_refused_by_name(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("OCTAVO_DEVICE", "cuda:1")
    with pytest.raises(OctavoError, match="OCTAVO_DEVICE=cuda:1, but torch sees 1 CUDA devices"):
        loading.make_runner(checkpoint, num_blocks=2)
    with pytest.raises(UnsupportedError, match="OCTAVO_DEVICE=cuda:1 is the torch runner's; unset it for the kernels"):
        loading.make_runner(checkpoint, runner="kernels", num_blocks=2)
    monkeypatch.setenv("OCTAVO_DEVICE", "gpu")
    with pytest.raises(OctavoError, match="OCTAVO_DEVICE='gpu' is not cpu, cuda or cuda:N"):
        loading.make_runner(checkpoint, num_blocks=2)
    monkeypatch.setenv("OCTAVO_DEVICE", "cpu")
    assert loading.make_runner(checkpoint, num_blocks=2).name.startswith("kernels")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_a_model_is_bfloat16(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_DEVICE", "cuda")
    runner = loading.make_runner(checkpoint, num_blocks=2)
    assert runner.name == "torch cuda" and runner._model.embed_tokens.weight.dtype == torch.bfloat16  # type: ignore[attr-defined]


@pytest.mark.usefixtures("without_kernels")
def test_torch_runs_where_kernels_are_not_built(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OCTAVO_KERNELS", raising=False)
    assert loading.make_runner(checkpoint, num_blocks=2).name == "torch cpu"


@pytest.mark.usefixtures("without_kernels")
def test_kernels_that_were_asked_for_are_not_replaced_in_silence(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingDependencyError, match="C kernels are not built"):
        loading.make_runner(checkpoint, runner="kernels", num_blocks=2)
    monkeypatch.setenv("OCTAVO_KERNELS", "c")
    with pytest.raises(MissingDependencyError, match="C kernels are not built"):
        loading.make_runner(checkpoint, num_blocks=2)


@pytest.mark.usefixtures("without_kernels")
def test_with_neither_the_message_says_which_two_would_do(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OCTAVO_KERNELS", raising=False)
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"C compiler, or octavo\[torch\]"):
        loading.make_runner(checkpoint, num_blocks=2)
    with pytest.raises(MissingDependencyError, match=r"pip install 'octavo\[torch\]', or run on the kernels"):
        loading.make_runner(checkpoint, runner="torch", num_blocks=2)


def test_a_model_beyond_the_free_memory_is_narrowed_or_refused(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = sum(int(np.prod(shape)) for shape in parameter_shapes(CONFIG).values()) + 2 * 2 * 16 * 16 * 2
    row = Row(np.array([1, 2], np.int32), 0, [0], 0)
    exact = loading.make_runner(checkpoint, runner="torch", num_blocks=2).step([row]).logits
    monkeypatch.setattr(torch_loading, "free_memory", lambda: 4 * numbers - 1)
    narrow = loading.make_runner(checkpoint, runner="torch", num_blocks=2).step([row]).logits
    assert 0 < np.abs(narrow - exact).max() < 0.05
    monkeypatch.setattr(torch_loading, "free_memory", lambda: 2 * numbers - 1)
    with pytest.raises(OctavoError, match="GB are free; close programs"):
        loading.make_runner(checkpoint, runner="torch", num_blocks=2)


MEASURE = """
import os, sys
from dataclasses import replace
from pathlib import Path
import torch
from octavo.models.checkpoint import open_checkpoint
from octavo.models.transformer import Transformer

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def high_water():
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024

dtype = getattr(torch, sys.argv[2])
torch.ones(64, 64, dtype=dtype) @ torch.ones(64, 64, dtype=dtype)
before = resident()
model = Transformer.from_checkpoint(open_checkpoint(Path(sys.argv[1])), dtype=dtype)
weights = sum(parameter.nbytes for parameter in model.parameters())
print((high_water() - before) / weights)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads resident memory from /proc")
@pytest.mark.parametrize(
    ("stored", "loaded"), [("float32", "float32"), ("bfloat16", "float32"), ("float32", "bfloat16")]
)
def test_loading_peaks_at_most_a_fifth_above_the_weights(stored: str, loaded: str, tmp_path: Path) -> None:
    config = TransformerConfig(
        vocab_size=40_000,
        hidden_size=512,
        num_layers=6,
        context_length=64,
        norm=NormConfig("rms", 1e-5),
        attention=AttentionConfig(8, 8, 64),
        mlp=MlpConfig(2048, "silu", gated=True),
        rope=RopeConfig(1e4, 64),
        tie_embeddings=False,
    )
    tensors = Transformer(config).to(getattr(torch, stored)).stored_tensors()
    save_checkpoint(tmp_path / "model", config, "llama", tensors, None, GenerationDefaults())
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "model"), loaded], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) <= 1.2


def test_an_encoder_is_refused_as_a_writer_of_text(tmp_path: Path) -> None:
    config = replace(CONFIG, encoder=EncoderConfig())
    checkpoint = Checkpoint(tmp_path, "tiny", "bert", config, {}, {}, GenerationDefaults())
    with pytest.raises(UnsupportedError, match=r"tiny is an encoder \(bert\).*octavo embed"):
        loading.make_runner(checkpoint, num_blocks=1)
