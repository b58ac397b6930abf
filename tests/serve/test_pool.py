"""Several models: loaded when asked for, unloaded when unused, never while they answer."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.errors import OctavoError
from octavo.generate.scripted import ScriptedModel
from octavo.serve.errors import ApiError
from octavo.serve.pool import ModelPool


class Shelf:
    """Makes models on demand and counts those that are open."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.open: set[str] = set()

    def load(self, name: str) -> ScriptedModel:
        self.loads.append(name)
        self.open.add(name)
        model = ScriptedModel([f"I am {name}"], name="its own name")
        model.close = lambda: self.open.discard(name)  # type: ignore[method-assign]
        return model

    def pool(self, names: str, **options) -> ModelPool:
        pool = ModelPool(**{"max_loaded": 2, "keep_alive": None, **options})
        for name in names:
            pool.on_demand(name, lambda name=name: self.load(name))
        return pool


@settings(max_examples=50, deadline=None)
@given(
    max_loaded=st.integers(1, 3),
    events=st.lists(st.tuples(st.sampled_from(["get", "release", "unused"]), st.sampled_from("abcd")), max_size=40),
)
def test_in_any_order_no_model_in_use_is_unloaded_and_no_more_than_allowed_are_loaded(max_loaded, events):
    async def run() -> None:
        shelf = Shelf()
        pool = shelf.pool("abcd", max_loaded=max_loaded, keep_alive=0)
        users = dict.fromkeys("abcd", 0)
        for event, name in events:
            if event == "get":
                try:
                    model = await pool.get(name)
                except ApiError as error:
                    assert error.status == 503
                    assert sum(users[other] > 0 for other in shelf.open) == max_loaded
                    continue
                assert model.name == name
                pool.hold(name)
                users[name] += 1
            elif event == "release" and users[name]:
                pool.release(name)
                users[name] -= 1
            elif event == "unused":
                pool.unload_unused()
                assert shelf.open == {name for name in users if users[name]}
            assert shelf.open == set(pool.loaded)
            assert len(shelf.open) <= max_loaded
            assert {name for name in users if users[name]} <= shelf.open
        pool.close()
        assert shelf.open == {name for name in users if users[name]}

    asyncio.run(run())


def test_those_who_ask_at_once_share_one_loading():
    async def run() -> None:
        shelf = Shelf()
        pool = shelf.pool("a")
        first, second = await asyncio.gather(pool.get("a"), pool.get(None))
        assert first is second
        assert shelf.loads == ["a"]

    asyncio.run(run())


def test_a_loading_that_fails_is_told_and_tried_again():
    async def run() -> None:
        results = [OctavoError("the disk is gone"), ScriptedModel(["b"])]

        def load():
            result = results.pop(0)
            if isinstance(result, Exception):
                raise result
            return result

        pool = ModelPool(max_loaded=1, keep_alive=None)
        pool.on_demand("a", load)
        with pytest.raises(OctavoError, match="the disk is gone"):
            await pool.get("a")
        assert (await pool.get("a")).name == "a"

    asyncio.run(run())


def test_what_was_not_asked_for_is_loaded_by_no_one_and_a_stranger_is_404(start_server):
    shelf = Shelf()
    running = start_server([ScriptedModel(["first"], name="first")], aliases=(("gpt-*", "b"),))
    running.server.serving.models.on_demand("b", lambda: shelf.load("b"))
    client = running.openai()
    assert [(model.id, model.model_extra["loaded"]) for model in client.models.list()] == [
        ("first", True),
        ("b", False),
    ]
    assert client.models.retrieve("b").model_extra["context_length"] is None
    assert shelf.loads == []
    answer = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "who"}])
    assert (answer.model, answer.choices[0].message.content) == ("b", "I am b")
    assert client.models.retrieve("gpt-5").id == "b"
    with pytest.raises(openai.NotFoundError, match="served: 'first', 'b'"):
        client.models.retrieve("c")
    running.stop()
    assert shelf.open == set()


def test_many_clients_of_more_models_than_fit_all_get_their_own_models_answer(start_server):
    shelf = Shelf()
    running = start_server([ScriptedModel(["first"], name="first")], max_loaded=2)
    for name in "bc":
        running.server.serving.models.on_demand(name, lambda name=name: shelf.load(name))
    client = running.openai(max_retries=20)
    lock = threading.Lock()
    answers: list[tuple[str, str]] = []

    def ask(name: str) -> None:
        text = client.completions.create(model=name, prompt="who", max_tokens=9).choices[0].text
        with lock:
            answers.append((name, text))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, "bcbcbbcc"))
    assert sorted(answers) == [("b", "I am b")] * 4 + [("c", "I am c")] * 4
    running.stop()
