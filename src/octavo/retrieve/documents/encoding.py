"""Bytes to text, honestly: a byte-order mark, then strict UTF-8, then a guess that is named as a guess.

The guess decodes the bytes as each legacy encoding and asks how much of the outcome is everyday language: text read in
the wrong East Asian encoding is made of rare characters. Where no reading is plausible the file is refused by the
offset of its first broken byte; a few broken bytes in a UTF-8 file are replaced and reported.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass

from octavo.errors import FormatError

MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
EVERYDAY_HAN = frozenset(
    "的一是不了在人有我他这这個个们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于於着著下自之年"
    "过過发發后後作里裡用道行所然家种種事成方多经經么麼去法学學如都同现現当當没沒动動面起看定天分还還进進好小部其些主样樣理"
    "心她本前开開但因只从從想实實日军軍者意无無力它与與长長把机機十民第公此已工使情明性知全三又关關点點正业業外将將两兩高"
    "间間由问問很最重并並物手应應战戰向头頭文体體政美相见見被利什二等产產或新己制身果加西斯月话話合回特代内內信表化老给給"
    "世位次度门門任常先海通教儿兒原东東声聲提立及比员員解水名真论論处處走义義各入几幾口认認条條平系气氣题題活尔爾更别別打"
    "女变變四神总總何电電数數安少报報才结結反受目太量再感建务務做接必场場件计計管期市直德资資命山金指克许許统統区區保至队隊"
)
EVERYDAY_HANGUL = frozenset(
    "이다는가의에을를은로고지하한도사기자어서그리대나아시인라정수일보부으해전있것들과와만않었습니까요"
)
PLAUSIBLE = 0.25  # everyday share of the non-ASCII characters; right readings score 0.3 to 0.9, wrong ones under 0.1
SAMPLE = 1 << 18  # bytes that the guess looks at
MAX_BROKEN = 0.01  # share of broken bytes up to which a UTF-8 file is still read
_KANA = re.compile("[\u3041-\u30fe]")
_STRANGE = re.compile("[\0-\x08\x0e-\x1f\ufffd]")
_LATIN_WORD = re.compile("[A-Za-zÀ-ÖØ-öø-ÿŒœŠšŽž]+|[‘’“”…–—€£§©°«»\xa0]")


@dataclass(frozen=True)
class Decoded:
    """text: with the bytes that could not be read as U+FFFD. encoding: Python's name. warnings: what was guessed."""

    text: str
    encoding: str
    warnings: tuple[str, ...] = ()


def decode(data: bytes) -> Decoded:
    """The text of a file of unknown encoding. Raises FormatError for bytes that no encoding we know explains."""
    for mark, encoding in MARKS:
        if data.startswith(mark):
            try:
                return Decoded(data[len(mark) :].decode(encoding), encoding)
            except UnicodeDecodeError as error:
                broken = f"its mark says {encoding}, but byte {error.start + len(mark)} does not fit"
                raise FormatError(f"the encoding is broken: {broken}; save the file as UTF-8") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _without_utf8(data, error.start)
    if text.count("\0") > len(text) // 100:
        return _decode_wide(data)
    return Decoded(text, "utf-8")


def _without_utf8(data: bytes, first_broken: int) -> Decoded:
    if data.count(0) > len(data) // 100:
        return _decode_wide(data)
    replaced = data.decode("utf-8", "replace")
    broken = replaced.count("\ufffd") - data.count("\ufffd".encode())
    valid = len(re.findall("[\u0080-\ufffc\U00010000-\U0010ffff]", replaced))
    if broken <= MAX_BROKEN * len(data) and valid >= broken:
        count = "1 byte is" if broken == 1 else f"{broken} bytes are"
        where = f"{count} not UTF-8 (the first at offset {first_broken}) and read as U+FFFD"
        return Decoded(replaced, "utf-8", (where,))
    guess = guess_encoding(data)
    if guess is None:
        raise FormatError(
            f"the encoding is broken: byte {first_broken} is not UTF-8 and no other encoding fits; save it as UTF-8"
        )
    text = data.decode(guess, "replace")
    return Decoded(text, guess, (f"not UTF-8; read as {guess}, which is a guess",))


def guess_encoding(data: bytes) -> str | None:
    """The legacy encoding whose reading is the most everyday text; None where none is plausible.

    A reading may fail only in the sample's last three bytes, where the cut may part a character.
    """
    sample = data[:SAMPLE]
    readings: list[tuple[float, str]] = []
    for encoding, everyday in CANDIDATES:
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError as error:
            if len(data) <= SAMPLE or error.start < len(sample) - 3:
                continue
            text = sample[: error.start].decode(encoding)
        readings.append((everyday(text), encoding))
    score, encoding = max(readings, key=lambda reading: reading[0], default=(0.0, ""))
    return encoding if score >= PLAUSIBLE else None


def _decode_wide(data: bytes) -> Decoded:
    """UTF-16 without a mark: the zero bytes of ASCII characters all lie on one side."""
    odd, even = data[1::2].count(0), data[::2].count(0)
    encoding = "utf-16-le" if odd > even else "utf-16-be"
    if min(odd, even) <= max(odd, even) // 20:
        text = data.decode(encoding, "replace")
        if len(_STRANGE.findall(text)) <= len(text) // 100:
            return Decoded(text, encoding, (f"no byte-order mark; read as {encoding}, which is a guess",))
    raise FormatError("this is not text: it has zero bytes in no encoding's order")


def _everyday_chinese(text: str) -> float:
    foreign = [character for character in text if character > "\x7f"]
    han = sum(character in EVERYDAY_HAN or character in "，。、；：？！「」『』“”《》（）" for character in foreign)
    return han / max(len(foreign), 1)


def _everyday_japanese(text: str) -> float:
    foreign = sum(character > "\x7f" for character in text)
    half_width = sum("\uff61" <= character <= "\uff9f" for character in text)
    return (len(_KANA.findall(text)) - half_width) / max(foreign, 1)


def _everyday_korean(text: str) -> float:
    foreign = sum(character > "\x7f" for character in text)
    return sum(character in EVERYDAY_HANGUL for character in text) / max(foreign, 1)


def _everyday_latin(text: str) -> float:
    """The share of foreign characters that stand in words with enough plain letters, stand alone, or are quotes."""
    foreign = sum(character > "\x7f" for character in text)
    at_home = 0
    for word in _LATIN_WORD.findall(text):
        strange = sum(character > "\x7f" for character in word)
        at_home += strange if len(word) == 1 or 3 * strange <= 2 * len(word) else 0
    return 0.9 * at_home / max(foreign, 1) if at_home >= 0.9 * foreign else 0.0


CANDIDATES: tuple[tuple[str, Callable[[str], float]], ...] = (
    ("gb18030", _everyday_chinese),
    ("cp950", _everyday_chinese),
    ("big5hkscs", _everyday_chinese),
    ("cp932", _everyday_japanese),
    ("euc_jp", _everyday_japanese),
    ("cp949", _everyday_korean),
    ("cp1252", _everyday_latin),
)
