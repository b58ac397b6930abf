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
PROMPT = "A, B, C, D, E, F, G, H, I, J,"


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
    "dots1-plain", "glm4_moe", "deepseek_v2", "deepseek_v3", "smollm3", "gemma2-scaled-by-head", "gemma3-usual",
    "cohere", "cohere2", "glm4", "falcon-7b", "falcon-40b-bare", "falcon-11b", "gpt_bigcode", "mpt", "stablelm",
    "olmo", "seed_oss", "ernie4_5", "exaone4-full", "hunyuan", "granite-minicpm", "qwen2_moe-all", "qwen3_moe-all",
    "llama-mqa", "llama-mha",
)  # fmt: skip
UNLIKE = {
    "starcoder2-plain": "it wants biases in StarCoder 2",
    "dots1-plain": "it wants as many key-value heads as query heads in dots.llm1",
    "exaone4": "it takes windows for EXAONE 4 with 64 blocks alone",
    "gpt_oss-yarn": "it always rounds YaRN's limits to whole features, which gpt-oss does not",
    "deepseek_v2": "it chooses groups of experts as DeepSeek-V3 does",
}
"""Families of which llama.cpp makes something else than their authors' code, and what."""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """A byte-level BPE that fits the tiny models' 160 tokens, each of them text."""
    letters = [*map(chr, range(33, 127)), "Ġ", "Ċ"]
    doubles = [letter for letter in letters if letter.isalpha()][:52]
    pieces = ["<s>", "</s>", *letters, "th", "the", "Ġthe", *(2 * letter for letter in doubles)]
    pieces += [letter * 4 for letter in doubles[: 160 - len(pieces)]]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), *((letter, letter) for letter in doubles)]
    merges += [(piece[:2], piece[:2]) for piece in pieces if len(piece) == 4 and piece.isalpha() and piece != "Ġthe"]
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


@pytest.mark.parametrize("name", ["gptj", "deepseek_v3-yarn", "llama-dynamic", "dots1", "gpt_oss", "mistral-window"])
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


@pytest.fixture(scope="module")
def llama_cpp() -> str:
    program = os.environ.get("OCTAVO_TEST_LLAMA_CPP")
    if program is None:
        pytest.skip("set OCTAVO_TEST_LLAMA_CPP to the llama-completion that benchmarks/llama_cpp.py builds")
    return program


def greedy_texts(program: str, path: Path, prompt: str, *, tie: float = 0.0, count: int = 16) -> tuple[str, str]:
    """The likeliest continuation of a prompt, with it: llama.cpp's whole output, and ours.

    tie: ours ends before a token whose logit leads by no more, which rounded activations may turn.
    """
    options = ["-n", str(count), "--temp", "0", "-no-cnv", "--no-warmup", "-t", "1", "-c", "64", "--special"]
    options += ["-ctk", "f32", "-ctv", "f32", "-fa", "off"]
    command = [program, "-m", str(path), "-p", prompt, *options, "--ignore-eos"]
    silent = subprocess.DEVNULL
    found = subprocess.run(command, stdin=silent, capture_output=True, text=True, errors="replace", check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    checkpoint = open_checkpoint(path)
    runner, tokens = fitting_runner(checkpoint, 4), checkpoint.tokenizer()
    ids = tokens.encode(prompt)
    ends = list(checkpoint.generation.eos_token_ids)
    begin = 0
    for _ in range(count):
        row = Row(np.array(ids[begin:], np.int32), begin, range(4), len(ids) - begin - 1)
        begin = len(ids)
        logits = runner.step([row]).logits[0]
        logits[ends] = -np.inf
        second, first = np.sort(logits)[-2:]
        if first - second <= tie:
            break
        ids.append(int(logits.argmax()))
    assert len(ids) - len(tokens.encode(prompt)) >= count // 2, "too few tokens are compared"
    return found.stdout, tokens.decode(ids, skip_special=False)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["q8_0", "q4_0", "bf16"])
def test_llama_cpp_runs_an_exported_file_with_the_same_greedy_text(
    encoding: WrittenEncoding, smollm2: Path, tmp_path: Path, llama_cpp: str
) -> None:
    export_gguf(open_checkpoint(smollm2), tmp_path / "out.gguf", encoding)
    theirs, ours = greedy_texts(llama_cpp, tmp_path / "out.gguf", PROMPT, tie=0.0 if encoding == "bf16" else 0.1)
    assert ours in theirs


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mistral", *(name for name in EXPORTED if name not in UNLIKE)])
def test_llama_cpp_says_the_same_of_each_family(
    name: str, tiny: Tiny, tokenizer: Tokenizer, tmp_path: Path, llama_cpp: str
) -> None:
    folder, _ = tiny(name)
    tokenizer.save(folder)
    export_gguf(replace(open_checkpoint(folder), name="tiny"), tmp_path / "out.gguf", "f32")
    for _ in range(5):  # the program sometimes ends before it has printed all that it wrote
        theirs, ours = greedy_texts(llama_cpp, tmp_path / "out.gguf", "the lazy fox, the 1.5")
        if ours.removeprefix("<s>") in theirs or not ours.removeprefix("<s>").startswith(theirs.strip()):
            break
    assert ours.removeprefix("<s>") in theirs
