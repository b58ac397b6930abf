"""Model sources: what references mean, known models and their checksums, the hub, names and removal."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import runpy
import sys
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
from octavo.fetching import pypi_wheels, sources
from octavo.fetching.known import Terms, Wheel
from octavo.fetching.pip_index import parse_pip_config

SERVED: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("served.py")))
GGUF = SERVED["GGUF"]
REFERENCE = SERVED["REFERENCE"]
WHEEL = SERVED["WHEEL"]
make_wheel, left_behind = SERVED["make_wheel"], SERVED["left_behind"]


@pytest.mark.parametrize("as_json", [False, True], ids=["html", "json"])
def test_only_the_gguf_comes_out_of_the_wheel_with_its_record(index: Any, tmp_path: Path, as_json: bool) -> None:
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
def test_without_a_file_the_only_gguf_is_taken(index: Any) -> None:
    assert sources.pull("pypi:tiny_model==1.0").read_bytes() == GGUF


def test_an_unknown_release_is_said(index: Any) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no wheel of tiny-model 2\.0"):
        sources.pull("pypi:tiny-model==2.0")


@pytest.mark.usefixtures("quick_pip")
def test_a_known_model_must_have_the_pinned_checksums(index: Any, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_licence_accepted_where_none_is_asked_for_is_refused(index: Any) -> None:
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


def test_paths_names_and_removal(index: Any, tmp_path: Path) -> None:
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
def test_malformed_references_are_refused_with_the_right_form(index: Any, reference: str) -> None:
    for call in (sources.resolve, sources.pull):
        with pytest.raises(OctavoError, match=reference.split(":")[0]):
            call(reference)


@pytest.mark.usefixtures("quick_pip")
def test_the_hub_gives_only_weights_and_texts(index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_hub_offline_and_missing_are_said(index: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
