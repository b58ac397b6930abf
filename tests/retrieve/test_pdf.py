"""PDF pages come out as paragraphs in reading order; what has no text or a password says so."""

from __future__ import annotations

import json
import random
import re
import runpy
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from octavo.errors import FormatError
from octavo.retrieve.chunking import split
from octavo.retrieve.documents import Document, Limits, Skipped, read, read_folder
from octavo.retrieve.documents.formats.pdf_lines import drop_repeated, join_lines, mend_letters

make: Any = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "files.py")))
pypdf = pytest.importorskip("pypdf")

PROSE = """The quick brown fox jumps over the lazy dog and runs
away from the multi-purpose hunting party that had pur-
sued it since the early morning with its multi-
purpose equipment. The end."""


def test_lines_become_paragraphs_and_pages_are_kept(tmp_path: Path) -> None:
    document = read(make.make_pdf(tmp_path / "a.pdf", PROSE, "Second page here."))
    assert document.text == (
        "The quick brown fox jumps over the lazy dog and runs away from the multi-purpose hunting party that had "
        "pursued it since the early morning with its multi-purpose equipment. The end.\n\nSecond page here."
    )
    assert [document.page_at(document.text.index(words)) for words in ("fox", "Second")] == [1, 2]


def test_running_heads_and_page_numbers_are_left_out() -> None:
    pages = [["A Study of Foxes", f"text of page {word}", f"- {number} -"] for number, word in enumerate("abcd")]
    assert drop_repeated(pages) == [[f"text of page {word}"] for word in "abcd"]
    assert drop_repeated(pages[:2]) == pages[:2]


def test_chinese_lines_are_joined_without_a_space() -> None:
    lines = ["滾滾長江東逝水，浪花淘盡英雄。是非成敗轉", "頭空：青山依舊在，幾度夕陽紅。白髮漁樵江"]
    assert list(join_lines(lines, frozenset())) == ["".join(lines)]


def test_a_title_after_a_full_line_stands_alone() -> None:
    lines = ["and the elastic stop nut, of the fiber insert type.", "Boots Nut", "The Boots self-locking nut is of one"]
    assert list(join_lines(lines, frozenset())) == lines


def test_rows_of_numbers_stay_apart() -> None:
    lines = ["mDPR 23.5 15.6 17.1 23.9", "BGE 31.0 25.4 24.2 28.7"]
    assert list(join_lines(lines, frozenset())) == lines


def test_letters_are_mended() -> None:
    assert (
        mend_letters("ﬁnal eﬀort of G¨unther and Koˇcisk´y\nT\nhe nut")
        == "final effort of Günther and Kočiský\nThe nut"
    )


def encrypt(path: Path, user: str) -> None:
    writer = pypdf.PdfWriter(clone_from=path)
    writer.encrypt(user, "owner", algorithm="RC4-128")
    with path.open("wb") as file:
        writer.write(file)


def test_a_password_is_asked_for_only_where_reading_needs_one(tmp_path: Path) -> None:
    open_one, closed = make.make_pdf(tmp_path / "a.pdf", "Free"), make.make_pdf(tmp_path / "b.pdf", "Shut")
    encrypt(open_one, "")
    encrypt(closed, "secret")
    assert read(open_one).text == "Free"
    with pytest.raises(FormatError, match="encrypted with a password"):
        read(closed)


def test_pages_without_text_are_reported(tmp_path: Path) -> None:
    assert read(make.make_pdf(tmp_path / "a.pdf", "Text", "")).warnings == (
        "no text on page 2 (pictures?); OCR would find it",
    )
    with pytest.raises(FormatError, match="OCR"):
        read(make.make_pdf(tmp_path / "b.pdf", ""))


def test_bookmarks_become_headings(tmp_path: Path) -> None:
    path = make.make_pdf(tmp_path / "a.pdf", "Intro\n\nSome text.", "2 Methods used\n\nMore.")
    writer = pypdf.PdfWriter(clone_from=path)
    first = writer.add_outline_item(title="Intro", page_number=0)
    writer.add_outline_item(title="Methods used", page_number=1, parent=first)
    with path.open("wb") as file:
        writer.write(file)
    document = read(path)
    assert document.headings_at(document.text.index("More.")) == ("Intro", "Methods used")


