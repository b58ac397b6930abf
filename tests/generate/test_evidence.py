"""Evidence against an answer: each rule by a case, and the weights by a peer's logistic regression."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from octavo.generate.tasks.evidence import FEATURES, RIDGE, echoes, features, fit, log_odds, sentence_around

TEXT = "Tesla was born in Smiljan in 1856. He moved to New York in 1884, and met Thomas Edison."


def row(question: str, answer: str) -> dict[str, float]:
    start = TEXT.index(answer)
    return dict(zip(FEATURES, features(question, TEXT, start, start + len(answer), 1.5), strict=True))


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("When was Tesla born?", "1856", {}),
        ("When was Einstein born?", "1856", {"names": 1, "names_near": 1}),
        ("When did Tesla move to New York?", "1884", {"names_near": 1}),
        ("Where was he in 1884?", "Smiljan", {"numbers_near": 1}),
        ("Where was he in 1999?", "New York", {"numbers": 1, "numbers_near": 1, "words": 2}),
        ("When did he move?", "New York", {"kind": 1, "words": 2}),
        ("How many people did he meet?", "Thomas Edison", {"kind": 1, "words": 2}),
        ("Who did he meet?", "Thomas Edison", {"words": 2}),
    ],
)
def test_each_rule(question: str, answer: str, expected: dict[str, float]) -> None:
    usual = {"margin": 1.5, "words": 1.0}
    assert row(question, answer) == {**dict.fromkeys(FEATURES, 0.0), **usual, **expected}


def test_a_sentence_is_that_around_the_answer() -> None:
    start = TEXT.index("1884")
    first, last = sentence_around(TEXT, start, start + 4)
    assert TEXT[first:last] == "He moved to New York in 1884, and met Thomas Edison."
    assert sentence_around("東京。首都。", 3, 5) == (3, 6)


def test_weights_are_those_of_a_minimiser_of_the_same_loss() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, len(FEATURES))) * [1, 2, 3, 1, 1, 1, 5]
    lacking = rows @ rng.normal(size=len(FEATURES)) + rng.normal(size=200) > 0
    spread = rows.std(axis=0)

    scaled, wanted = torch.tensor((rows - rows.mean(axis=0)) / spread), torch.tensor(lacking).double()
    best = torch.zeros(len(FEATURES) + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([best], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        odds = scaled @ best[:-1] + best[-1]
        total = torch.nn.functional.binary_cross_entropy_with_logits(odds, wanted, reduction="sum")
        total = total + RIDGE / 2 * best[:-1].square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    weights = fit(rows.tolist(), lacking.tolist())
    assert np.abs(np.array(weights[:-1]) * spread - best.detach().numpy()[:-1]).max() < 1e-4
    odds = [log_odds(weights, values) for values in rows.tolist()]
    assert np.mean((np.array(odds) > 0) == lacking) > 0.9


@pytest.mark.parametrize(
    ("question", "answer", "echo"),
    [
        ("Which lake is the swimming in?", "lake", True),
        ("Which lake is the swimming in?", "Lake Garda", False),
        ("Is a whale larger or smaller than an elephant?", "larger", False),
        ("What is it?", "---", True),
        ("What is it?", "東", False),
    ],
)
def test_an_answer_of_the_question_s_own_words_is_an_echo(question: str, answer: str, echo: bool) -> None:
    assert echoes(question, answer) is echo
