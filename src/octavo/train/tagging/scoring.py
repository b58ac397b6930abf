"""How well a CKIP model does on annotated sentences, beside what costs nothing: one-character words. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octavo.generate.ckip.encoders import CkipTransformer
from octavo.generate.ckip.recurrent import CkipTagger
from octavo.metrics.spans import score_spans, word_spans
from octavo.train.tagging.sentences import Sentence


@dataclass(frozen=True)
class TaskScores:
    """In percent. ws and ner: F1 of words, of entities; pos: accuracy. baseline: F1 of one-character words, for ws."""

    task: str
    sentences: int
    score: float
    precision: float | None = None
    recall: float | None = None
    baseline: float | None = None

    def __str__(self) -> str:
        if self.task == "pos":
            return f"accuracy {self.score:.2f} % on {self.sentences} sentences"
        rest = "" if self.baseline is None else f"; every character a word: {self.baseline:.2f} %"
        return (
            f"F1 {self.score:.2f} % (precision {self.precision:.2f}, recall {self.recall:.2f}) "
            f"on {self.sentences} sentences{rest}"
        )


def score_model(model: CkipTransformer | CkipTagger, sentences: Sequence[Sentence]) -> TaskScores:
    """A model on sentences that have what its task needs; parts of speech and entities are found in the true words."""
    texts, count = [sentence.text for sentence in sentences], len(sentences)
    if model.task == "pos":
        found = model.tags([sentence.words for sentence in sentences])
        pairs = [pair for tags, own in zip(found, sentences, strict=True) for pair in zip(tags, own.tags, strict=True)]
        return TaskScores("pos", count, 100 * sum(one == other for one, other in pairs) / max(1, len(pairs)))
    if model.task == "ws":
        true = [word_spans(sentence.words) for sentence in sentences]
        scores = score_spans([word_spans(words) for words in model.words(texts)], true)
        single = score_spans([word_spans(text) for text in texts], true).f1
        return TaskScores("ws", count, scores.f1, scores.precision, scores.recall, single)
    if isinstance(model, CkipTransformer):
        entities = model.entities(texts)
    else:
        entities = model.entities([sentence.words for sentence in sentences], [one.tags for one in sentences])
    spans = [[(entity.start, entity.end, entity.type) for entity in row] for row in entities]
    scores = score_spans(spans, [sentence.entities or () for sentence in sentences])
    return TaskScores("ner", count, scores.f1, scores.precision, scores.recall)
