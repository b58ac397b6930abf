"""Files through the official client and hostile hands: what was acknowledged is there."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import openai
import pytest

from octavo.generate.scripted import ScriptedModel
from octavo.serve.documents.files import clean_name


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def running(start_server, place):
    running = start_server([ScriptedModel(["a"])], state_path=place / "server.sqlite3", max_upload=3 << 20)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def client(running):
    return running.openai()


@pytest.fixture
def kept(place):
    """The names of the files on the disk."""
    return lambda: sorted(path.name for path in (place / "server.documents/files").glob("*"))


def test_a_file_is_kept_listed_read_and_deleted(client, kept):
    content = bytes(range(256)) * 5000
    made = client.files.create(file=("données.bin", content), purpose="user_data")
    assert (made.object, made.bytes, made.filename, made.status) == ("file", len(content), "données.bin", "processed")
    assert client.files.retrieve(made.id) == made
    assert [file.id for file in client.files.list(purpose="user_data")] == [made.id]
    assert client.files.list(purpose="batch").data == []
    answer = client.files.with_raw_response.content(made.id)
    assert answer.content == content
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''donn%C3%A9es.bin"
    assert (
        answer.headers["x-content-type-options"] == "nosniff" and "sandbox" in answer.headers["content-security-policy"]
    )
    assert client.files.delete(made.id).deleted
    assert kept() == []
    with pytest.raises(openai.NotFoundError):
        client.files.content(made.id)


def test_a_file_expires(client, running):
    made = client.files.create(
        file=("a.txt", b"x"), purpose="assistants", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert made.expires_at == made.created_at + 3600
    state, owner = running.server.serving.state, running.server.serving.owner
    state.put("file", owner, {**state.get("file", owner, made.id), "expires_at": int(time.time()) - 1})
    with pytest.raises(openai.NotFoundError, match="expired"):
        client.files.retrieve(made.id)
    client.files.delete(made.id)


@pytest.mark.parametrize(
    ("name", "shown", "suffix"),
    [
        ("../../../etc/passwd", "passwd", ""),
        ("C:\\Windows\\win.ini", "win.ini", ".ini"),
        ("/absolute/of the.PDF", "of the.PDF", ".pdf"),
        ("a\x00b\x1f\u202egnp.md", "abgnp.md", ".md"),
        ("..", "file", ""),
        ("x" * 1000 + ".docx", "x" * 234 + ".docx", ".docx"),
        ("a.sh; rm -rf *.txt", "a.sh; rm -rf *.txt", ".txt"),
        ("e\u0301.txt", "\u00e9.txt", ".txt"),
        (".htaccess", ".htaccess", ""),
        ("a.py/../../b", "b", ""),
    ],
)
def test_a_name_is_shown_without_its_path_and_never_reaches_the_disk(running, client, kept, name, shown, suffix):
    assert clean_name(name) == shown
    made = client.files.create(file=(name, b"x"), purpose="assistants")
    assert kept() == [f"{made.id}{suffix}"]
    client.files.delete(made.id)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "purpose"),
        ({"purpose": "spying"}, "purpose"),
        ({"purpose": "assistants", "colour": "red"}, "colour"),
        ({"purpose": "assistants", "expires_after[seconds]": "3600"}, "expires_after.anchor"),
        ({"purpose": "assistants", "expires_after[anchor]": "created_at", "expires_after[seconds]": "1"},
         "expires_after.seconds"),
    ],
)  # fmt: skip
def test_a_form_that_is_wrong_is_refused_by_the_fields_name(running, kept, fields, param):
    answer = running.http().post("/v1/files", data=fields, files={"file": ("a.txt", b"x")})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert kept() == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data; boundary=x"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"not a form", "multipart/form-data; boundary=x"),
        (b"--x--", "multipart/form-data"),
        (b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nno file\r\n--x--\r\n',
         "multipart/form-data; boundary=x"),
        (b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n' + b"A: b\r\n" * 20_000 + b"\r\n",
         "multipart/form-data; boundary=x"),
    ],
)  # fmt: skip
def test_a_broken_form_is_an_error_in_openais_shape(running, kept, body, kind):
    answer = running.http().post("/v1/files", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"
    assert kept() == []


def test_json_is_no_upload_and_another_sites_page_may_not_upload(running):
    http = running.http()
    assert http.post("/v1/files", json={"purpose": "assistants"}).status_code == 415
    answer = http.post(
        "/v1/files",
        data={"purpose": "assistants"},
        files={"file": ("a", b"x")},
        headers={"Origin": "http://evil.example"},
    )
    assert answer.status_code == 403


def test_an_upload_over_the_limit_leaves_nothing(running, kept):
    http = running.http()
    for size, told in ((5 << 20, True), (5 << 20, False)):
        form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"z" * size
        content = form if told else iter([form[: 1 << 20], form[1 << 20 :]])
        try:
            answer = http.post(
                "/v1/files", content=content, headers={"Content-Type": "multipart/form-data; boundary=x"}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
        except httpx2.WriteError:
            pass  # the server hung up in the middle of it
    assert kept() == []


def test_parts_become_the_file_that_was_announced(client, kept):
    content = os.urandom(3_000_000)
    upload = client.uploads.create(
        bytes=len(content), filename="a.pdf", mime_type="application/pdf", purpose="assistants"
    )
    parts = [client.uploads.parts.create(upload.id, data=io.BytesIO(content[at : at + 1_200_000])).id
             for at in range(0, len(content), 1_200_000)]  # fmt: skip
    with pytest.raises(openai.BadRequestError, match="announced"):
        client.uploads.complete(upload.id, part_ids=parts[:1])
    with pytest.raises(openai.BadRequestError, match="MD5"):
        client.uploads.complete(upload.id, part_ids=parts[::-1], md5=hashlib.md5(content).hexdigest())
    done = client.uploads.complete(upload.id, part_ids=parts, md5=hashlib.md5(content).hexdigest())
    assert done.status == "completed" and done.file is not None
    assert client.files.content(done.file.id).content == content
    assert kept() == [f"{done.file.id}.pdf"]
    client.files.delete(done.file.id)
    cancelled = client.uploads.create(bytes=2, filename="a", mime_type="text/plain", purpose="assistants")
    client.uploads.parts.create(cancelled.id, data=b"ab")
    with pytest.raises(openai.BadRequestError, match="more than"):
        client.uploads.parts.create(cancelled.id, data=b"c")
    assert client.uploads.cancel(cancelled.id).status == "cancelled"
    assert kept() == []


SERVE = """
import asyncio, sys, threading
from concurrent.futures import Future
from pathlib import Path
from octavo.generate.scripted import ScriptedModel
from octavo.serve.http import server
from octavo.serve.http.lifecycle import Server
from octavo.serve.http.settings import ServerSettings
listener = server.bind("127.0.0.1", 0)
running = Server(listener, ServerSettings(port=0, state_path=Path(sys.argv[1]) / "server.sqlite3"))
loading = Future()
loading.set_result([ScriptedModel(["a"])])
asyncio.run(running.live(loading, lambda address, names: print(address, flush=True)))
"""


def start(folder: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_killed_server_keeps_what_it_acknowledged_and_goes_on_indexing(tmp_path):
    process, address = start(tmp_path)
    with openai.OpenAI(base_url=f"{address}/v1", api_key="-", max_retries=0) as client:
        store = client.vector_stores.create(name="kept")
        texts = [f"Bird number {number} eats {'weed ' * 2000}".encode() for number in range(12)]
        made = [
            client.files.create(file=(f"{place}.txt", text), purpose="assistants") for place, text in enumerate(texts)
        ]
        client.vector_stores.file_batches.create(store.id, file_ids=[file.id for file in made])
        process.send_signal(signal.SIGKILL)
    process.communicate()
    files = tmp_path / "server.documents/files"
    (files / "file-orphan.pdf").write_bytes(b"of an upload that nobody heard of")
    (files / "file-half.txt.part").write_bytes(b"half")
    process, address = start(tmp_path)
    with openai.OpenAI(base_url=f"{address}/v1", api_key="-", max_retries=0) as client:
        for file, text in zip(made, texts, strict=True):
            assert client.files.content(file.id).content == text
            assert (
                client.vector_stores.files.poll(file.id, vector_store_id=store.id, poll_interval_ms=20).status
                == "completed"
            )
        (best, *_) = client.vector_stores.search(store.id, query="bird number 7").data
        assert best.filename == "7.txt"
        assert sorted(path.stem for path in files.iterdir()) == sorted(file.id for file in made)
        process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 0
