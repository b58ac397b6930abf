"""`octavo index | search | ask` as a person and a script meet them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from octavo.cli.terminal import say, tell
from octavo.generate.embed import Embedder

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run octavo with an empty home and no network, so with words alone."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {**os.environ, "OCTAVO_HOME": str(tmp_path / "home"), "OCTAVO_OFFLINE": "1"}
        command = [sys.executable, "-m", "octavo", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=settings, timeout=120)

    return call


@pytest.fixture
def docs(tmp_path: Path) -> str:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "ducks.md").write_text("# Ducks\n\nMallards eat weed and snails — 水草.\n")
    (folder / "geese.txt").write_text("Geese fly south in autumn.\n")
    (folder / "broken.bin").write_bytes(b"\0\1\2" * 50)
    return str(folder)


def test_a_folder_is_indexed_once_and_what_is_left_out_is_named(run: Run, docs: str) -> None:
    first = run("index", docs, "--encoder", "none")
    assert first.returncode == 0 and "2 documents" in first.stdout and "2 added" in first.stdout
    assert "left out" in first.stderr and "broken.bin" in first.stderr
    assert "0 added, 0 changed, 0 removed, 2 as before" in run("index", docs).stdout
    described = json.loads(run("index", docs, "--json").stdout)
    assert described["encoder"] is None and list(described["documents"]) == ["ducks.md", "geese.txt"]
    assert sorted(file.name for file in Path(docs).iterdir()) == ["broken.bin", "ducks.md", "geese.txt"]


def test_without_the_encoder_words_are_searched_and_it_says_so(run: Run, docs: str) -> None:
    result = run("search", docs, "what do mallards eat?", "-k", "1")
    assert result.stdout.startswith("1. ducks.md, line 1")
    assert "no search by meaning" in result.stderr


def test_a_hit_is_a_citation_to_the_character(run: Run, docs: str) -> None:
    (hit,) = json.loads(run("search", docs, "水草", "--json", "--where", "type=md").stdout)
    text = (Path(docs) / "ducks.md").read_text()
    assert text[hit["start"] : hit["end"]] == hit["text"]
    assert json.loads(run("search", docs, "水草", "--json", "--where", "type=txt").stdout) == []


def test_a_snapshot_serves_as_an_index(run: Run, docs: str, tmp_path: Path) -> None:
    copy = str(tmp_path / "copy.sqlite3")
    assert run("index", docs, "--encoder", "none", "--snapshot", copy).returncode == 0
    assert "2 as before" in run("index", docs, "--index", copy).stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["search", "DOCS", "x", "--where", "pdf"], "is not KEY=VALUE"),
        (["search", "DOCS", "x", "--mode", "vectors"], "there is no encoder"),
        (["search", "DOCS", "x", "-k", "0"], "must be 1 or more"),
        (["index", "nowhere"], "there is no folder nowhere"),
        (["index", "DOCS", "--encoder", "no-such-model"], "no model 'no-such-model'"),
        (["index", "DOCS", "--chunk", "10", "--overlap", "20"], "overlap"),
        (["index", "DOCS", "--instructions", "e5"], "name it with --encoder"),
        (["index", "DOCS", "--encoder", "x", "--instructions", "e6"], "there are no instructions 'e6'"),
    ],
)
def test_a_mistake_is_one_line_with_what_to_do(run: Run, docs: str, options: list[str], message: str) -> None:
    result = run(*(docs if word == "DOCS" else word for word in options))
    assert result.returncode == 2, result
    assert message in result.stderr.splitlines()[-1] and "Traceback" not in result.stderr


def test_an_index_keeps_what_its_encoder_reads_first(run: Run, docs: str, minilm: Path) -> None:
    encoder = str(minilm)
    made = run("index", docs, "--encoder", encoder, "--instructions", "e5", "--json")
    assert json.loads(made.stdout)["encoder"] == f"{encoder} with e5"
    (hit,) = json.loads(run("search", docs, "who flies?", "--mode", "vectors", "-k", "1", "--json").stdout)
    with Embedder.load(encoder) as plain:
        asked, read = plain.embed(["query: who flies?", f"passage: {hit['context']}\n{hit['text']}"])
    assert hit["document"] == "geese.txt" and hit["score"] == pytest.approx(float(asked @ read), abs=2e-3)
    refused = run("index", docs, "--encoder", encoder)
    assert refused.returncode == 2 and f"was made with the encoder {encoder} with e5" in refused.stderr


def test_the_real_model_answers_with_a_citation_or_says_that_the_documents_do_not(
    run: Run, docs: str, smollm2: Path
) -> None:
    asked = ("ask", docs, "--encoder", "none", "--model", str(smollm2))
    answer = json.loads(run(*asked, "What do mallards eat?", "--json").stdout)
    assert answer["answered"] and "snails" in answer["answer"]
    (citation,) = answer["citations"]
    assert (Path(docs) / "ducks.md").read_text()[citation["start"] : citation["end"]] == citation["text"]
    refused = run(*asked, "Who founded the geese of Rome?")
    assert refused.stdout.startswith("The documents do not answer this.\n\nThe nearest passages:\n\ngeese.txt")


def test_neither_a_document_nor_a_name_steers_the_terminal(
    run: Run, docs: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(docs) / "red\x1b[31m.txt").write_text("The lighthouse \x1b]0;owned\x07\x9b2J is red.\n")
    (Path(docs) / "two\nlines.bin").write_bytes(b"\0\1\2" * 50)
    found = run("search", docs, "red lighthouse", "--encoder", "none")
    assert "\x1b]0;owned\x07" in found.stdout, "what is piped is exact"
    assert r"two\nlines.bin" in found.stderr and "\x1b" not in found.stderr
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    say(found.stdout)
    tell("two\nlines\x1b[2J")
    shown = capsys.readouterr()
    assert "The lighthouse ]0;owned2J is red." in shown.out and "red[31m.txt" in shown.out
    assert shown.err == "octavo: two\\nlines[2J\n"
