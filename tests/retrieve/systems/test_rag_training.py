"""RAG from a recipe to answers: what learns, what stays, what is found again in the folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.errors import FormatError, OctavoError, UnknownNameError
from octavo.retrieve.systems.answering import evaluate, open_system
from octavo.retrieve.systems.passages import cut, read_question_set
from octavo.retrieve.systems.recipes import RagRecipe
from octavo.retrieve.systems.torch_asking import AskingSettings
from octavo.retrieve.systems.torch_rag import RagObjective
from octavo.retrieve.systems.torch_training import make_asking, train_rag
from octavo.train.metrics import Event, Stepped
from octavo.train.recipe import load_any
from octavo.train.run_folder import RunFolder

ASKED = "Which country has Oslo as its capital?"
RECIPE = """
objective = "rag"
[data]
path = "questions.json"
held_out = 0.2
[retriever]
encoder = "{encoder}"
passages = 2
rate_scale = 0.1
[generator]
num_layers = 1
hidden_size = 32
intermediate_size = 48
vocab_size = 358
source_tokens = 80
[rag]
marginal = "{marginal}"
[optimizer]
learning_rate = 1e-2
[schedule]
warmup_steps = 2
[training]
steps = {steps}
batch_size = 4
log_every = 1
validate_every = 10
threads = 1
"""


def recipe(folder: Path, encoder: Path, marginal: str = "sequence", steps: int = 20) -> RagRecipe:
    path = folder / "rag.toml"
    path.write_text(RECIPE.format(encoder=encoder, marginal=marginal, steps=steps))
    return load_any(path, {"rag": RagRecipe})


@pytest.mark.parametrize("marginal", ["sequence", "token"])
def test_a_run_learns_and_leaves_a_folder_that_answers(
    marginal: str, tmp_path: Path, tiny_encoder: Path, questions: Path
) -> None:
    events: list[Event] = []
    wanted = recipe(tmp_path, tiny_encoder, marginal)
    result = train_rag(wanted, questions, tmp_path / "run", on_event=events.append)
    losses = [event.loss for event in events if isinstance(event, Stepped)]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])
    assert result.model is not None
    system = open_system(result.model, "rag")
    reply = system.answer(ASKED)
    assert sum(read.weight for read in reply.passages) == pytest.approx(1, abs=1e-5)
    products = system.model.question_encoder(system.model.question_encoder.encode([ASKED])) @ system.model.vectors.T
    assert [read.number for read in reply.passages] == products[0].topk(2).indices.tolist()
    assert open_system(result.model, "rag").answer(ASKED) == reply
    scores = evaluate(open_system(result.model, "rag", passages=6), questions)
    assert (scores.count, scores.recall, scores.passages) == (1, 100.0, 6)
    assert open_system(result.model, "rag", passages=4, beams=2).answer("Who?").passages[3:]


def test_gradients_reach_both_models_and_never_the_index(tmp_path: Path, tiny_encoder: Path, questions: Path) -> None:
    wanted = recipe(tmp_path, tiny_encoder)
    asked = read_question_set(questions, words=100, held_out=0.2)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    settings = AskingSettings("rag", 2, 80, 20, 0.2, 100)
    model, _ = make_asking(wanted, asked, run, settings)
    before = model.vectors.clone()
    objective = RagObjective(model, asked)
    objective.loss(model, objective.collate([0, 1])).backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert all(grad is not None and grad.abs().sum() > 0 for name, grad in grads.items() if name.endswith("q.weight"))
    assert {name.split(".")[0] for name in grads} == {"question_encoder", "generator"}
    assert not model.vectors.requires_grad and model.vectors.grad is None
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert torch.equal(model.vectors, before)


def test_questions_are_read_with_what_answers_them(questions: Path) -> None:
    found = read_question_set(questions, words=4, held_out=0.2)
    assert len(found.training) == 5 and len(found.held_out) == 1
    first = found.training[0]
    assert first.answers == ("Norway",)
    assert [found.passages[at].text for at in first.gold] == ["capital of Norway."]


def test_a_text_is_cut_evenly_and_word_by_word() -> None:
    text = "one  two\nthree four five six seven"
    assert cut(text, 3) == ["one  two", "three four", "five six seven"]
    assert cut(text, 100) == [text] and cut("  ", 5) == []


def test_what_is_no_question_set_is_refused_in_a_sentence(tmp_path: Path, tiny_encoder: Path) -> None:
    path = tmp_path / "questions.json"
    path.write_text("[1]")
    with pytest.raises(FormatError, match="SQuAD's layout"):
        read_question_set(path, words=100, held_out=0.1)
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": []}]}))
    with pytest.raises(OctavoError, match="too few"):
        read_question_set(path, words=100, held_out=0.1)
    with pytest.raises(FormatError, match="holds no system"):
        open_system(tiny_encoder, "rag")
    (tmp_path / "x.toml").write_text('objective = "ragg"')
    with pytest.raises(UnknownNameError, match="did you mean 'rag'"):
        load_any(tmp_path / "x.toml", {"rag": RagRecipe})
