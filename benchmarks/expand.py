"""A GGUF file's weights as a Hugging Face folder in bfloat16, for peers that read no GGUF.

Usage: expand.py FILE.gguf INTO
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from octavo.models.checkpoint import open_checkpoint
from octavo.models.saving import save_checkpoint
from octavo.models.tensors import StoredTensor


def expand(model: Path, folder: Path) -> None:
    """Write the folder."""
    source = open_checkpoint(model)
    tensors = {name: _rounded(stored) for name, stored in source.tensors.items()}
    save_checkpoint(folder, source.config, source.family, tensors, None, source.generation)


def _rounded(stored: StoredTensor) -> StoredTensor:
    bits = torch.from_numpy(stored.dequantize()).bfloat16().view(torch.uint16).numpy()
    return StoredTensor.from_bits("bf16", bits)


if __name__ == "__main__":
    expand(Path(sys.argv[1]), Path(sys.argv[2]))
