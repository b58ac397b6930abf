"""The law of what is said with guesses, by enumeration: every way that chance may go, none drawn."""

from __future__ import annotations

import itertools
import runpy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.generate.lm import Request, Sampling
from octavo.generate.propose import Draft, Text
from octavo.generate.propose.draft import DraftModelProposer
from octavo.generate.sample import probabilities
from octavo.generate.tasks.completion import Completion, Limits
from octavo.models.runner import Row

TINY: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("tiny_model.py")))
TOKENIZER, VOCAB, TinyRunner, chance_of, path_of = (
    TINY[name] for name in ("TOKENIZER", "VOCAB", "TinyRunner", "chance_of", "path_of")
)


class Fates:
    """Every way that chance may go, one way a round, with its probability."""

    def __init__(self) -> None:
        self.taken: list[tuple[list[int], int]] = []  # at each choice what could happen, and which of it does
        self.begin()

    def begin(self) -> None:
        self.at, self.chance = 0, 1.0

    def choose(self, weights: Sequence[float] | np.ndarray, *unused: object) -> int:
        chances = np.asarray(weights, np.float64) / np.sum(weights)
        if self.at == len(self.taken):
            self.taken.append((np.flatnonzero(chances).tolist(), 0))
        possible, which = self.taken[self.at]
        self.at += 1
        self.chance *= float(chances[possible[which]])
        return possible[which]

    def random(self) -> Fates:
        return self

    def __mul__(self, drawn: float) -> Below:
        return Below(self, drawn)

    def __iter__(self) -> Iterator[None]:
        """A round for each way."""
        while True:
            self.begin()
            yield
            while self.taken and self.taken[-1][1] + 1 == len(self.taken[-1][0]):
                self.taken.pop()
            if not self.taken:
                return
            possible, which = self.taken.pop()
            self.taken.append((possible, which + 1))


@dataclass
class Below:
    """A number between 0 and `most` that is not known."""

    fates: Fates
    most: float

    def __lt__(self, bound: float) -> bool:
        chance = min(1.0, float(bound / self.most))
        return self.fates.choose((1 - chance, chance)) == 1


class NoRepeats:
    """A constraint: no token twice in a row."""

    ended = False

    def __init__(self, last: int) -> None:
        self.last = last

    def allowed(self) -> np.ndarray:
        return np.arange(VOCAB) != self.last

    def accept(self, token: int) -> None:
        self.last = token


def _grown(shape: Sequence[int], tokens: Sequence[int], fates: Fates, *, drawn: bool) -> Draft:
    """A tree whose guess i follows guess shape[i]; each drawn of another model, without those before it, or chosen."""
    model, guesses, chances = TinyRunner(noise=1.5), [], []
    for index, parent in enumerate(shape):
        path = [] if parent < 0 else path_of(np.array(shape), parent)
        before = [guesses[other] for other in range(index) if shape[other] == parent]
        row = probabilities(model.logits(np.array([*tokens, *(guesses[at] for at in path)])), Sampling())
        row[before] = 0
        chances.append(row / row.sum())
        guesses.append(fates.choose(row) if drawn else int(row.argmin() if index % 2 else row.argmax()))
    return Draft(tuple(guesses), np.array(chances) if drawn else None, tuple(shape))


SHAPES: dict[str, tuple[int, ...]] = {
    "chain": (-1, 0, 1), "siblings": (-1, -1, -1, -1), "side first": (-1, -1, 1), "two levels": (-1, -1, 0, 0),
}  # fmt: skip
SAMPLINGS = {
    "plain": Sampling(), "cut": Sampling(temperature=0.7, top_k=3, top_p=0.9),
    "penalties": Sampling(presence_penalty=0.9, logit_bias={1: 1.5}), "guided": Sampling(temperature=1.3),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLINGS)
@pytest.mark.parametrize("guesses", ["model", "model tree", *SHAPES, *(f"chosen {shape}" for shape in SHAPES)])
def test_the_law_of_what_is_said_is_exactly_the_model_s(
    guesses: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over all that chance may do, in the proposer and in the judging of its guesses, nothing is sampled."""
    sampling, runner, prompt, fates = SAMPLINGS[name], TinyRunner(), [2, 1, 0], Fates()
    most = {"model": 2, "model tree": 3}.get(guesses, 4)
    monkeypatch.setattr("octavo.generate.sample.draw_weighted", fates.choose)
    monkeypatch.setattr("octavo.generate.propose.draft.draw_weighted", fates.choose)
    monkeypatch.setattr(
        "octavo.generate.sample.drawn", lambda logits, sampling, _: fates.choose(probabilities(logits, sampling))
    )
    runner.step([Row(prompt[:-1], 0, range(300), 2)])
    expected = {
        said: chance_of(runner, prompt, said, sampling, guided=name == "guided")
        for length in range(1, most + 2)
        for said in itertools.product(range(VOCAB), repeat=length)
    }
    law = dict.fromkeys(expected, 0.0)
    accepted, steps = 0.0, {}
    for _ in fates:
        matcher: Any = NoRepeats(prompt[-1]) if name == "guided" else None
        request = Request(prompt, max_tokens=most + 1, sampling=sampling)
        task = Completion(prompt, request, Limits(frozenset(), most + 1), TOKENIZER, matcher)
        task._sampler._random = fates  # type: ignore[assignment]
        (branch,) = task.branches
        if guesses.startswith("model"):
            (draft,) = DraftModelProposer(TinyRunner(noise=0.7)).propose([Text("key", prompt, most, sampling)])
            assert (draft.parents is not None) == ("tree" in guesses)
        else:
            draft = _grown(SHAPES[guesses.removeprefix("chosen ")], prompt, fates, drawn="chosen" not in guesses)
        parents = np.array([-1, *(at + 1 for at in draft.parents or range(-1, len(draft.tokens) - 1))])
        if draft.tokens not in steps:
            steps[draft.tokens] = runner.step([Row([prompt[-1], *draft.tokens], 2, range(300), 0, parents)]).logits
        branch.draft, branch.computed = draft, len(prompt)
        task.take(branch, steps[draft.tokens])
        said = tuple(branch.tokens[len(prompt) :])
        law[said] += fates.chance
        accepted += fates.chance * (len(said) - 1)
    for said in sorted(law, key=len):  # what goes on is chosen without guesses
        if len(said) <= most and law[said]:
            for token in range(VOCAB):
                law[(*said, token)] += law[said] * expected[(*said, token)] / expected[said]
    whole = [said for said in law if len(said) == most + 1]
    assert sum(law[said] for said in whole) == pytest.approx(1, abs=1e-12)
    assert max(abs(law[said] - expected[said]) for said in whole) < 1e-12
    assert accepted > 0.1, "hardly a guess stands, so this says little"
