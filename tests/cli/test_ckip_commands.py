"""`octavo ckip` as a person and a script meet it, on a folder of CKIP Tagger's published layout."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import octavo.cli

FOLDER = Path(__file__).parents[1] / "generate/ckip/published"
ANSWERS: dict[str, Any] = json.loads((FOLDER / "answers.json").read_text(encoding="utf-8"))


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        octavo.cli.main(["ckip", *arguments])
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(ANSWERS["sentences"]) + "\n", encoding="utf-8")
    return str(path)


def test_words_of_a_file_and_of_stdin(
    file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [json.loads(line) for line in answer(capsys, "ws", file, "-m", str(FOLDER), "--json").splitlines()]
    assert [row["words"] for row in rows] == ANSWERS["words"]
    assert [row["text"] for row in rows] == ANSWERS["sentences"]
    given = io.TextIOWrapper(io.BytesIO(ANSWERS["sentences"][2].encode() + b"\r\n"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", given)
    assert answer(capsys, "ws", "-", "-m", str(FOLDER)) == "\u3000".join(ANSWERS["words"][2]) + "\n"


def test_dictionaries_are_files(file: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = []
    for option, name in (("--recommend", "recommended"), ("--coerce", "coerced")):
        path = tmp_path / f"{name}.txt"
        path.write_text("".join(f"{word} {weight}\n" for word, weight in ANSWERS[name].items()), encoding="utf-8")
        options += [option, str(path)]
    lines = answer(capsys, "ws", file, "-m", str(FOLDER), *options, "--json").splitlines()
    assert [json.loads(line)["words"] for line in lines] == ANSWERS["words_both"]


def test_parts_of_speech_of_words_given_or_cut(file: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines = answer(capsys, "pos", file, "-m", str(FOLDER), "--ws", str(FOLDER), "--json", "--delimiters", "")
    assert [json.loads(line)["words"] for line in lines.splitlines()] == ANSWERS["words"]
    path = tmp_path / "words.txt"
    path.write_text("科 長\u3000說\n", encoding="utf-8")
    assert answer(capsys, "pos", str(path), "-m", str(FOLDER)).count("(") == 3


def test_entities_need_words_and_parts_of_speech(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    models = ["-m", str(FOLDER), "--ws", str(FOLDER), "--pos", str(FOLDER)]
    lines = answer(capsys, "ner", file, *models).splitlines()
    for line in lines:
        number, start, end, kind, text = line.split("\t")
        assert ANSWERS["sentences"][int(number) - 1][int(start) : int(end)] == text and kind in ("PERSON", "DATE")
    assert lines and len(answer(capsys, "ner", file, *models, "--json").splitlines()) == len(ANSWERS["sentences"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ws", "absent.txt", "-m", str(FOLDER)], "absent.txt cannot be read: No such file"),
        (["ws", str(FOLDER / "embedding_word/vector_list.npy"), "-m", str(FOLDER)], "is not UTF-8 text"),
        (["ner", __file__, "-m", str(FOLDER)], "give a model for each of both"),
        (["ws", __file__, "-m", str(FOLDER), "--weights", "int8"], "which has no weights; leave it out"),
        (["ws", __file__, "-m", str(FOLDER), "--recommend", "absent.txt"], "absent.txt cannot be read"),
    ],
)
def test_mistakes_are_answered_in_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        octavo.cli.main(["ckip", *arguments])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and said in error and error.count("\n") == 1
