"""Vector stores through the official client: upload, poll, search; filters, attributes, batches; hostile files."""

from __future__ import annotations

import io
import threading
import time
import zipfile

import openai
import pytest

from octavo.generate.scripted import ScriptedModel

BIRDS = {
    "ducks.md": b"# Ducks\n\nMallards eat weed and snails.",
    "owls.md": b"# Owls\n\nOwls hunt mice at night, and hear them under snow.",
    "geese.md": b"# Geese\n\nGeese eat grass and fly in a wedge.",
}


@pytest.fixture(scope="module")
def running(start_server, tmp_path_factory):
    running = start_server([ScriptedModel(["a"])], state_path=tmp_path_factory.mktemp("state") / "server.sqlite3")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def client(running):
    return running.openai()


@pytest.fixture
def birds(client):
    """A vector store of three documents, with their ids by name."""
    store = client.vector_stores.create(name="birds", metadata={"a": "b"})
    ids = {}
    for number, (name, text) in enumerate(BIRDS.items()):
        attributes = {"year": 2020 + number, "kind": name.removesuffix(".md"), "wild": number != 2}
        file = client.files.create(file=(name, text), purpose="assistants")
        client.vector_stores.files.create_and_poll(
            file.id, vector_store_id=store.id, attributes=attributes, poll_interval_ms=20
        )
        ids[name] = file.id
    yield store, ids
    client.vector_stores.delete(store.id)
    for file_id in ids.values():
        client.files.delete(file_id)


def found(client, store, query, **options):
    return [row.filename for row in client.vector_stores.search(store.id, query=query, **options).data]


def test_uploaded_documents_are_indexed_and_found(client, birds):
    store, ids = birds
    now = client.vector_stores.retrieve(store.id)
    assert (now.status, now.file_counts.completed, now.file_counts.total, now.name) == ("completed", 3, 3, "birds")
    assert now.usage_bytes == sum(len(text) for text in BIRDS.values())
    page = client.vector_stores.search(store.id, query="what do mallards eat?")
    assert page.search_query == ["what do mallards eat?"]  # type: ignore[attr-defined]
    best = page.data[0]
    assert (best.filename, best.file_id, best.attributes) == (
        "ducks.md",
        ids["ducks.md"],
        {"year": 2020, "kind": "ducks", "wild": True},
    )
    assert best.content[0].text == BIRDS["ducks.md"].decode() and best.score == 1.0
    (text,) = client.vector_stores.files.content(ids["owls.md"], vector_store_id=store.id).data
    assert text.text == BIRDS["owls.md"].decode()


def test_several_queries_are_one_search(client, birds):
    store, _ = birds
    assert set(found(client, store, ["hear under snow", "fly in a wedge"])) == {"owls.md", "geese.md"}
    assert found(client, store, "eat", max_num_results=1) in (["ducks.md"], ["geese.md"])
    assert found(client, store, "mallards snails eat", ranking_options={"score_threshold": 0.99}) == ["ducks.md"]
    assert found(client, store, "submarines") == []


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"type": "eq", "key": "kind", "value": "geese"}, {"geese.md"}),
        ({"type": "ne", "key": "kind", "value": "geese"}, {"ducks.md", "owls.md"}),
        ({"type": "gte", "key": "year", "value": 2021}, {"owls.md", "geese.md"}),
        ({"type": "lt", "key": "year", "value": 2021.5}, {"ducks.md", "owls.md"}),
        ({"type": "in", "key": "kind", "value": ["owls", "geese"]}, {"owls.md", "geese.md"}),
        ({"type": "nin", "key": "kind", "value": ["owls", "geese"]}, {"ducks.md"}),
        ({"type": "eq", "key": "wild", "value": False}, {"geese.md"}),
        ({"type": "gt", "key": "nothing", "value": 1}, set()),
        ({"type": "and", "filters": [{"type": "gt", "key": "year", "value": 2020},
                                     {"type": "eq", "key": "wild", "value": True}]}, {"owls.md"}),
        ({"type": "or", "filters": [{"type": "eq", "key": "kind", "value": "ducks"},
                                    {"type": "and", "filters": [{"type": "eq", "key": "year", "value": 2022}]}]},
         {"ducks.md", "geese.md"}),
    ],
)  # fmt: skip
def test_filters_hold_a_search_to_some_files(client, birds, filters, names):
    assert set(found(client, birds[0], "mallards owls geese", filters=filters)) == names


