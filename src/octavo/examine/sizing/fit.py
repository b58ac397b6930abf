"""Whether a model fits this machine, and how fast the memory lets it decode: the memory wall as a table.

One sequence at a time: no token comes before its weights and its cache have been read. With more sequences a pass over
the weights serves them all, so arithmetic takes over; `crossover` says from how many on. Arithmetic is measured in
float32, which integer kernels can beat, so the bound that is printed is memory's alone.
Source: Gholami et al. 2024 (arXiv 2403.14123).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from octavo.errors import OctavoError
from octavo.examine.sizing.cost import (
    FORMATS,
    Parameters,
    bytes_read,
    count_parameters,
    flops_per_token,
    kv_values,
    kv_values_per_token,
    weight_sizes,
)
from octavo.examine.sizing.described import Described
from octavo.examine.sizing.machine import Machine
from octavo.nn.config import TransformerConfig

KV_BYTES = 2
"""Bytes of a number in the cache, but four beside float32 weights."""


@dataclass(frozen=True)
class Speeds:
    """What a machine can do. bandwidth: bytes in use -> bytes a second. flops: float32 operations a second."""

    bandwidth: Callable[[int], float]
    flops: float


@dataclass(frozen=True)
class FormatFit:
    """A model with its weights in one format. Bytes; None where it is not known whether it fits.

    memory: weights, and the cache of one sequence at the context. read: for one token of it. tokens_per_second: no more
    than this, by the memory. crossover: sequences from which on float32 arithmetic takes longer; None: it never does.
    """

    format: str
    weights: int
    memory: int
    fits_memory: bool | None
    fits_gpu: bool | None
    read: int
    tokens_per_second: float
    crossover: int | None


@dataclass(frozen=True)
class Fit:
    """A model and what it takes at a context. kv_*: at two bytes a number. arithmetic_*: that float32 would allow."""

    name: str
    family: str
    parameters: Parameters
    context: int
    flops_per_token: int
    kv_bytes_per_token: int
    kv_bytes: int
    arithmetic_tokens_per_second: float
    formats: tuple[FormatFit, ...]


def fit(model: Described, machine: Machine, speeds: Speeds, *, context: int | None = None) -> Fit:
    """What the model takes here. context None: all that it was made for.

    Raises OctavoError for a context that the model does not have.
    """
    config = model.config
    if context is not None and not 1 <= context <= config.context_length:
        raise OctavoError(f"context is {context}; {model.name} takes 1 to {config.context_length}", param="context")
    context = context or config.context_length
    flops = flops_per_token(config, context)
    sizes: dict[str, Mapping[str, int]] = {name: weight_sizes(config, name) for name in FORMATS}
    if model.stored is not None:
        sizes["as stored"] = model.stored
    return Fit(
        model.name,
        model.family,
        count_parameters(config),
        context,
        flops,
        KV_BYTES * kv_values_per_token(config),
        KV_BYTES * kv_values(config, context),
        speeds.flops / flops,
        tuple(_format_fit(name, weights, config, context, machine, speeds) for name, weights in sizes.items()),
    )


def _format_fit(
    name: str, sizes: Mapping[str, int], config: TransformerConfig, context: int, machine: Machine, speeds: Speeds
) -> FormatFit:
    weights, streamed = sum(sizes.values()), bytes_read(config, sizes)
    cache = (4 if name == "float32" else KV_BYTES) * kv_values(config, context)
    memory, read = weights + cache, streamed + cache
    bandwidth, computing = speeds.bandwidth(read), flops_per_token(config, context) / speeds.flops
    return FormatFit(
        name,
        weights,
        memory,
        None if machine.free_memory is None else memory <= machine.free_memory,
        any(memory <= gpu.free for gpu in machine.gpus) if machine.gpus else None,
        read,
        bandwidth / read,
        crossover(streamed / bandwidth, cache / bandwidth, computing),
    )


def crossover(weights: float, cache: float, computing: float) -> int | None:
    """The fewest sequences whose arithmetic outlasts the reading: n * computing >= weights + n * cache, in seconds.

    None: never, since each sequence's own cache takes longer to read than its operations to do.
    """
    return math.ceil(weights / (computing - cache)) if computing > cache else None
