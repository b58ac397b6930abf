"""Simplified and Traditional Chinese, by OpenCC where it is installed (`octavo[docs]`); without it a text stays."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")


def traditional(character: str) -> str:
    """A character's Traditional form, the commonest where it has several: one character for one."""
    found = _conversion("s2t")(character)
    return found if len(found) == 1 else character


def in_both(text: str) -> str:
    """A text, and behind it its Traditional and Simplified forms where they differ."""
    if HAN.search(text) is None:
        return text
    return " ".join(dict.fromkeys((text, _conversion("s2t")(text), _conversion("t2s")(text))))


@cache
def _conversion(way: Literal["s2t", "t2s"]) -> Callable[[str], str]:
    try:
        import opencc
    except ImportError:
        return str
    converter: Any = opencc.OpenCC(way)
    return converter.convert  # type: ignore[no-any-return]
