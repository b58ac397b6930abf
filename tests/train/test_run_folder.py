"""A run's folder: one recipe, one process, and nothing of others removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.errors import FormatError, OctavoError
from octavo.train.metrics import MetricsLog, Stepped
from octavo.train.recipe import Recipe
from octavo.train.run_folder import RunFolder


def recipe(**sections: object) -> Recipe:
    return Recipe.model_validate({"data": {"path": "a.txt"}} | sections)


def test_a_changed_recipe_is_refused_naming_each_key_that_differs(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with run.opened(recipe(), "abc", restart=False):
        pass
    with run.opened(recipe(data={"path": "elsewhere/a.txt"}), "abc", restart=False):
        pass  # the same text at another place
    changed = recipe(training={"steps": 3000, "batch_size": 8}, optimizer={"betas": [0.9, 0.99]})
    with pytest.raises(OctavoError) as caught, run.opened(changed, "abc", restart=False):
        pass
    sentence = str(caught.value)
    for part in ("training.steps was 2000 and is now 3000", "training.batch_size was 16 and is now 8", "--restart"):
        assert part in sentence
    assert "optimizer.betas was [0.9, 0.95] and is now [0.9, 0.99]" in sentence and "data." not in sentence
    with pytest.raises(OctavoError, match="the text's sha256 was 'abc'"), run.opened(recipe(), "abd", restart=False):
        pass


def test_restart_takes_the_new_recipe_and_removes_only_what_is_a_runs(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with run.opened(recipe(), "abc", restart=False):
        run.checkpoints.mkdir()
        (run.checkpoints / "step-00000001.npz").touch()
        (tmp_path / "notes.txt").touch()
    with run.opened(recipe(training={"steps": 3000}), "abc", restart=True):
        assert not run.checkpoints.exists()
        assert (tmp_path / "notes.txt").exists()


def test_a_folder_of_other_things_is_not_taken_even_to_restart(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine").touch()
    for restart in (False, True):
        with (
            pytest.raises(OctavoError, match="holds other files"),
            RunFolder(tmp_path).opened(recipe(), "abc", restart=restart),
        ):
            pass
    assert (tmp_path / "model" / "mine").exists()


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with (
        run.opened(recipe(), "abc", restart=False),
        pytest.raises(OctavoError, match="another process trains"),
        run.opened(recipe(), "abc", restart=True),
    ):
        pass


def test_a_damaged_recipe_and_an_impossible_folder_are_told(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with run.opened(recipe(), "abc", restart=False):
        pass
    run.recipe.write_text("{")
    with pytest.raises(FormatError, match="damaged"), run.opened(recipe(), "abc", restart=False):
        pass
    (tmp_path / "file").touch()
    with (
        pytest.raises(OctavoError, match="cannot be made"),
        RunFolder(tmp_path / "file").opened(recipe(), "abc", restart=False),
    ):
        pass


def test_metrics_are_cut_after_a_step_and_a_half_line_is_dropped(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        log.append(Stepped(step, 1 / step, 1e-3, 0.5, step * 10, 100.0))
    whole = log.path.read_text()
    log.path.write_text(whole[:-5])
    assert [row["step"] for row in log.rows()] == [1, 2]
    log.path.write_text(whole)
    log.cut_after(2)
    assert log.path.read_text() == "".join(whole.splitlines(keepends=True)[:2])
