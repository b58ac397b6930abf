"""An inspection as tables and drawings, for a page or a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from octavo.examine.inspection.findings import Head, HeadScores, Inspection, Score
from octavo.figures.drawing import GREY, INK, Box, Drawing, Label, Shape, shade
from octavo.figures.page import Heading, Paragraph, Part, Table

CELL, LENS_WIDTH, LENS_POSITIONS = 16, 84, 10
FAINT = 0.01
"""Attention weights below this are not drawn."""
WORDS: Final[dict[Score, str]] = {
    "induction": "to the token after the first occurrence",
    "previous": "to the token before",
    "duplicate": "to the first occurrence itself",
}


def report(found: Inspection) -> list[Part]:
    """All that was found, in the order in which it explains itself."""
    scores, ablation = found.scores, found.ablation
    heads = ", ".join(str(head) for head in ablation.heads)
    return [
        Heading("Induction heads"),
        Paragraph(
            f"On random tokens written twice the loss is {scores.first_copy_loss:.2f} nats a token in the first copy "
            f"and {scores.second_copy_loss:.2f} in the second. Without heads {heads} it is "
            f"{ablation.without_best:.2f} there; without as many of the others, drawn at random, "
            f"{_listed(ablation.without_random)}."
        ),
        head_table(scores),
        *(score_map(scores, score) for score in WORDS),
        Heading("Attention on the text"),
        *(pattern(head, weights, found.words) for head, weights in found.patterns.items()),
        Heading("Logit lens"),
        Paragraph(
            "What the residual stream would say after each block, were it the last: the likeliest next token, darker "
            "where it is likelier. Row 0 is the embeddings alone."
        ),
        lens_map(found),
        lens_table(found),
    ]


def head_table(scores: HeadScores, count: int = 8) -> Table:
    """The best heads of each score, side by side."""
    columns = [[f"{head}  {getattr(scores, score)[head]:.3f}" for head in scores.top(score, count)] for score in WORDS]
    return Table(
        tuple(f"{score}: attends {words}" for score, words in WORDS.items()), tuple(zip(*columns, strict=True))
    )


def score_map(scores: HeadScores, score: Score) -> Drawing:
    """Layers down, heads across."""
    values: NDArray[np.float64] = getattr(scores, score)
    layers, heads = values.shape
    shapes: list[Shape] = [
        Label((40 + CELL * head + CELL / 2, 12), str(head), 9, "middle", GREY) for head in range(heads)
    ]
    for layer in range(layers):
        shapes.append(Label((34, 18 + CELL * layer + 12), str(layer), 9, "end", GREY))
        for head in range(heads):
            corner = (40.0 + CELL * head, 18.0 + CELL * layer)
            value = float(values[layer, head])
            shapes.append(Box(corner, (CELL - 1, CELL - 1), shade(value), f"{layer}.{head}: {value:.3f}"))
    title = f"{score} score of each head: attention {WORDS[score]}; layers down, heads across"
    return Drawing(60 + CELL * heads, 24 + CELL * layers, title, tuple(shapes))


def pattern(head: Head, weights: NDArray[np.float32], words: Sequence[str]) -> Drawing:
    """Where each token of a text attends: a row a token, a column a token that is attended to."""
    left, top = 120, 96
    shapes: list[Shape] = []
    for index, word in enumerate(words):
        shapes.append(Label((left - 6, top + CELL * index + 12), _shown(word), 11, "end"))
        shapes.append(
            Label((left + CELL * index + 8, top - 6 - 12 * (index % 7)), _shown(word, 10), 10, "middle", GREY)
        )
    for row, column in np.argwhere(weights >= FAINT):
        weight = float(weights[row, column])
        note = f"{_shown(words[row])} attends to {_shown(words[column])}: {weight:.2f}"
        corner = (left + CELL * int(column), top + CELL * int(row))
        shapes.append(Box(corner, (CELL - 1, CELL - 1), shade(weight), note))
    size = CELL * len(words)
    return Drawing(left + size + 40, top + size + 8, f"Head {head}", tuple(shapes))


def lens_table(found: Inspection) -> Table:
    """The lens at the text's end: after each block the likeliest token, and where the model's own answer stands."""
    answer = _shown(found.texts[found.lens[-1].tokens[-1]])
    rows = tuple(
        (
            str(layer.layer),
            _shown(found.texts[layer.tokens[-1]]),
            f"{layer.probabilities[-1]:.4f}",
            f"{layer.final_probabilities[-1]:.4f}",
            str(layer.final_ranks[-1]),
        )
        for layer in found.lens
    )
    return Table(("block", "likeliest", "probability", f"of {answer}", "its rank"), rows)


def lens_map(found: Inspection) -> Drawing:
    """The lens at the last positions of the text: layers down, positions across."""
    left, top, height = 40, 24, 18
    positions = range(max(0, len(found.ids) - LENS_POSITIONS), len(found.ids))
    shapes: list[Shape] = []
    for column, position in enumerate(positions):
        x = left + LENS_WIDTH * column
        shapes.append(Label((x + LENS_WIDTH / 2, 14), _shown(found.words[position], 11), 11, "middle", GREY))
        for layer in found.lens:
            y, likely = top + height * layer.layer, layer.probabilities[position]
            word, rank = found.texts[layer.tokens[position]], layer.final_ranks[position]
            note = f"block {layer.layer}: {_shown(word)} {likely:.3f}; the model's answer stands at rank {rank}"
            shapes.append(Box((x, y), (LENS_WIDTH - 1, height - 1), shade(likely), note))
            ink = "#ffffff" if likely > 0.5 else INK
            shapes.append(Label((x + LENS_WIDTH / 2, y + 13), _shown(word, 11), 11, "middle", ink))
    shapes += [
        Label((left - 6, top + height * layer.layer + 13), str(layer.layer), 9, "end", GREY) for layer in found.lens
    ]
    title = "Logit lens: the likeliest next token after each block, at each position"
    return Drawing(left + LENS_WIDTH * len(positions) + 8, top + height * len(found.lens) + 8, title, tuple(shapes))


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)


def _shown(word: str, limit: int = 16) -> str:
    """A token as it can be told from others: spaces and line ends made visible, cut where it is long."""
    text = word.replace(" ", "·").replace("\n", "↵").replace("\t", "→")
    return text if len(text) <= limit else text[: limit - 1] + "…"
