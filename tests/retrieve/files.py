"""Makes small files of each format, good and bad, with the standard library alone."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
MAIN_RELATION = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    f'<Relationship Id="r1" Type="{OFFICE}/officeDocument" Target="word/document.xml"/></Relationships>'
)
STYLES = (
    f'<w:styles {W}><w:style w:styleId="H2"><w:name w:val="heading 2"/></w:style>'
    '<w:style w:styleId="Mine"><w:name w:val="mine"/><w:basedOn w:val="H2"/></w:style></w:styles>'
)
STYLE_RELATION = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    f'<Relationship Id="r1" Type="{OFFICE}/styles" Target="styles.xml"/>'
    f'<Relationship Id="r2" Type="{OFFICE}/footnotes" Target="footnotes.xml"/></Relationships>'
)
FOOTNOTES = (
    f'<w:footnotes {W}><w:footnote w:id="2"><w:p><w:r><w:t>The note.</w:t></w:r></w:p></w:footnote></w:footnotes>'
)


def make_zip(path: Path, parts: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return path


def make_docx(path: Path, body: str, *, prolog: str = "", extra: Mapping[str, str | bytes] | None = None) -> Path:
    """body: the XML inside w:body, with prefix w."""
    document = f"{prolog}<w:document {W}><w:body>{body}</w:body></w:document>"
    parts = {
        "_rels/.rels": MAIN_RELATION,
        "word/document.xml": document,
        "word/styles.xml": STYLES,
        "word/footnotes.xml": FOOTNOTES,
        "word/_rels/document.xml.rels": STYLE_RELATION,
    }
    return make_zip(path, {**parts, **(extra or {})})


def make_epub(path: Path, *chapters: str, encryption: str | None = None) -> Path:
    """chapters: the XHTML inside body."""
    items = "".join(
        f'<item id="c{number}" href="ch%20{number}.xhtml" media-type="application/xhtml+xml"/>'
        for number in range(len(chapters))
    )
    order = "".join(f'<itemref idref="c{number}"/>' for number in reversed(range(len(chapters))))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<metadata><dc:title>A book</dc:title><dc:creator>Ada</dc:creator></metadata>"
        f"<manifest>{items}</manifest><spine>{order}</spine></package>"
    )
    parts = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container><rootfiles><rootfile full-path="OPS/p.opf"/></rootfiles></container>',
        "OPS/p.opf": package,
        **{
            f"OPS/ch {number}.xhtml": "<!DOCTYPE html><html xmlns='http://www.w3.org/1999/xhtml'><head><title>t</title>"
            f"</head><body>{chapter}</body></html>"
            for number, chapter in enumerate(chapters)
        },
    }
    if encryption:
        parts["META-INF/encryption.xml"] = f'<encryption><EncryptionMethod Algorithm="{encryption}"/></encryption>'
    return make_zip(path, parts)


def make_pdf(path: Path, *pages: str, width: int = 612) -> Path:
    """Pages of Helvetica text, a line a line, as PDF 1.4."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for page in pages:
        lines = " ".join(f"({line}) Tj T*" for line in page.split("\n"))
        stream = f"BT /F1 11 Tf 14 TL 40 750 Td {lines} ET"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        kids.append(len(objects) + 1)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width} 792] /Contents {len(objects)} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
    listed = " ".join(f"{kid} 0 R" for kid in kids)
    objects[1] = f"<< /Type /Pages /Kids [{listed}] /Count {len(pages)} >>"
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{offset:010} 00000 n \n".encode() for offset in offsets)
    out += f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n".encode()
    path.write_bytes(out)
    return path
