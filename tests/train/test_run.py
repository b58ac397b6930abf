"""Runs from recipe to model: killed and resumed, stopped, refused, exported, and loaded by transformers."""

from __future__ import annotations

import errno
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from octavo.errors import OctavoError
from octavo.models.checkpoint import open_checkpoint
from octavo.models.transformer import Transformer
from octavo.text.tokenizer import Tokenizer
from octavo.train.metrics import Event, MetricsLog, Noted, Stepped, Validated
from octavo.train.objectives.causal_lm import CausalLM
from octavo.train.recipe import load_recipe
from octavo.train.run import RunResult, train_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
TEXT = "".join(f"The {n} foxes jump over {n * n} lazy dogs, and number {n} says: naïve!\n" for n in range(200))
TINY = """
[data]
path = "text.txt"
[tokenizer]
kind = "{kind}"
[model]
num_layers = 2
hidden_size = 32
num_heads = 4
num_kv_heads = 2
context_length = 16
[optimizer]
learning_rate = 1e-2
[schedule]
warmup_steps = 5
[training]
steps = 60
batch_size = 4
log_every = 1
validate_every = 20
checkpoint_every = 10
seed = 3
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A tiny recipe of characters beside its text."""
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    (tmp_path / "tiny.toml").write_text(TINY.format(kind="characters"), encoding="utf-8")
    return tmp_path / "tiny.toml"


