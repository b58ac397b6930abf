"""Folders as vector stores: indexed in the background at the start, read only, forgotten when served no more."""

from __future__ import annotations

import time

import openai
import pytest

from octavo.generate.scripted import ScriptedModel
from octavo.retrieve.library import open_library
from octavo.serve.documents.served import ServedFolder, manual


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path / "home"))
    folder = tmp_path / "birds"
    (folder / "wild").mkdir(parents=True)
    (folder / "ducks.md").write_text("# Ducks\n\nMallards eat weed and snails.\n")
    (folder / "wild/owls.txt").write_text("Owls hunt mice at night.")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 no")
    return folder


def serve(start_server, tmp_path, *folders):
    served = tuple(ServedFolder(folder, folder.name, quiet=True) for folder in folders)
    running = start_server(
        [ScriptedModel(["Mallards eat weed and snails [1]."])], state_path=tmp_path / "s.sqlite3", folders=served
    )
    return running, ready(running, len(served))


def ready(running, count):
    """A client, when the folders are indexed."""
    client = running.openai()

    def is_ready():
        time.sleep(0.2)
        stores = client.vector_stores.list().data
        return len(stores) == count and all(store.status == "completed" for store in stores)

    running.until(is_ready, 90)
    return client


def test_a_folder_is_a_vector_store(start_server, folder, tmp_path):
    running, client = serve(start_server, tmp_path, folder)
    (store,) = client.vector_stores.list().data
    assert (store.name, store.file_counts.completed, store.file_counts.failed) == ("birds", 2, 1)
    rows = {row.filename: row for row in client.vector_stores.files.list(store.id)}
    assert rows["broken.pdf"].status == "failed" and "broken" in rows["broken.pdf"].last_error.message
    owls = rows["wild/owls.txt"]
    assert owls.attributes["type"] == "txt" and client.files.content(owls.id).content == b"Owls hunt mice at night."
    found = client.vector_stores.search(store.id, query="mice", filters={"type": "eq", "key": "type", "value": "txt"})
    assert [row.filename for row in found.data] == ["wild/owls.txt"]
    tool = {"type": "file_search", "vector_store_ids": [store.id]}
    answer = client.responses.create(model="scripted", input="What do mallards eat?", tools=[tool])
    (citation,) = answer.output[1].content[0].annotations
    assert citation.filename == "ducks.md" and answer.output_text == "Mallards eat weed and snails. [1]"
    (text,) = client.vector_stores.files.content(citation.file_id, vector_store_id=store.id).data
    assert text.text[citation.span["start"] : citation.span["end"]] == "Mallards eat weed and snails."
    for change in (
        lambda: client.files.delete(owls.id),
        lambda: client.vector_stores.delete(store.id),
        lambda: client.vector_stores.files.delete(owls.id, vector_store_id=store.id),
        lambda: client.vector_stores.files.create(store.id, file_id=owls.id),
    ):
        with pytest.raises(openai.BadRequestError, match="folder"):
            change()
    running.stop()
    assert sorted(path.name for path in folder.rglob("*")) == ["broken.pdf", "ducks.md", "owls.txt", "wild"]


def test_its_index_is_the_one_of_the_command_line_and_follows_the_folder(start_server, folder, tmp_path):
    library = open_library(folder, lambda reference: None, encoder="none")  # type: ignore[arg-type,return-value]
    assert library.update(show=False).added == 2
    library.close()
    running, client = serve(start_server, tmp_path, folder)
    running.stop()
    (folder / "ducks.md").unlink()
    (folder / "wild/owls.txt").write_text("Owls sleep by day.")
    running, client = serve(start_server, tmp_path, folder)
    (store,) = client.vector_stores.list().data
    assert [row.filename for row in client.vector_stores.search(store.id, query="owls ducks mallards").data] == [
        "wild/owls.txt"
    ]
    assert {file.filename for file in client.files.list()} == {"wild/owls.txt", "broken.pdf"}
    running.stop()
    running, client = serve(start_server, tmp_path)
    assert client.files.list().data == [] and client.vector_stores.list().data == []
    running.stop()
    library = open_library(folder, lambda reference: None, encoder="none")  # type: ignore[arg-type,return-value]
    assert library.update(show=False).unchanged == 1
    library.close()


def test_an_encoder_of_the_servers_own_makes_an_index_of_its_own(start_server, folder, tmp_path, minilm):
    library = open_library(folder, lambda reference: None, encoder="none")  # type: ignore[arg-type,return-value]
    library.update(show=False)
    library.close()
    served = (ServedFolder(folder, "birds", quiet=True),)
    running = start_server(
        [ScriptedModel(["a"])], state_path=tmp_path / "s.sqlite3", folders=served, encoders=(str(minilm),)
    )
    client = ready(running, 1)
    (store,) = client.vector_stores.list().data
    assert client.vector_stores.search(store.id, query="nocturnal predator").data[0].filename == "wild/owls.txt"
    running.stop()


def test_a_file_that_became_a_link_is_not_followed(start_server, folder, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("not served")
    running, client = serve(start_server, tmp_path, folder)
    owls = next(file for file in client.files.list() if file.filename == "wild/owls.txt")
    (folder / "wild/owls.txt").unlink()
    (folder / "wild/owls.txt").symlink_to(secret)
    with pytest.raises(openai.NotFoundError):
        client.files.content(owls.id)
    running.stop()


def test_the_manual_is_shipped():
    shown = manual()
    assert shown is not None and (shown.path / "server.md").is_file()
