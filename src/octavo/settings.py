"""Every environment variable and folder that Octavo reads, in one place; nothing else reads `os.environ`.

Variables: OCTAVO_HOME (moves all folders), OCTAVO_OFFLINE, OCTAVO_KERNELS (one of KERNEL_CHOICES), OCTAVO_THREADS,
OCTAVO_PACK_CACHE (0: off), OCTAVO_KV_CACHE (int8), OCTAVO_API_KEY; and NO_COLOR and TERM, which all programs share.
"""

from __future__ import annotations

import os
from pathlib import Path

from octavo.errors import OctavoError

KERNEL_CHOICES = ("c", "neon", "avx2", "avxvnni", "avx512", "amx", "torch")


def cache_dir() -> Path:
    """The folder for what can be fetched or computed again: models, packed weights."""
    home = os.environ.get("OCTAVO_HOME")
    if home:
        return Path(home) / "cache"
    import platformdirs  # costs a few milliseconds; not needed when OCTAVO_HOME is set

    return Path(platformdirs.user_cache_dir("octavo"))


def models_dir() -> Path:
    """The folder that holds installed models, one folder a model."""
    return cache_dir() / "models"


def state_dir() -> Path:
    """The folder for what people made and would miss: a server's conversations."""
    home = os.environ.get("OCTAVO_HOME")
    if home:
        return Path(home) / "state"
    import platformdirs

    return Path(platformdirs.user_state_dir("octavo"))


def offline() -> bool:
    """Whether the network must not be touched (OCTAVO_OFFLINE=1)."""
    return os.environ.get("OCTAVO_OFFLINE", "").lower() not in ("", "0", "false", "no")


def kernels() -> str | None:
    """The instruction set or runner that OCTAVO_KERNELS forces; None: chosen by what the machine has."""
    choice = os.environ.get("OCTAVO_KERNELS", "").lower() or None
    if choice is not None and choice not in KERNEL_CHOICES:
        raise OctavoError(f"OCTAVO_KERNELS={choice!r} is not one of {', '.join(KERNEL_CHOICES)}")
    return choice


def kv_cache() -> str | None:
    """What keys and values are kept in (OCTAVO_KV_CACHE=int8: in half the memory); None: what fits the weights."""
    choice = os.environ.get("OCTAVO_KV_CACHE", "").lower() or None
    if choice not in (None, "int8"):
        raise OctavoError(f"OCTAVO_KV_CACHE={choice!r} is not int8; unset it for the cache that fits the weights")
    return choice


def pack_cache() -> bool:
    """Whether packed weights are kept on disk for the next load (unless OCTAVO_PACK_CACHE=0)."""
    return os.environ.get("OCTAVO_PACK_CACHE", "").lower() not in ("0", "false", "no")


def threads() -> int:
    """Threads for computing: OCTAVO_THREADS, or the processors this process may use."""
    text = os.environ.get("OCTAVO_THREADS")
    if text:
        if not text.isdecimal() or not 1 <= int(text) <= 256:
            raise OctavoError(f"OCTAVO_THREADS={text!r} is not a whole number from 1 to 256")
        return int(text)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def api_key() -> str | None:
    """The key that the server asks of its clients (OCTAVO_API_KEY); None: no key."""
    return os.environ.get("OCTAVO_API_KEY") or None


def colours() -> bool:
    """Whether a terminal may be shown colours (NO_COLOR unset or empty, and TERM not dumb)."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
