"""Predicted outputs: a request says what its answer may be, such as the text that it is to edit, and the answer is
checked against it many tokens a step.

Unusual: it is read like a patch. Where the answer leaves the prediction nothing is guessed until its last tokens stand
there again, the nearest place first; one token in another's place is passed over.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from octavo.generate.propose import NO_DRAFT, Draft, Proposer, Text

SIZES = (4, 3, 2)
"""Of the n-grams by which an answer finds its way back, the longest first."""


class PredictionProposer:
    """Implements `Proposer`: of texts with a prediction from it alone, of others what `other` says."""

    def __init__(self, other: Proposer | None = None) -> None:
        self._other = other
        self._readers: dict[Hashable, _Reader] = {}

    def propose(self, texts: Sequence[Text]) -> list[Draft]:
        """What the predictions go on with, where the texts stand in them."""
        rest = [text for text in texts if not text.prediction]
        drafts = iter([] if self._other is None or not rest else self._other.propose(rest))
        return [self._predicted(text) if text.prediction else next(drafts, NO_DRAFT) for text in texts]

    def _predicted(self, text: Text) -> Draft:
        reader = self._readers.get(text.key)
        if reader is None:
            reader = self._readers[text.key] = _Reader(text.prediction, text.begun)
        at = reader.follow(text.tokens)
        return NO_DRAFT if at is None else Draft(tuple(text.prediction[at : at + text.most]))

    def forget(self, key: Hashable) -> None:
        """Drop what is known of a text."""
        self._readers.pop(key, None)
        if self._other is not None:
            self._other.forget(key)

    def refresh(self) -> None:
        """The other's weights have changed."""
        if self._other is not None:
            self._other.refresh()

    def close(self) -> None:
        """Close the other."""
        if self._other is not None:
            self._other.close()


class _Reader:
    """Follows one answer through its prediction. begun: where the answer begins in its text."""

    def __init__(self, prediction: Sequence[int], begun: int) -> None:
        self._prediction = prediction
        self._begun = self._read = begun
        self._at = 0  # how much of the prediction the answer has passed
        self._lost = 0  # tokens since it was last there
        self._ends: dict[tuple[int, ...], list[int]] = {}
        for size in SIZES:
            for end in range(size, len(prediction) + 1):
                self._ends.setdefault(tuple(prediction[end - size : end]), []).append(end)

    def follow(self, tokens: Sequence[int]) -> int | None:
        """Where the prediction goes on as the text may; None: not known."""
        for end in range(self._read + 1, len(tokens) + 1):
            self._take(tokens, end)
        self._read = max(self._read, len(tokens))
        return self._at + self._lost if self._lost <= 1 else None

    def _take(self, tokens: Sequence[int], end: int) -> None:
        """Read one token more, the one before `end`."""
        following = self._at + self._lost
        if self._lost <= 1 and following < len(self._prediction) and self._prediction[following] == tokens[end - 1]:
            self._at, self._lost = following + 1, 0
            return
        for size in SIZES:
            if size <= end - self._begun and (places := self._ends.get(tuple(tokens[end - size : end]))):
                self._at, self._lost = min(places, key=lambda place: abs(place - following)), 0
                return
        self._lost += 1
