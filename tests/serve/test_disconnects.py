"""A client that leaves stops its generation, whatever form the answer had, and frees its slot."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from octavo.generate.scripted import ScriptedModel

LONG = "word " * 2000


def _send(port: int, body: dict[str, Any], path: str = "/v1/chat/completions") -> socket.socket:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(head.encode() + b"\r\n\r\n" + data)
    return client


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_leaving_closes_the_models_streams_within_a_second(start_server, stream, n):
    model = ScriptedModel([LONG], delay=0.01)
    running = start_server([model])
    client = _send(running.port, {"messages": [{"role": "user", "content": "x"}], "stream": stream, "n": n})
    if stream:
        assert b"delta" in client.recv(65536) + client.recv(65536)
    running.until(lambda: len(model.requests) == n)
    client.close()
    running.until(lambda: model.closed == n, seconds=1)
    running.until(lambda: running.server.serving.admission.running == 0, seconds=1)
    assert not running.server.serving.generations
    running.stop()


def test_leaving_while_waiting_for_a_turn_asks_nothing_of_the_model(start_server):
    model = ScriptedModel([LONG], delay=0.01)
    running = start_server([model], max_running=1)
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    admission = running.server.serving.admission
    first = _send(running.port, body)
    running.until(lambda: admission.running == 1)
    second = _send(running.port, body)
    running.until(lambda: admission.waiting == 1)
    second.close()
    running.until(lambda: admission.waiting == 0, seconds=1)
    first.close()
    running.until(lambda: admission.running == 0, seconds=1)
    assert len(model.requests) == 1
    running.stop()


def test_a_silent_stream_is_kept_alive_by_comments_and_still_sees_its_client_leave(start_server):
    model = ScriptedModel([LONG], delay=30)
    running = start_server([model], ping_seconds=0.05)
    model._delay = 0.2  # the first event is the headers'; then silence for longer than a ping
    client = _send(running.port, {"prompt": "x", "echo": True, "stream": True}, "/v1/completions")
    received = b""
    while b": ping\n\n" not in received:
        received += client.recv(65536)
    client.close()
    running.until(lambda: model.closed == 1, seconds=1)
    running.stop()


def test_a_client_that_hung_up_leaves_no_server_error_behind(start_server, caplog):
    model = ScriptedModel([LONG], delay=0.005)
    running = start_server([model])
    for stream in (False, True):
        client = _send(running.port, {"prompt": "x", "stream": stream, "max_tokens": 2000}, "/v1/completions")
        running.until(lambda: running.server.serving.admission.running == 1)
        client.close()
        running.until(lambda: running.server.serving.admission.running == 0)
    assert running.http().get("/health").status_code == 200
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]
    running.stop()