def run(recipe: Path, folder: Path, *overrides: str, **options: Any) -> RunResult:
    checked = load_recipe(recipe, overrides)
    return train_recipe(checked, recipe.parent / checked.data.path, folder, **options)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `octavo train RECIPE --out FOLDER …`; what still runs after the test is killed."""
    processes: list[subprocess.Popen[str]] = []

    def begin(recipe: Path, folder: Path, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "octavo", "train", str(recipe), "--out", str(folder), *arguments]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    return [{name: value for name, value in row.items() if name != "tokens_per_second"} for row in rows]


def wait_for_step(process: subprocess.Popen[str], folder: Path, step: int) -> None:
    deadline = time.monotonic() + 120
    while not any(row["step"] >= step for row in lines(folder)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run never came so far"
        time.sleep(0.005)


def test_a_run_killed_in_the_middle_resumes_to_the_identical_curve_and_model(
    recipe: Path, tmp_path: Path, start: Start
) -> None:
    whole = start(recipe, tmp_path / "whole")
    killed = start(recipe, tmp_path / "killed")
    wait_for_step(killed, tmp_path / "killed", 23)
    killed.kill()
    killed.communicate()
    assert whole.communicate()[0] and whole.returncode == 0
    assert lines(tmp_path / "killed")[-1]["step"] < 60, "it was too late to kill it"
    resumed = start(recipe, tmp_path / "killed", "--json")
    out, err = resumed.communicate()
    assert resumed.returncode == 0, err
    assert json.loads(out)["resumed_from"] in (20, 30, 40, 50) and "resuming at step" in err
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")
    weights = [(tmp_path / name / "model/model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]


def test_ctrl_c_finishes_the_step_saves_exits_130_and_says_how_to_go_on(
    recipe: Path, tmp_path: Path, start: Start
) -> None:
    process = start(recipe, tmp_path / "run", "--set", "training.steps=100000")
    wait_for_step(process, tmp_path / "run", 3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    last = lines(tmp_path / "run")[-1]["step"]
    assert f"stopped and saved at step {last} of 100000; the same command resumes it" in err
    assert (tmp_path / f"run/checkpoints/step-{last:08d}.npz").exists()
    assert "Traceback" not in err and not out


@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_the_exported_folder_is_the_same_model_in_transformers(recipe: Path, tmp_path: Path, kind: str) -> None:
    recipe.write_text(TINY.format(kind=kind), encoding="utf-8")
    sizes = ["tokenizer.vocab_size=300"] if kind == "bpe" else []
    result = run(recipe, tmp_path / "run", *sizes)
    assert result.model is not None
    checkpoint = open_checkpoint(result.model)
    ours = Transformer.from_checkpoint(checkpoint)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(result.model).eval()
    tokenizer, peer = checkpoint.tokenizer(), transformers.AutoTokenizer.from_pretrained(result.model)
    prompt = "The 7 foxes"
    ids = tokenizer.encode(prompt)
    assert peer(prompt)["input_ids"] == ids
    assert peer.decode(ids) == tokenizer.decode(ids) == prompt
    tokens = torch.tensor([ids])
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=1e-4, rtol=0)
        length = 16
        greedy = theirs.generate(tokens, attention_mask=torch.ones_like(tokens), max_length=length, do_sample=False)
        while tokens.shape[1] < length:
            tokens = torch.cat((tokens, ours(tokens)[:, -1:].argmax(-1)), dim=1)
    assert tokens.tolist() == greedy.tolist()


def test_documents_end_with_the_end_of_text_token_and_the_export_says_so(recipe: Path, tmp_path: Path) -> None:
    recipe.write_text(TINY.format(kind="bpe"), encoding="utf-8")
    overrides = ["tokenizer.vocab_size=300", 'data.document_separator="\\n"', "training.steps=300"]
    result = run(recipe, tmp_path / "run", *overrides)
    assert result.model is not None
    checkpoint = open_checkpoint(result.model)
    tokenizer, model = checkpoint.tokenizer(), Transformer.from_checkpoint(checkpoint)
    assert checkpoint.generation.eos_token_ids == (tokenizer.eos_id,)
    ids = tokenizer.encode(" naïve!")
    assert int(model(torch.tensor([ids]))[0, -1].argmax()) == tokenizer.eos_id


def test_a_tiny_text_is_learnt_by_heart_from_the_loss_of_ignorance(recipe: Path, tmp_path: Path) -> None:
    line = "the quick brown fox jumps over the lazy dog"
    (tmp_path / "text.txt").write_text(line, encoding="utf-8")
    result = run(recipe, tmp_path / "run", "data.validation_fraction=0", "training.steps=200")
    losses = [row["loss"] for row in lines(tmp_path / "run")]
    assert losses[0] == pytest.approx(math.log(len(set(line))), abs=0.1)
    assert losses[-1] < 0.3  # a window's first characters cannot be known
    assert result.validation_loss is None and result.model is not None


def test_a_finished_run_is_left_alone_and_restart_trains_it_anew(recipe: Path, tmp_path: Path) -> None:
    run(recipe, tmp_path / "run")
    weights = tmp_path / "run/model/model.safetensors"
    before, content, curve = weights.stat().st_mtime_ns, weights.read_bytes(), lines(tmp_path / "run")
    events: list[Event] = []
    result = run(recipe, tmp_path / "run", on_event=events.append)
    assert weights.stat().st_mtime_ns == before and result.resumed_from == 60
    assert any(isinstance(event, Noted) and "is finished" in event.text for event in events)
    with pytest.raises(OctavoError, match=r"training\.seed was 3 and is now 4"):
        run(recipe, tmp_path / "run", "training.seed=4")
    run(recipe, tmp_path / "run", restart=True)
    assert weights.stat().st_mtime_ns > before
    assert weights.read_bytes() == content and lines(tmp_path / "run") == curve
    run(recipe, tmp_path / "run", "training.seed=4", restart=True)
    assert weights.read_bytes() != content


def test_an_export_that_is_missing_is_made_again_from_the_checkpoints(recipe: Path, tmp_path: Path) -> None:
    result = run(recipe, tmp_path / "run")
    assert result.model is not None
    weights = result.model / "model.safetensors"
    content = weights.read_bytes()
    for file in result.model.iterdir():
        file.unlink()
    result.model.rmdir()
    run(recipe, tmp_path / "run")
    assert weights.read_bytes() == content


def test_a_disk_that_fills_up_is_told_and_the_run_goes_on_once_there_is_room(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(recipe, tmp_path / "whole")
    honest, appended = MetricsLog.append, []

    def full(log: MetricsLog, event: Stepped | Validated) -> None:
        appended.append(event)
        if len(appended) > 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(log, event)

    with monkeypatch.context() as patched:
        patched.setattr(MetricsLog, "append", full)
        with pytest.raises(OctavoError, match=r"cannot be written \(No space left on device\)"):
            run(recipe, tmp_path / "full")
    resumed = run(recipe, tmp_path / "full")
    assert resumed.resumed_from == 20 and resumed.validation_loss == whole.validation_loss
    assert lines(tmp_path / "full") == lines(tmp_path / "whole")


def test_validation_text_is_never_trained_on(recipe: Path, tmp_path: Path) -> None:
    text = (tmp_path / "text.txt").read_text(encoding="utf-8")
    run(recipe, tmp_path / "a")
    kept = int(len(text) * 0.9)
    other = text[:kept] + text[kept:][::-1]
    (tmp_path / "text.txt").write_text(other, encoding="utf-8")
    run(recipe, tmp_path / "b")
    losses = [[row["loss"] for row in lines(tmp_path / name) if "loss" in row] for name in "ab"]
    validations = [[row["validation_loss"] for row in lines(tmp_path / name) if "loss" not in row] for name in "ab"]
    assert losses[0] == losses[1]
    assert all(a != b for a, b in zip(*validations, strict=True))


def test_one_training_step_has_the_loss_and_gradients_of_transformers() -> None:
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=50,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=32,
            tie_word_embeddings=False,
            pad_token_id=None,
        )
    )
    config, names = _ours_of(theirs)
    torch.manual_seed(0)
    model = Transformer(config)
    with torch.no_grad():
        for ours, peer in names.items():
            parameter = theirs.get_parameter(peer)
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.ndim == 1))
            model.get_parameter(ours).copy_(parameter)
    examples = [np.random.default_rng(n).integers(0, 50, n).astype(np.int32) for n in (12, 3, 20, 7)]
    batch = CausalLM().collate(examples)
    loss = CausalLM().loss(model, batch) / batch.count
    loss.backward()
    ids = torch.zeros(4, 20, dtype=torch.long)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for row, example in enumerate(examples):
        ids[row, : len(example)] = labels[row, : len(example)] = torch.from_numpy(example)
        mask[row, : len(example)] = 1
    peer_loss = theirs(input_ids=ids, attention_mask=mask, labels=labels).loss
    peer_loss.backward()
    assert loss.item() == pytest.approx(peer_loss.item(), abs=1e-5)
    assert len(names) == len(list(model.parameters()))
    for ours, peer in names.items():
        torch.testing.assert_close(
            model.get_parameter(ours).grad, theirs.get_parameter(peer).grad, atol=1e-5, rtol=1e-4, msg=ours
        )


def _ours_of(peer: transformers.LlamaForCausalLM) -> tuple[Any, dict[str, str]]:
    from octavo.train.recipe import ModelSettings

    config = ModelSettings(
        num_layers=2,
        hidden_size=32,
        intermediate_size=48,
        num_heads=4,
        num_kv_heads=2,
        context_length=32,
        norm_eps=peer.config.rms_norm_eps,
        tie_embeddings=False,
    ).transformer(50)
    names = {"embed_tokens.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}
    names["lm_head.weight"] = "lm_head.weight"
    parts = {f"attention.{part}": f"self_attn.{part}_proj" for part in "qkvo"}
    parts |= {f"mlp.{part}": f"mlp.{part}_proj" for part in ("gate", "up", "down")}
    parts |= {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    for layer in range(2):
        names |= {f"blocks.{layer}.{a}.weight": f"model.layers.{layer}.{b}.weight" for a, b in parts.items()}
    return config, names


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--set", "training.step=3"], "did you mean 'steps'?"),
        (["--data", "nowhere.txt"], "--data FILE"),
        (["--set", "data.sha256=" + "0" * 64], "has sha256"),
    ],
)
def test_the_command_refuses_in_one_line_and_leaves_nothing(
    recipe: Path, tmp_path: Path, start: Start, arguments: list[str], part: str
) -> None:
    process = start(recipe, tmp_path / "run", *arguments)
    out, err = process.communicate()
    assert process.returncode == 2 and not out
    assert part in err and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_model_that_memory_cannot_hold_is_refused_before_it_is_built(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("to be or not to be " * 200)
    sizes = ["model.num_layers=4096", "model.hidden_size=65536", "model.num_heads=512"]
    recipe = load_recipe(RECIPES / "shakespeare-chars.toml", ['data.sha256=""', *sizes][1:])
    with pytest.raises(OctavoError, match="GB are free"):
        train_recipe(recipe, tmp_path / "text.txt", tmp_path / "run")


@pytest.mark.slow
def test_shakespeare_by_characters_reaches_its_loss(shared: Path, tmp_path: Path) -> None:
    text = shared / "data/text/tinyshakespeare.txt"
    recipe = load_recipe(RECIPES / "shakespeare-chars.toml")
    result = train_recipe(recipe, text, tmp_path / "run")
    assert result.model is not None
    # Measured once more from the exported folder, by hand: every window of 64 of the last tenth.
    checkpoint = open_checkpoint(result.model)
    model, tokenizer = Transformer.from_checkpoint(checkpoint), checkpoint.tokenizer()
    content = text.read_text(encoding="utf-8")
    ids = torch.tensor(tokenizer.encode(content[int(len(content) * 0.9) :]))
    total, count = 0.0, 0
    with torch.no_grad():
        for start_at in range(0, len(ids) - 1, 64):
            piece = ids[start_at : start_at + 65]
            logits = model(piece[None, :-1])[0]
            total += float(torch.nn.functional.cross_entropy(logits, piece[1:], reduction="sum"))
            count += len(piece) - 1
    assert count == len(ids) - 1
    assert total / count == pytest.approx(result.validation_loss, abs=1e-4)
    assert total / count <= 1.70
    assert isinstance(tokenizer, Tokenizer) and 0.75e6 <= result.parameters <= 0.85e6
