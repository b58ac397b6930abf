"""Damaged files of every format raise one of our errors, in one line: no crash, no hang, no memory that they claim."""

from __future__ import annotations

import base64
import io
import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, processors, trainers

from octavo.models.checkpoint import open_checkpoint
from octavo.models.formats.exporting import export_gguf
from octavo.text.byte_level import pre_tokenizer

Tiny = Callable[[str], tuple[Path, Any]]
PROGRAM = Path(__file__).with_name("mutating.py")
COUNT = 40


def library_tokenizer() -> Library:
    backend = Library(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizer("smollm"), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=150, special_tokens=["<s>", "</s>"], show_progress=False)
    backend.train_from_iterator(["the cat sat on the mat and the other cat sat there"] * 3, trainer)
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return backend


@pytest.fixture(scope="module")
def valid(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files of every format."""
    root = tmp_path_factory.mktemp("valid")
    folder = Path(shutil.copytree(tiny("llama")[0], root / "hub"))
    library_tokenizer().save(str(folder / "tokenizer.json"))
    names: dict[str, Any] = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": [{"name": "default", "template": ""}],
    }
    names |= {"added_tokens_decoder": {"0": {"content": "<s>", "special": True, "lstrip": False}}, "unk_token": None}
    names |= {"additional_special_tokens": ["<e>", {"content": "<f>"}], "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    export_gguf(open_checkpoint(folder), root / "model.gguf", "f32")
    pickled = Path(shutil.copytree(folder, root / "pickled"))
    torch.save(load_file(folder / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    return root


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each kind of vocabulary file."""
    root = tmp_path_factory.mktemp("vocabularies")
    for kind in ("bpe", "unigram"):
        model = io.BytesIO()
        lines = ["the cat sat on the mat", "and the other cat sat there", "價格是 1999 元"] * 5
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=model, vocab_size=60, model_type=kind, minloglevel=2,
            num_threads=1, hard_vocab_limit=False,
        )  # fmt: skip
        (root / kind).mkdir()
        (root / kind / "tokenizer.model").write_bytes(model.getvalue())
    tokens = [bytes([byte]) for byte in range(256)] + [b"th", b"the", b" the"]
    coded = [base64.b64encode(token).decode() for token in tokens]
    (root / "ranks").mkdir()
    lines = [f"{text} {rank}" for rank, text in enumerate(coded)]
    (root / "ranks/cl100k_base.tiktoken").write_text("\n".join(lines) + "\n")
    (root / "tekken").mkdir()
    config = {"pattern": r"\p{L}+|\s+|.", "default_vocab_size": 279, "default_num_special_tokens": 20, "version": "v3"}
    vocab = [{"rank": rank, "token_bytes": text, "token_str": None} for rank, text in enumerate(coded)]
    (root / "tekken/tekken.json").write_text(json.dumps({"config": config, "vocab": vocab}))
    (root / "wordpiece").mkdir()
    (root / "wordpiece/vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n##e\ncat\n", encoding="utf-8")
    return root


def check(kind: str, source: Path, name: str, seed: int = 0, count: int = COUNT) -> None:
    command = [sys.executable, str(PROGRAM), kind, str(source), name, str(count), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "", done.stdout


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_damaged_models_of_the_hub_are_refused(name: str, valid: Path) -> None:
    check("model", valid / "hub", name)


def test_damaged_gguf_files_are_refused(valid: Path) -> None:
    check("model", valid / "model.gguf", "model.gguf")


def test_damaged_pickles_are_refused(valid: Path) -> None:
    check("model", valid / "pickled", "pytorch_model.bin")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_damaged_tokenizers_of_the_hub_are_refused(name: str, valid: Path) -> None:
    check("tokenizer", valid / "hub", name)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("bpe", "tokenizer.model"), ("unigram", "tokenizer.model"), ("ranks", "cl100k_base.tiktoken"),
        ("tekken", "tekken.json"), ("wordpiece", "vocab.txt"),
    ],
)  # fmt: skip
def test_damaged_vocabularies_are_refused(kind: str, name: str, vocabularies: Path) -> None:
    check("tokenizer", vocabularies / kind, name)


