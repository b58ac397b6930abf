"""Bytes are read in the encoding they were written in, guesses are named, and what fits nothing is refused."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.errors import FormatError
from octavo.retrieve.documents import read
from octavo.retrieve.documents.encoding import decode, guess_encoding

CHINESE = "大型語言模型是一種人工智慧系統，它能夠理解和生成人類的語言。我們在這裡說明它如何運作。"
SIMPLIFIED = "大型语言模型是一种人工智能系统，它能够理解和生成人类的语言。我们在这里说明它如何运作。"
JAPANESE = "これは日本語の文章です。大規模言語モデルについて説明します。カタカナもあります。"
KOREAN = "이것은 한국어 문장입니다. 대규모 언어 모델에 대해 설명하고 있습니다."
WESTERN = "Un café très agréable à Genève, où les élèves déjeunent – naïvement – à midi."


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        (CHINESE, "big5", ("cp950", "big5hkscs")),
        (SIMPLIFIED, "gb2312", ("gb18030",)),
        (CHINESE, "gbk", ("gb18030",)),
        (JAPANESE, "shift_jis", ("cp932",)),
        (JAPANESE, "euc_jp", ("euc_jp",)),
        (KOREAN, "euc_kr", ("cp949",)),
        (WESTERN, "cp1252", ("cp1252",)),
    ],
)
def test_a_legacy_encoding_is_guessed_and_said_to_be_a_guess(
    text: str, encoding: str, expected: tuple[str, ...]
) -> None:
    decoded = decode(text.encode(encoding))
    assert decoded.encoding in expected
    assert decoded.text == text
    assert "guess" in decoded.warnings[0]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-8"])
def test_marks_are_obeyed_without_a_warning(encoding: str) -> None:
    decoded = decode(CHINESE.encode(encoding))
    assert decoded.text == CHINESE and decoded.warnings == ()


def test_wide_text_without_a_mark_is_read() -> None:
    for encoding in ("utf-16-le", "utf-16-be"):
        assert decode(WESTERN.encode(encoding)).encoding == encoding


def test_a_few_broken_bytes_are_replaced_and_reported() -> None:
    data = (CHINESE * 20).encode() + b"\xff and more " + CHINESE.encode()
    decoded = decode(data)
    assert decoded.text.count("\ufffd") == 1
    assert decoded.warnings[0].startswith("1 byte is not UTF-8 (the first at offset ")


@pytest.mark.parametrize("data", [bytes(range(128, 256)) * 4, b"\xff\xfe\xfa", b"\x00\x01\x02\xff" * 50])
def test_bytes_that_fit_nothing_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode(data)


@pytest.mark.parametrize(
    ("file", "encodings"),
    [("drcd-dev", ("big5", "gb18030")), ("cmrc2018-trial", ("gb2312", "gb18030"))],
)
def test_real_chinese_text_is_recognised_in_each_of_its_encodings(
    file: str, encodings: tuple[str, ...], shared: Path
) -> None:
    source = gzip.decompress((shared / f"data/qa/{file}.json.gz").read_bytes()).decode()
    text = "".join(re.findall(r'"context": "((?:[^"\\]|\\.){80,})"', source))[:30000]
    assert len(text) > 20000
    for encoding in encodings:
        expected = ("cp950", "big5hkscs") if encoding == "big5" else ("gb18030",)
        guesses = [guess_encoding(text[at : at + 300].encode(encoding, "ignore")) for at in range(0, len(text), 300)]
        assert sum(guess in expected for guess in guesses) >= 0.99 * len(guesses)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        decoded = decode(data)
    except FormatError:
        return
    assert decoded.text.encode("utf-8") is not None


def test_text_is_canonical(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffCafe\u0301\r\nnext\rlast".encode())
    document = read(path)
    assert document.text == "Café\nnext\nlast"
    assert document.line_at(document.text.index("last")) == 3
