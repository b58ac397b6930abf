"""From what an image encoder gives to embeddings of a language model.

MiniGPT-4 (Zhu et al. 2023, arXiv 2304.10592) has one layer; MiniGPT-v2 (Chen et al. 2023, arXiv 2310.09478) joins four
patches that follow each other first; LLaVA-1.5 (Liu et al. 2023, arXiv 2310.03744) has two layers; Idefics3 and SmolVLM
join the patches of a square.
"""

from __future__ import annotations

from torch import Tensor, nn

from octavo.nn.linear import Linear
from octavo.nn.mlp import ACTIVATIONS
from octavo.nn.vision.config import ProjectorConfig


class Projector(nn.Module):
    """up, if there are two layers, and out."""

    def __init__(self, config: ProjectorConfig) -> None:
        super().__init__()
        width, two = config.in_size * config.merge, config.activation is not None
        self.config = config
        self.up = Linear(width, config.out_size, bias=config.bias) if two else None
        self.out = Linear(config.out_size if two else width, config.out_size, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(images, positions, in_size) -> (images, positions / merge, out_size)."""
        config = self.config
        x = x[:, 1:] if config.skip_class else x
        if config.merge > 1:
            x = merged(x, config.merge) if config.along == "row" else squared(x, round(config.merge**0.5))
        if self.up is not None and config.activation is not None:
            x = ACTIVATIONS[config.activation](self.up(x))
        return self.out(x)  # type: ignore[no-any-return]


def merged(x: Tensor, count: int) -> Tensor:
    """Positions that follow each other become one: (images, n, width) -> (images, n / count, count * width)."""
    return x.reshape(len(x), x.shape[1] // count, -1)


def squared(x: Tensor, side: int) -> Tensor:
    """Each square of side * side patches becomes a position: its rows one after another, as the squares are."""
    images, positions, width = x.shape
    across = round(positions**0.5) // side
    squares = x.reshape(images, across, side, across, side, width).transpose(2, 3)
    return squares.reshape(images, across * across, side * side * width)
