"""Decisions are the model's own probabilities, normalised over the answers that a question allows."""

from __future__ import annotations

import math
import threading

import pytest

from octavo.generate.local import load
from octavo.generate.scripted import ScriptedModel

INPUT = "The service was slow and the soup was cold."
QUESTIONS = [
    {"type": "predicate", "name": "bad", "instructions": "The guest is unhappy."},
    {"type": "choice", "instructions": "What is it about?", "choices": [{"value": "food"}, {"value": True}]},
    {
        "type": "score",
        "instructions": [{"type": "input_text", "text": "How happy?"}, {"type": "input_json", "json": {"a": [1]}}],
        "levels": [{"label": "angry"}, {"label": "calm", "description": "neither"}, {"label": "glad"}],
    },
]


@pytest.fixture(scope="module")
def model(smollm2):
    with load(str(smollm2)) as model:
        yield model


@pytest.fixture(scope="module")
def running(start_server, model):
    return start_server([model])


def said(model, messages, options):
    """The oracle: each answer's probability by `score`, one by one."""
    prompt = model.tokenizer.encode_chat(messages, add_generation_prompt=True)
    totals = []
    for option in options:
        ids = [*prompt, *model.tokenizer.encode(option, bos=False), model.tokenizer.eos_id]
        totals.append(math.exp(sum(model.score(ids).logprobs[len(prompt) :])))
    return [total / sum(totals) for total in totals]


def test_the_official_client_reads_all_three_kinds(running, model):
    decision = running.openai().decisions.create(model=model.name, input=INPUT, questions=QUESTIONS)
    predicate, choice, score = decision.answers
    assert (predicate.type, predicate.name) == ("predicate", "bad")
    assert [answer.name for answer in (choice, score)] == [None, None]
    asked = f"{INPUT}\n\nThe guest is unhappy.\n\nIs this true? Answer Yes or No, and nothing else."
    yes, _ = said(model, [{"role": "user", "content": asked}], ["Yes", "No"])
    assert predicate.probability == pytest.approx(yes, rel=1e-4)
    assert [entry.value for entry in choice.probabilities] == ["food", True]
    assert sum(entry.probability for entry in choice.probabilities) == pytest.approx(1)
    assert choice.confidence == max(entry.probability for entry in choice.probabilities)
    assert [(entry.label, entry.value) for entry in score.probabilities] == [("angry", 0), ("calm", 1), ("glad", 2)]
    assert score.score == pytest.approx(sum(entry.value * entry.probability for entry in score.probabilities))
    usage = decision.usage
    assert usage.input_tokens > 0 and usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_many_choices_read_the_prompt_once_and_have_the_numbers_they_have_alone(running, model, monkeypatch):
    read = []
    step = model.engine.runner.step

    def counted(rows, **options):
        read.extend(len(row.tokens) for row in rows)
        return step(rows, **options)

    monkeypatch.setattr(model.engine.runner, "step", counted)
    names = [f"the town of number {place}" for place in range(24)]
    question = {"type": "choice", "instructions": "Which town?", "choices": [{"value": name} for name in names]}
    decision = running.openai().decisions.create(model=model.name, input=f"{INPUT} " * 20, questions=[question])
    usage = decision.usage
    assert usage.input_tokens > 300
    assert sum(read) < usage.input_tokens + usage.output_tokens + 16 * (len(names) + 8)
    monkeypatch.undo()
    prompt = model.tokenizer.encode_chat([{"role": "user", "content": f"{INPUT} " * 20}], add_generation_prompt=True)
    ids = [*prompt, *model.tokenizer.encode("soup", bos=False)]
    plain, shared = model.score(ids), model.score(ids, start=len(prompt))
    assert shared.logprobs[len(prompt) :] == plain.logprobs[len(prompt) :]
    assert set(shared.logprobs[: len(prompt)]) == {None}
    assert plain.logprobs[0] is None and None not in plain.logprobs[1:]


def test_an_input_of_items_ends_with_the_question(running, model):
    items = [
        {"role": "developer", "content": "You judge reviews."},
        {"role": "user", "content": [{"type": "input_text", "text": "Fine food."}]},
        {"role": "assistant", "content": "Noted."},
    ]
    decision = running.openai().decisions.create(model=model.name, input=items, questions=QUESTIONS[:1])
    asked = "The guest is unhappy.\n\nIs this true? Answer Yes or No, and nothing else."
    messages = [
        {"role": "system", "content": "You judge reviews."},
        {"role": "user", "content": "Fine food."},
        {"role": "assistant", "content": "Noted."},
        {"role": "user", "content": asked},
    ]
    assert decision.answers[0].probability == pytest.approx(said(model, messages, ["Yes", "No"])[0], rel=1e-4)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"questions": []}, "questions"),
        ({"questions": [{"type": "guess", "instructions": "x"}]}, "questions.0"),
        ({"questions": [{"type": "predicate", "instructions": ""}]}, "questions.0.instructions"),
        ({"questions": [{**QUESTIONS[1], "choices": [{"value": "a"}]}]}, "questions.0.choices"),
        ({"questions": [{**QUESTIONS[1], "choices": [{"value": "a"}, {"value": "a"}]}]}, "questions.0.choices"),
        ({"questions": [{**QUESTIONS[1], "choices": [{"value": "True"}, {"value": True}]}]}, "questions.0.choices"),
        ({"questions": [{"type": "predicate", "instructions": [{"type": "input_image"}]}]}, "questions.0.instructions"),
        ({"temperature": 1}, "temperature"),
    ],
)
def test_what_is_wrong_is_named(running, change, param):
    answer = running.http().post("/v1/decisions", json={"input": INPUT, "questions": QUESTIONS, **change})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith(param)


def test_a_model_without_a_tokenizer_decides_nothing(start_server):
    running = start_server([ScriptedModel(["a"])])
    answer = running.http().post("/v1/decisions", json={"input": INPUT, "questions": QUESTIONS})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")


def test_a_client_that_leaves_frees_its_slot(running, model):
    serving = running.server.serving
    many = [{**QUESTIONS[1], "choices": [{"value": f"food {number}"} for number in range(200)]}] * 20

    def ask():
        client = running.openai(timeout=0.5)
        with pytest.raises(Exception, match="timed out"):
            client.decisions.create(model=model.name, input=INPUT, questions=many)

    thread = threading.Thread(target=ask)
    thread.start()
    running.until(lambda: serving.admission.running == 1)
    thread.join()
    running.until(lambda: serving.admission.running == 0, 20)
    assert all(entry.users == 0 for entry in serving.models.entries)