@pytest.fixture(scope="module")
def others(valid: Path, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of the authors' own layouts, of shards, an adapter, a vocabulary with merges, and of embedders."""
    root = tmp_path_factory.mktemp("others")
    made = runpy.run_path(str(PROGRAM.parents[1] / "models/test_raw_layouts.py"))
    raw = made["raw_tensors"](tiny("llama")[0])
    for name, params in (("meta", made["META"]), ("mistral", made["MISTRAL"])):
        (root / name).mkdir()
        made["write_params"](root / name, params)
    torch.save(raw, root / "meta/consolidated.00.pth")
    save_file(raw, root / "mistral/consolidated.safetensors")
    hub = Path(shutil.copytree(valid / "hub", root / "shards"))
    tensors = load_file(hub / "model.safetensors")
    (hub / "model.safetensors").unlink()
    files = {name: f"model-{1 + at % 2}.safetensors" for at, name in enumerate(sorted(tensors))}
    for file in set(files.values()):
        save_file({name: tensors[name] for name in tensors if files[name] == file}, hub / file)
    (hub / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    (hub / "generation_config.json").write_text(json.dumps({"temperature": 0.5, "eos_token_id": [2], "top_k": 3}))
    adapted = Path(shutil.copytree(valid / "hub", root / "adapted"))
    (adapted / "adapter").mkdir()
    fields = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["k_proj"], "bias": "none"}
    (adapted / "adapter/adapter_config.json").write_text(json.dumps(fields))
    module = "base_model.model.model.layers.1.self_attn.k_proj.lora_"
    pair = {f"{module}A.weight": torch.ones(2, 64), f"{module}B.weight": torch.ones(32, 2)}
    save_file(pair, adapted / "adapter/adapter_model.safetensors")
    (root / "merges").mkdir()
    model = json.loads((valid / "hub/tokenizer.json").read_text())["model"]
    (root / "merges/vocab.json").write_text(json.dumps(model["vocab"]))
    lines = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    (root / "merges/merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")
    for name, last in (("pooled", "Pooling"), ("asked", "LogitScore")):
        (root / name / "1").mkdir(parents=True)
        modules = [{"type": "x.Transformer", "path": ""}, {"type": f"x.{last}", "path": "1"}]
        (root / name / "modules.json").write_text(json.dumps(modules))
        said = {"max_seq_length": 12, "modality_config": {"message": {}}}
        (root / name / "sentence_bert_config.json").write_text(json.dumps(said))
        prompts = {"prompts": {"query": "q: "}, "default_prompt_name": None}
        (root / name / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    (root / "pooled/1/config.json").write_text('{"pooling_mode_cls_token": true, "word_embedding_dimension": 4}')
    (root / "asked/1/config.json").write_text('{"true_token_id": 3, "false_token_id": 4}')
    for name, rows in (("sparse_linear.pt", 1), ("colbert_linear.pt", 4)):
        torch.save({"weight": torch.ones(rows, 64), "bias": torch.ones(rows)}, root / "pooled" / name)
    return root


@pytest.mark.parametrize(
    ("kind", "folder", "name"),
    [
        ("model", "meta", "params.json"), ("model", "meta", "consolidated.00.pth"),
        ("model", "mistral", "params.json"), ("model", "mistral", "consolidated.safetensors"),
        ("model", "shards", "model.safetensors.index.json"), ("model", "shards", "model-1.safetensors"),
        ("model", "shards", "generation_config.json"),
        ("adapter", "adapted", "adapter/adapter_config.json"),
        ("adapter", "adapted", "adapter/adapter_model.safetensors"),
        ("tokenizer", "merges", "vocab.json"), ("tokenizer", "merges", "merges.txt"),
        ("layout", "pooled", "modules.json"), ("layout", "pooled", "1/config.json"),
        ("layout", "pooled", "sentence_bert_config.json"), ("layout", "pooled", "config_sentence_transformers.json"),
        ("layout", "pooled", "sparse_linear.pt"),
        ("layout", "asked", "modules.json"), ("layout", "asked", "1/config.json"),
        ("layout", "asked", "sentence_bert_config.json"),
    ],
)  # fmt: skip
def test_other_damaged_files_of_models_are_refused(kind: str, folder: str, name: str, others: Path) -> None:
    check(kind, others / folder, name)
