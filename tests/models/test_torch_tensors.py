"""Weights reach torch bit for bit, copied or in place, and what is done to them there never reaches the file."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from octavo.models.checkpoint import open_checkpoint
from octavo.models.compiled import CompiledRunner
from octavo.models.formats.safetensors import read_safetensors
from octavo.models.packing import cache as packed
from octavo.models.packing.cache import pack_cache
from octavo.models.tensors import StoredTensor
from octavo.models.torch_tensors import SharedFiles, to_torch
from octavo.models.transformer import TorchRunner, Transformer

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=st.integers(0, 99), rows=st.integers(1, 9), columns=st.integers(1, 40), source=st.sampled_from(DTYPES))
def test_dense_weights_are_converted_as_torch_converts_them(
    seed: int, rows: int, columns: int, source: torch.dtype, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    given_values = (torch.randn(rows, columns, generator=generator) * 10.0 ** (seed % 5 - 2)).to(source)
    given_values[0, 0] = torch.inf if seed % 2 else -0.0
    bits = given_values.view({torch.float32: torch.float32}.get(source, torch.uint16)).numpy()
    encoding = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}[source]
    stored = StoredTensor.from_bits(encoding, bits.view(np.float16) if encoding == "f16" else bits)  # type: ignore[arg-type]
    found = to_torch(stored, dtype=dtype)
    assert found.dtype == dtype
    assert torch.equal(found, given_values.to(dtype))
    assert torch.signbit(found[0, 0]) == torch.signbit(given_values[0, 0])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    values = torch.arange(48, dtype=torch.bfloat16).reshape(6, 8)
    path = tmp_path / "model.safetensors"
    save_file({"a": values, "b": -values, "c": torch.ones(3)}, path)
    return path


def test_weights_of_the_wanted_type_are_had_in_place_and_others_are_not(file: Path) -> None:
    entries = {name: entry.read() for name, entry in read_safetensors(file).items()}
    shared = SharedFiles([read_safetensors(file)["a"].file, next(iter(read_safetensors(file).values())).file])
    assert shared.find(entries["a"], torch.bfloat16) is None, "of another map of the same file"
    own = read_safetensors(file)
    shared = SharedFiles([own["a"].file])
    found = shared.find(own["b"].read(), torch.bfloat16)
    assert found is not None and torch.equal(found, to_torch(entries["b"], dtype=torch.bfloat16))
    part = shared.find(own["a"].read().rows(slice(2, 4)), torch.bfloat16)
    assert part is not None and part.flatten().tolist() == list(range(16, 32))
    assert shared.find(own["a"].read(), torch.float32) is None
    assert shared.find(own["a"].read().rows(np.array([1, 0])), torch.bfloat16) is None, "put together on the way"


def test_what_is_written_stays_in_the_process_and_survives_the_release_of_pages(file: Path) -> None:
    before = file.read_bytes()
    own = read_safetensors(file)
    found = SharedFiles([own["a"].file]).find(own["a"].read(), torch.bfloat16)
    assert found is not None
    found.add_(1)
    own["a"].file.release()
    assert found.flatten().tolist() == list(range(1, 49))
    assert file.read_bytes() == before
    assert own["a"].read().dequantize()[0, 0] == 0


def test_a_shared_model_computes_what_a_copied_one_does(stories: Path) -> None:
    copied = Transformer.from_checkpoint(open_checkpoint(stories))
    checkpoint = open_checkpoint(stories)
    shared = Transformer.from_checkpoint(checkpoint, shared=True)
    del checkpoint
    gc.collect()  # the weights outlive the checkpoint that they came from
    tokens = torch.arange(1, 20)[None]
    assert torch.equal(copied(tokens), shared(tokens))
    storage = {parameter.untyped_storage().data_ptr() for parameter in shared.parameters()}
    assert len(storage) == 1
    assert len({parameter.untyped_storage().data_ptr() for parameter in copied.parameters()}) > 1
    assert TorchRunner(open_checkpoint(stories), num_blocks=1).config == shared.config


def test_a_runner_that_is_dropped_while_its_packed_weights_are_written_does_no_harm(
    stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path))
    monkeypatch.setattr(packed, "SMALLEST", 0)
    checkpoint = open_checkpoint(stories)
    cache = pack_cache(checkpoint)
    assert cache is not None
    runner = CompiledRunner(checkpoint, num_blocks=1, cache=cache)
    writing, model = runner._writing, runner._model
    assert writing is not None
    owners = gc.get_referrers(model)
    del runner, model, owners
    gc.collect()
    writing.join()
    assert cache.read()
