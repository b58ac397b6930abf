"""Claim: a folder is indexed and open for search sooner than LangChain and Chroma do it with the same encoder.

all-MiniLM-L6-v2, chunks of 1,000 characters with 20 shared, vectors kept on disk. LangChain's side is the lecture's
notebook: its splitter, sentence-transformers in float32 by langchain-huggingface, Chroma. It is given the texts that
our readers made, so reading files is our work alone and counts against us. The sides take turns, each in a process
of its own; a ratio is the median over the rounds, by the clock and by processor time (for a busy machine).

    python benchmarks/indexing.py FOLDER [--model FOLDER] [--rounds 3] [--json]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

CHUNK, OVERLAP = 1000, 20
QUESTION = "What is this about?"


def octavo(folder: Path, model: str, home: Path, store: str) -> Callable[[], int]:
    """Our command's own way: read, cut, embed, store words and vectors. The model is loaded before the clock runs."""
    from octavo.generate.embed import Embedder
    from octavo.retrieve.library import open_library

    encoder = Embedder.load(model)

    def index() -> int:
        library = open_library(folder, lambda _: encoder, index=str(home / "index.sqlite3"), store=store, encoder=model)
        report = library.update(CHUNK, OVERLAP)
        assert library.search.find(QUESTION, 4)
        library.close()
        return report.passages

    return index


def langchain(folder: Path, model: str, home: Path) -> Callable[[], int]:
    """The notebook's way."""
    from langchain_chroma import Chroma
    from langchain_core.documents import Document
    from langchain_huggingface import HuggingFaceEmbeddings
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    from octavo.retrieve.documents import Skipped, read_folder

    read = [found for found in read_folder(folder) if not isinstance(found, Skipped)]
    pages = [Document(found.text, metadata={"source": found.path}) for found in read]
    embeddings = HuggingFaceEmbeddings(model_name=model)

    def index() -> int:
        chunks = RecursiveCharacterTextSplitter(chunk_size=CHUNK, chunk_overlap=OVERLAP).split_documents(pages)
        store = Chroma.from_documents(chunks, embeddings, persist_directory=str(home / "chroma"))
        assert store.similarity_search(QUESTION, k=4)
        return len(chunks)

    return index


SIDES: dict[str, Any] = {
    "octavo, SQLite": lambda folder, model, home: octavo(folder, model, home, "sqlite"),
    "octavo, Chroma": lambda folder, model, home: octavo(folder, model, home, "chroma"),
    "LangChain, Chroma": langchain,
}


def once(side: str, folder: Path, model: str, home: Path, connection: Connection) -> None:
    """One side, once: passages, seconds by the clock and of the processors."""
    index = SIDES[side](folder, model, home)
    start, processor = time.perf_counter(), time.process_time()
    passages = index()
    connection.send((passages, time.perf_counter() - start, time.process_time() - processor))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default=os.environ.get("OCTAVO_TEST_MINILM", "all-minilm-l6-v2"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows: dict[str, list[tuple[int, float, float]]] = {side: [] for side in SIDES}
    for _ in range(arguments.rounds):
        for side in SIDES:
            with tempfile.TemporaryDirectory() as home:
                ours, theirs = multiprocessing.get_context("spawn").Pipe()
                process = multiprocessing.get_context("spawn").Process(
                    target=once, args=(side, arguments.folder, arguments.model, Path(home), theirs)
                )
                process.start()
                theirs.close()
                rows[side].append(ours.recv())
                process.join()
    table = {side: [statistics.median(column) for column in zip(*found, strict=True)] for side, found in rows.items()}
    if arguments.json:
        print(json.dumps(table))
        return
    for side, (passages, clock, processor) in table.items():
        spread = [found[1] for found in rows[side]]
        print(
            f"{side:<18} {passages:5.0f} passages   {clock:6.1f} s ({min(spread):.1f} to {max(spread):.1f})"
            f"   processors {processor:6.1f} s   {passages / clock:6.1f} passages/s"
        )


if __name__ == "__main__":
    main()
