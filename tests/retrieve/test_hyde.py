"""HyDE: what the model is asked, and the vector that is searched with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from octavo.errors import UnknownNameError
from octavo.generate.scripted import ScriptedModel
from octavo.retrieve.hyde import hyde_vector, hypothetical_passages
from octavo.retrieve.search import Search
from octavo.retrieve.stores.sqlite import SqliteStore
from octavo.retrieve.stores.store import Place, Source, VectorSpace

GOLD = "Mallards feed on weed, snails and worms in shallow ponds."
OTHERS = ["What do people who eat at a restaurant order?", "Geese fly south in autumn."]


def test_several_passages_are_sampled_apart_with_the_paper_s_settings() -> None:
    model = ScriptedModel(["One.\n\n\nNot this.", "", "Three."])
    assert hypothetical_passages(model, "What do mallards eat?", samples=3) == ["One.", "Three."]
    assert [request.sampling.seed for request in model.requests] == [0, 1, 2]
    assert {request.sampling.temperature for request in model.requests} == {0.7}
    asked = "Please write a passage to answer the question.\nQuestion: What do mallards eat?\nPassage:"
    assert model.requests[0].prompt == [{"role": "user", "content": asked}]


def test_the_vector_is_the_mean_of_the_passages_and_the_question(encoder: Any) -> None:
    texts = ["mallards eat weed", "ducks eat snails"]
    expected = encoder.embed([*texts, "what do mallards eat"]).mean(axis=0)
    assert hyde_vector(encoder, "what do mallards eat", texts) == pytest.approx(expected, abs=1e-6)
    assert np.array_equal(hyde_vector(encoder, "ducks", []), encoder.embed(["ducks"])[0])


def test_with_the_gold_passage_as_what_the_model_writes_it_finds_as_its_oracle_does(encoder: Any) -> None:
    store = SqliteStore(None, VectorSpace("words", encoder.dimensions))
    for number, text in enumerate([GOLD, *OTHERS]):
        store.put(Source(f"{number}", text, ""), [Place(0, len(text))], encoder.embed([text]))
    search, question = Search(store, encoder), "What do they eat?"
    written = hypothetical_passages(ScriptedModel([GOLD]), question, samples=4)
    found = search.find_with(hyde_vector(encoder, question, written), question, 3, "vectors")
    oracle = (encoder.embed([question])[0] + 4 * encoder.embed([GOLD])[0]) / 5
    assert [hit.passage.id for hit in found] == [
        hit.passage.id for hit in store.search_vector(oracle, 3) if hit.score > 0
    ]
    assert found[0].passage.text == GOLD and search.find(question, 1, mode="vectors")[0].passage.text != GOLD
    store.close()


def test_a_task_without_an_instruction_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'claim'"):
        hypothetical_passages(ScriptedModel(["x"]), "x", task="clam")
