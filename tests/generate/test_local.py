"""The local model at its limits, on a real checkpoint."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import tokenizers

from octavo.errors import ContextLengthError, OctavoError
from octavo.generate.engine import Engine
from octavo.generate.lm import Request, Sampling, complete
from octavo.generate.local import LocalModel, load
from octavo.models.checkpoint import open_checkpoint
from octavo.models.loading import make_runner
from octavo.models.runner import Row, StepOutput


def test_a_prompt_that_fills_the_context_is_scored_and_not_continued(stories: Path) -> None:
    with load(str(stories), context=40) as model:
        full = [1] * 40
        assert complete(model, Request(full, max_tokens=0)).finished.prompt_tokens == 40
        assert len(model.score(full).logprobs) == 40
        for max_tokens in (None, 1):
            with pytest.raises(ContextLengthError):
                model.stream(Request(full, max_tokens=max_tokens))
        with pytest.raises(ContextLengthError):
            model.stream(Request([*full, 1], max_tokens=0))


def test_what_lies_behind_a_sliding_window_is_given_back_and_nothing_else_changes(
    tiny: Callable[[str], tuple[Path, object]], tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny("mistral-window")[0], tmp_path / "mistral")
    letters = {chr(0x4E00 + number): number for number in range(160)}
    tokenizers.Tokenizer(tokenizers.models.BPE(letters, [])).save(str(folder / "tokenizer.json"))
    request = Request([5, 6, 7], 100, Sampling(temperature=0), ignore_eos=True)
    checkpoint = open_checkpoint(folder)
    assert checkpoint.config.widest_window == 8
    tokens = []
    for window, num_blocks in ((None, 8), (8, 3)):
        engine = Engine(make_runner(checkpoint, num_blocks=num_blocks), window=window)
        with LocalModel(checkpoint, engine, 128) as model:
            tokens.append(complete(model, request).token_ids)
    assert tokens[0] == tokens[1] and len(tokens[0]) == 100


def test_a_negative_number_of_alternatives_is_refused(stories: Path) -> None:
    with load(str(stories)) as model, pytest.raises(OctavoError, match="top is -1"):
        model.score("Once", top=-1)


def test_a_scoring_that_nobody_waits_for_stops(stories: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with load(str(stories)) as model:
        step, steps = model.engine.runner.step, []

        def slow_step(rows: Sequence[Row]) -> StepOutput:
            steps.append(rows)
            time.sleep(0.2)
            return step(rows)

        monkeypatch.setattr(model.engine.runner, "step", slow_step)
        unwanted = threading.Event()
        threading.Timer(0.1, unwanted.set).start()
        with pytest.raises(OctavoError, match="cancelled"):
            model.score([1] * 512, cancelled=unwanted)
        assert len(steps) < 4  # of eight
        while not model.engine.idle:
            time.sleep(0.01)
        model.engine.check()
