"""Cutting images into patches (Dosovitskiy et al. 2020, arXiv 2010.11929)."""

from __future__ import annotations

from torch import Tensor

from octavo.nn.config import PatchConfig


def cut(pixels: Tensor, config: PatchConfig) -> Tensor:
    """(batch, channels, height, width) -> (batch, patches, channels * patch_size ** 2), row by row.

    A layer on such a vector is the convolution whose stride is its width. Pixels past the last whole patch are left
    out, as a convolution leaves them.
    """
    size, side = config.patch_size, config.image_size // config.patch_size
    batch, channels = pixels.shape[:2]
    whole = pixels[..., : side * size, : side * size]
    squares = whole.reshape(batch, channels, side, size, side, size).permute(0, 2, 4, 1, 3, 5)
    return squares.reshape(batch, side * side, channels * size * size)
