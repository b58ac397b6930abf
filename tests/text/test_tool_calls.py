"""Tool calls and thoughts are read out of an answer's text, however it is cut into pieces."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.text.tool_calls import (
    FORMS,
    HERMES,
    JSON_ANSWER,
    AnswerReader,
    CallArguments,
    CallStarted,
    Content,
    Thought,
    ToolForm,
    form_of,
    thinks,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
CALLS = st.lists(
    st.tuples(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.dictionaries(st.text(max_size=5), VALUES, max_size=3)),
    min_size=1,
    max_size=3,
)


def written(form: ToolForm, calls: list[tuple[str, Any]]) -> str:
    """Calls as a model of that form writes them."""
    objects = [json.dumps({"name": name, form.arguments: value}) for name, value in calls]
    if form.listed:
        return f"{form.start}[{', '.join(objects)}]{form.end}"
    if not form.start:
        return ";".join(objects)
    return "\n".join(f"{form.start}\n{text}\n{form.end}" for text in objects)


def read(reader: AnswerReader, text: str, cuts: list[int]) -> tuple[str, str, list[tuple[str, Any]]]:
    """Content, thoughts and calls, of the text given in pieces."""
    bounds = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    pieces = [p for a, b in itertools.pairwise(bounds) for p in reader.push(text[a:b])] + reader.flush()
    content = "".join(piece.text for piece in pieces if isinstance(piece, Content))
    thought = "".join(piece.text for piece in pieces if isinstance(piece, Thought))
    names = {piece.index: piece.name for piece in pieces if isinstance(piece, CallStarted)}
    arguments = dict.fromkeys(names, "")
    for piece in pieces:
        if isinstance(piece, CallArguments):
            arguments[piece.index] += piece.text
    assert list(names) == list(range(len(names)))
    return content, thought, [(name, json.loads(arguments[index])) for index, name in names.items()]


@pytest.mark.parametrize("form", [*FORMS, JSON_ANSWER])
def test_two_calls_are_read_wherever_the_text_is_cut_once(form):
    calls = [("one", {}), ("two", {"": None, "0": None})]
    text = written(form, calls)
    for cut in range(len(text) + 1):
        assert read(AnswerReader(form), text, [cut]) == ("", "", calls)


@settings(max_examples=200, deadline=None)
@given(form=st.sampled_from([*FORMS, JSON_ANSWER]), calls=CALLS, cuts=st.lists(st.integers(0, 10_000), max_size=12))
def test_calls_of_every_form_are_read_however_the_text_is_cut(form, calls, cuts):
    assert read(AnswerReader(form), written(form, calls), cuts) == ("", "", calls)


@settings(max_examples=100, deadline=None)
@given(
    before=st.text(alphabet="ab <>{}/\n", max_size=12).filter(lambda text: text.strip() and text[-1] not in " \n"),
    calls=CALLS,
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_text_before_calls_and_thoughts_before_text_stay_themselves(before, calls, cuts):
    text = f"<think>\nhm{{\n</think>\n\n{before}\n{written(HERMES, calls)}"
    content, thought, found = read(AnswerReader(HERMES, thinking=True), text, cuts)
    assert (content, thought, found) == (before.lstrip("\n"), "hm{\n", calls)


@pytest.mark.parametrize(
    "text",
    [
        "no call at all",
        "<tool_call>not json</tool_call> after",
        '<tool_call>\n{"nam',
        "<tool_cal",
        "a < b and <tool",
        '<tool_call>{"name": 5, "arguments": {}}</tool_call>',
        "ends in blanks  \n",
    ],
)
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 100), max_size=8))
def test_what_is_no_call_comes_out_as_the_text_it_was(text, cuts):
    content, _, calls = read(AnswerReader(HERMES), text, cuts)
    assert (content, calls) == (text, [])


def test_arguments_are_passed_on_before_the_call_is_complete():
    reader = AnswerReader(HERMES)
    pieces = [
        piece for character in '<tool_call>{"name": "f", "arguments": {"x": 1' for piece in reader.push(character)
    ]
    assert pieces[0] == CallStarted(0, "f")
    assert "".join(piece.text for piece in pieces[1:] if isinstance(piece, CallArguments)) == '{"x": 1'


def test_other_spellings_of_a_call_are_read():
    for text in (
        '<tool_call>{"arguments": {"x": 1}, "name": "f"}</tool_call>',
        '<tool_call>{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}</tool_call>',
        '<tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}</tool_call>',
    ):
        assert read(AnswerReader(HERMES), text, [])[2] == [("f", {"x": 1})]
    assert read(AnswerReader(FORMS[0]), '[TOOL_CALLS]f[ARGS]{"x": 1}[TOOL_CALLS]g[CALL_ID]a1b2[ARGS]{}', [])[2] == [
        ("f", {"x": 1}),
        ("g", {}),
    ]
    assert read(AnswerReader(HERMES), '<tool_call>{"name": "f"}</tool_call>', [])[2] == [("f", {})]


def test_a_json_answer_that_is_no_call_stays_an_answer():
    assert read(AnswerReader(JSON_ANSWER), '{"city": "Paris"}', [3]) == ('{"city": "Paris"}', "", [])


def test_the_form_is_read_off_the_template():
    assert form_of("{% for tool in tools %}… <tool_call>{…}</tool_call>") is HERMES
    assert form_of("[AVAILABLE_TOOLS]{{ tools }} [TOOL_CALLS]").start == "[TOOL_CALLS]"
    assert form_of('{"name": function name, "parameters": dictionary} {{ tools }}') is JSON_ANSWER
    assert form_of("{{ messages }}") is None
    assert form_of(None) is None
    assert thinks("… <think>\n")
    assert not thinks("plain")
