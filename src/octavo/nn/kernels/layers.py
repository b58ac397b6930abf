"""What differs from layer to layer of a model or an encoder in the kernels' library."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

from octavo.nn.kernels.tables.interface import LayerShape


@dataclass(frozen=True)
class Layer:
    """rotary: an index, None for none. window: positions seen, of an encoder to each side, None for all.

    moe: it has experts instead of an MLP.
    """

    rotary: int | None = None
    window: int | None = None
    moe: bool = False


def layer_shapes(layers: Sequence[Layer], rotaries: int) -> ctypes.Array[LayerShape]:
    """As C reads them. rotaries: how many there are. Raises ValueError for a rotary or a window that cannot be."""
    for layer in layers:
        if layer.rotary is not None and not 0 <= layer.rotary < rotaries:
            raise ValueError(f"rotary {layer.rotary} of {rotaries}")
        if layer.window is not None and not 1 <= layer.window < 2**31:
            raise ValueError(f"a window of {layer.window} positions sees nothing")
    described = [LayerShape(-1 if each.rotary is None else each.rotary, each.window or 0, each.moe) for each in layers]
    return (LayerShape * len(layers))(*described)
