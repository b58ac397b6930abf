"""A checkpoint on the torch runner of this machine's CPU, in the widest type that the free memory holds.

A model is expanded to float32, or to bfloat16 where float32 would not fit; where neither does, it is refused before
anything is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from octavo import settings
from octavo.errors import OctavoError
from octavo.models.checkpoint import Checkpoint
from octavo.models.formats.peft import Adapter
from octavo.models.memory import free_memory
from octavo.models.runner import BLOCK_SIZE
from octavo.models.transformer import TorchRunner
from octavo.nn.shapes import kept_key, parameter_shapes


def fitting_runner(checkpoint: Checkpoint, num_blocks: int, adapters: Sequence[Adapter] = ()) -> TorchRunner:
    """Raises OctavoError when weights and KV memory are more than the free memory, at two bytes a number."""
    torch.set_num_threads(settings.threads())
    dtype = torch.float32 if _float32_fits(checkpoint, num_blocks) else torch.bfloat16
    return TorchRunner(checkpoint, num_blocks=num_blocks, dtype=dtype, adapters=adapters)


def _float32_fits(checkpoint: Checkpoint, num_blocks: int) -> bool:
    config, (kv_heads, key_width) = checkpoint.config, kept_key(checkpoint.config)
    numbers = sum(math.prod(shape) for shape in parameter_shapes(config).values())
    kept = config.num_layers * kv_heads * key_width * BLOCK_SIZE * num_blocks
    numbers += kept if config.attention.latent else 2 * kept
    free = free_memory()
    if free is None or 4 * numbers <= free:
        return True
    if 2 * numbers > free:
        raise OctavoError(
            f"{checkpoint.name} needs {2 * numbers / 1e9:.1f} GB in bfloat16 on the torch runner and "
            f"{free / 1e9:.1f} GB are free; close programs, shorten the context, or take a smaller model"
        )
    return False