def test_new_attributes_count_at_once(client, birds):
    store, ids = birds
    changed = client.vector_stores.files.update(ids["owls.md"], vector_store_id=store.id, attributes={"kind": "night"})
    assert changed.attributes == {"kind": "night"}
    assert found(client, store, "owls", filters={"type": "eq", "key": "kind", "value": "night"}) == ["owls.md"]


def test_what_is_deleted_is_found_no_more(client, birds):
    store, ids = birds
    client.vector_stores.files.delete(ids["ducks.md"], vector_store_id=store.id)
    assert "ducks.md" not in found(client, store, "mallards eat weed")
    assert client.files.retrieve(ids["ducks.md"]).filename == "ducks.md"
    extra = client.files.create(file=("extra.md", b"Mallards everywhere."), purpose="assistants")
    client.vector_stores.files.create_and_poll(extra.id, vector_store_id=store.id, poll_interval_ms=20)
    assert found(client, store, "mallards") == ["extra.md"]
    client.files.delete(extra.id)
    assert found(client, store, "mallards") == []
    assert [row.id for row in client.vector_stores.files.list(store.id)] == [ids["geese.md"], ids["owls.md"]]


def test_a_batch_reports_what_became_of_each_file(client):
    store = client.vector_stores.create()
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("word/document.xml", b"<" + b"a" * (257 << 20))
    files = [
        ("good.txt", b"Herons stand in shallow water."), ("bomb.docx", bomb.getvalue()), ("broken.pdf", b"%PDF-1.7 no"),
        ("binary.dat", b"\0\1\2"), ("empty.txt", b""), ("latin.txt", "Störche klappern.".encode("latin-1")),
    ]  # fmt: skip
    batch = client.vector_stores.file_batches.upload_and_poll(store.id, files=files, poll_interval_ms=20)
    counts = batch.file_counts
    assert (batch.status, counts.completed, counts.failed, counts.total) == ("completed", 2, 4, 6)
    rows = {
        row.filename: row for row in client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id)
    }  # type: ignore[attr-defined]
    problems = {name: row.last_error.message for name, row in rows.items() if row.last_error is not None}
    assert set(problems) == {"bomb.docx", "broken.pdf", "binary.dat", "empty.txt"}
    assert all(message.endswith(".") and "file-" not in message for message in problems.values()), problems
    assert "unpack" in problems["bomb.docx"] and rows["binary.dat"].last_error.code == "unsupported_file"
    failed = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, filter="failed")
    assert len(failed.data) == 4
    assert found(client, store, "Störche") == ["latin.txt"]
    client.vector_stores.delete(store.id)


def test_static_chunks_are_as_long_as_asked(start_server, minilm, tmp_path):
    running = start_server([ScriptedModel(["a"])], encoders=(str(minilm),), state_path=tmp_path / "s.sqlite3")
    client = running.openai()
    store = client.vector_stores.create()
    text = " ".join(f"word{number}" for number in range(600)).encode()
    static = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 20}}
    made = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("long.txt", text), chunking_strategy=static, poll_interval_ms=20
    )
    assert made.chunking_strategy.model_dump() == static
    (whole,) = client.vector_stores.files.content(made.id, vector_store_id=store.id).data
    chunks = client.vector_stores.search(store.id, query="word", max_num_results=50).data
    chunks += client.vector_stores.search(store.id, query="word300 word599", max_num_results=50).data
    tokenizer = running.server.serving.documents._encoder.tokenizer
    lengths = [len(tokenizer.encode(row.content[0].text)) for row in chunks]
    assert len(chunks) > 5 and 60 < max(lengths) <= 100 + 2  # what the tokenizer adds to a text
    assert all(row.content[0].text in whole.text for row in chunks)
    running.stop()


def test_meaning_finds_what_no_word_does(start_server, minilm, tmp_path):
    running = start_server([ScriptedModel(["a"])], encoders=(str(minilm),), state_path=tmp_path / "s.sqlite3")
    client = running.openai()
    store = client.vector_stores.create()
    files = list(BIRDS.items())
    client.vector_stores.file_batches.upload_and_poll(store.id, files=files, poll_interval_ms=20)
    assert found(client, store, "nocturnal predators of rodents")[0] == "owls.md"
    running.stop()


