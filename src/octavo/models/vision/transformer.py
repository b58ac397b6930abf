"""`VisionLanguageModel`: images and text in one sequence, in torch.

Unusual: the language model knows nothing of images. Where a text has the image token, the position's embedding is one
that the projector made.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from octavo.errors import OctavoError
from octavo.models.torch_tensors import to_torch
from octavo.models.transformer import Transformer
from octavo.models.vision.folder import VisionCheckpoint
from octavo.nn.scoring import positions_of
from octavo.nn.vision.projector import Projector


class VisionLanguageModel(nn.Module):
    """image: a Transformer that sees pixels. projector: into the language model's embeddings. text: a decoder."""

    def __init__(self, image: Transformer, projector: Projector, text: Transformer, image_token: int) -> None:
        super().__init__()
        self.image = image
        self.projector = projector
        self.text = text
        self.image_token = image_token

    @classmethod
    def from_checkpoint(
        cls, checkpoint: VisionCheckpoint, *, dtype: torch.dtype = torch.float32
    ) -> VisionLanguageModel:
        """The checkpoint's weights, in `dtype`."""
        projector = Projector(checkpoint.projector_config)
        tensors = {name: to_torch(stored, dtype=dtype) for name, stored in checkpoint.projector.items()}
        projector.load_state_dict(tensors, assign=True)
        return cls(
            Transformer.from_checkpoint(checkpoint.image, dtype=dtype),
            projector,
            Transformer.from_checkpoint(checkpoint.text, dtype=dtype),
            checkpoint.image_token,
        )

    def see(self, pixels: Tensor) -> Tensor:
        """(images, channels, height, width) -> (images, positions, hidden_size of the language model)."""
        return self.projector(self.image.see(pixels))  # type: ignore[no-any-return]

    def embed(self, tokens: Tensor, positions: Tensor, seen: Tensor) -> Tensor:
        """The text's embeddings, and `seen`, (images, positions, hidden_size), in order where its image tokens are.

        tokens, positions: (batch, tokens). Raises OctavoError where there are not as many as the images have positions.
        """
        places = tokens == self.image_token
        count, given = int(places.sum()), seen.shape[0] * seen.shape[1]
        if count != given:
            raise OctavoError(f"the text has {count} image tokens, but its images have {given} positions")
        x = self.text.words(tokens)
        return self.text.placed(x.masked_scatter(places[..., None], seen.type_as(x)), positions)

    def forward(self, tokens: Tensor, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens: (batch, tokens), with an image token for each position of an image; pixels: (images, ...).

        mask: as in `Transformer.forward`. Returns logits (batch, tokens, vocab_size).
        """
        mask = None if mask is None else mask.bool()
        positions = positions_of(tokens.shape[1], mask, tokens.device).expand_as(tokens)
        x = self.embed(tokens, positions, self.see(pixels))
        return self.text.logits(self.text.hidden(x, positions, mask=mask))
