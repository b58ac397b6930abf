"""DOCX, PPTX and EPUB are read as their reader sees them, and hostile archives are refused."""

from __future__ import annotations

import runpy
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from octavo.errors import FormatError
from octavo.retrieve.documents import Limits, read

make: Any = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "files.py")))


def paragraph(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


BODY = (
    paragraph("Head", '<w:pStyle w:val="Mine"/>')
    + "<w:p><w:r><w:t>Kept</w:t></w:r><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
    "<w:ins><w:r><w:t> and inserted</w:t></w:r></w:ins><w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom>"
    '<w:r><w:footnoteReference w:id="2"/></w:r></w:p>'
    + "<w:tbl><w:tr><w:tc>" + paragraph("a") + "</w:tc><w:tc>" + paragraph("b") + "</w:tc></w:tr>"
    "<w:tr><w:trPr><w:del/></w:trPr><w:tc>" + paragraph("gone") + "</w:tc></w:tr></w:tbl>"
    + "<w:p><w:r><AlternateContent><Choice><w:txbxContent>" + paragraph("In a box") + "</w:txbxContent></Choice>"
    "<Fallback><w:txbxContent>" + paragraph("In a box") + "</w:txbxContent></Fallback></AlternateContent></w:r></w:p>"
    + paragraph("Deep", '<w:outlineLvl w:val="2"/>')
)  # fmt: skip


def test_a_docx_gives_what_stands_after_tracked_changes(tmp_path: Path) -> None:
    document = read(make.make_docx(tmp_path / "a.docx", BODY))
    assert document.text == "Head\n\nKept and inserted[^2]\n\na | b\n\nIn a box\n\nDeep\n\n[^2]: The note."
    assert [(span.label, span.level) for span in document.spans if span.kind == "heading"] == [("Head", 2), ("Deep", 3)]
    assert document.headings_at(document.text.index("Deep")) == ("Head", "Deep")
    assert [document.text[span.start : span.end] for span in document.spans if span.kind == "table"] == ["a | b"]


def test_the_real_docx_keeps_headings_lists_and_table(shared: Path) -> None:
    document = read(shared / "data/docs/summer-ducks.docx")
    assert [span.label for span in document.spans if span.kind == "heading"] == [
        "Swimming in the lake",
        "Let’s swim!",
        "Let’s eat",
    ]
    assert "1. Wear sunglasses\n2. Don’t forget to drink water" in document.text
    assert "Leaves | Ash, Elm, Maple | 50" in document.text
    assert "This is a cute duckling" in document.text
    (table,) = document.tables_in(0, len(document.text))
    assert table.label == " | Food | Calories per portion"


def test_the_real_pptx_keeps_slides_tables_charts_and_pictures(shared: Path) -> None:
    document = read(shared / "data/docs/autogen-slides.pptx")
    for words, page in (
        ("AutoGen is an open-source framework", 2),
        ("7 | 8 | 9 | 1b92870d-e3b5-4e65-8153-919f4ff45592 | 11 | 12", 3),
        ("Series 1: 2000 2000, 2001 2001", 4),
        ("Sub comment 2", 5),
        ("[Picture: This phrase of the caption is Human-written.]", 6),
    ):
        assert document.page_at(document.text.index(words)) == page
    assert document.headings_at(document.text.index("Sub comment 2")) == ("A Nested Shape parsing",)
    assert "ColA | ColB | ColC | ColD | ColE | ColF" in [
        table.label for table in document.tables_in(0, len(document.text))
    ]


def test_an_epub_is_read_along_its_spine(tmp_path: Path) -> None:
    first = "<h1>One</h1><p>It&nbsp;was &mdash; a <b>dark</b>\n night.</p><script>no()</script>"
    table = "<table><tr><th>x</th><th>y</th></tr><tr><td>1</td><td>2</td></tr></table>"
    second = f"<h2>Two</h2><ul><li>a</li><li>b</li></ul>{table}<pre>x\n  y</pre>"
    document = read(make.make_epub(tmp_path / "a.epub", second, first))
    assert document.title == "A book" and document.metadata["author"] == "Ada"
    assert document.text == "One\n\nIt was — a dark night.\n\nTwo\n\n- a\n\n- b\n\nx | y\n1 | 2\n\nx\n  y"
    assert [span.label for span in document.spans if span.kind == "table"] == ["x | y"]
    assert document.headings_at(document.text.index("1 | 2")) == ("One", "Two")


def test_a_broken_chapter_costs_itself_alone(tmp_path: Path) -> None:
    document = read(make.make_epub(tmp_path / "a.epub", "<p>unclosed", "<p>fine</p>"))
    assert document.text == "fine"
    assert document.warnings[0].startswith("left out: OPS/ch 0.xhtml is broken XML")
    with pytest.raises(FormatError, match="no text: left out"):
        read(make.make_epub(tmp_path / "b.epub", "<p>unclosed"))


def test_a_book_under_drm_is_refused_and_scrambled_fonts_are_not(tmp_path: Path) -> None:
    fonts = "http://www.idpf.org/2008/embedding"
    assert read(make.make_epub(tmp_path / "a.epub", "<p>x</p>", encryption=fonts)).text == "x"
    with pytest.raises(FormatError, match="DRM"):
        read(make.make_epub(tmp_path / "b.epub", "<p>x</p>", encryption="http://www.w3.org/2001/04/xmlenc#aes128-cbc"))


ENTITY = '<!DOCTYPE w [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
EXTERNAL = '<!DOCTYPE w [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda path: make.make_docx(path, paragraph("&b;"), prolog=ENTITY), "defines the entity a"),
        (lambda path: make.make_docx(path, paragraph("&a;"), prolog=EXTERNAL), "defines the entity a"),
        (lambda path: make.make_docx(path, "<w:p>" * 1000 + "</w:p>" * 1000), "deeper than 200"),
        (lambda path: make.make_docx(path, "<w:p>"), "broken XML"),
        (lambda path: make.make_zip(path, {"a": "b"}), "no DOCX file"),
        (lambda path: path.write_bytes(b"PK\3\4 no zip") and path, "it is broken"),
        (lambda path: path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" * 9) and path, "encrypted"),
    ],
)
def test_a_hostile_docx_is_refused_with_its_reason(build: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=reason) as caught:
        read(build(tmp_path / "bad.docx"))
    assert "\n" not in str(caught.value)