def test_deleting_while_indexing_leaves_nothing(client, running):
    store = client.vector_stores.create()
    text = ("Pelicans scoop fish. " * 15_000).encode()
    files = [client.files.create(file=(f"{number}.txt", text), purpose="assistants") for number in range(4)]
    client.vector_stores.file_batches.create(store.id, file_ids=[file.id for file in files])
    in_store = {"vector_store_id": store.id}
    threads = [
        threading.Thread(target=client.vector_stores.files.delete, args=(files[0].id,), kwargs=in_store),
        threading.Thread(target=client.files.delete, args=(files[1].id,)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.vector_stores.files.poll(files[3].id, vector_store_id=store.id, poll_interval_ms=20)
    left = {row.file_id for row in client.vector_stores.search(store.id, query="pelicans", max_num_results=50).data}
    assert left <= {files[2].id, files[3].id}
    with running.server.serving.documents.indexes.using(store.id, None) as index:
        assert set(index.listing()) == {files[2].id, files[3].id}
    client.vector_stores.delete(store.id)
    assert not (running.server.serving.settings.documents_path / f"indexes/{store.id}.sqlite3").exists()


def test_a_file_that_is_deleted_while_it_is_stored_is_taken_out_again(client, running, monkeypatch):
    indexer = running.server.serving.documents.indexer
    store_it, begun, deleted = indexer._store, threading.Event(), threading.Event()

    def wait_for_the_deletion(*values):
        begun.set()
        assert deleted.wait(20)
        store_it(*values)

    monkeypatch.setattr(indexer, "_store", wait_for_the_deletion)
    store = client.vector_stores.create()
    file = client.files.create(file=("a.txt", b"Pelicans scoop fish."), purpose="assistants")
    client.vector_stores.files.create(store.id, file_id=file.id)
    assert begun.wait(20)
    client.vector_stores.files.delete(file.id, vector_store_id=store.id)
    deleted.set()
    running.until(indexer._task.done, 20)
    with running.server.serving.documents.indexes.using(store.id, None) as index:
        assert index.listing() == {}


def test_a_cancelled_batch_indexes_no_more(client):
    store = client.vector_stores.create()
    text = ("Pelicans scoop fish. " * 15_000).encode()
    ids = [client.files.create(file=("a.txt", text), purpose="assistants").id for _ in range(4)]
    batch = client.vector_stores.file_batches.create(store.id, file_ids=ids)
    cancelled = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
    assert cancelled.status == "cancelled" and cancelled.file_counts.cancelled >= 3
    assert client.vector_stores.retrieve(store.id).file_counts.in_progress == 0
    for file_id in ids:
        client.files.delete(file_id)


def test_a_store_that_nobody_uses_expires(client, running):
    store = client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 1})
    assert store.expires_at == store.last_active_at + 86_400
    state, owner = running.server.serving.state, running.server.serving.owner
    state.put(
        "vector store",
        owner,
        {**state.get("vector store", owner, store.id), "last_active_at": int(time.time()) - 86_401},
    )
    assert client.vector_stores.retrieve(store.id).status == "expired"
    with pytest.raises(openai.BadRequestError, match="expired"):
        client.vector_stores.search(store.id, query="a")
    assert client.vector_stores.update(store.id, name="again").status == "completed"
    client.vector_stores.delete(store.id)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "query"),
        ({"query": ""}, "query"),
        ({"query": "a", "max_num_results": 51}, "max_num_results"),
        ({"query": "a", "filters": {"type": "like", "key": "a", "value": "b"}}, "filters"),
        ({"query": "a", "filters": {"type": "eq", "key": "a"}}, "filters"),
        ({"query": "a", "ranking_options": {"score_threshold": 2}}, "ranking_options.score_threshold"),
        ({"query": "a", "top_k": 3}, "top_k"),
    ],
)
def test_a_search_that_is_wrong_is_refused_by_the_fields_name(client, running, body, param):
    store = client.vector_stores.create()
    answer = running.http().post(f"/v1/vector_stores/{store.id}/search", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_filters_that_nest_without_end_are_refused(client, running):
    store = client.vector_stores.create()
    filters: dict = {"type": "eq", "key": "a", "value": 1}
    for _ in range(200):
        filters = {"type": "and", "filters": [filters]}
    answer = running.http().post(f"/v1/vector_stores/{store.id}/search", json={"query": "a", "filters": filters})
    assert answer.status_code == 400 and "deep" in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", ["../server", "file-%2e%2e%2fserver.sqlite3", "a" * 3000])
def test_ids_that_are_none_are_not_found(client, name):
    store = client.vector_stores.create()
    for call in (
        lambda: client.files.retrieve(name),
        lambda: client.files.content(name),
        lambda: client.vector_stores.retrieve(name),
        lambda: client.vector_stores.files.create(store.id, file_id=name[:200]),
        lambda: client.vector_stores.files.content(name, vector_store_id=store.id),
    ):
        with pytest.raises(openai.NotFoundError):
            call()
