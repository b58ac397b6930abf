"""A checkpoint on the torch runner of this machine's GPU, or of its CPU, in a type that the free memory holds.

On a GPU a model is bfloat16. On a CPU it is expanded to float32, or to bfloat16 where float32 would not fit; what does
not fit is refused before anything is read.
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
    device = chosen_device()
    dtype = torch.float32 if _float32_fits(checkpoint, num_blocks, device) else torch.bfloat16
    return TorchRunner(checkpoint, num_blocks=num_blocks, dtype=dtype, device=device, adapters=adapters)


def chosen_device() -> torch.device:
    """The device that OCTAVO_DEVICE names, else the first GPU, else the CPU. Raises OctavoError for one that is not
    there."""
    wanted = settings.device() or ("cuda" if torch.cuda.is_available() else "cpu")
    device, seen = torch.device(wanted), torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= seen:
        raise OctavoError(f"OCTAVO_DEVICE={wanted}, but torch sees {seen or 'no'} CUDA devices; take another, or cpu")
    return device


def _float32_fits(checkpoint: Checkpoint, num_blocks: int, device: torch.device) -> bool:
    """On a GPU it is not asked for. Raises OctavoError where bfloat16 does not fit either."""
    config, (kv_heads, key_width) = checkpoint.config, kept_key(checkpoint.config)
    numbers = sum(math.prod(shape) for shape in parameter_shapes(config).values())
    kept = config.num_layers * kv_heads * key_width * BLOCK_SIZE * num_blocks
    numbers += kept if config.attention.latent else 2 * kept
    on_gpu = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else free_memory()
    if not on_gpu and (free is None or 4 * numbers <= free):
        return True
    assert free is not None, "a GPU says it"
    if 2 * numbers > free:
        raise OctavoError(
            f"{checkpoint.name} needs {2 * numbers / 1e9:.1f} GB in bfloat16 on the torch runner and "
            f"{free / 1e9:.1f} GB are free; close programs, shorten the context, or take a smaller model"
        )
    return False
