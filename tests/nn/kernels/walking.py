"""A lawful call, made again with each of its arguments made wrong."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from octavo.errors import OctavoError
from octavo.nn.kernels.tables import codes

REFUSED = (
    ctypes.ArgumentError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    ZeroDivisionError,
    AttributeError,
    OctavoError,
)
NUMBERS = (0, -1, 1, 3, 7, 2**31 - 1, -(2**31), 2**31, -(2**40), 0.5, None)
NAMES = (
    *codes.LEVELS, *codes.ENCODINGS, *codes.MATRICES, *codes.NORMS, *codes.VECTORS, *codes.ENCODER_TABLES,
    *(f"{owner}.{leaf}" for owner in ("experts.0", "experts.-1", "experts.9", "shared", "heads.0", "heads.9", "x")
      for leaf in ("gate", "up", "down", "q", "embed", "head", "key", "value")), "", "f16", "mxfp4", "nothing", None,
)  # fmt: skip


def say(*words: object) -> None:
    """What is called next, for whoever finds the process dead."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def random(*shape: int, dtype: Any = np.float32) -> Any:
    numbers = np.random.default_rng(0).standard_normal(shape)
    return (numbers if dtype == np.float32 else numbers * 40).astype(dtype)


def wrong_arrays(array: Any) -> Iterator[Any]:
    """What must be refused in its place."""
    yield array[:-1].copy()
    yield np.concatenate([array, array])
    yield array[None].copy()
    yield array.reshape(-1, 1, 1)
    if array.ndim > 1:
        yield array.reshape(-1)
        yield array[..., :-1].copy()
    yield (
        array.astype(array.dtype.newbyteorder())
        if array.itemsize > 1
        else array.view(np.int8 if array.dtype == np.uint8 else np.uint8)
    )
    for dtype in (np.float64, np.float16, np.int64, np.int16, np.complex64, np.bool_, object):
        if dtype != array.dtype:
            yield array.astype(dtype)
    yield np.empty((0, *array.shape[1:]), array.dtype)
    yield None


def odd_arrays(array: Any) -> Iterator[Any]:
    """What may be refused, and otherwise gives the same."""
    frozen = array.copy()
    frozen.flags.writeable = False
    yield frozen
    yield np.repeat(array, 2, axis=-1)[..., ::2]
    yield np.asfortranarray(array)
    store = np.empty(array.nbytes + 1, np.uint8)
    store[1:] = np.frombuffer(array.tobytes(), np.uint8)
    yield store[1:].view(array.dtype).reshape(array.shape)


def walk(name: str, call: Callable[..., Any], lawful: dict[str, Any], free: tuple[str, ...] = ()) -> None:
    """free: arguments of which another length, or none, is another lawful call."""
    call(**lawful)
    for argument, value in lawful.items():
        if isinstance(value, np.ndarray):
            for wrong in wrong_arrays(value):
                say(name, argument, getattr(wrong, "shape", None), getattr(wrong, "dtype", None))
                try:
                    call(**{**lawful, argument: wrong})
                except REFUSED:
                    continue
                assert argument in free, f"{name} takes another {argument}"
            expected = call(**lawful)
            for odd in odd_arrays(value):
                say(name, argument, "odd")
                with contextlib.suppress(*REFUSED):
                    assert same(call(**{**lawful, argument: odd}), expected), f"{name} with an odd {argument}"
        else:
            for wrong in NAMES if isinstance(value, str) else NUMBERS:
                say(name, argument, wrong)
                with contextlib.suppress(*REFUSED):
                    call(**{**lawful, argument: wrong})
    call(**lawful)


def same(first: Any, second: Any) -> bool:
    if isinstance(first, tuple):
        return all(map(same, first, second))
    return first is second or np.array_equal(first, second)
