"""How what an image encoder gives becomes embeddings of a language model. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from octavo.nn.config import Activation


@dataclass(frozen=True)
class ProjectorConfig:
    """in_size: the encoder's width. out_size: the language model's. activation: between two layers; None: one layer.

    skip_class: the first position is left out. merge: how many positions become one, one beside the other; along: of
    those that follow each other, or of a square.
    """

    in_size: int
    out_size: int
    activation: Activation | None = None
    bias: bool = True
    skip_class: bool = False
    merge: int = 1
    along: Literal["row", "square"] = "row"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape of every parameter; matrices are (out, in)."""
        layers = {"out": self.in_size * self.merge} if self.activation is None else {"up": self.in_size * self.merge}
        if self.activation is not None:
            layers["out"] = self.out_size
        shapes: dict[str, tuple[int, ...]] = {}
        for name, width in layers.items():
            shapes[f"{name}.weight"] = (self.out_size, width)
            if self.bias:
                shapes[f"{name}.bias"] = (self.out_size,)
        return shapes
