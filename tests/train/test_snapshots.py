"""Checkpoints survive what can happen while they are written, and damage is found."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from octavo.errors import FormatError, OctavoError
from octavo.train.snapshots import Snapshot, Snapshots, read, write


def snapshot(step: int) -> Snapshot:
    return Snapshot({"model/a.weight": np.full((300, 3), step, np.float32)}, {"step": step, "source": {"epoch": 1}})


def newest(snapshots: Snapshots) -> int:
    return next(found.step for _, found in snapshots.readable() if isinstance(found, Snapshot))


def test_a_snapshot_comes_back_bit_equal(tmp_path: Path) -> None:
    arrays = {
        "model/x": np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32),
        "random/cpu": np.arange(9, dtype=np.uint8),
        "optimizer/step/x": np.array(3.0, np.float32),
    }
    write(tmp_path / "a.npz", Snapshot(arrays, {"step": 3}))
    back = read(tmp_path / "a.npz")
    assert back.facts == {"step": 3}
    assert {name: array.tobytes() for name, array in back.arrays.items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }
    assert set(back.group("model")) == {"x"}


def test_a_write_that_fails_half_way_leaves_the_previous_and_nothing_partial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = Snapshots(tmp_path)
    snapshots.save(snapshot(1))

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OctavoError, match=r"No space left on device; what was saved before is intact"):
            snapshots.save(snapshot(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.npz"]
    assert newest(snapshots) == 1


def test_the_partial_file_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    Snapshots(tmp_path).save(snapshot(1))
    (tmp_path / ".step-00000002.npz.partial-0a1b2c3d").write_bytes(b"PK\x03\x04 half")
    assert newest(Snapshots(tmp_path)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.npz"]


@pytest.mark.parametrize("keep", [0, 1, 100, 1800, -1])
def test_a_truncated_newest_file_is_told_and_the_one_before_serves(tmp_path: Path, keep: int) -> None:
    snapshots = Snapshots(tmp_path)
    snapshots.save(snapshot(1))
    path = snapshots.save(snapshot(2))
    path.write_bytes(path.read_bytes()[:keep])
    found = list(snapshots.readable())
    assert isinstance(found[0][1], FormatError) and str(path) in str(found[0][1])
    assert newest(snapshots) == 1


def test_a_flipped_bit_in_the_weights_is_found(tmp_path: Path) -> None:
    path = Snapshots(tmp_path).save(snapshot(7))
    content = bytearray(path.read_bytes())
    place = content.find(np.float32(7).tobytes() * 9)
    content[place + 5] ^= 4
    path.write_bytes(content)
    with pytest.raises(FormatError, match="damaged"):
        read(path)


def test_a_pickle_in_an_array_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "step-00000001.npz"
    with path.open("wb") as file:
        np.savez(file, facts=np.array([{"step": 1}], dtype=object))
    with pytest.raises(FormatError, match="damaged"):
        read(path)


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path)
    for step in (1, 2, 3, 10, 200):
        snapshots.save(snapshot(step))
    assert snapshots.steps() == [10, 200]
