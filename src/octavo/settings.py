"""Every environment variable, folder and file of settings that Octavo reads, in one place; nothing else reads
`os.environ`.

A setting is its variable's (OCTAVO_THREADS), else the one of config.toml (`threads = 2`), else the default. Variables:
those of SETTINGS; OCTAVO_HOME, which moves all folders; OCTAVO_API_KEY and OCTAVO_SEARCH_KEY, which no file
holds; OCTAVO_COMMAND_OPTION and the tables of config.toml, which the command line reads; and NO_COLOR, FORCE_COLOR and
TERM, which all programs share.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from octavo.errors import FormatError, OctavoError, UnknownNameError, nearest

KERNEL_CHOICES = ("c", "neon", "avx2", "avxvnni", "avx512vnni", "avx512", "amx", "torch")
DEVICE: Final = re.compile(r"cpu|cuda(:\d{1,3})?")
SETTINGS: Final = {
    "offline": "never touch the network",
    "kernels": "the instruction set or runner that computes",
    "threads": "threads for computing",
    "pin-threads": "keep each of the kernels' threads on a core of its own",
    "pack-cache": "keep packed weights on disk for the next load",
    "kv-cache": "what keys and values are kept in",
    "device": "what the torch runner computes on",
}
"""The keys of config.toml outside its tables; each has a variable of that name, in capitals after OCTAVO_."""
OTHER_VARIABLES: Final = ("OCTAVO_HOME", "OCTAVO_API_KEY", "OCTAVO_SEARCH_KEY")


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


def config_file() -> Path:
    """The file of settings, whether or not there is one."""
    home = os.environ.get("OCTAVO_HOME")
    if home:
        return Path(home) / "config.toml"
    import platformdirs

    return Path(platformdirs.user_config_dir("octavo")) / "config.toml"


def mcp_file() -> Path:
    """The file that names MCP servers, beside config.toml."""
    return config_file().with_name("mcp.toml")


def config() -> Mapping[str, Any]:
    """What config.toml says; nothing where there is none. Raises OctavoError for a malformed file or an unknown key."""
    path = config_file()
    try:
        return _read(path, path.stat().st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}") from None


@lru_cache(maxsize=4)
def _read(path: Path, modified: int) -> Mapping[str, Any]:
    """modified: when it was last written, so that a new version is read anew."""
    import tomllib  # 5 ms that a machine without the file need not spend

    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is not TOML: {error}") from None
    for key, value in found.items():
        if not isinstance(value, dict) and key not in SETTINGS:
            hint = nearest(key, SETTINGS) or f"; there are {', '.join(SETTINGS)}, and a table for each command"
            raise UnknownNameError(f"{path}: there is no setting {key!r}{hint}")
    return found


def variable(*names: str) -> str:
    """The environment variable of a setting, or of a command and its option: OCTAVO_SERVE_MAX_QUEUE."""
    return "_".join(("OCTAVO", *names)).upper().replace("-", "_")


def environment() -> dict[str, str]:
    """The variables that are set and begin with OCTAVO_."""
    return {name: value for name, value in os.environ.items() if name.startswith("OCTAVO_") and value}


def origin(name: str) -> str:
    """Where a setting comes from: its variable's name, config.toml's path, or `default`."""
    if os.environ.get(variable(name)):
        return variable(name)
    return str(config_file()) if name in config() else "default"


def _said(name: str) -> tuple[Any, str]:
    """What was said of a setting, None for nothing, and how an error names it."""
    text = os.environ.get(variable(name))
    if text:
        return text, f"{variable(name)}={text!r}"
    found = config().get(name)
    return found, f"{config_file()}: {name} = {found!r}"


def offline() -> bool:
    """Whether the network must not be touched (OCTAVO_OFFLINE=1)."""
    return _flag("offline", False)


def kernels() -> str | None:
    """The instruction set or runner that OCTAVO_KERNELS forces; None: chosen by what the machine has."""
    found, named = _said("kernels")
    choice = found.lower() if isinstance(found, str) else found
    if choice is not None and choice not in KERNEL_CHOICES:
        raise OctavoError(f"{named} is not one of {', '.join(KERNEL_CHOICES)}")
    return choice


def kv_cache() -> str | None:
    """What keys and values are kept in (OCTAVO_KV_CACHE=int8: in half the memory); None: what fits the weights."""
    found, named = _said("kv-cache")
    choice = found.lower() if isinstance(found, str) else found
    if choice not in (None, "int8"):
        raise OctavoError(f"{named} is not int8; leave it out for the cache that fits the weights")
    return choice


def device() -> str | None:
    """What the torch runner computes on (OCTAVO_DEVICE): cpu, cuda or cuda:N; None: a GPU where torch sees one."""
    found, named = _said("device")
    if found is not None and not (isinstance(found, str) and DEVICE.fullmatch(found.lower())):
        raise OctavoError(f"{named} is not cpu, cuda or cuda:N, the number of a GPU")
    return None if found is None else found.lower()


def pack_cache() -> bool:
    """Whether packed weights are kept on disk for the next load (unless OCTAVO_PACK_CACHE=0)."""
    return _flag("pack-cache", True)


def threads() -> int:
    """Threads for computing: OCTAVO_THREADS, or the cores this process may use, or the share of them that it is given.

    A core that runs two threads at once counts once, as both wait for the same arithmetic.
    """
    found, named = _said("threads")
    if isinstance(found, str) and found.isdecimal() and found.isascii():
        found = int(found)
    if found is not None:
        if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= 256:
            raise OctavoError(f"{named} is not a whole number from 1 to 256")
        return found
    return min(len(processors()), _quota(), 256)


def pin_threads() -> bool:
    """Whether each of the kernels' threads is to stay on a core of its own (OCTAVO_PIN_THREADS=1)."""
    return _flag("pin-threads", False)


def processors() -> tuple[int, ...]:
    """A processor's number for each core that this process may use."""
    if not hasattr(os, "sched_getaffinity"):
        return tuple(range(os.cpu_count() or 1))
    cores: dict[str, int] = {}
    for number in sorted(os.sched_getaffinity(0)):
        siblings = _text(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list", str(number))
        cores.setdefault(siblings, number)
    return tuple(cores.values())


def _quota() -> int:
    """Processors' worth of time that a container gives this process, rounded up; a large number without a limit."""
    quota, _, period = _text("/sys/fs/cgroup/cpu.max", "max 100000").partition(" ")
    limited = quota.isdecimal() and period.isdecimal() and int(quota) and int(period)
    return -(-int(quota) // int(period)) if limited else 1 << 20


def _text(path: str, otherwise: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return otherwise


def _flag(name: str, default: bool) -> bool:
    found, named = _said(name)
    if found is None or isinstance(found, bool):
        return default if found is None else found
    word = found.lower() if isinstance(found, str) else ""
    if word not in ("1", "true", "yes", "0", "false", "no"):
        raise OctavoError(f"{named} is neither 1 nor 0")
    return word in ("1", "true", "yes")


def api_key() -> str | None:
    """The key that the server asks of its clients (OCTAVO_API_KEY); None: no key."""
    return os.environ.get("OCTAVO_API_KEY") or None


def search_key() -> str | None:
    """The key of a web search (OCTAVO_SEARCH_KEY); None: no key."""
    return os.environ.get("OCTAVO_SEARCH_KEY") or None


def colours(*, terminal: bool) -> bool:
    """Whether to write colours: never with NO_COLOR, always with FORCE_COLOR, else to a terminal that is not dumb."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (terminal and os.environ.get("TERM") != "dumb")
