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
