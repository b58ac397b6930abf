"""Training of CKIP's kinds: losses against the peer's, files, and runs that end in a model that is better than nothing.

The sentences are made of a few words in all orders; those that are measured were never trained on.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octavo.errors import FormatError, OctavoError
from octavo.generate.ckip.pipeline import open_ckip
from octavo.models.checkpoint import open_checkpoint
from octavo.models.recurrent.bilstm import TaggerNetwork
from octavo.models.transformer import Transformer
from octavo.nn.recurrent.tagger_config import TaggerConfig
from octavo.train.metrics import Event, Noted
from octavo.train.objectives.causal_lm import IGNORED
from octavo.train.objectives.token_labels import CharacterLabels, LabelledCharacters, LabelledTokens, TokenLabels
from octavo.train.recipe import load_any
from octavo.train.tagging.labelled import character_labels, normal
from octavo.train.tagging.network import BiLstmTagger
from octavo.train.tagging.recipe import CkipRecipe
from octavo.train.tagging.run import train_ckip
from octavo.train.tagging.scoring import score_model
from octavo.train.tagging.sentences import Sentence, read_sentences

TESTS = Path(__file__).parents[2]
TINY = runpy.run_path(str(TESTS / "generate/ckip/tiny_ckip.py"))
BILSTM = runpy.run_path(str(TESTS / "models/recurrent/test_bilstm.py"))
PARTS = (
    ("小明", "Nb", "PERSON"), ("老師", "Na", ""), ("科學家", "Na", ""), ("王大明", "Nb", "PERSON"), ("她", "Nh", ""),
    ("昨天", "Nd", "DATE"), ("今天早上", "Nd", "DATE"), ("在", "P", ""), ("台北", "Nc", "GPE"), ("大學", "Nc", ""),
    ("研究", "VE", ""), ("參觀", "VC", ""), ("圖書館", "Nc", ""), ("語言", "Na", ""), ("學", "VC", ""),
    ("言語學", "Na", ""),
)  # fmt: skip


def sentences(count: int, seed: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        chosen = [PARTS[at] for at in random.permutation(len(PARTS))[: random.integers(3, 9)]] + [("。", "P2", "")]
        at, entities = 0, []
        for word, _, kind in chosen:
            entities += [{"start": at, "end": at + len(word), "type": kind}] if kind else []
            at += len(word)
        made.append({"words": [one[0] for one in chosen], "pos": [one[1] for one in chosen], "entities": entities})
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, count, seed in (("train.jsonl", 200, 1), ("held.jsonl", 40, 2)):
        lines = (json.dumps(sentence, ensure_ascii=False) for sentence in sentences(count, seed))
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def recipe(tmp_path: Path, task: str, kind: str, **model: int) -> CkipRecipe:
    path = tmp_path / "recipe.toml"
    sizes = {"hidden_size": 24, "num_layers": 1, "character_size": 16, "word_size": 8, "intermediate_size": 64, **model}
    path.write_text(
        f'objective = "ckip"\n[data]\npath = "."\nfiles = ["train.jsonl"]\n'
        f'held_out = ["held.jsonl"]\n[model]\ntask = "{task}"\nkind = "{kind}"\n'
        + "".join(f"{name} = {value}\n" for name, value in sizes.items())
        + "[optimizer]\nlearning_rate = 2e-2\nweight_decay = 0.01\n[schedule]\nwarmup_steps = 5\n"
        + "[training]\nsteps = 100\nbatch_size = 20\nseed = 1\nvalidate_every = 50\nthreads = 1\n"
    )
    return load_any(path, {"ckip": CkipRecipe})


@pytest.mark.parametrize(
    ("task", "kind", "least"),
    [("ws", "bilstm", 90), ("ws", "encoder", 60), ("pos", "bilstm", 90), ("pos", "encoder", 90), ("ner", "bilstm", 80)],
)
def test_a_trained_model_is_better_than_nothing(task: Any, kind: str, least: float, data: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    result = train_ckip(recipe(tmp_path, task, kind), data, tmp_path / "run", on_event=events.append)
    assert result.model is not None
    held = read_sentences(data / "held.jsonl", task)
    scores = score_model(open_ckip(str(result.model), task), held)
    assert scores.score >= least
    if task == "ws":
        assert scores.baseline is not None and scores.score > scores.baseline + 30
    assert any(isinstance(event, Noted) and str(scores)[:10] in event.text for event in events)
    again = train_ckip(recipe(tmp_path, task, kind), data, tmp_path / "run")
    assert again.resumed_from == 100


def test_the_loss_over_tokens_is_the_peer_s(tmp_path: Path) -> None:
    peer = TINY["make_ckip"]("bert", "pos", tmp_path)
    examples = [
        LabelledTokens([2, 7, 9, 3], [IGNORED, 1, 3, IGNORED]),
        LabelledTokens([2, 8, 3], [IGNORED, 0, IGNORED]),
    ]
    batch = TokenLabels().collate(examples)
    model = Transformer.from_checkpoint(open_checkpoint(tmp_path))
    theirs = peer(
        batch.tensors["tokens"], attention_mask=batch.tensors["mask"].long(), labels=batch.tensors["labels"]
    ).loss
    assert batch.count == 3
    assert abs(float(TokenLabels().loss(model, batch).detach()) / 3 - float(theirs.detach())) <= 1e-5


@pytest.mark.parametrize("task", ["ws", "ner"])
def test_what_is_trained_is_what_runs(task: Any) -> None:
    words = (7, 5, ("Na", "Nb")) if task == "ner" else ()
    config = TaggerConfig(task, ("O", "A:S", "A:B"), 9, 6, 5, 2, *words)
    model = BiLstmTagger(config, seed=4).eval()
    tensors = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    random = np.random.default_rng(0)
    rows = [BILSTM["row"](config, length, random) for length in (3, 8, 1, 8)]
    examples = [LabelledCharacters(row, [0] * len(row.characters)) for row in rows]
    tensors_of = CharacterLabels().collate(examples).tensors
    with torch.no_grad():
        scores = model(**{name: tensor for name, tensor in tensors_of.items() if name != "labels"}).numpy()
    for index, ours in enumerate(TaggerNetwork(config, tensors)(rows)):
        assert np.abs(scores[index, : len(ours)] - ours).max() <= 1e-5


def test_dropout_acts_in_training_alone_and_gradients_reach_everything() -> None:
    config = TaggerConfig("ner", ("O", "A:S"), 9, 16, 24, 2, 7, 16, ("Na",))
    torch.manual_seed(0)
    model = BiLstmTagger(config, dropout=0.2, unknown=0.3, seed=1)
    row = BILSTM["row"](config, 40, np.random.default_rng(0))
    batch = CharacterLabels().collate([LabelledCharacters(row, [0, 1] * 20)])
    CharacterLabels().loss(model, batch).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    losses = {float(CharacterLabels().loss(model, batch).detach()) for _ in range(4)}
    model.eval()
    assert len(losses) == 4 and len({float(CharacterLabels().loss(model, batch).detach()) for _ in range(4)}) == 1


def test_universal_dependencies_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "a.conllu"
    rows = [
        "# text = 不錯了", "1-2\t不錯\t_\t_\t_\t_\t_\t_\t_\t_", "1\t不\t不\tADV\tRB\t_\t0\troot\t_\t_",
        "2\t錯\t錯\tADJ\tJJ\t_\t1\tx\t_\t_", "2.1\t_\t_\t_\t_\t_\t_\t_\t_\t_", "3\t了\t了\tPART\tAS\t_\t1\tx\t_\t_", "",
        "1\t好\t好\tADJ\tJJ\t_\t0\troot\t_\t_",
    ]  # fmt: skip
    path.write_text("\n".join(rows), encoding="utf-8")
    first, second = read_sentences(path, "ws")
    assert (first.words, first.text, second.tags) == (("不錯", "了"), "不錯了", ("JJ",))
    assert read_sentences(path, "pos", "upos")[1].tags == ("ADJ",)
    with pytest.raises(FormatError, match="no entities"):
        read_sentences(path, "ner")
    path.write_text("1\t好\n", encoding="utf-8")
    with pytest.raises(FormatError, match="ten columns"):
        read_sentences(path, "ws")


@pytest.mark.parametrize(
    "row",
    [
        {"words": ["好", ""]}, {"words": ["好"], "pos": ["A", "B"]}, {"pos": ["A"]}, [1],
        {"words": ["好"], "pos": ["A"], "entities": [{"start": 0, "end": 2, "type": "X"}]},
    ],
)  # fmt: skip
def test_a_false_line_is_named(row: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good = {"words": ["好"], "pos": ["A"]}
    path.write_text(f"{json.dumps(good)}\n{json.dumps(row)}\n")
    with pytest.raises(FormatError, match="after line 1"):
        read_sentences(path, "pos")


def test_labels_of_normalised_characters_keep_their_places() -> None:
    sentence = Sentence(("㎏½", "好"), ("Nf", "VH"), ((0, 2, "QUANTITY"), (2, 3, "X")))
    made = normal(sentence)
    assert made.words == ("kg1⁄2", "好") and made.entities == ((0, 5, "QUANTITY"), (5, 6, "X"))
    assert character_labels(made, "ws", "") == ["B", "I", "I", "I", "I", "B"]
    assert character_labels(made, "pos", "") == ["Nf", None, None, None, None, "VH"]
    marks = character_labels(made, "ner", "{type}:{part}")
    assert marks == ["QUANTITY:B", *["QUANTITY:I"] * 3, "QUANTITY:E", "X:S"]


def test_a_decoder_and_an_init_of_a_tagger_are_refused(data: Path, tmp_path: Path, stories: Path) -> None:
    wanted = recipe(tmp_path, "ws", "encoder")
    decoder = wanted.model_copy(update={"model": wanted.model.model_copy(update={"init": str(stories)})})
    with pytest.raises(OctavoError, match="is a decoder"):
        train_ckip(decoder, data, tmp_path / "run")
    with pytest.raises(OctavoError, match="begins fresh"):
        load_any(tmp_path / "recipe.toml", {"ckip": CkipRecipe}, ["model.kind=bilstm", "model.init=x"])
