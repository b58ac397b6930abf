"""Beam search and greedy choice over rows that step together: whatever says their scores, one model or a mixture."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import torch
from torch import Tensor

from octavo.generate.encoder_decoder.torch_rules import Rules
from octavo.generate.lm import Beams
from octavo.generate.sample import log_softmax
from octavo.generate.tasks.beam import Hypothesis, Search
from octavo.generate.tasks.completion import Limits


class Stepping(Protocol):
    """Rows with the scores of their next tokens; `generate.encoder_decoder.torch_steps.Steps` is one."""

    logits: Tensor
    """(rows, vocab_size)."""

    def advance(self, tokens: Tensor) -> None: ...

    def keep(self, rows: Tensor) -> None: ...


@torch.inference_mode()
def beam_search(state: Stepping, beams: Beams, limits: Limits, rules: Rules | None = None) -> list[Hypothesis]:
    """The best answers, best first, of a state with one row; each holds its end, and its score is over its length."""
    score = (lambda row, _: log_softmax(row)) if rules is None else rules.scores
    search = Search(beams, limits)
    while True:
        rows = state.logits.double().cpu().numpy()
        parents = search.advance([score(row, beam.tokens) for row, beam in zip(rows, search.running, strict=True)])
        if not parents:
            return search.finished
        device = state.logits.device
        state.keep(torch.tensor(parents, device=device))
        state.advance(torch.tensor([hypothesis.tokens[-1] for hypothesis in search.running], device=device))


@torch.inference_mode()
def greedy(state: Stepping, end_ids: Collection[int], max_tokens: int, rules: Sequence[Rules] = ()) -> list[list[int]]:
    """The likeliest token after another, of each row its ids without its end; a row that has ended is left out.

    rules: of each row, or none.
    """
    answers: list[list[int]] = [[] for _ in state.logits]
    rows = list(range(len(answers)))
    for count in range(max_tokens):
        for place, row in enumerate(rows):
            if rules:
                rules[row].apply(state.logits[place], answers[row])
        chosen = state.logits.argmax(-1).tolist()
        going_on = [place for place in range(len(rows)) if chosen[place] not in end_ids]
        for place in going_on:
            answers[rows[place]].append(chosen[place])
        if not going_on or count == max_tokens - 1:
            break
        if len(going_on) < len(rows):
            state.keep(torch.tensor(going_on, device=state.logits.device))
            rows = [rows[place] for place in going_on]
        state.advance(torch.tensor([chosen[place] for place in going_on], device=state.logits.device))
    return answers


def without_end(hypothesis: Hypothesis, end_ids: Collection[int]) -> Sequence[int]:
    """An answer's tokens without what ends it."""
    tokens = hypothesis.tokens
    return tokens[:-1] if tokens and tokens[-1] in end_ids else tokens


def log_probability(hypothesis: Hypothesis, beams: Beams) -> float:
    """Of a finished answer, its end included: its score without the length's share."""
    return float(hypothesis.score * len(hypothesis.tokens) ** beams.length_penalty)