def test_a_truncated_docx_is_refused(tmp_path: Path) -> None:
    good = make.make_docx(tmp_path / "a.docx", BODY).read_bytes()
    for size in range(0, len(good), 97):
        (tmp_path / "cut.docx").write_bytes(good[:size])
        with pytest.raises(FormatError):
            read(tmp_path / "cut.docx")


def test_a_flipped_byte_never_gives_a_bare_exception(tmp_path: Path) -> None:
    good = make.make_docx(tmp_path / "a.docx", BODY).read_bytes()
    for at in range(0, len(good), 41):
        (tmp_path / "bad.docx").write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
        try:
            assert read(tmp_path / "bad.docx").text.strip()
        except FormatError as error:
            assert str(error) and "\n" not in str(error)


def test_a_part_with_a_password_is_refused(tmp_path: Path) -> None:
    path = make.make_docx(tmp_path / "a.docx", BODY)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        offsets = [part.header_offset for part in archive.infolist()]
    for offset in offsets:
        data[offset + 6] |= 1
    at = 0
    while (at := data.find(b"PK\1\2", at)) >= 0:
        data[at + 8] |= 1
        at += 4
    path.write_bytes(data)
    with pytest.raises(FormatError, match="encrypted"):
        read(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = make.make_docx(tmp_path / "a.docx", BODY, extra={"word/media/a.bin": b"\0" * (9 << 20)})
    with pytest.raises(FormatError, match="would unpack to 9 MB in 6 parts, over the limit of 8 MB"):
        read(path, Limits(unpacked_bytes=8 << 20))


def shape(text: str, placeholder: str) -> str:
    kind = f'<p:nvSpPr><p:nvPr><p:ph type="{placeholder}"/></p:nvPr></p:nvSpPr>'
    return f"<p:sp>{kind}<p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"


def test_a_slide_s_title_comes_first_and_its_number_is_left_out(tmp_path: Path) -> None:
    uses = f'xmlns:p="p" xmlns:a="a" xmlns:r="{make.OFFICE}"'
    relation = '<Relationships><Relationship Id="r1" Type="{}/{}" Target="{}"/></Relationships>'
    shapes = shape("Body", "body") + shape("7", "sldNum") + shape("Head", "title")
    parts = {
        "_rels/.rels": relation.format(make.OFFICE, "officeDocument", "ppt/presentation.xml"),
        "ppt/presentation.xml": f'<p:x {uses}><p:sldIdLst><p:sldId id="256" r:id="r1"/></p:sldIdLst></p:x>',
        "ppt/_rels/presentation.xml.rels": relation.format(make.OFFICE, "slide", "slides/s.xml"),
        "ppt/slides/s.xml": f"<p:sld {uses}><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld></p:sld>",
    }
    document = read(make.make_zip(tmp_path / "a.pptx", parts))
    assert document.text == "Head\n\nBody" and document.title == "Head"
    assert document.page_at(document.text.index("Body")) == 1
