"""`octavo ps` and `octavo stop` against a real server."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import Future

import httpx2
import pytest

from octavo.cli import main
from octavo.generate.scripted import ScriptedModel
from octavo.serve.http.lifecycle import Server
from octavo.serve.http.server import bind
from octavo.serve.http.settings import ServerSettings


@pytest.fixture
def address():
    listener = bind("127.0.0.1", 0)
    server = Server(listener, ServerSettings(port=0), {"b": (lambda: ScriptedModel(["x"], name="b"), "nowhere")})
    loaded: Future = Future()
    loaded.set_result([ScriptedModel(["x"], name="a"), ScriptedModel(["x"], name="b")])
    urls: list[str] = []
    ready = threading.Event()

    def note(url: str, names: object) -> None:
        urls.append(url)
        ready.set()

    thread = threading.Thread(target=lambda: asyncio.run(server.live(loaded, note)))
    thread.start()
    assert ready.wait(10)
    yield urls[0]
    server.stop()
    thread.join(10)
    listener.close()


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_ps_lists_and_stop_unloads(capsys, address):
    code, out, _ = run(capsys, "ps", "--url", f"{address}/v1", "--json")
    assert code == 0 and {model["name"] for model in json.loads(out)} == {"a", "b"}
    assert run(capsys, "stop", "b", "--url", address)[0] == 0
    assert run(capsys, "ps", "--url", address)[1].split("\n")[1].startswith("a ")


def test_a_model_that_cannot_be_loaded_again_stays_and_a_stranger_is_named(capsys, address):
    code, _, err = run(capsys, "stop", "a", "--url", address)
    assert code == 2 and "a stays: it is answering" in err
    code, _, err = run(capsys, "stop", "c", "--url", address)
    assert code == 2 and "'c' is not served" in err


def test_feedback_is_printed_as_rows(capsys, address):
    assert "nobody has rated" in run(capsys, "feedback", "--url", address)[2]
    body = {"messages": [{"role": "user", "content": "x"}], "completion": "y", "rating": "up"}
    httpx2.post(f"{address}/v1/feedback", json=body)
    code, out, _ = run(capsys, "feedback", "--format", "unpaired", "--url", address)
    assert code == 0 and json.loads(out)["label"] is True


def test_no_server_is_one_line(capsys):
    code, _, err = run(capsys, "ps", "--url", "http://127.0.0.1:9")
    assert code == 2 and "start one with `octavo serve`" in err and err.count("\n") == 1
