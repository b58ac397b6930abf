"""Sentences of English and Chinese text, as ranges that cover the text from first to last.

Rules, no model: a full stop ends a sentence unless an abbreviation, an initial or a number holds it, or the next word
is in lower case; Chinese marks always end one, with the closing quotes after them. A blank line and a list item end one
too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from octavo.retrieve.chunking.recursive import Range


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_TITLES = _words(
    "mr mrs ms dr prof rev hon st gen col lt sgt capt gov sen rep pres adm maj cmdr messrs mme mlle sr jr fr"
)
_BEFORE_MORE = _words(
    "e.g i.e cf viz vs v al no nos vol vols fig figs eq eqs sec ch pp p ed eds approx ca c art arts est op ibid "
    "jan feb mar apr jun jul aug sep sept oct nov dec mt ft inc ltd co corp dept univ"
)
_OPENERS = _words(
    "the a an he she it they we you i in on at by for from after before this that these those there when while as if "
    "his her its their our but and however although since what who how why where"
)
_LATIN_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)")
_CHINESE_END = re.compile(r"(?:[。！？｡]|…{2})[。！？…]*[」』”’）】》〉\"]*")
_BREAK = re.compile(r"\n[ \t]*\n\s*|\n(?=[ \t]*(?:[-*•◦▪]|\d{1,3}[.)]|#{1,6})[ \t])")
_WORD_BEFORE = re.compile(r"[\w.&'-]*$")
_NEXT = re.compile(r"\s*[\"'“‘(\[«]*(\w+|\S)?")
_ACRONYM = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_]")


def sentence_ranges(text: str, blocks: Sequence[Range] = ()) -> list[Range]:
    """The sentences of a text, each with the white space after it; together they are the whole text.

    blocks: ranges that are one sentence each, such as code fences, in order.
    """
    cuts = {0, len(text)}
    for block in blocks:
        cuts.update(block)
    inside = _Inside(blocks)
    cuts.update(cut for cut in _ends(text) if not inside.holds(cut))
    return [found for found in pairwise(sorted(cuts)) if found[0] < found[1]]


class _Inside:
    """Whether a growing or any offset lies within one of some blocks."""

    def __init__(self, blocks: Sequence[Range]) -> None:
        self._blocks = blocks

    def holds(self, offset: int) -> bool:
        return any(start < offset < end for start, end in self._blocks)


def _ends(text: str) -> Iterator[int]:
    """Where sentences end, white space after them included."""
    for found in _BREAK.finditer(text):
        yield found.end()
    for found in _CHINESE_END.finditer(text):
        yield _past_space(text, found.end())
    for found in _LATIN_END.finditer(text):
        if _ends_here(text, found):
            yield _past_space(text, found.end())


def _ends_here(text: str, mark: re.Match[str]) -> bool:
    """Whether a Latin mark ends a sentence."""
    following = _NEXT.match(text, mark.end())
    word = following[1] if following is not None and following[1] else ""
    if not word:
        return True
    if "!" in mark[0] or "?" in mark[0]:
        return not word[0].islower()
    before = _WORD_BEFORE.search(text, max(0, mark.start() - 40), mark.start())
    last = before[0] if before is not None else ""
    if mark[0].startswith(".."):
        return not word[0].islower()
    if word[0].islower():
        return False
    if last.lower() in _TITLES:
        return False
    if last.lower() in _BEFORE_MORE:
        return word.lower() in _OPENERS
    if _ACRONYM.fullmatch(last) or (len(last) == 1 and last.isalpha() and last.isupper()):
        return word.lower() in _OPENERS and word[0].isupper() and len(word) > 1
    return True


def _past_space(text: str, offset: int) -> int:
    while offset < len(text) and text[offset].isspace():
        offset += 1
    return offset
