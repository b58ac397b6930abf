"""Proposers: what they guess, and that guesses change no distribution."""

from __future__ import annotations

import itertools
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.generate.lm import Delta, Finished, Request, Sampling
from octavo.generate.propose import Draft, Proposer, Text
from octavo.generate.propose.draft import DraftModelProposer
from octavo.generate.propose.ngram import SIZES, NGramProposer
from octavo.generate.propose.trust import VAIN, Trust
from octavo.generate.sample import probabilities
from octavo.generate.scheduler import Scheduler
from octavo.generate.tasks.completion import Completion, Limits

TINY: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("tiny_model.py")))
TOKENIZER, VOCAB, TinyRunner, chance_of, path_of = (
    TINY[name] for name in ("TOKENIZER", "VOCAB", "TinyRunner", "chance_of", "path_of")
)


class TreeProposer:
    """Trees of random shape. drawn: a guess is drawn of another model, without those before it; else chosen anyhow."""

    def __init__(self, *, drawn: bool) -> None:
        self.drawn = drawn
        self.model = TinyRunner(noise=1.5)
        self.random = np.random.default_rng(1)

    def propose(self, texts: Sequence[Text]) -> list[Draft]:
        return [self.tree(text) for text in texts]

    def tree(self, text: Text) -> Draft:
        tokens: list[int] = []
        parents: list[int] = []
        drawn: list[np.ndarray] = []
        for index in range(text.most):
            at = int(self.random.integers(-1, index))
            path = [] if at < 0 else path_of(np.array(parents), at)
            siblings = [tokens[other] for other, parent in enumerate(parents) if parent == at]
            chances = probabilities(self.model.logits(np.array([*text.tokens, *(tokens[i] for i in path)])), Sampling())
            chances[siblings] = 0
            if not chances.any():
                break
            drawn.append(chances / chances.sum())
            tokens.append(int(self.random.choice(VOCAB, p=drawn[-1])))
            parents.append(at)
        return Draft(tuple(tokens), np.array(drawn) if self.drawn and drawn else None, tuple(parents))

    def forget(self, key: object) -> None: ...

    def refresh(self) -> None: ...

    def close(self) -> None: ...


def _proposer(name: str) -> Proposer:
    if name.startswith("draft"):
        return DraftModelProposer(TinyRunner(noise=0.7))
    return NGramProposer() if name == "ngram" else TreeProposer(drawn=name == "drawn tree")


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.7, top_k=3, presence_penalty=0.5)])
@pytest.mark.parametrize("proposer", ["draft", "draft tree", "ngram", "drawn tree", "chosen tree"])
def test_answers_with_guesses_have_the_exact_distribution(proposer: str, sampling: Sampling) -> None:
    runner, prompt, runs = TinyRunner(), [0, 1, 0, 1, 0], 4000
    length = {"draft tree": 5}.get(
        proposer, 4 if "tree" in proposer else 3
    )  # so that several guesses may be made, and one more token follows them
    guesses = _proposer(proposer)
    scheduler = Scheduler(runner, max_running=64, proposer=guesses)
    tasks = [_task(prompt, length, sampling, seed) for seed in range(runs)]
    for first in range(0, runs, 64):
        for task in tasks[first : first + 64]:
            scheduler.add(task)
        while scheduler.num_tasks:
            scheduler.step()
    counts: dict[tuple[int, ...], int] = {}
    accepted = 0
    for task in tasks:
        events = task.events.at_hand()
        said = tuple(token for event in events if isinstance(event, Delta) for token in event.token_ids)
        counts[said] = counts.get(said, 0) + 1
        assert isinstance(events[-1], Finished)
        accepted += events[-1].accepted_tokens
    assert accepted > runs / 20, "hardly a guess was kept, so the distribution says little of guesses"
    expected = {
        said: runs * chance_of(runner, prompt, said, sampling) for said in itertools.product(range(4), repeat=length)
    }
    assert set(counts) <= {said for said, mean in expected.items() if mean > 0}
    large = [said for said, mean in expected.items() if mean >= 5]
    rest = (runs - sum(counts.get(said, 0) for said in large), runs - sum(expected[said] for said in large))
    cells = [(counts.get(said, 0), expected[said]) for said in large] + ([rest] if rest[1] > 5 else [])
    statistic = sum((seen - mean) ** 2 / mean for seen, mean in cells)
    freedom = len(cells) - 1
    assert statistic < freedom + 3.1 * (2 * freedom) ** 0.5 + 4  # about 0.1 %
    if isinstance(guesses, DraftModelProposer):
        guesses.check()


def _task(prompt: list[int], length: int, sampling: Sampling, seed: int) -> Completion:
    from dataclasses import replace

    request = Request(prompt, max_tokens=length, sampling=replace(sampling, seed=seed))
    return Completion(prompt, request, Limits(frozenset(), length), TOKENIZER, draft_tokens=3)


