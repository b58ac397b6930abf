"""Starting and stopping: the port, the model that loads, signals, running answers."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import httpx2
import openai
import pytest

from octavo.errors import OctavoError
from octavo.generate.scripted import ScriptedModel
from octavo.serve.http.server import bind, run
from octavo.serve.http.settings import ServerSettings

SLOW = "word " * 1000
SOURCE = Path(__file__).resolve().parents[2] / "src"
SCRIPT = f"""
import sys
sys.path.insert(0, {str(SOURCE)!r})
from octavo.generate.scripted import ScriptedModel
from octavo.serve.http.server import run
from octavo.serve.http.settings import ServerSettings
run(lambda: [ScriptedModel(["word " * 1000], delay=0.02)], ServerSettings(port=0, grace=float(sys.argv[1])),
    on_ready=lambda address, names: print(address, *names, flush=True))
print("ended", flush=True)
"""


def test_a_port_in_use_is_one_line_that_says_how_to_choose_another():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OctavoError, match=f"port {port} on 127.0.0.1 is in use.*--port {port + 1}") as refused:
            run([ScriptedModel(["x"])], ServerSettings(port=port))
    assert "\n" not in str(refused.value)


def test_a_host_that_is_not_here_is_refused():
    with pytest.raises(OctavoError, match="no address of this machine"):
        bind("no.such.host.invalid", 0)
    with pytest.raises(OctavoError, match="cannot be opened"):
        bind("192.0.2.1", 0)


def test_all_is_503_until_the_model_is_there(start_server):
    loading: Future = Future()
    running = start_server(loading)
    http = running.http()
    for response in (http.get("/health"), http.post("/v1/completions", json={"prompt": "x"}), http.get("/v1/models")):
        assert response.status_code == 503 and response.json()["error"]["code"] == "loading"
    assert http.get("/").status_code == 200
    loading.set_result([ScriptedModel(["x"])])
    running.until(lambda: http.get("/health").status_code == 200)
    running.stop()


def test_a_model_that_does_not_load_ends_the_server_with_its_error():
    def load():
        raise OctavoError("no such model")

    with pytest.raises(OctavoError, match="no such model"):
        run(load, ServerSettings(port=0))


def test_a_stopping_server_refuses_new_work_and_ends_running_answers_with_an_error(start_server):
    model = ScriptedModel([SLOW], delay=0.02)
    running = start_server([model], grace=0.5)
    client, http = running.openai(), running.http()
    stream = client.completions.create(model="scripted", prompt="x", max_tokens=1000, stream=True)
    next(iter(stream))
    waiting: list[Exception] = []

    def ask_whole() -> None:
        try:
            client.completions.create(model="scripted", prompt="x", max_tokens=1000)
        except openai.APIError as error:
            waiting.append(error)

    asking = threading.Thread(target=ask_whole)
    asking.start()
    running.until(lambda: running.server.serving.admission.running == 2)
    running.server.stop()
    running.until(lambda: http.get("/health").status_code == 503)
    assert http.post("/v1/completions", json={"prompt": "x"}).json()["error"]["code"] == "shutting_down"
    with pytest.raises(openai.APIError, match="shutting down"):
        list(stream)
    asking.join(5)
    assert isinstance(waiting[0], openai.InternalServerError) and waiting[0].code == "shutting_down"
    running.thread.join(5)
    assert not running.thread.is_alive()
    assert model.closed == 2


def test_a_stopping_server_lets_an_answer_end_within_its_grace(start_server):
    running = start_server([ScriptedModel(["one two three four five"], delay=0.05)], grace=10)
    stream = running.openai().completions.create(model="scripted", prompt="x", stream=True)
    first = next(iter(stream)).choices[0].text
    running.server.stop()
    assert first + "".join(chunk.choices[0].text for chunk in stream) == "one two three four five"
    running.thread.join(5)
    assert not running.thread.is_alive()


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_ends_the_process_as_a_success_and_a_second_one_at_once(sign, times):
    grace = "0.2" if times == 1 else "60"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, grace], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address, name = process.stdout.readline().split()
    assert name == "scripted"
    body = {"prompt": "x", "stream": True, "max_tokens": 1000}
    with httpx2.stream("POST", f"{address}/v1/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        for _ in range(times):
            process.send_signal(sign)
            time.sleep(0.1)
        if times == 1:
            assert any("shutting_down" in line for line in lines)
        assert process.wait(10) == 0
    assert process.stdout.read() == "ended\n"
    process.stdout.close()


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_takes_too_long_ends_with_an_error_that_no_client_retries(start_server, stream):
    model = ScriptedModel(["word " * 1000], delay=0.05)
    running = start_server([model], request_seconds=1)
    body = {"messages": [{"role": "user", "content": "x"}], "stream": stream}
    answer = running.http().post("/v1/chat/completions", json=body, timeout=30)
    assert '"code":"request_timeout"' in answer.text
    assert stream or (answer.status_code, answer.headers["x-should-retry"]) == (504, "false")
    running.until(lambda: model.closed == 1 and not running.server.serving.generations)
    made = running.http().post("/v1/responses", json={"input": "x", "background": True}).json()
    running.until(lambda: running.openai().responses.retrieve(made["id"]).status == "in_progress")
    running.openai().responses.cancel(made["id"])
    running.stop()
