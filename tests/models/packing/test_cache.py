"""Packed weights on disk: the same bits as packing anew, and never read when anything about them is not as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from octavo.errors import MissingDependencyError
from octavo.fetching import sources
from octavo.fetching.packed import packed_folder
from octavo.models.checkpoint import open_checkpoint
from octavo.models.compiled import CompiledRunner
from octavo.models.loading import make_runner
from octavo.models.packing import cache as packed
from octavo.models.packing.cache import PackCache, PackedMatrix, pack_cache
from octavo.models.runner import Row
from octavo.nn.kernels import binding

try:
    binding.library()
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture
def model(stories: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a small real model, in a home of its own, with even small models worth a file."""
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OCTAVO_KERNELS", raising=False)
    monkeypatch.setattr(packed, "SMALLEST", 0)
    return Path(shutil.copytree(stories, tmp_path / "model"))


def files() -> list[Path]:
    return sorted(packed_folder().glob("*"))


def logits(folder: Path) -> NDArray[np.float32]:
    runner = make_runner(open_checkpoint(folder), runner="kernels", num_blocks=4)
    found = runner.step([Row(np.arange(1, 20, dtype=np.int32), 0, range(4), 0)]).logits
    runner.close()
    return found


def cache_of(folder: Path) -> PackCache:
    cache = pack_cache(open_checkpoint(folder))
    assert cache is not None
    return cache


def test_a_second_load_maps_what_the_first_one_packed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = logits(model)
    (written,) = files()
    assert cache_of(model).read()

    def refuse(*unused: object) -> None:
        raise AssertionError("packed again")

    monkeypatch.setattr("octavo.nn.kernels.handle.KernelModel.set_matrix", refuse)
    assert np.array_equal(logits(model), expected)
    assert files() == [written]


def test_refresh_packs_the_checkpoint_again_and_leaves_the_file_alone(model: Path) -> None:
    expected = logits(model)
    before = files()[0].read_bytes()
    runner = CompiledRunner(open_checkpoint(model), num_blocks=4, cache=cache_of(model))
    runner.refresh()
    tokens = np.arange(1, 20, dtype=np.int32)
    assert np.array_equal(runner.step([Row(tokens, 0, range(4), 0)]).logits, expected)
    runner.close()
    assert files()[0].read_bytes() == before


def test_a_changed_model_is_packed_again_into_the_same_file(model: Path) -> None:
    before = logits(model)
    weights = next(model.glob("*.safetensors"))
    changed = bytearray(weights.read_bytes())
    changed[-4:] = np.float32(3.0).tobytes()
    weights.write_bytes(bytes(changed))
    os.utime(weights, ns=(0, 0))
    assert cache_of(model).read() == {}
    expected = logits(model)
    assert not np.array_equal(expected, before)
    assert np.array_equal(logits(model), expected) and len(files()) == 1


def test_another_build_of_the_kernels_does_not_read_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logits(model)
    other = model / "other.so"
    other.write_bytes(b"")
    monkeypatch.setattr(packed, "library_path", lambda: other)
    assert cache_of(model).read() == {}


def test_a_damaged_file_is_replaced(model: Path) -> None:
    expected = logits(model)
    (path,) = files()
    whole = path.read_bytes()
    lost = whole[:4096] + bytes(len(whole) - 4096)  # what a loss of power may leave of a file that was not waited for
    for wrong in (whole[:-1], whole[:100], b"", b"GGUF" + whole[4:], whole[:-1] + bytes([whole[-1] ^ 1]), lost):
        path.write_bytes(wrong)
        assert np.array_equal(logits(model), expected)
        assert path.read_bytes() == whole


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[PackCache, dict[str, PackedMatrix], bytes]:
    cache = PackCache(tmp_path_factory.mktemp("packed") / "a.packed", Path("a"), "identity")
    data = np.random.default_rng(0).integers(0, 256, 576, np.uint8)
    matrices = {"one": PackedMatrix("q4_0", 16, 64, data), "two": PackedMatrix("q4_0", 3, 32, data[:288])}
    assert cache.write(matrices)
    return cache, matrices, cache.path.read_bytes()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_damage_goes_unnoticed(small: tuple[PackCache, dict[str, PackedMatrix], bytes], data: st.DataObject) -> None:
    cache, matrices, whole = small
    wrong = bytearray(whole[: data.draw(st.integers(0, len(whole)), label="kept")])
    for _ in range(data.draw(st.integers(0, 3))):
        if wrong:
            wrong[data.draw(st.integers(0, len(wrong) - 1))] = data.draw(st.integers(0, 255))
    cache.path.write_bytes(wrong)
    read = cache.read()
    assert not read or all(np.array_equal(read[name].data, matrix.data) for name, matrix in matrices.items())


