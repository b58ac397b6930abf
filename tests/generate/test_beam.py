"""Beam search against the live `transformers` library, token for token; and as a task among others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from octavo.errors import OctavoError
from octavo.generate.constrain import Regex
from octavo.generate.lm import Beams, Request, Sampling, complete
from octavo.generate.local import LocalModel, load

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

Tiny = Callable[[str], tuple[Path, Any]]


@pytest.fixture(scope="module")
def model(stories: Path) -> Any:
    with load(str(stories), runner="torch") as model:
        yield model


@pytest.fixture(scope="module")
def peer(stories: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(stories).eval()


def theirs(peer: Any, prompt: list[int], count: int, beams: Beams, eos: list[int]) -> list[int]:
    with torch.no_grad():
        found = peer.generate(
            torch.tensor([prompt]), max_new_tokens=count, num_beams=beams.num_beams, do_sample=False, pad_token_id=0,
            length_penalty=beams.length_penalty, early_stopping=beams.early_stopping, eos_token_id=eos,
        )  # fmt: skip
    tokens: list[int] = found[0, len(prompt) :].tolist()
    end = next((at for at, token in enumerate(tokens) if token in eos), len(tokens))
    return tokens[:end]


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("num_beams", [2, 3, 5])
def test_beams_are_those_of_transformers(
    model: LocalModel, peer: Any, num_beams: int, length_penalty: float, early_stopping: bool | Literal["never"]
) -> None:
    beams = Beams(num_beams, length_penalty, early_stopping)
    prompts = [[1, 403, 407, 261, 378], [1, 300], [1, 410, 320, 299, 280, 265, 290, 330]]
    ends = [426, 432]  # the full stop and the quotation mark, which come often
    streams = [
        model.stream(Request(prompt, 24, beams=beams, stop_token_ids=tuple(ends), ignore_eos=True))
        for prompt in prompts
    ]
    for prompt, stream in zip(prompts, streams, strict=True):
        ids = [token for event in stream for token in getattr(event, "token_ids", ())]
        assert ids == theirs(peer, prompt, 24, beams, ends)
    while not model.engine.idle:
        pass
    model.engine.check()


def test_beams_are_computed_again_when_others_take_their_memory(stories: Path) -> None:
    request = Request([1, 300], 100, beams=Beams(4))
    with load(str(stories)) as model:
        expected = complete(model, request)
    with load(str(stories), context=256) as model:
        assert model.engine.runner.num_blocks < 250
        others = [
            model.stream(Request([1, 5 + n], 200, Sampling(temperature=0), ignore_eos=True, priority=-1))
            for n in range(16)
        ]
        assert complete(model, request).token_ids == expected.token_ids
        for stream in others:
            list(stream)


def test_what_beams_do_not_fit_or_know_is_refused(stories: Path) -> None:
    with pytest.raises(OctavoError, match="num_beams is 0"):
        Beams(0)
    for wrong in ({"stop": ("a",)}, {"logprobs": 0}, {"constraint": Regex("a")}):
        with pytest.raises(OctavoError, match=f"beam search takes no {next(iter(wrong))}"):
            Request([1], 1, beams=Beams(2), **wrong)  # type: ignore[arg-type]
    with load(str(stories)) as model, pytest.raises(OctavoError, match="do not fit"):
        model.stream(Request([1], 500, beams=Beams(64)))
