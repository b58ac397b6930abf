"""Values of the environment: what is none of its kind is refused by name."""

from __future__ import annotations

import pytest

from octavo import settings
from octavo.errors import OctavoError


@pytest.mark.parametrize("text", ["0", "-1", "257", "1.5", "two", "²", " "])
def test_a_wrong_number_of_threads_is_refused_by_name(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_THREADS", text)
    with pytest.raises(OctavoError, match="OCTAVO_THREADS"):
        settings.threads()


def test_threads_are_those_asked_for_else_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_THREADS", "3")
    assert settings.threads() == 3
    monkeypatch.setenv("OCTAVO_THREADS", "")
    assert settings.threads() >= 1


def test_a_core_counts_once_and_a_container_gets_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"/sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": f"{n % 4},{n % 4 + 4}" for n in range(8)}
    monkeypatch.delenv("OCTAVO_THREADS", raising=False)
    monkeypatch.setattr(settings.os, "sched_getaffinity", lambda _: set(range(1, 8)), raising=False)
    monkeypatch.setattr(settings, "_text", lambda path, otherwise: files.get(path, otherwise))
    assert settings.processors() == (1, 2, 3, 4)
    assert settings.threads() == 4
    for limit, threads in (("150000 100000", 2), ("max 100000", 4), ("20000 100000", 1), ("900000 100000", 4)):
        files["/sys/fs/cgroup/cpu.max"] = limit
        assert settings.threads() == threads


@pytest.mark.parametrize(
    ("variables", "terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colours_are_for_terminals_unless_told_otherwise(
    variables: dict[str, str], terminal: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert settings.colours(terminal=terminal) is expected