@given(st.lists(st.binary(max_size=40)), st.integers(1, 50))
def test_huge_pages_hold_the_same_bytes_and_are_whole_but_for_the_last(pieces: list[bytes], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "HUGE_PAGE", size)
        pages = [bytes(page) for page in packed._huge_pages(iter(pieces))]
    assert b"".join(pages) == b"".join(pieces)
    assert all(len(page) == size for page in pages[:-1])
    assert len(pages[-1]) < size


def test_where_nothing_can_be_written_models_run_all_the_same(model: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/cache").write_text("a file where a folder should be")
    first = logits(model)
    assert np.array_equal(logits(model), first)


ONE_LOAD = """
import os, resource, signal, sys
from pathlib import Path
from octavo.models.checkpoint import open_checkpoint
from octavo.models.loading import make_runner
from octavo.models.packing import cache as packed
packed.SMALLEST = 0
{trouble}
make_runner(open_checkpoint(Path(sys.argv[1])), num_blocks=1).close()
"""
FULL = "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))"
KILLED = """
pieces = packed._pieces
def dying(*given):
    for number, piece in enumerate(pieces(*given)):
        yield piece
        if number == 9:
            os.kill(os.getpid(), signal.SIGKILL)
packed._pieces = dying
"""


@pytest.mark.parametrize(("trouble", "status", "left"), [(FULL, 0, 0), (KILLED, -9, 1)])
def test_a_write_cut_short_leaves_no_packed_file(model: Path, trouble: str, status: int, left: int) -> None:
    done = subprocess.run([sys.executable, "-c", ONE_LOAD.format(trouble=trouble), model], timeout=60, check=False)
    assert done.returncode == status
    assert [path.name.startswith(".") for path in files()] == [True] * left
    expected = logits(model)
    assert cache_of(model).read() and np.array_equal(logits(model), expected)


def test_it_can_be_turned_off(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_PACK_CACHE", "0")
    logits(model)
    assert files() == []


def test_removing_a_model_removes_what_was_packed_from_it(model: Path) -> None:
    folder = Path(os.environ["OCTAVO_HOME"]) / "cache/models/tale"
    shutil.copytree(model, folder / "weights")
    record = {"name": "tale", "path": "weights", "origin": "x", "licence": None, "sha256": None, "size": 0}
    (folder / sources.RECORD).write_text(json.dumps({**record, "installed": ""}))
    logits(sources.resolve("tale"))
    logits(model)
    assert len(files()) == 2
    sources.remove("tale")
    assert len(files()) == 1 and cache_of(model).read()


def test_writing_sweeps_up_after_lost_models_and_dead_processes(model: Path, tmp_path: Path) -> None:
    lost = Path(shutil.copytree(model, tmp_path / "lost"))
    logits(lost)
    shutil.rmtree(lost)
    half = packed_folder() / ".x.packed.01234567"
    half.write_bytes(b"half")
    os.utime(half, (0, 0))
    logits(model)
    assert [path.name for path in files()] == [cache_of(model).path.name]


def test_processes_that_race_each_answer_and_leave_one_whole_file(model: Path) -> None:
    program = f"""
from pathlib import Path
from octavo.models.packing import cache as packed
packed.SMALLEST = 0
from octavo.fetching.packed import packed_folder
from octavo.models.checkpoint import open_checkpoint
from octavo.models.loading import make_runner
for _ in range(5):
    make_runner(open_checkpoint(Path({str(model)!r})), num_blocks=1).close()
    for path in packed_folder().glob("*.packed"):
        path.unlink(missing_ok=True)
make_runner(open_checkpoint(Path({str(model)!r})), num_blocks=1).close()
"""
    children = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert len(files()) == 1 and cache_of(model).read()
