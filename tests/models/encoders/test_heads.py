"""Heads in numpy score what `Transformer` scores, for every row that has one."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.errors import UnsupportedError
from octavo.models.checkpoint import open_checkpoint
from octavo.models.encoders.encoder import TorchEncoder
from octavo.models.encoders.heads import EncoderHead
from octavo.models.encoders.runner import EncoderRow
from octavo.models.transformer import Transformer

PEERS = runpy.run_path(str(Path(__file__).parents[2] / "parity/tiny_encoders.py"))
HEADED = [name for name, variant in PEERS["VARIANTS"].items() if not variant.architecture.endswith("Model")]


@pytest.mark.parametrize("name", HEADED)
def test_scores_in_numpy_equal_torch(name: str, tmp_path: Path) -> None:
    PEERS["make_tiny"](name, tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    model = Transformer.from_checkpoint(checkpoint).requires_grad_(False)
    texts = [torch.arange(5, 5 + length) for length in (7, 1, 12)]
    hidden = TorchEncoder(checkpoint).encode([EncoderRow(text.tolist()) for text in texts])
    scores = EncoderHead(checkpoint)(hidden, np.array([7, 1, 12], np.intp))
    expected = torch.cat([model(text[None]).reshape(-1, scores.shape[1]) for text in texts]).numpy()
    assert scores.shape == expected.shape and scores.dtype == np.float32
    assert np.abs(scores - expected).max() <= 5e-5


def test_a_body_without_a_head_is_refused(tmp_path: Path) -> None:
    PEERS["make_tiny"]("bert", tmp_path)
    with pytest.raises(UnsupportedError, match="no head that scores"):
        EncoderHead(open_checkpoint(tmp_path))
