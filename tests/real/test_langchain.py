"""The lecture's notebook: LangChain and Chroma over a folder, driven by LangChain itself through our server.

Then the other way round: LangChain opens the collection that `--store chroma` made, and finds the same passages.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from octavo.fetching.sources import name_of

SOURCE = Path(__file__).resolve().parents[2] / "src"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # the peers' own
]
BIRDS = {
    "ducks.md": "# Ducks\n\nMallards eat weed and snails. They nest near ponds in spring.\n",
    "owls.md": "# Owls\n\nBarn owls hunt voles at night. Their hearing is keen.\n",
    "loons.md": "# Loons\n\nLoons dive for fish and winter at sea.\n",
}


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("birds")
    for name, text in BIRDS.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def server(smollm2: Path, minilm: Path) -> Iterator[str]:
    """`octavo serve` with a chat model and an encoder: its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = [str(smollm2), "--encoder", str(minilm), "--port", str(port), "--no-store"]
    process = subprocess.Popen(
        [sys.executable, "-m", "octavo", "serve", *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if re.search(rf":{port}\b", line):
            break
    else:
        pytest.fail("the server did not start")
    yield f"http://127.0.0.1:{port}/v1"
    process.terminate()
    process.wait(20)
    process.stdout.close()


def test_langchain_indexes_and_asks_through_our_server(
    server: str, birds: Path, smollm2: Path, minilm: Path, tmp_path: Path
) -> None:
    chroma = pytest.importorskip("langchain_chroma", reason="langchain-chroma is not installed")
    api = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    splitters = pytest.importorskip("langchain_text_splitters", reason="langchain-text-splitters is not installed")
    documents = pytest.importorskip("langchain_core.documents")
    splitter = splitters.RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=20)
    pages = [documents.Document(path.read_text(), metadata={"source": path.name}) for path in sorted(birds.iterdir())]
    encoder, chat_name = name_of(minilm), name_of(smollm2)
    embeddings = api.OpenAIEmbeddings(model=encoder, base_url=server, api_key="-", check_embedding_ctx_length=False)
    store = chroma.Chroma.from_documents(
        splitter.split_documents(pages), embeddings, persist_directory=str(tmp_path / "chroma")
    )
    found = store.similarity_search("What do barn owls hunt?", k=4)
    assert found[0].metadata["source"] == "owls.md" and len(found) == 3
    chat = api.ChatOpenAI(model=chat_name, base_url=server, api_key="-", temperature=0, max_tokens=40)
    stuffed = "\n\n".join(page.page_content for page in found[:1])
    answer = chat.invoke(f"Answer from this text alone.\n\n{stuffed}\n\nQuestion: What do barn owls hunt?")
    assert "voles" in answer.content.lower()


def test_langchain_opens_the_collection_that_we_made(birds: Path, minilm: Path, tmp_path: Path) -> None:
    chroma = pytest.importorskip("langchain_chroma", reason="langchain-chroma is not installed")
    pytest.importorskip("chromadb")
    place = tmp_path / "birds.sqlite3"
    command = ["search", str(birds), "What do barn owls hunt?", "--store", "chroma", "--index", str(place), "--json"]
    run = subprocess.run(
        [sys.executable, "-m", "octavo", *command, "--encoder", str(minilm), "--mode", "vectors"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert run.returncode == 0, run.stderr
    ours = json.loads(run.stdout)
    from octavo.generate.embed import Embedder

    with Embedder.load(str(minilm)) as encoder:

        class Ours:
            """LangChain's face of our embedder."""

            def embed_query(self, text: str) -> list[float]:
                return np.asarray(encoder.embed([text], kind="query")[0]).tolist()

        opened = chroma.Chroma(
            "octavo",
            embedding_function=Ours(),
            persist_directory=f"{place}.chroma",
            create_collection_if_not_exists=False,
        )
        found = opened.similarity_search("What do barn owls hunt?", k=3)
    assert [page.metadata["source"] for page in found] == [hit["document"] for hit in ours]
    assert [page.page_content for page in found] == [hit["text"] for hit in ours]
    assert found[0].metadata["source"] == "owls.md"
