"""Our safetensors reader and writer: against the format's library, and against files that lie."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from octavo.errors import FormatError, ModelNotFoundError, OctavoError, UnsupportedError
from octavo.models.formats.folder import read_folder
from octavo.models.formats.safetensors import read_safetensors, write_safetensors
from octavo.models.tensors import StoredTensor
from octavo.models.torch_tensors import from_torch, to_torch

TYPES = [torch.float32, torch.float16, torch.bfloat16]


def odd_bits(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Every kind of number: normal, subnormal, infinite, NaN, negative zero."""
    bytes_each = torch.empty(0, dtype=dtype).element_size()
    generator = torch.Generator().manual_seed(0)
    raw = torch.randint(0, 256, (*shape, bytes_each), generator=generator, dtype=torch.uint8)
    return raw.view(dtype).reshape(shape)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))
    )


def raw_file(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(3, 5), (7,), (1, 1), (0, 4)])
def test_what_is_written_is_read_back_bit_for_bit_by_us_and_the_library(
    dtype: torch.dtype, shape: tuple[int, ...], tmp_path: Path
) -> None:
    tensor = odd_bits(dtype, *shape)
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {"x": from_torch(tensor), "y.ü": from_torch(tensor)})
    assert same_bits(load_file(path)["y.ü"], tensor)
    again = read_safetensors(path)["x"].read()
    assert np.array_equal(again.data, from_torch(tensor).data) and again.shape == shape


@pytest.mark.parametrize("dtype", TYPES)
def test_a_file_of_the_library_is_read_to_the_same_numbers(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.randn(9, 33, generator=torch.Generator().manual_seed(0)).to(dtype)
    save_file({"x": tensor, "i": torch.arange(3)}, tmp_path / "a.safetensors", metadata={"format": "pt"})
    entries = read_safetensors(tmp_path / "a.safetensors")
    assert same_bits(to_torch(entries["x"].read(), dtype=dtype), tensor)
    assert np.array_equal(entries["x"].read().dequantize(), tensor.float().numpy())
    with pytest.raises(UnsupportedError, match="'i' is stored as I64"):
        entries["i"].read()


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    shards = {"one.safetensors": {"a": torch.ones(2, 2)}, "two.safetensors": {"b": torch.zeros(3)}}
    for name, tensors in shards.items():
        save_file(tensors, tmp_path / name)
    index: dict[str, Any] = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    write_index(tmp_path, index)
    assert set(read_folder(tmp_path)) == {"a", "b"}
    for broken, words in [
        ({"a": "one.safetensors"}, None),
        ({"a": "one.safetensors", "b": "three.safetensors"}, "three.safetensors is missing"),
        ({"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}, "lacks tensor 'c'"),
        ({"a": "two.safetensors", "b": "two.safetensors"}, "lacks tensor 'a'"),
        ({"a": "../one.safetensors"}, "not a safetensors file of its folder"),
        ({"a": 3}, "no weight_map"),
    ]:
        write_index(tmp_path, {"weight_map": broken})
        if words is None:
            assert set(read_folder(tmp_path)) == {"a"}
            continue
        with pytest.raises(FormatError, match=words):
            read_folder(tmp_path)


def write_index(folder: Path, index: dict[str, Any]) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


X = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({"x": {**X, "data_offsets": [0, 16]}}, b"\0" * 16, "8 bytes|16 bytes"),
        ({"x": {**X, "data_offsets": [8, 0]}}, b"\0" * 8, "at bytes 8 to 0"),
        ({"x": {**X, "data_offsets": [-8, 0]}}, b"\0" * 8, "not whole numbers"),
        ({"x": X}, b"\0" * 4, "at bytes 0 to 8 of 4"),
        ({"x": X}, b"\0" * 12, "4 bytes that no tensor uses"),
        ({"x": X, "y": X}, b"\0" * 8, "an overlap"),
        ({"x": X, "y": {**X, "data_offsets": [12, 20]}}, b"\0" * 20, "a hole"),
        ({"x": {**X, "dtype": "F33"}}, b"\0" * 8, "unknown dtype 'F33'"),
        ({"x": {**X, "dtype": ["F32"]}}, b"\0" * 8, "unknown dtype"),
        ({"x": {**X, "shape": [True, 2]}}, b"\0" * 8, "not whole numbers"),
        ({"x": {**X, "shape": [2.0]}}, b"\0" * 8, "not whole numbers"),
        ({"x": {**X, "shape": [2**62, 2**62]}}, b"\0" * 8, "8 bytes"),
        ({"x": {**X, "more": 1}}, b"\0" * 8, "something else than"),
        ({"x": 5}, b"", "something else than"),
        ({"__metadata__": {"a": 1}}, b"", "__metadata__"),
        ([], b"", "not a JSON object"),
        (b"{", b"", "not JSON"),
        (b'{"x":1,"x":2}', b"", "'x' occurs twice"),
        (b"\xff\xfe", b"", "not JSON"),
        (b"[" * 100_000, b"", "not JSON"),
    ],
)
def test_a_header_that_lies_is_refused_with_the_file_and_the_remedy(
    header: Any, data: bytes, words: str, tmp_path: Path
) -> None:
    path = raw_file(tmp_path / "bad.safetensors", header, data)
    with pytest.raises(FormatError, match=words) as error:
        read_safetensors(path)
    assert "bad.safetensors" in str(error.value) and "fetch it again" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"1234", struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 10**9) + b"{}"])
def test_a_file_that_ends_too_soon_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(FormatError, match=r"bad\.safetensors"):
        read_safetensors(tmp_path / "bad.safetensors")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"nowhere\.safetensors"):
        read_safetensors(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("name", ["weights.bin", "model.pt", "model.pth"])
def test_pickle_is_refused_by_name_with_what_to_do(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(FormatError, match=f"{name} is a pickle .* convert it to safetensors"):
        read_folder(tmp_path)


def whole_file(tmp_path: Path) -> bytes:
    path = tmp_path / "whole.safetensors"
    write_safetensors(
        path, {"a.weight": from_torch(torch.ones(4, 3)), "b": StoredTensor.from_array(np.ones(5, np.float16))}
    )
    return path.read_bytes()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_and_truncated_files_fail_with_our_errors_only(data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(whole_file(tmp_path))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "fuzzed.safetensors"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        for entry in read_safetensors(path).values():
            entry.read().dequantize()
    except OctavoError as error:
        assert "fuzzed.safetensors" in str(error)
