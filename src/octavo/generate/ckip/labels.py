"""From labels of characters to named entities, by the rules of CKIP's two programs, which differ on labels that misfit.

B begins an entity, I goes on, E ends it, S is one alone, O is none. Source: ckip-transformers and ckiptagger.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

OUTSIDE, WHITESPACE = "O", "WHITESPACE"


@dataclass(frozen=True, order=True)
class Entity:
    """text: exactly the characters start to end of the sentence."""

    start: int
    end: int
    type: str
    text: str


def strict_entities(text: str, labels: Sequence[str]) -> list[Entity]:
    """Entities of labels such as B-PERSON, one a character: from B to E of one type throughout, or S."""
    found, begun, kind = [], 0, ""
    for place, label in enumerate(labels):
        part, _, named = label.partition("-")
        if part in "BS":
            begun, kind = place, named
        elif named != kind:
            kind = ""
        if kind and part in "ES":
            found.append(Entity(begun, place + 1, kind, text[begun : place + 1]))
        if part in "ES":
            kind = ""
    return found


def lenient_entities(text: str, labels: Sequence[str]) -> list[Entity]:
    """Entities of labels such as PERSON:B, one a character: from B to the next E, of its type, no O or S between."""
    found: list[Entity] = []
    begun: int | None = None
    for place, label in enumerate(labels):
        kind, _, part = label.partition(":")
        if part == "B":
            begun = place
        elif part == "I":
            continue
        else:
            start = place if part == "S" else begun
            if part and start is not None:
                found.append(Entity(start, place + 1, kind, text[start : place + 1]))
            begun = None
    return found


def marked(length: int, entities: Sequence[tuple[int, int, str]], form: str = "{part}-{type}") -> list[str]:
    """The labels of a text's entities, (start, end, type) each; where they overlap, the first in the list stays."""
    labels = [OUTSIDE] * length
    for start, end, kind in entities:
        if any(label != OUTSIDE for label in labels[start:end]):
            continue
        inside = "I" * (end - start - 2)
        parts = "S" if end - start == 1 else f"B{inside}E"
        labels[start:end] = [form.format(part=part, type=kind) for part in parts]
    return labels


def normalized(text: str) -> tuple[str, list[int]]:
    """A text in compatibility decomposition (NFKD), and for each character of it where its source stands; -1 for all
    but the first of what one character became."""
    made, sources = [], []
    for place, character in enumerate(text):
        parts = unicodedata.normalize("NFKD", character)
        made.append(parts)
        sources += [place, *[-1] * (len(parts) - 1)]
    return "".join(made), sources


def restored(labels: Sequence[str], sources: Sequence[int]) -> list[str]:
    """Labels of the normalised text's characters to those of the source's: the first part's, ended where a later part
    ends its entity."""
    kept: list[str] = []
    for label, source in zip(labels, sources, strict=True):
        if source >= 0:
            kept.append(label)
            continue
        kind, _, part = label.rpartition(":")
        last_kind, _, last = kept[-1].rpartition(":")
        if part == "E" and last_kind == kind and last in ("B", "I"):
            kept[-1] = f"{kind}:{'S' if last == 'B' else 'E'}"
    return kept
