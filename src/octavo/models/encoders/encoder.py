"""`TorchEncoder`: the `EncoderRunner` on torch, for GPUs and as the reference of the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from octavo import settings
from octavo.models.checkpoint import Checkpoint
from octavo.models.encoders.runner import EncoderRow, Floats, lengths_of
from octavo.models.transformer import Transformer

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


class TorchEncoder:
    """Implements `EncoderRunner`; rows of one call are padded to the longest, so rows of like length go together."""

    def __init__(
        self, checkpoint: Checkpoint, *, weights: Literal["f32", "bf16"] = "f32", device: torch.device | str = "cpu"
    ) -> None:
        dtype = DTYPES[weights]
        torch.set_num_threads(settings.threads())
        self.config = checkpoint.config
        self.name = f"torch {torch.device(device).type} {str(dtype).removeprefix('torch.')}"
        self._model = Transformer.from_checkpoint(checkpoint, dtype=dtype, device=device)
        self._device = device

    @torch.inference_mode()
    def encode(self, rows: Sequence[EncoderRow]) -> Floats:
        """As `EncoderRunner.encode`. Raises ContextLengthError for a row longer than the context."""
        lengths = lengths_of(rows, self.config)
        mask = self._padded([np.ones(length) for length in lengths]).bool()
        tokens = self._padded([np.asarray(row.tokens) for row in rows])
        types = self._padded(
            [np.zeros(len(row.tokens)) if row.types is None else np.asarray(row.types) for row in rows]
        )
        positions = torch.arange(tokens.shape[1], device=self._device).expand_as(tokens)
        x = self._model.embed(tokens, positions, types)
        hidden = self._model.hidden(x, positions, mask=None if mask.all() else mask)
        return hidden[mask].float().cpu().numpy()

    def _padded(self, rows: Sequence[np.ndarray]) -> Tensor:
        table = np.zeros((len(rows), max(map(len, rows))), np.int64)
        for index, row in enumerate(rows):
            table[index, : len(row)] = row
        return torch.from_numpy(table).to(self._device)

    def close(self) -> None:
        """Nothing is held that Python does not free."""