def test_a_draft_model_that_is_the_model_itself_is_always_right() -> None:
    proposer = DraftModelProposer(TinyRunner())  # type: ignore[arg-type]
    scheduler = Scheduler(TinyRunner(), max_running=8, proposer=proposer)  # type: ignore[arg-type]
    tasks = [_task([seed, 1, 2], 20, Sampling(temperature=0), seed) for seed in range(4)]
    for task in tasks:
        scheduler.add(task)
    steps = 0
    while scheduler.num_tasks:
        scheduler.step()
        steps += 1
    assert steps < 10
    proposer.check()
    assert proposer._pool.available == TinyRunner.num_blocks


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 5))
def test_prompt_lookup_copies_what_followed_the_longest_and_latest_repetition(tokens: list[int], most: int) -> None:
    proposer = NGramProposer()
    for end in range(1, len(tokens) + 1):
        text = tokens[:end]
        (draft,) = proposer.propose([Text("key", text, most, Sampling())])
        found = [
            at + size
            for size in SIZES
            for at in reversed(range(end - size))
            if text[at : at + size] == text[end - size :]
        ]
        first, rest = _branches(draft)
        assert first == (text[found[0] : found[0] + len(first)] if found else [])
        if rest:  # where else the same stood, something else followed
            other = next(at for at in found if text[at] != text[found[0]])
            assert rest == text[other : other + len(rest)] and len(rest) <= most // 4
        assert len(draft.tokens) == min(most, len(draft.tokens)) and bool(first) == bool(found)


def _branches(draft: Draft) -> tuple[list[int], list[int]]:
    """The tokens of a tree's first branch, and of its second."""
    starts = draft.after(-1)
    cut = starts[1] if len(starts) > 1 else len(draft.tokens)
    return list(draft.tokens[:cut]), list(draft.tokens[cut:])


def test_a_tree_s_second_branch_is_what_followed_elsewhere() -> None:
    """After `A B` there came C first and D later: the latest is guessed first, the other beside it."""
    text = [0, 1, 2, 2, 0, 1, 3, 3, 0, 1]
    (draft,) = NGramProposer().propose([Text("key", text, 8, Sampling())])
    assert _branches(draft) == ([3, 3, 0, 1], [2, 2])
    assert draft.parents == (-1, 0, 1, 2, -1, 4) and draft.depth == 4 and draft.first(5).parents == (-1, 0, 1, 2, -1)


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_draft_model_s_second_choices_stand_where_its_chain_is_least_sure(temperature: float) -> None:
    proposer, tokens = DraftModelProposer(model := TinyRunner(noise=0.7)), [0, 1, 2]
    (draft,) = proposer.propose([Text("key", tokens, 6, Sampling(temperature=temperature))])
    assert len(draft.tokens) == 6 and draft.depth == 4 and draft.parents is not None
    chances = [probabilities(model.logits(np.array([*tokens, *draft.tokens[:at]])), Sampling()) for at in range(4)]
    sure = [chances[at][draft.tokens[at]] for at in range(4)]
    assert draft.parents == (-1, 0, 1, 2, *(at - 1 for at in np.argsort(sure)[:2]))
    for index in (4, 5):
        guess, parent = draft.tokens[index], draft.parents[index]
        rest = chances[parent + 1].copy()
        rest[draft.tokens[parent + 1]] = 0  # the first choice: a second one is only asked when that was refused
        assert rest[guess] > 0
        if draft.probabilities is None:
            assert guess == rest.argmax()
        else:
            assert np.allclose(draft.probabilities[index], rest / rest.sum())
    assert (draft.probabilities is None) == (temperature == 0)
    (single,) = proposer.propose([Text("other", tokens, 2, Sampling(temperature=0))])
    assert single.parents is None and len(single.tokens) == 2
    proposer.check()


def test_trust_follows_right_guesses_and_rests_ever_longer_after_vain_ones() -> None:
    trust = Trust(16)
    assert trust.limit() == 16
    trust.told(16, 2)
    assert trust.limit() == 8
    trust.told(8, 8)
    assert trust.limit() == 16
    for pause in (12, 24, 48, 96, 96):
        for _ in range(VAIN):
            trust.told(4, 0)
        assert [trust.limit() for _ in range(pause + 1)] == [0] * pause + [1]
    trust.told(1, 1)
    assert trust.limit() == 2
    assert Trust(0).limit() == 0


def test_guesses_that_are_always_wrong_cost_little() -> None:
    trust, tried = Trust(8), 0
    for _ in range(1000):
        limit = trust.limit()
        tried += limit
        if limit:
            trust.told(limit, 0)
    assert tried < 60
