"""`octavo fit` as a person and a script meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import octavo.cli


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        octavo.cli.main(list(arguments))
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_fit_prints_a_table_for_each_model_and_the_machine_once(
    capsys: pytest.CaptureFixture[str], stories: Path
) -> None:
    text = answer(capsys, "fit", str(stories), str(stories / "config.json"), "--context", "64")
    assert text.count("stories260K (llama)") == 2 and text.count("this machine:") == 1
    assert text.count("260,032") == 2 and text.count("as stored") == 1


def test_fit_speaks_json(capsys: pytest.CaptureFixture[str], stories: Path) -> None:
    found = json.loads(answer(capsys, "fit", str(stories), "--json"))
    (model,) = found["models"]
    assert model["parameters"]["total"] == 260_032 and model["context"] == 512
    assert [row["format"] for row in model["formats"]] == ["float32", "bfloat16", "int8", "int4", "as stored"]
    assert found["machine"]["threads"] >= 1 and model["formats"][0]["tokens_per_second"] > 0