@pytest.fixture(scope="module")
def real(shared: Path) -> dict[str, Document]:
    """The real documents of the data folder, by file name."""
    found = read_folder(shared / "data/docs")
    return {Path(item.path).name: item for item in found if isinstance(item, Document)}


def test_numbered_titles_serve_where_there_are_no_bookmarks(real: dict[str, Document]) -> None:
    document = real["bge-m3.pdf"]
    labels = [span.label for span in document.spans if span.kind == "heading"]
    for label in ("1 Introduction", "2 Related Work", "3 M3-Embedding", "4.2 Cross-Lingual Retrieval", "5 Conclusion"):
        assert label in labels


@pytest.mark.parametrize("damage", ["truncate", "garble", "nothing"])
def test_a_damaged_file_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    path = make.make_pdf(tmp_path / "a.pdf", PROSE)
    data = path.read_bytes()
    path.write_bytes({"truncate": data[:60], "garble": b"%PDF-1.4\n" + data[::-1], "nothing": b""}[damage])
    with pytest.raises(FormatError) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def plain(text: str) -> str:
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text))


def test_the_proof_of_every_answer_is_in_its_real_document(shared: Path, real: dict[str, Document]) -> None:
    questions = [row for row in json.loads((shared / "data/docs/questions.json").read_text()) if row["answerable"]]
    pytest.importorskip("trafilatura", reason="one of the documents is HTML")
    missing = [row["id"] for row in questions if plain(row["evidence"]) not in plain(real[row["document"]].text)]
    assert missing == []
    assert "Main menu" not in real["duck.html"].text


def test_the_proof_of_every_answer_is_in_one_chunk_with_its_place(shared: Path, real: dict[str, Document]) -> None:
    rows = json.loads((shared / "data/docs/questions.json").read_text())
    for row in (row for row in rows if row["answerable"] and row["document"] in real):
        chunks = split(real[row["document"]])
        holding = [chunk for chunk in chunks if plain(row["evidence"]) in plain(chunk.text)]
        assert holding, row["id"]
        assert (holding[0].page is not None) == row["document"].endswith((".pdf", ".pptx"))
    pages = [chunk.page or 0 for chunk in split(real["bge-m3.pdf"])]
    assert pages == sorted(pages) and {1, 2, 13, 16} <= set(pages) <= set(range(1, 17))


def test_a_damaged_real_file_never_gives_a_bare_exception(shared: Path, tmp_path: Path) -> None:
    chance = random.Random(5)
    source = (shared / "data/docs/faa-handbook-page.pdf").read_bytes()
    for _ in range(12):
        data = bytearray(source)
        for _ in range(400):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "a.pdf").write_bytes(data)
        try:
            read(tmp_path / "a.pdf", Limits(seconds=10))
        except FormatError as error:
            assert "\n" not in str(error)


def test_running_heads_do_not_break_a_sentence_over_columns(real: dict[str, Document]) -> None:
    text = real["sanguo-ch1-3.pdf"].text
    assert "推其致亂之由，殆始於桓靈二帝。\n\n桓帝禁錮善類，崇信宦官。" in text
    assert real["sanguo-ch1-3.pdf"].page_at(text.index("就邀他同坐")) == 2


def test_bad_files_of_every_kind_are_lines_and_the_rest_is_read(tmp_path: Path) -> None:
    make.make_pdf(tmp_path / "good.pdf", "Fine.")
    encrypt(make.make_pdf(tmp_path / "secret.pdf", "Shut"), "secret")
    with (tmp_path / "huge.pdf").open("wb") as file:
        file.truncate(200 << 20)
    make.make_docx(tmp_path / "bomb.docx", "<w:p/>", extra={"word/media/a": b"\0" * (300 << 20)})
    (tmp_path / "broken.txt").write_bytes(bytes(range(128, 256)))
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "zz.docx").write_bytes(
        make.make_docx(tmp_path / "t.docx", "<w:p><w:r><w:t>ok</w:t></w:r></w:p>").read_bytes()
    )
    found = list(read_folder(tmp_path))
    assert [Path(item.path).name for item in found if isinstance(item, Document)] == ["good.pdf", "t.docx", "zz.docx"]
    reasons = {Path(item.path).name: item.reason for item in found if isinstance(item, Skipped)}
    assert sorted(reasons) == ["bomb.docx", "broken.txt", "huge.pdf", "loop", "secret.pdf"]
    assert all(reason and "\n" not in reason for reason in reasons.values())
