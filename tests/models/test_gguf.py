"""Our GGUF reader: against the format's library, and against files that are damaged or lie."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.errors import FormatError, OctavoError, UnsupportedError
from octavo.models.formats.gguf import read_gguf

TEXT, ARRAY, U32 = 8, 9, 4
texts = st.text(max_size=20) | st.sampled_from(
    ["", "\0", "\0" * 7, "a" * 255, "a" * 256, "é" * 200, "x\0\0\0\0\0\0\0y"]
)


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def array(values: list[str]) -> bytes:
    return struct.pack("<IIQ", ARRAY, TEXT, len(values)) + b"".join(map(text, values))


def tensor(name: str, shape: list[int], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def gguf(
    path: Path, values: Sequence[bytes] = (), tensors: Sequence[bytes] = (), data: bytes = b"", *, version: int = 3
) -> Path:
    head = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(values))
    body = head + b"".join(values) + b"".join(tensors)
    path.write_bytes(body + b"\0" * (-len(body) % 32) + data)
    return path


def test_all_metadata_types_and_tensors_equal_the_library(tmp_path: Path) -> None:
    path = tmp_path / "all.gguf"
    writer = GGUFWriter(path, "llama")
    scalars = {
        "uint8": 200, "int8": -5, "uint16": 60000, "int16": -300, "uint32": 2**32 - 1, "int32": -(2**31),
        "uint64": 2**64 - 1, "int64": -(2**63), "float32": 1.5, "float64": 1e300, "bool": True, "string": "grün 😀",
    }  # fmt: skip
    for kind, value in scalars.items():
        getattr(writer, f"add_{kind}")(f"test.{kind}", value)
    lists = {
        "texts": ["a", "", "ü" * 300], "ints": [1, -2, 3], "floats": [0.5, 2.0], "flags": [True, False],
        "nested": [["a", "b"], ["c"]],
    }  # fmt: skip
    for name, values in lists.items():
        writer.add_array(f"test.{name}", values)
    writer.add_custom_alignment(64)
    weights = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    writer.add_tensor("w", weights)
    writer.add_tensor("v", np.arange(5, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = read_gguf(path)
    for field in GGUFReader(path).fields.values():
        if not field.name.startswith("GGUF.") and field.name != "test.nested":
            assert file.metadata[field.name] == field.contents(), field.name
    assert file.metadata["test.nested"] == [["a", "b"], ["c"]]
    assert np.array_equal(file.tensors["w"].read().dequantize(), weights)
    assert file.tensors["v"].read().dequantize().tolist() == [0, 1, 2, 3, 4]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(texts, max_size=60), repeats=st.sampled_from([1, 1, 200]))
def test_arrays_of_any_texts_are_cut_exactly(values: list[str], repeats: int, tmp_path: Path) -> None:
    values = values * repeats
    path = gguf(tmp_path / "texts.gguf", [text("a") + array(values), text("b") + struct.pack("<II", U32, 7)])
    metadata = read_gguf(path).metadata
    assert metadata["a"] == values and metadata["b"] == 7


def test_the_real_file_reads_as_the_library_reads_it(smollm2: Path, golden: dict[str, Any]) -> None:
    file = read_gguf(smollm2)
    reader = GGUFReader(smollm2)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF."):
            assert file.metadata[field.name] == field.contents(), field.name
    assert file.metadata["tokenizer.chat_template"] == golden["chat_template"]
    assert len(file.tensors) == golden["file"]["tensor_count"]
    for theirs in reader.tensors:
        ours = file.tensors[theirs.name]
        assert (ours.offset, ours.nbytes) == (theirs.data_offset, theirs.n_bytes)
        assert list(ours.shape) == [int(size) for size in reversed(theirs.shape)]


U32_VALUE = struct.pack("<II", U32, 1)
WEIGHT = b"\0" * 256


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tensors": 2**60}, "claims 1152921504606846976 tensors"),
        ({"values": 2**60}, "1152921504606846976 values"),
        ({"values": [struct.pack("<Q", 2**63) + b"abc"]}, "claims 9223372036854775808 bytes for a key"),
        ({"values": [text("k") + struct.pack("<IIQ", ARRAY, TEXT, 2**61)]}, "claims 2305843009213693952 values in 'k'"),
        ({"values": [text("k") + struct.pack("<IIQ", ARRAY, U32, 2**62)]}, "bytes for 'k'"),
        ({"values": [text("k") + struct.pack("<IIQ", ARRAY, ARRAY, 2**60)]}, "values in 'k'"),
        ({"values": [text("k") + struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 9]}, "value type 9"),
        ({"values": [text("k") + struct.pack("<I", 77) + b"\0" * 8]}, "value type 77"),
        ({"values": [text("k") + struct.pack("<IQ", TEXT, 2) + b"\xff\xfe"]}, "not UTF-8"),
        ({"values": [text("k") + U32_VALUE] * 2}, "the key 'k' twice"),
        ({"values": [text("general.alignment") + struct.pack("<II", U32, 3)]}, "not a power of two"),
        ({"values": [text("general.alignment") + struct.pack("<II", U32, 0)]}, "not a power of two"),
        ({"tensors": [tensor("w", [2**20, 2**18], 0, 0)], "data": WEIGHT}, "claims 1099511627776 bytes"),
        ({"tensors": [tensor("w", [2**63, 2**63, 2**63], 0, 0)], "data": WEIGHT}, "bytes at"),
        ({"tensors": [tensor("w", [64], 0, 2**63)], "data": WEIGHT}, "bytes at"),
        ({"tensors": [tensor("w", [1] * 9, 0, 0)], "data": WEIGHT}, "9 dimensions"),
        ({"tensors": [tensor("w", [33, 2], 3, 0)], "data": WEIGHT}, "not whole q4_1 blocks"),
        ({"tensors": [tensor("w", [32], 0, 0), tensor("w", [32], 0, 128)], "data": WEIGHT}, "tensor 'w' twice"),
        ({"tensors": [tensor("v", [32], 0, 0), tensor("w", [32], 0, 64)], "data": WEIGHT}, "over 'v'"),
        ({"tensors": [tensor("w", [32], 0, 8)], "data": WEIGHT}, "out of line"),
    ],
)  # fmt: skip
def test_a_file_that_lies_is_refused_with_its_name_and_the_remedy(
    arguments: dict[str, Any], words: str, tmp_path: Path
) -> None:
    counts = {key: value for key, value in arguments.items() if isinstance(value, int)}
    lists = {key: value for key, value in arguments.items() if key not in counts}
    path = tmp_path / "bad.gguf"
    content = gguf(path, **lists).read_bytes()
    if counts:
        place = {"tensors": 8, "values": 16}[next(iter(counts))]
        path.write_bytes(content[:place] + struct.pack("<Q", *counts.values()) + content[place + 8 :])
    with pytest.raises(FormatError, match=words) as error:
        read_gguf(path)
    assert "bad.gguf" in str(error.value) and "fetch it again" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("version", "words"), [(1, "version 1"), (4, "version 4"), (3 << 24, "big-endian"), (2**31, "version 2147483648")]
)
def test_another_version_or_byte_order_is_refused_by_name(version: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=words):
        read_gguf(gguf(tmp_path / "old.gguf", version=version))


@pytest.mark.parametrize(("kind", "name"), [(10, "Q2_K"), (20, "IQ4_NL"), (4, "type 4"), (999, "type 999")])
def test_an_encoding_that_is_not_read_is_refused_by_name(kind: int, name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=f"'w' is stored as {name}, .* take a file with Q4_K"):
        read_gguf(gguf(tmp_path / "new.gguf", tensors=[tensor("w", [256], kind, 0)], data=WEIGHT))


def test_a_part_of_a_split_model_says_to_merge(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="merge the parts"):
        read_gguf(gguf(tmp_path / "part.gguf", [text("split.count") + struct.pack("<IH", 2, 3)]))


@pytest.mark.parametrize("content", [b"", b"GGU", b"GGUF", b"GGML" + b"\0" * 60, b"\0" * 64])
def test_what_is_no_gguf_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(FormatError, match=r"bad\.gguf"):
        read_gguf(tmp_path / "bad.gguf")


def small_file(path: Path) -> bytes:
    values = [
        text("general.architecture") + struct.pack("<I", TEXT) + text("llama"),
        text("llama.block_count") + U32_VALUE,
        text("tokenizer.ggml.tokens") + array(["a", "bc", "", "def"]),
        text("n") + struct.pack("<IIQII", ARRAY, U32, 2, 5, 6),
    ]
    tensors = [tensor("w", [32, 2], 3, 0), tensor("v", [4], 0, 64)]
    return gguf(path, values, tensors, b"\1" * 96).read_bytes()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_and_truncated_files_fail_with_our_errors_only(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "fuzzed.gguf"
    content = bytearray(small_file(path))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        for entry in read_gguf(path).tensors.values():
            with np.errstate(all="ignore"):
                entry.read().dequantize()
    except OctavoError as error:
        assert "fuzzed.gguf" in str(error)


def test_every_truncation_of_a_small_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.gguf"
    content = small_file(path)
    for length in range(len(content) - 16):  # the last 16 bytes are behind the last tensor
        path.write_bytes(content[:length])
        with pytest.raises(FormatError, match=r"short\.gguf"):
            read_gguf(path)
