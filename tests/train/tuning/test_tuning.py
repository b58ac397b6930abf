"""Runs that begin with a model: an adapter or all weights; resumed, saved, served, and read by PEFT."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from octavo.errors import OctavoError, UnknownNameError
from octavo.generate.local import load
from octavo.train.metrics import Event, Stepped
from octavo.train.recipe import load_recipe
from octavo.train.run import RunResult, train_recipe
from octavo.train.snapshots import read

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft = pytest.importorskip("peft", reason="peft is not installed")

BASE = "".join(f"The {n} foxes jump over {n * n} lazy dogs, and number {n} says: now!\n" for n in range(200))
OTHER = "".join(f"now {n} dogs says foxes: lazy {n}!\n" for n in range(200))
SCRATCH = """
[data]
path = "text.txt"
[tokenizer]
kind = "characters"
[model]
num_layers = 2
hidden_size = 32
num_heads = 4
num_kv_heads = 2
context_length = 64
[optimizer]
learning_rate = 1e-2
[schedule]
warmup_steps = 10
[training]
steps = 150
batch_size = 4
"""
TUNED = """
[data]
path = "other.txt"
[model]
init = "{base}"
context_length = 32
[optimizer]
learning_rate = 2e-2
[schedule]
warmup_steps = 2
[training]
steps = 20
batch_size = 4
log_every = 1
validate_every = 10
checkpoint_every = 5
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny trained model."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "text.txt").write_text(BASE)
    (folder / "scratch.toml").write_text(SCRATCH)
    made = train_recipe(load_recipe(folder / "scratch.toml"), folder / "text.txt", folder / "run")
    assert made.model is not None
    return made.model


def tune(base: Path, folder: Path, overrides: Sequence[str] = (), **options: Any) -> tuple[RunResult, list[float]]:
    """The run in `folder`, and its losses."""
    (folder.parent / "other.txt").write_text(OTHER)
    recipe = folder.parent / "tuned.toml"
    recipe.write_text(TUNED.format(base=base))
    events: list[Event] = []
    checked = load_recipe(recipe, overrides)
    result = train_recipe(checked, folder.parent / "other.txt", folder, on_event=events.append, **options)
    return result, [event.loss for event in events if isinstance(event, Stepped)]


@pytest.mark.filterwarnings("ignore")
def test_a_trained_adapter_is_a_folder_that_the_peer_and_our_runners_read_alike(base: Path, tmp_path: Path) -> None:
    result, losses = tune(base, tmp_path / "run", ["adapter.rank=4"])
    assert result.model == tmp_path / "run/adapter" and losses[-1] < losses[0] - 0.3
    assert sorted(path.name for path in result.model.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    plain = transformers.AutoModelForCausalLM.from_pretrained(base).eval()
    peer = peft.PeftModel.from_pretrained(plain, str(result.model)).eval()
    given = {"a": result.model}
    with load(str(base), adapters=given) as model, load(str(base), runner="torch", adapters=given) as live:
        ids = model.tokenizer.encode("now 9 dogs")
        with torch.no_grad():
            expected = peer(torch.tensor([ids])).logits[0].log_softmax(-1).numpy()
        for loaded in (model, live):
            got = np.array(loaded.adapted("a").score("now 9 dogs").logprobs[1:], float)
            assert np.abs(got - expected[np.arange(len(ids) - 1), ids[1:]]).max() <= 1e-3
    assert result.validation_loss is not None and result.parameters < 10000


def test_checkpoints_hold_the_adapter_alone_and_a_resumed_run_is_an_uninterrupted_one(
    base: Path, tmp_path: Path
) -> None:
    whole, losses = tune(base, tmp_path / "whole", ["adapter.rank=4", "adapter.dropout=0.1"])
    taken = read(tmp_path / "whole/checkpoints/step-00000020.npz")
    assert set(taken.group("model")) == {name for name in taken.group("model") if "lora_" in name}
    (tmp_path / "whole/checkpoints/step-00000020.npz").unlink()
    for file in (tmp_path / "whole/adapter").iterdir():
        file.rename(tmp_path / file.name)
    (tmp_path / "whole/adapter").rmdir()
    resumed, rest = tune(base, tmp_path / "whole", ["adapter.rank=4", "adapter.dropout=0.1"])
    assert resumed.resumed_from == 15 and rest == losses[15:]
    assert (tmp_path / "whole/adapter/adapter_model.safetensors").read_bytes() == (
        tmp_path / "adapter_model.safetensors"
    ).read_bytes()
    assert whole.validation_loss == resumed.validation_loss


def test_without_an_adapter_all_weights_are_trained(base: Path, tmp_path: Path) -> None:
    result, losses = tune(base, tmp_path / "run")
    assert result.model == tmp_path / "run/model" and losses[-1] < losses[0] - 0.3
    with load(str(result.model)) as tuned, load(str(base)) as before:
        assert tuned.tokenizer.encode("now") == before.tokenizer.encode("now")


def test_bfloat16_products_train_alike(base: Path, tmp_path: Path) -> None:
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor does not multiply bfloat16")
    _, exact = tune(base, tmp_path / "fp32", ["adapter.rank=4"])
    _, rounded = tune(base, tmp_path / "bf16", ["adapter.rank=4", "training.precision=bf16"])
    assert 0 < abs(exact[0] - rounded[0]) <= 5e-3
    assert np.abs(np.array(exact) - rounded).max() <= 0.2 < exact[0] - exact[-1]


@pytest.mark.parametrize(
    ("override", "kind", "sentence"),
    [
        ("adapter.targets=['qproj']", UnknownNameError, "no matrix 'qproj', did you mean 'q_proj'"),
        ("adapter.targets=['embed_tokens']", OctavoError, "names model.embed_tokens, too"),
        ("model.context_length=999", OctavoError, "model.context_length 999 is more than the 64 tokens"),
        ("model.init=nowhere", OctavoError, "nowhere"),
    ],
)
def test_what_cannot_be_tuned_is_told(
    base: Path, tmp_path: Path, override: str, kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        tune(base, tmp_path / "run", ["adapter.rank=4", override])


def test_the_command_says_how_to_try_the_adapter_and_that_works(base: Path, tmp_path: Path) -> None:
    tune(base, tmp_path / "run", ["adapter.rank=4"])
    octavo = [sys.executable, "-m", "octavo"]
    again = [*octavo, "train", str(tmp_path / "tuned.toml"), "--out", str(tmp_path / "run"), "--set", "adapter.rank=4"]
    told = subprocess.run(again, capture_output=True, text=True, check=True).stdout
    assert f"try: octavo run {base} PROMPT --lora {tmp_path / 'run/adapter'}" in told
    command = told.partition("try: octavo ")[2].replace("PROMPT", "now").split()
    answers = [
        subprocess.run([*octavo, *words, "-n", "20", "-t", "0"], capture_output=True, text=True, check=True).stdout
        for words in (command, command[:-2])
    ]
    assert answers[0] != answers[1]
