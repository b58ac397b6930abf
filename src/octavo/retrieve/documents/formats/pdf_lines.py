"""From the lines of a typeset page back to paragraphs: hyphens, ligatures, Chinese lines, running heads.

A line goes on in the next one when it fills its column; Chinese lines are joined without a space. A word hyphenated at
a line's end is written as the document writes it elsewhere, and joined where it does not.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

_LIGATURES = {ord(ligature): unicodedata.normalize("NFKC", ligature) for ligature in "ﬀﬁﬂﬃﬄﬅﬆ"}
_ACCENTS = {"¨": "\u0308", "´": "\u0301", "`": "\u0300", "ˆ": "\u0302", "˜": "\u0303", "ˇ": "\u030c", "¸": "\u0327"}
_ACCENT = re.compile(f"([{''.join(_ACCENTS).replace('`', '')}]) ?([A-Za-zı])")
_DROPPED_CAPITAL = re.compile(r"(?m)^([B-HJ-Z])\n(?=[a-z])")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_HYPHENATED = re.compile(r"([^\W\d_]+(?:-[^\W\d_]+)*)[-\u00ad\u2010]$")
_CONTINUES = re.compile(r"[^\W\d_]+")
_CJK = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
_NUMBER = re.compile(r"[-+−]?\d[\d.,]*%?|-")
_STARTS_AN_ITEM = re.compile(r"(?:[•◦▪‣–—*-]|\(?\d{1,2}[.)]|\[\d+\])\s")
_SENTENCE_ENDS = tuple('.!?:;。！？：；」』”"')
FULL = 0.7  # a line this share of its neighbours' width goes on in the next
TITLE = 0.6  # a line this share of the width at most can be a title
EDGE = 2  # lines at a page's top and bottom that may be running heads
REPEATED = 0.5  # share of pages on which a running head stands


def mend_letters(text: str) -> str:
    """Ligatures as letters, free-standing accents on their letter, a dropped capital on its word."""
    text = _ACCENT.sub(lambda found: found[2].replace("ı", "i") + _ACCENTS[found[1]], text.translate(_LIGATURES))
    return unicodedata.normalize("NFC", _DROPPED_CAPITAL.sub(r"\1", text))


def words_of(pages: Sequence[str]) -> frozenset[str]:
    """The words that stand whole on a line, hyphenated compounds included, in lower case."""
    return frozenset(word.lower() for page in pages for word in _WORD.findall(re.sub(r"-\n", "\n", page)))


def drop_repeated(pages: Sequence[list[str]]) -> list[list[str]]:
    """Pages without the heads and feet that most of them share, page numbers included."""
    stripped = [[line.rstrip() for line in page] for page in pages]
    counts = Counter(shape for page in stripped for shape in {_shape(page[at]) for at in _edges(page)})
    often = {shape for shape, count in counts.items() if len(pages) >= 3 and count > REPEATED * len(pages)}
    kept = []
    for page in stripped:
        running = {at for at in _edges(page) if _shape(page[at]) in often}
        kept.append([line for at, line in enumerate(page) if at not in running])
    return kept


def _edges(page: list[str]) -> list[int]:
    filled = [at for at, line in enumerate(page) if line.strip()]
    return sorted({*filled[:EDGE], *filled[-EDGE:]})


def _shape(line: str) -> str:
    return re.sub(r"\d+", "#", line.strip())


def join_lines(lines: Sequence[str], known: frozenset[str]) -> Iterator[str]:
    """The paragraphs of a page. known: the words of the document, which decide over hyphens."""
    widths = sorted(_width(line) for line in lines if line.strip())
    usual = widths[len(widths) * 3 // 4] if widths else 0
    paragraph = ""
    previous = ""  # the line that the paragraph ends with
    for line in lines:
        if paragraph and _goes_on(previous, line, usual):
            paragraph = _append(paragraph, line.strip(), known)
        else:
            if paragraph:
                yield paragraph
            paragraph = line.strip()
        previous = line
    if paragraph:
        yield paragraph


def _goes_on(line: str, following: str, usual: int) -> bool:
    """Whether two lines are of one paragraph."""
    if not line.strip() or not following.strip() or _STARTS_AN_ITEM.match(following.strip()):
        return False
    if _HYPHENATED.search(line) and following.strip()[0].islower():
        return True
    if _is_of_a_table(line) or _is_of_a_table(following):
        return False
    indented = following[:1].isspace() and not line[:1].isspace()
    ends = line.rstrip().endswith(_SENTENCE_ENDS)
    if ends and _is_title(following.strip(), usual):
        return False
    if indented and (ends or _CJK.match(following.strip())):
        return False
    return _width(line) >= (0.9 if ends else FULL) * usual


def _is_title(line: str, usual: int) -> bool:
    """Whether a line after a sentence's end looks like a title: short, and no sentence itself."""
    return _width(line) < TITLE * usual and not line[0].islower() and not line.endswith(_SENTENCE_ENDS)


def _is_of_a_table(line: str) -> bool:
    """Whether most of a line's words are numbers."""
    words = line.split()
    return len(words) >= 4 and sum(_NUMBER.fullmatch(word) is not None for word in words) > len(words) / 2


def _append(paragraph: str, line: str, known: frozenset[str]) -> str:
    hyphenated, continues = _HYPHENATED.search(paragraph, max(0, len(paragraph) - 80)), _CONTINUES.match(line)
    if hyphenated and continues and line[0].islower():
        head, tail = hyphenated[1], continues[0]
        compound = f"{head}-{tail}".lower() in known and f"{head}{tail}".lower() not in known
        return paragraph[: hyphenated.end(1)] + ("-" if compound else "") + line
    if hyphenated and continues:  # before a capital the hyphen is the word's own
        return paragraph + line
    between = "" if _CJK.match(paragraph[-1]) and _CJK.match(line[0]) else " "
    return paragraph + between + line


def _width(line: str) -> int:
    return sum(2 if _CJK.match(character) else 1 for character in line.strip())
