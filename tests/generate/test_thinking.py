"""A model that would think for ever ends its thoughts when its budget is spent, and goes on with its answer."""

from __future__ import annotations

import string
from typing import Any

import pytest

from octavo.errors import OctavoError
from octavo.generate.constrain import Choice
from octavo.generate.lm import Request
from octavo.generate.local import load
from octavo.generate.tasks.thinking import ThinkingBudget
from octavo.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def characters() -> Tokenizer:
    """One token a character, so that a mark is several tokens."""
    return Tokenizer.train_characters(string.printable)


def walk(budget: ThinkingBudget, tokens: list[int], said: list[int], most: int) -> list[int]:
    """What a model writes that would say this, but for what is forced."""
    start = len(tokens)
    for token in said:
        forced = budget.forced()
        tokens.append(token if forced is None else forced)
        if len(tokens) - start == most:
            break
    return tokens[start:]


@pytest.mark.parametrize("most", [0, 1, 3, 7])
@pytest.mark.parametrize("opened", [True, False])
def test_the_end_comes_after_so_many_tokens(characters: Tokenizer, most: int, opened: bool) -> None:
    tokens = characters.encode("x</think>y<think>" if opened else "<think>x</think>y", bos=False)
    said = characters.encode(("" if opened else "<think>") + "a" * 60, bos=False)
    budget = ThinkingBudget(most, tokens, characters)
    text = characters.decode(walk(budget, tokens, said, 40))
    assert text.removeprefix("<think>").startswith("a" * most + "</think>a") and text.count("</think>") == 1


def test_a_thought_that_ends_by_itself_is_left_alone(characters: Tokenizer) -> None:
    tokens = characters.encode("<think>", bos=False)
    said = characters.encode("ab</think>the answer, which may be long", bos=False)
    assert walk(ThinkingBudget(20, tokens, characters), tokens, said, 99) == said


def test_no_thought_no_end(characters: Tokenizer) -> None:
    tokens = characters.encode("x", bos=False)
    said = characters.encode("plain words", bos=False)
    assert walk(ThinkingBudget(0, tokens, characters), tokens, said, 99) == said


def test_a_real_engine_writes_the_end(stories: Any) -> None:
    with load(str(stories)) as model:
        prompt = model.tokenizer.encode("Once upon a time<think>")
        answer = "".join(
            event.text
            for event in model.stream(Request(prompt, max_tokens=30, thinking=4, ignore_eos=True))
            if hasattr(event, "text")
        )
        free = "".join(
            event.text
            for event in model.stream(Request(prompt, max_tokens=30, ignore_eos=True))
            if hasattr(event, "text")
        )
    assert answer.count("</think>") == 1 and not answer.startswith("</think>") and "</think>" not in free


def test_a_form_and_a_budget_are_refused_together() -> None:
    with pytest.raises(OctavoError, match="thinking_token_budget"):
        Request("x", thinking=1, constraint=Choice(("a", "b"), "choice"))
