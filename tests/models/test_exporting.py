"""Exports: block encodings against ggml's reference, files against the format's own reader, folders against peers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tokenizers
from gguf import GGMLQuantizationType, quants
from tokenizers import decoders, models

from octavo.errors import OctavoError, UnsupportedError
from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.formats.blocks import ENCODERS, WrittenEncoding, encoded
from octavo.models.formats.exporting import export_folder, export_gguf
from octavo.models.runner import Row
from octavo.models.tensors import StoredTensor
from octavo.models.torch_loading import fitting_runner
from octavo.text.byte_level import pre_tokenizer
from octavo.text.gguf_tokenizer import gguf_keys
from octavo.text.tokenizer import Tokenizer

Tiny = Callable[[str], tuple[Path, Any]]
PROMPT = "Once upon a time, there was a"


@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_blocks_equal_the_reference_bit_for_bit(encoding: WrittenEncoding, scale: float) -> None:
    values = np.random.default_rng(0).normal(0, scale, (64, 96)).astype(np.float32)
    values[3] = 0
    values[4, :32] = np.arange(32) - 16
    expected = quants.quantize(values, GGMLQuantizationType[encoding.upper()])
    ours = encoded(StoredTensor.from_array(values), encoding)
    assert np.array_equal(ours.data.reshape(-1), expected.view(np.uint8).reshape(-1))


EXPORTED = (
    "llama", "llama-tied", "llama-biases", "llama-head-dim", "llama-llama3", "llama-linear", "qwen2", "qwen3", "gpt2",
    "phi3", "phi", "gpt_neox", "gemma", "gemma3-scaled-by-head", "olmo2", "mixtral", "starcoder2-plain", "bloom",
    "nemotron", "arcee", "exaone4", "granite", "gpt_oss-yarn", "gpt_oss-plain", "llama-yarn", "olmo3", "olmo3-scaled",
    "dots1-plain", "glm4_moe", "deepseek_v2", "deepseek_v3",
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A byte-level BPE that fits the tiny models' 160 tokens."""
    pieces = ["<s>", "</s>", *map(chr, range(33, 127)), "Ġ", "Ċ", "th", "the", "Ġthe"]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the")]
    backend = tokenizers.Tokenizer(models.BPE({piece: place for place, piece in enumerate(pieces)}, merges))
    backend.pre_tokenizer, backend.decoder = pre_tokenizer("smollm"), decoders.ByteLevel()
    backend.add_special_tokens(pieces[:2])
    return Tokenizer(backend, named={"bos_token": "<s>", "eos_token": "</s>"}, templates={"default": "{{ messages }}"})


@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_file_is_its_model(name: str, tiny: Tiny, tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder, _ = tiny(name)
    tokenizer.save(folder)
    source = open_checkpoint(folder)
    export_gguf(source, tmp_path / "out.gguf", "f32")
    again = open_checkpoint(tmp_path / "out.gguf")
    assert rounded(again) == rounded(source) and again.family == source.family
    for key, tensor in source.tensors.items():
        close = np.allclose(again.tensors[key].dequantize(), tensor.dequantize(), rtol=0, atol=1e-6)  # 1 + w, less 1
        assert close, key
    text = "the lazy fox, 1.5 times\n\n  zzz"
    assert again.tokenizer().encode(text) == tokenizer.encode(text)
    assert (again.tokenizer().named, again.tokenizer().chat_template) == (tokenizer.named, "{{ messages }}")
    reader = gguf.GGUFReader(tmp_path / "out.gguf")
    assert {tensor.name for tensor in reader.tensors} and "tokenizer.ggml.merges" in reader.fields


def rounded(checkpoint: Checkpoint) -> Any:
    """The config with frequencies as a file's float32 has them."""
    config = checkpoint.config
    if config.rope is None or config.rope.freq_factors is None:
        return config
    factors = tuple(float(np.float32(factor)) for factor in config.rope.freq_factors)
    return replace(config, rope=replace(config.rope, freq_factors=factors))


@pytest.mark.parametrize("encoding", ["q8_0", "q4_0", "bf16"])
def test_matrices_have_the_encoding_and_vectors_stay_exact(
    encoding: WrittenEncoding, tiny: Tiny, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder, _ = tiny("llama")
    tokenizer.save(folder)
    source = open_checkpoint(folder)
    export_gguf(source, tmp_path / "out.gguf", encoding)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "out.gguf").tensors}
    kind = GGMLQuantizationType[encoding.upper()]
    assert tensors["blk.0.attn_v.weight"].tensor_type == kind
    assert tensors["blk.0.attn_norm.weight"].tensor_type == GGMLQuantizationType.F32
    exact = source.tensors["blocks.0.attention.v.weight"].dequantize()
    stored = quants.dequantize(tensors["blk.0.attn_v.weight"].data, kind)
    assert np.array_equal(stored, quants.dequantize(quants.quantize(exact, kind), kind))


@pytest.mark.parametrize("name", ["gptj", "deepseek_v3-yarn", "llama-dynamic", "dots1", "gpt_oss"])
def test_what_a_file_cannot_say_is_refused_before_it_is_written(
    name: str, tiny: Tiny, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder, _ = tiny(name)
    tokenizer.save(folder)
    with pytest.raises(UnsupportedError):
        export_gguf(open_checkpoint(folder), tmp_path / "out.gguf", "q8_0")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_type_is_written_and_a_quantised_one_refused(
    tiny: Tiny, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder, _ = tiny("qwen2")
    tokenizer.save(folder)
    source = open_checkpoint(folder)
    export_folder(source, tmp_path / "half", "bf16")
    again = open_checkpoint(tmp_path / "half")
    assert {tensor.encoding for tensor in again.tensors.values()} == {"bf16"} and again.config == source.config
    with pytest.raises(OctavoError, match="not q8_0"):
        export_folder(source, tmp_path / "small", "q8_0")


def test_a_tokenizer_that_is_no_bpe_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="kind WordLevel"):
        gguf_keys(Tokenizer.train_characters("abc"), 3)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["q8_0", "q4_0", "bf16"])
def test_llama_cpp_runs_an_exported_file_with_the_same_greedy_text(
    encoding: WrittenEncoding, smollm2: Path, tmp_path: Path
) -> None:
    program = os.environ.get("OCTAVO_TEST_LLAMA_CPP")
    if program is None:
        pytest.skip("set OCTAVO_TEST_LLAMA_CPP to the llama-completion that benchmarks/llama_cpp.py builds")
    export_gguf(open_checkpoint(smollm2), tmp_path / "out.gguf", encoding)
    options = ["-n", "16", "--temp", "0", "-no-cnv", "--no-warmup", "-t", "2"]
    command = [program, "-m", str(tmp_path / "out.gguf"), "-p", PROMPT, *options]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    checkpoint = open_checkpoint(tmp_path / "out.gguf")
    runner, tokens = fitting_runner(checkpoint, 4), checkpoint.tokenizer()
    ids = tokens.encode(PROMPT)
    begin = 0
    for _ in range(16):
        row = Row(np.array(ids[begin:], np.int32), begin, range(4), len(ids) - begin - 1)
        begin = len(ids)
        ids.append(int(runner.step([row]).logits[0].argmax()))
    assert tokens.decode(ids) in theirs
