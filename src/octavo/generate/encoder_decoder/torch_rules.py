"""What the authors of a checkpoint forbid or force while an answer is written, by the rules of `transformers`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from octavo.generate.sample import log_softmax
from octavo.models.mapping.searching import SearchAdvice

NEVER = float("-inf")


@dataclass(frozen=True)
class Rules:
    """Of one answer. advice: the authors'. source: what is answered. start_id: what begins every answer; end_ids: any
    of them ends it; max_tokens: at most."""

    advice: SearchAdvice
    source: Sequence[int]
    start_id: int
    end_ids: Collection[int]
    max_tokens: int

    def apply(self, scores: Tensor | NDArray[np.float64], tokens: Sequence[int]) -> None:
        """Changes scores (vocab_size,) of the token after an answer's `tokens`, in place."""
        advice, written = self.advice, len(tokens)
        forced = advice.forced_bos_token_id if written == 0 else None
        if written == self.max_tokens - 1 and advice.forced_eos_token_id is not None:
            forced = advice.forced_eos_token_id
        if forced is not None:
            scores[:] = NEVER
            scores[forced] = 0
            return
        banned = {token for token in advice.suppress_tokens if token not in self.end_ids}
        if written + 1 < advice.min_length:
            banned |= set(self.end_ids)
        answer = [self.start_id, *tokens]
        banned |= _completing(answer, answer, advice.no_repeat_ngram_size)
        banned |= _completing(answer, self.source, advice.encoder_no_repeat_ngram_size)
        scores[list(banned)] = NEVER

    def scores(self, logits: NDArray[np.float64], tokens: Sequence[int]) -> NDArray[np.float64]:
        """Log-probabilities (vocab_size,) of what a beam goes on with."""
        scores = log_softmax(logits)
        self.apply(scores, tokens)
        return log_softmax(scores) if self.advice.renormalize_logits else scores


def _completing(answer: Sequence[int], other: Sequence[int], size: int) -> set[int]:
    """What would make the answer's last `size` tokens a run of the other's; size 0: nothing."""
    if not 0 < size <= len(answer) + 1:
        return set()
    last = list(answer[len(answer) - size + 1 :])
    ends = range(size - 1, len(other))
    return {other[end] for end in ends if list(other[end - size + 1 : end]) == last}
