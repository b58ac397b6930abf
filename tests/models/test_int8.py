"""Matrices in eight bits: written, read back as the same numbers, run by the kernels as they are, refused when torn."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from octavo.errors import FormatError
from octavo.models.checkpoint import GenerationDefaults, open_checkpoint
from octavo.models.encoders.compiled import CompiledEncoder
from octavo.models.encoders.runner import EncoderRow
from octavo.models.formats.joining.int8 import SCALES, join_int8
from octavo.models.formats.safetensors import read_safetensors
from octavo.models.saving import save_checkpoint

PARITY = Path(__file__).parents[1] / "parity"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny encoder in float32, and the same in eight bits."""
    dense, small = tmp_path_factory.mktemp("dense"), tmp_path_factory.mktemp("small") / "model"
    runpy.run_path(str(PARITY / "tiny_encoders.py"))["make_tiny"]("bert-span", dense)
    checkpoint = open_checkpoint(dense)
    save_checkpoint(small, checkpoint.config, "bert", checkpoint.tensors, None, GenerationDefaults(()), int8=True)
    return dense, small


def test_a_saved_matrix_has_the_nearest_of_255_steps_and_another_tensor_is_as_it_was(
    folders: tuple[Path, Path],
) -> None:
    dense, small = (open_checkpoint(folder) for folder in folders)
    assert small.config == dense.config
    for name, tensor in dense.tensors.items():
        values, again = tensor.dequantize(), small.tensors[name].dequantize()
        if len(tensor.shape) == 2 and tensor.shape[1] % 32 == 0:
            assert small.tensors[name].encoding == "q8_0"
            step = np.abs(values.reshape(len(values), -1, 32)).max(axis=2, keepdims=True) / 127
            assert (np.abs(values - again).reshape(step.shape[0], -1, 32) <= step * 0.52 + 1e-6).all(), name
        else:
            assert np.array_equal(values, again), name
    # The tiny model has one matrix whose rows are not whole blocks.
    assert (folders[1] / "model.safetensors").stat().st_size < 0.5 * sum(t.nbytes for t in dense.tensors.values())


def test_kernels_run_the_file_as_they_run_its_source_made_int8(folders: tuple[Path, Path]) -> None:
    row = EncoderRow([3, 50, 90, 7, 12, 159])
    states = []
    for folder in folders:
        encoder = CompiledEncoder(open_checkpoint(folder), weights="int8", threads=1)
        states.append(encoder.encode([row]))
        encoder.close()
    assert np.abs(states[0] - states[1]).max() < 0.15 * np.abs(states[0]).std()  # the tables are in int8, too


def test_the_library_reads_the_pair(folders: tuple[Path, Path]) -> None:
    from safetensors.numpy import load_file

    held = load_file(folders[1] / "model.safetensors")
    name = "bert.encoder.layer.0.attention.self.query.weight"
    numbers, scales = held[name], held[name + SCALES]
    assert numbers.dtype == np.int8 and scales.dtype == np.float16
    values = open_checkpoint(folders[1]).tensors["blocks.0.attention.q.weight"].dequantize()
    expected = numbers.reshape(len(numbers), -1, 32).astype(np.float32) * scales.astype(np.float32)[:, :, None]
    assert np.array_equal(values, expected.reshape(values.shape))


def test_scales_that_do_not_fit_are_refused(folders: tuple[Path, Path]) -> None:
    entries = read_safetensors(folders[1] / "model.safetensors")
    name = "bert.encoder.layer.1.attention.output.dense.weight"
    for wrong in (replace(entries[name + SCALES], kind="F32"), replace(entries[name + SCALES], shape=(64, 3))):
        with pytest.raises(FormatError, match="do not fit together as int8"):
            join_int8({**entries, name + SCALES: wrong}, "a file")
    assert set(join_int8(entries, "a file")) == {key for key in entries if not key.endswith(SCALES)}
