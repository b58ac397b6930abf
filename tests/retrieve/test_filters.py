"""Filters on metadata, in OpenAI's shape and as typed."""

from __future__ import annotations

from typing import Any

import pytest

from octavo.errors import OctavoError
from octavo.retrieve.filters import read_condition, read_filter

PAPER = {"type": "pdf", "year": 2024, "draft": False}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"type": "eq", "key": "type", "value": "pdf"}, True),
        ({"type": "ne", "key": "type", "value": "pdf"}, False),
        ({"type": "gt", "key": "year", "value": 2023}, True),
        ({"type": "lte", "key": "year", "value": 2023.5}, False),
        ({"type": "in", "key": "type", "value": ["html", "pdf"]}, True),
        ({"type": "nin", "key": "type", "value": ["html", "pdf"]}, False),
        ({"type": "eq", "key": "draft", "value": False}, True),
        ({"type": "eq", "key": "author", "value": "x"}, False),
        ({"type": "ne", "key": "author", "value": "x"}, True),
        ({"type": "nin", "key": "author", "value": ["x"]}, True),
        ({"type": "gt", "key": "year", "value": "2000"}, False),
        ({"type": "eq", "key": "year", "value": "2024"}, False),
        ({"type": "and", "filters": []}, True),
        ({"type": "or", "filters": []}, False),
        (
            {
                "type": "or",
                "filters": [
                    {"type": "eq", "key": "type", "value": "md"},
                    {"type": "and", "filters": [{"type": "gte", "key": "year", "value": 2024}]},
                ],
            },
            True,
        ),
    ],
)
def test_a_filter_matches_by_its_type(data: Any, expected: bool) -> None:
    assert read_filter(data).matches(PAPER) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("type=pdf", True), ("year>=2024", True), ("year!=2024", False), ("year<2024.5", True), (" type = md ", False)],
)
def test_a_typed_condition_is_a_filter(text: str, expected: bool) -> None:
    assert read_condition(text).matches(PAPER) is expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "a filter is an object"),
        ({"type": "eqq", "key": "a", "value": 1}, "no filter is of the type 'eqq', did you mean 'eq'"),
        ({"type": "eq", "key": "a", "values": 1}, "has no 'values', did you mean 'value'"),
        ({"type": "eq", "key": "a"}, "lacks its 'value'"),
        ({"type": "eq", "key": "", "value": 1}, "not empty"),
        ({"type": "eq", "key": "a", "value": [1]}, "is a text, a number or a boolean"),
        ({"type": "in", "key": "a", "value": 1}, "is a list of texts and numbers"),
        ({"type": "and", "filters": {}}, "are not a list"),
    ],
)
def test_a_malformed_filter_is_refused_by_name(data: Any, message: str) -> None:
    with pytest.raises(OctavoError, match=message):
        read_filter(data)


def test_a_condition_without_a_sign_is_refused() -> None:
    with pytest.raises(OctavoError, match="is not KEY=VALUE"):
        read_condition("pdf")
