"""How much memory is free: asked before a model is expanded, before one is trained, and by `octavo doctor`."""

from __future__ import annotations

from pathlib import Path

MEMORY_FILE = Path("/proc/meminfo")


def free_memory() -> int | None:
    """Bytes that can be taken without swapping; None where the system does not say so in a file."""
    if not MEMORY_FILE.is_file():
        return None
    for line in MEMORY_FILE.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None
