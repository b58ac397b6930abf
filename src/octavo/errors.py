"""What a user can cause and mend: one sentence saying what, which value, what to do.

The command line prints the sentence and exits 2; the server maps it to OpenAI's error shape (`code`, `param`).
Our own bugs are `assert`, never one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OctavoError(Exception):
    """A failure with its remedy in words. `param` names the field at fault, where there is one."""

    code = "invalid_value"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnknownNameError(OctavoError):
    """A field, option, key or family that nobody here knows."""

    code = "unknown_parameter"


class UnsupportedError(OctavoError):
    """Known by name, but not something this model, runner or machine does."""

    code = "unsupported_parameter"


class ModelNotFoundError(OctavoError):
    """A model reference that leads nowhere."""

    code = "model_not_found"


class ContextLengthError(OctavoError):
    """More tokens than the model's context holds."""

    code = "context_length_exceeded"


class FormatError(OctavoError):
    """A file that is truncated, malformed, or of a kind we refuse (pickle)."""

    code = "malformed_file"


class MissingDependencyError(OctavoError):
    """An optional library, compiler or program that the request needs."""

    code = "missing_dependency"


class RemoteError(OctavoError):
    """A server or an index that did not answer as it should."""

    code = "remote_error"


def brief(value: object) -> str:
    """A value as a message shows it: what Python calls it, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause to end a sentence with: `, did you mean 'x'?`, or nothing when no known name is near."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {matches[0]!r}?" if matches else ""
