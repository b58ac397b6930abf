"""A folder is read to its end: what cannot be read is one line, what git would ignore is passed over."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from octavo.errors import OctavoError
from octavo.retrieve.documents import Document, Limits, Skipped, read_folder
from octavo.retrieve.documents.folder import walk


def names(root: Path, found: list[Document | Skipped]) -> list[str]:
    return [str(Path(item.path).relative_to(root)) for item in found]


def test_a_folder_gives_documents_and_reasons(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("alpha")
    (tmp_path / "sub/b.md").write_text("# Beta\n")
    (tmp_path / "broken.txt").write_bytes(bytes(range(128, 256)))
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "huge.txt").touch()
    os.truncate(tmp_path / "huge.txt", 200 << 20)
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0\0\0\0")
    (tmp_path / ".hidden").write_text("no")
    (tmp_path / "old.xls").write_bytes(b"anything")
    (tmp_path / os.fsdecode(b"latin\xe9.txt")).write_text("no")
    (tmp_path / "sub/loop").symlink_to("..")
    (tmp_path / "outside").symlink_to("/usr")
    (tmp_path / "nowhere").symlink_to("missing.txt")
    (tmp_path / "round").symlink_to("about")
    (tmp_path / "about").symlink_to("round")
    os.mkfifo(tmp_path / "pipe")
    found = list(read_folder(tmp_path))
    documents = [item for item in found if isinstance(item, Document)]
    reasons = {Path(item.path).name: item.reason for item in found if isinstance(item, Skipped)}
    assert names(tmp_path, list(documents)) == ["a.txt", "sub/b.md"]
    assert "encoding is broken" in reasons["broken.txt"]
    assert "200 MB is over the limit of 64 MB" in reasons["huge.txt"]
    assert ".png files are not read" in reasons["picture.png"]
    assert "would never end" in reasons["loop"]
    assert "out of the folder" in reasons["outside"]
    assert all("leads nowhere" in reasons[name] for name in ("nowhere", "round", "about"))
    assert "not a plain file" in reasons["pipe"]
    assert "no text" in reasons["empty.txt"]
    assert "save it as CSV" in reasons["old.xls"]
    assert "not UTF-8" in reasons["latin\\xe9.txt"]
    assert len(reasons) == 12
    assert all("\n" not in reason for reason in reasons.values())


def test_limits_are_the_callers(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 3000)
    assert isinstance(next(read_folder(tmp_path, Limits(file_bytes=2000))), Skipped)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OctavoError, match="not a folder"):
        list(read_folder(tmp_path / "missing"))


PARTS = st.sampled_from(["a", "b", "ab", "a.txt", "c.md", "build", "x y"])
PATHS = st.lists(st.lists(PARTS, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8)
GLOBS = st.sampled_from(
    ["a", "b", "*", "*.txt", "?", "**", "[ab]", "[!a]*", "build", "a*", "\\a", "x y", "c.md", "[a-b]"]
)
PATTERNS = st.tuples(
    st.sampled_from(["", "!", "/", "!/"]),
    st.lists(GLOBS, min_size=1, max_size=3).map("/".join),
    st.sampled_from(["", "/", " "]),
).map("".join)


@example(["a.txt", "b", "a/c.md"], ["*", "!a.txt", "!a/"], ["c.md", "!c.md"])
@settings(max_examples=60, deadline=None)
@given(PATHS, st.lists(PATTERNS, max_size=5), st.lists(PATTERNS, max_size=2))
def test_ignore_files_mean_what_git_says(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str], patterns: list[str], deeper: list[str]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for path in paths:
        if not any(parent.is_file() for parent in (root / path).parents) and not (root / path).exists():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text("x")
    (root / ".gitignore").write_text("\n".join(patterns))
    if (root / "a").is_dir():
        (root / "a/.gitignore").write_text("\n".join(deeper))
    git = ["git", "-c", "core.excludesFile=/dev/null", "-C", str(root)]
    subprocess.run([*git, "init", "-q"], check=True, capture_output=True)
    listed = subprocess.run(
        [*git, "ls-files", "-z", "--others", "--exclude-standard"], check=True, capture_output=True
    ).stdout.decode()
    expected = sorted(path for path in listed.split("\0") if path and not path.endswith(".gitignore"))
    ours = sorted(str(path.relative_to(root)) for path in walk(root) if isinstance(path, Path))
    assert ours == expected
