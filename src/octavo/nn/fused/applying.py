"""Whether an operation of training runs on the kernels here, and the kernels that it runs on."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from octavo.nn.kernels.training import TrainingKernels, training_kernels

TYPES = (torch.float32, torch.bfloat16)


def applies(x: Tensor, types: Collection[torch.dtype] = TYPES) -> bool:
    """Whether x is of one of the types and on the CPU, in training, with kernels."""
    trains = x.device.type == "cpu" and x.dtype in types and torch.is_grad_enabled()
    return trains and training_kernels(torch.get_num_threads()) is not None


def kernels() -> TrainingKernels:
    """Those of as many threads as torch has; only where something `applies`."""
    found = training_kernels(torch.get_num_threads())
    assert found is not None, "asked before"
    return found
