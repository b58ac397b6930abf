"""Where training computes, in which precision, and the random generators there."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from octavo.errors import UnsupportedError
from octavo.train.recipe import TrainingSettings


def random_states() -> dict[str, NDArray[np.uint8]]:
    """torch's generators, by device."""
    states = {"cpu": torch.get_rng_state().numpy()}
    if torch.cuda.is_available():
        states |= {f"cuda{i}": state.numpy() for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def restore_random_states(states: dict[str, NDArray[np.uint8]]) -> None:
    """The inverse of `random_states`; devices that this machine lacks are left out."""
    torch.set_rng_state(torch.from_numpy(states["cpu"]))
    for i in range(torch.cuda.device_count()):
        if f"cuda{i}" in states:
            torch.cuda.set_rng_state(torch.from_numpy(states[f"cuda{i}"]), i)


def choose_device(training: TrainingSettings) -> torch.device:
    """The device that the settings ask for. Raises UnsupportedError when it, or bf16 on it, is not there."""
    has_gpu = torch.cuda.is_available()
    if training.device == "cuda" and not has_gpu:
        raise UnsupportedError("training.device is 'cuda', but torch finds no GPU; use 'cpu' or 'auto'")
    device = torch.device("cuda" if has_gpu and training.device != "cpu" else "cpu")
    if training.precision == "bf16":
        on_gpu = device.type == "cuda"
        known = torch.cuda.is_bf16_supported() if on_gpu else torch.ops.mkldnn._is_mkldnn_bf16_supported()
        if not known:
            raise UnsupportedError(f"training.precision is 'bf16', which this {device.type} lacks; use 'fp32'")
    return device
