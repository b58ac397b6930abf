"""Claim: asked about real documents, the reader answers rightly more often than wrongly.

Fifty-nine questions, written from reading them, to documents that any machine has: the folder of sample documents, a
table of models, pages of Python's own documentation (`pydoc_data.topics`) and Octavo's manual, in one index. Each
question is one of: answered rightly (the marked words are an accepted answer's by half or more, F1), wrongly, wrongly
refused, rightly refused. No chat model takes part: the marked words are the answer.

    python benchmarks/real_documents.py DATA [--encoder MODEL] [--model READER] [--passages N] [--show] [--json]

DATA holds docs/ and misc/open-llms.md. Without an encoder, words alone find the passages.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

from octavo.metrics.answers import token_f1
from octavo.retrieve.library import open_library
from octavo.retrieve.reader import Reader, read, rerank
from octavo.retrieve.search import Search, TextEncoder, with_spares, without_repeats

QUESTIONS = Path(__file__).with_name("real_documents.jsonl")
TOPICS = ("debugger", "formatstrings", "integers", "identifiers", "strings", "lambda", "with", "truth", "floating",
          "assert", "operator-summary")  # fmt: skip
MANUAL = ("asking.md", "documents.md", "server.md")
OUTCOMES = ("right", "wrongly refused", "wrong", "rightly refused", "answered in vain")


@dataclass(frozen=True)
class Asked:
    """One question and what became of it. given: the marked words, empty where refused."""

    question: str
    outcome: str
    given: str
    wanted: Sequence[str]
    document: str
    score: float


def gather(data: Path, folder: Path) -> None:
    """All documents in one folder."""
    shutil.copytree(data / "docs", folder, ignore=shutil.ignore_patterns("questions.json"))
    folder.chmod(0o755)
    shutil.copyfile(data / "misc/open-llms.md", folder / "open-llms.md")
    (folder / "python").mkdir()
    for name in TOPICS:
        (folder / f"python/{name}.txt").write_text(topics[name], encoding="utf-8")
    (folder / "manual").mkdir()
    for name in MANUAL:
        shutil.copyfile(Path(__file__).parents[1] / "docs" / name, folder / "manual" / name)


def ask(search: Search, reader: Reader, asked: dict[str, object], count: int) -> Asked:
    """As `octavo ask` does, up to the chat model."""
    question, wanted = str(asked["question"]), [str(text) for text in asked["answers"]]  # type: ignore[attr-defined]
    hits = search.find(question, with_spares(count))
    hits = without_repeats(rerank(reader, question, hits), count)
    if not hits:
        return Asked(question, OUTCOMES[1] if wanted else OUTCOMES[3], "", wanted, "", 0.0)
    found = read(reader, question, hits)
    document = hits[found.passage].passage.document
    if not found.answered:
        return Asked(question, OUTCOMES[1] if wanted else OUTCOMES[3], "", wanted, document, found.no_answer_score)
    outcome = "right" if likeness(found.text, wanted) >= 0.5 else "wrong" if wanted else OUTCOMES[4]
    return Asked(question, outcome, found.text, wanted, document, found.no_answer_score)


def likeness(text: str, wanted: Sequence[str]) -> float:
    """F1 over words, over characters where they are not English; 0 where nothing is wanted."""
    if not wanted:
        return 0.0
    if not text.isascii() and any(character >= "\u4e00" for character in text):
        return token_f1(" ".join(text), [" ".join(answer) for answer in wanted])
    return token_f1(text, wanted)


def main() -> None:
    """Print a line for each outcome, or every question's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--encoder", default=None)
    parser.add_argument("--model", default=None)
    parser.add_argument("--passages", type=int, default=4)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "documents"
        gather(arguments.data, folder)
        library = open_library(
            folder, load, index=str(Path(temporary) / "index.sqlite3"), encoder=arguments.encoder or "none"
        )
        library.update(show=False)
        with Reader.load(arguments.model) as reader:
            outcomes = [ask(library.search, reader, row, arguments.passages) for row in rows]
        library.close()
    if arguments.json:
        print(json.dumps([vars(outcome) for outcome in outcomes], ensure_ascii=False))
        return
    if arguments.show:
        for one in outcomes:
            given = " ".join(one.given.split())
            print(f"{one.outcome:17} {one.score:6.2f} {one.question} | {given} | {one.wanted[:1]} | {one.document}")
    counts = Counter(outcome.outcome for outcome in outcomes)
    for name in OUTCOMES:
        print(f"{name:17} {counts[name]:3}")


def load(name: str) -> TextEncoder:
    """An encoder of a model's name."""
    from octavo.generate.embed import Embedder

    return Embedder.load(name)


if __name__ == "__main__":
    main()
