"""Stop texts: whatever the pieces, the same text is shown and no stop text in part."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from octavo.generate.stopping import StopMatcher

LETTERS = st.text("ab\n<", max_size=20)


def released(text: str, stops: list[str], cuts: list[int]) -> tuple[str, str | None]:
    matcher = StopMatcher(stops)
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    shown = "".join(matcher.push(text[a:b]) for a, b in itertools.pairwise(edges))
    return shown + matcher.flush(), matcher.matched


@given(LETTERS, st.lists(st.text("ab\n<", min_size=1, max_size=4), max_size=3), st.lists(st.integers(0, 100)))
def test_text_is_shown_up_to_the_first_completed_stop_wherever_it_is_cut(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    shown, matched = released(text, stops, cuts)
    if matched is None:
        assert shown == text
        assert not any(stop in text for stop in stops)
    else:
        assert text.startswith(shown + matched)
        assert not any(stop in shown for stop in stops)


def test_only_what_could_become_a_stop_text_is_held_back() -> None:
    matcher = StopMatcher(["</end>"])
    assert matcher.push("abc</e") == "abc"
    assert matcher.push("xy") == "</exy"
    assert matcher.push("</end> more") == ""
    assert matcher.matched == "</end>"
    assert matcher.push("more") == matcher.flush() == ""
