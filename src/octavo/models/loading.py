"""Chooses what runs a checkpoint: the C kernels where they are built and fit, else torch.

torch is imported only when it is chosen. On torch a model is expanded to float32, or to bfloat16 where float32 would
not fit into the memory that is free.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from octavo import settings
from octavo.errors import MissingDependencyError, OctavoError, UnsupportedError
from octavo.models.checkpoint import Checkpoint
from octavo.models.runner import BLOCK_SIZE, Runner
from octavo.nn.shapes import parameter_shapes

MEMORY_FILE = Path("/proc/meminfo")


def make_runner(
    checkpoint: Checkpoint, *, runner: Literal["kernels", "torch"] | None = None, num_blocks: int
) -> Runner:
    """A runner with KV memory for num_blocks * BLOCK_SIZE positions, over all sequences together.

    runner None: OCTAVO_KERNELS decides, else kernels, and torch where they are not built or do not know the model.
    Raises MissingDependencyError when what is needed is not installed, OctavoError when memory does not suffice.
    """
    if runner is None and settings.kernels() is not None:
        runner = "torch" if settings.kernels() == "torch" else "kernels"
    if runner == "torch":
        return _torch_runner(checkpoint, num_blocks)
    try:
        from octavo.models.compiled import CompiledRunner

        return CompiledRunner(checkpoint, num_blocks=num_blocks)
    except (MissingDependencyError, UnsupportedError):
        if runner == "kernels" or find_spec("torch") is None:
            raise
        return _torch_runner(checkpoint, num_blocks)


def _torch_runner(checkpoint: Checkpoint, num_blocks: int) -> Runner:
    if find_spec("torch") is None:
        raise MissingDependencyError(
            "the torch runner needs torch, which is not installed; pip install 'octavo[torch]', or run on the kernels"
        )
    import torch

    from octavo.models.transformer import TorchRunner

    torch.set_num_threads(settings.threads())
    dtype = torch.float32 if _float32_fits(checkpoint, num_blocks) else torch.bfloat16
    return TorchRunner(checkpoint, num_blocks=num_blocks, dtype=dtype)


def _float32_fits(checkpoint: Checkpoint, num_blocks: int) -> bool:
    """Whether weights and KV memory fit at four bytes a number. Raises OctavoError where two are too many as well."""
    config, attention = checkpoint.config, checkpoint.config.attention
    numbers = sum(math.prod(shape) for shape in parameter_shapes(config).values())
    numbers += 2 * config.num_layers * attention.num_kv_heads * attention.head_dim * BLOCK_SIZE * num_blocks
    free = free_memory()
    if free is None or 4 * numbers <= free:
        return True
    if 2 * numbers > free:
        raise OctavoError(
            f"{checkpoint.name} needs {2 * numbers / 1e9:.1f} GB in bfloat16 on the torch runner and "
            f"{free / 1e9:.1f} GB are free; close programs, shorten the context, or take a smaller model"
        )
    return False


def free_memory() -> int | None:
    """Bytes that can be taken without swapping; None where the system does not say so in a file."""
    if not MEMORY_FILE.is_file():
        return None
    for line in MEMORY_FILE.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None
