"""AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) with decay on matrices only, and its moments by parameter name.

Unusual: moments are saved and restored as named arrays, so that a checkpoint is readable without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from octavo.errors import FormatError, UnsupportedError
from octavo.train.recipe import OptimizerSettings

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that want gradients, by name, each once (a tied head is its embedding).

    Raises UnsupportedError for one that is not fp32: in bf16, 1 + 0.001 = 1 and small updates vanish.
    """
    found = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in found.items():
        if parameter.dtype != torch.float32:
            raise UnsupportedError(
                f"{name} is {parameter.dtype}; weights are trained in float32 (training.precision is for products)"
            )
    return found


def adamw(
    parameters: Mapping[str, nn.Parameter],
    settings: OptimizerSettings,
    rate_scale: Callable[[str], float] = lambda name: 1.0,
) -> torch.optim.AdamW:
    """The optimizer; norms and biases (ndim < 2) are not decayed.

    rate_scale: a parameter's name -> what the learning rate is multiplied by for it; kept in its group as `scale`.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        groups.setdefault((rate_scale(name), parameter.ndim >= 2), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": group, "weight_decay": settings.weight_decay if decayed else 0.0, "scale": scale}
            for (scale, decayed), group in sorted(groups.items(), key=lambda item: item[0], reverse=True)
        ],
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )


def moments(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, NDArray[Any]]:
    """`moment/parameter` to array; empty before the first step."""
    return {
        f"{moment}/{name}": optimizer.state[parameter][moment].detach().cpu().numpy()
        for name, parameter in parameters.items()
        for moment in MOMENTS
        if parameter in optimizer.state
    }


def restore_moments(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], saved: Mapping[str, NDArray[Any]]
) -> None:
    """The inverse of `moments`."""
    for name, parameter in parameters.items():
        present = [moment for moment in MOMENTS if f"{moment}/{name}" in saved]
        if present and len(present) < len(MOMENTS):
            raise FormatError(f"the checkpoint lacks moments of {name}")
        optimizer.state[parameter] = {m: torch.tensor(saved[f"{m}/{name}"], device=parameter.device) for m in present}


@torch.no_grad()
def restore_parameters(parameters: Mapping[str, nn.Parameter], saved: Mapping[str, NDArray[np.float32]]) -> None:
    """Copy saved values into the parameters. Raises FormatError when names or shapes are of another model."""
    if set(saved) != set(parameters):
        name = min(set(saved) ^ set(parameters))
        raise FormatError(f"the checkpoint is of another model: {name} is in only one of the two")
    for name, parameter in parameters.items():
        if saved[name].shape != tuple(parameter.shape):
            raise FormatError(f"the checkpoint's {name} is {saved[name].shape}, the model's {tuple(parameter.shape)}")
        parameter.copy_(torch.from_numpy(saved[name]))
