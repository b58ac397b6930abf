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


def test_fit_draws_the_memory_wall_of_several_models(
    capsys: pytest.CaptureFixture[str], stories: Path, tmp_path: Path
) -> None:
    answer(capsys, "fit", str(stories), str(stories / "config.json"), "--chart", str(tmp_path / "wall.html"))
    page = (tmp_path / "wall.html").read_text()
    assert page.count("<svg") == 2 and page.count("<circle") == 9 and "free memory" in page
    with pytest.raises(SystemExit) as stopped:
        octavo.cli.main(["fit", str(stories), "--chart", str(tmp_path / "wall.jpg")])
    assert stopped.value.code == 2 and ".html or .png" in capsys.readouterr().err


def test_models_lists_families_named_models_and_what_is_installed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path))
    found = json.loads(answer(capsys, "models", "--json"))
    assert {row["model_type"] for row in found["families"]} >= {"llama", "gpt2", "qwen3"}
    sizes = {row["name"]: row["parameters"] for row in found["named"]}
    assert sizes["mistral-7b-v0.1"] == 7_241_732_096 and found["installed"] == []
    text = answer(capsys, "models")
    assert "llama+" in text and "hf:tiiuae/falcon-40b" in text and "octavo pull" in text


def test_models_search_prints_rows_or_says_that_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    text = answer(capsys, "models", "search", "zephyr", "--licence", "apache-2.0", "--max-params", "7b")
    assert text.splitlines()[1].split()[:4] == ["Zephyr", "2023-11-10", "7B", "8,192"]
    assert json.loads(answer(capsys, "models", "search", "no", "such", "thing", "--json")) == []
    with pytest.raises(SystemExit) as stopped:
        octavo.cli.main(["models", "search", "--context", "long"])
    assert stopped.value.code == 2 and "'long' is not a number" in capsys.readouterr().err
    assert "RedPajama-Data" in answer(capsys, "models", "datasets")


def test_fit_knows_the_models_of_the_lecture_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert "68,976,648,192" in answer(capsys, "fit", "llama-2-70b", "--context", "4096")
