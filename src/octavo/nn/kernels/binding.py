"""ctypes over the kernels' library: found beside this file, checked, its functions typed once.

Unusual: nothing here raises when the library is missing or the processor is unknown; `available()` says so in words,
and `library()` and `choose_level()` raise for those who need it.
"""

from __future__ import annotations

import ctypes
import functools
import zlib
from dataclasses import dataclass
from pathlib import Path

from octavo import settings
from octavo.errors import MissingDependencyError, OctavoError
from octavo.nn.kernels.tables.codes import LEVELS
from octavo.nn.kernels.tables.interface import INT32, SIGNATURES

BF16_LEVELS = ("avx512", "amx")
"""Levels that multiply pairs of bfloat16 themselves; others widen them to float32."""


@dataclass(frozen=True)
class KernelStatus:
    """built: the library is there and loads. path: where it is. level: the chosen instruction set, or None.

    levels: those of this machine. reason: in words, why this level, or why none.
    """

    built: bool
    path: Path | None
    level: str | None
    levels: tuple[str, ...]
    reason: str


def library_path() -> Path | None:
    """The built library, or None."""
    found = sorted(Path(__file__).parent.glob("_kernels*.so"))
    return found[0] if found else None


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded library. Raises MissingDependencyError when it is not built or does not load."""
    path = library_path()
    if path is None:
        raise MissingDependencyError(
            "the C kernels are not built; install a C compiler and reinstall octavo, or install octavo[torch]"
        )
    try:
        loaded = ctypes.CDLL(str(path))
        for name, (result, *arguments) in SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise MissingDependencyError(f"the C kernels at {path} do not load ({error}); reinstall octavo") from None
    if loaded.octavo_interface() != interface():
        raise MissingDependencyError(f"the C kernels at {path} are of another version; reinstall octavo")
    if settings.pin_threads():
        processors = settings.processors()
        loaded.octavo_pin_threads((INT32 * len(processors))(*processors), len(processors))
    return loaded


def interface() -> int:
    """The checksum of structures, functions and codes as Python has them, which a library is built with (setup.py)."""
    tables = sorted(Path(__file__).parent.glob("tables/*.py"))
    return zlib.crc32(b"".join(path.read_bytes() for path in tables))


def machine_levels() -> tuple[str, ...]:
    """The levels that this processor runs, slowest first."""
    bits = library().octavo_levels()
    return tuple(name for name, bit in LEVELS.items() if bits & bit)


def choose_level(forced: str | None) -> str:
    """The level to run: `forced`, else the best. Raises OctavoError where the machine lacks it.

    forced: as OCTAVO_KERNELS says; one that asks for torch has no wish as to kernels that run all the same.
    """
    levels = machine_levels()
    if forced in (None, "torch"):
        return levels[-1]
    if forced not in levels:
        raise OctavoError(f"OCTAVO_KERNELS={forced!r} needs a processor that has it; this one has {', '.join(levels)}")
    return forced


@functools.cache
def level_bit(level: str) -> int:
    """The library's number of a level. Raises OctavoError when this machine lacks it."""
    return LEVELS[choose_level(level)]


def refuse(reason: bytes | None) -> None:
    """Raise ValueError with the library's reason, if it has one."""
    if reason:
        raise ValueError(reason.decode())


def available() -> KernelStatus:
    """Whether the kernels can run here, and at which level; never raises for what is missing."""
    path, forced = library_path(), settings.kernels()
    try:
        levels, problem = machine_levels(), ""
    except MissingDependencyError as error:
        levels, problem = (), str(error)
    if forced == "torch":
        return KernelStatus(not problem, path, None, levels, "OCTAVO_KERNELS=torch asks for the torch runner")
    if problem:
        return KernelStatus(False, path, None, (), problem)
    if forced is not None:
        return KernelStatus(True, path, choose_level(forced), levels, f"OCTAVO_KERNELS={forced} asks for it")
    return KernelStatus(True, path, levels[-1], levels, f"the best of what this processor has: {', '.join(levels)}")
