"""Ratings are kept and come back as rows that preference training reads."""

from __future__ import annotations

import json

import pytest

from octavo.generate.scripted import ScriptedModel

SAID = [{"role": "user", "content": "Name a colour."}]
ANSWER = {"role": "assistant"}


@pytest.fixture
def http(start_server):
    running = start_server([ScriptedModel(["x"])])
    yield running.http()
    running.stop()


def rate(http, completion, rating, messages=SAID, **more):
    answer = http.post("/v1/feedback", json={"messages": messages, "completion": completion, "rating": rating, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def rows(http, form):
    text = http.get("/v1/feedback/export", params={"format": form}).text
    return [json.loads(line) for line in text.splitlines()]


def test_ratings_of_one_question_become_pairs_and_each_a_labelled_row(http):
    rate(http, "red", "up")
    rate(http, "table", "down")
    rate(http, "chair", "down", comment="no colour")
    rate(http, "red", "down", messages=[{"role": "user", "content": "Another question."}])
    assert rows(http, "preference") == [
        {"prompt": SAID, "chosen": [{**ANSWER, "content": "red"}], "rejected": [{**ANSWER, "content": text}]}
        for text in ("table", "chair")
    ]
    labelled = rows(http, "unpaired")
    assert [row["label"] for row in labelled] == [True, False, False, False]
    assert labelled[0] == {"prompt": SAID, "completion": [{**ANSWER, "content": "red"}], "label": True}


def test_a_changed_mind_replaces_and_a_deleted_rating_is_gone(http):
    first = rate(http, "red", "up", id="answer-1")
    rate(http, "red", "down", id="answer-1")
    assert [entry["rating"] for entry in http.get("/v1/feedback").json()["data"]] == ["down"]
    assert http.delete(f"/v1/feedback/{first['id']}").json()["deleted"] is True
    assert http.get("/v1/feedback").json()["data"] == [] and rows(http, "unpaired") == []
    assert http.delete("/v1/feedback/answer-1").status_code == 404


@pytest.mark.parametrize(
    ("change", "param"),
    [({"rating": "good"}, "rating"), ({"messages": []}, "messages"), ({"id": "a b"}, "id"), ({"stars": 3}, "stars")],
)
def test_what_is_wrong_is_named(http, change, param):
    answer = http.post("/v1/feedback", json={"messages": SAID, "completion": "x", "rating": "up", **change})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_server_that_keeps_nothing_says_so(start_server):
    running = start_server([ScriptedModel(["x"])], store=False)
    answer = running.http().post("/v1/feedback", json={"messages": SAID, "completion": "x", "rating": "up"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_stored")
    running.stop()
