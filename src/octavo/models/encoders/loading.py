"""Chooses what runs an encoder: the C kernels where they are built and know it, else torch, imported only then."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Literal

from octavo import settings
from octavo.errors import MissingDependencyError, UnsupportedError
from octavo.models.checkpoint import Checkpoint
from octavo.models.encoders.decoder import MAX_TOKENS, DecoderStates
from octavo.models.encoders.runner import EncoderRunner, Weights
from octavo.models.loading import make_runner
from octavo.models.runner import BLOCK_SIZE


def make_encoder(
    checkpoint: Checkpoint, *, runner: Literal["kernels", "torch"] | None = None, weights: Weights | None = None
) -> EncoderRunner:
    """A runner of an encoder's checkpoint, or of a decoder's whose states are wanted.

    weights None: bf16 on the kernels, f32 on torch.

    runner None: OCTAVO_KERNELS decides, else kernels, and torch where they are not built or do not know the model.
    Raises MissingDependencyError when what is needed is not installed, UnsupportedError for what cannot be
    done with these weights.
    """
    if checkpoint.config.encoder is None:
        if weights is not None:
            raise UnsupportedError(
                f"{checkpoint.name} is a decoder, whose weights stay as they are; leave {weights} out"
            )
        longest = min(checkpoint.config.context_length, MAX_TOKENS)
        states = replace(checkpoint, score=None)  # its head is applied to what the runner gives
        return DecoderStates(make_runner(states, runner=runner, num_blocks=-(-longest // BLOCK_SIZE)))
    if checkpoint.config.sees_images:
        raise UnsupportedError(f"{checkpoint.name} sees images and reads no text; give an encoder of text")
    if runner is None and settings.kernels() is not None:
        runner = "torch" if settings.kernels() == "torch" else "kernels"
    if runner == "torch":
        return _torch_encoder(checkpoint, weights)
    try:
        from octavo.models.encoders.compiled import CompiledEncoder

        return CompiledEncoder(checkpoint, weights=weights or "bf16")
    except (MissingDependencyError, UnsupportedError):
        if runner == "kernels" or find_spec("torch") is None:
            raise
        return _torch_encoder(checkpoint, None if weights == "int8" else weights)


def _torch_encoder(checkpoint: Checkpoint, weights: Weights | None) -> EncoderRunner:
    if find_spec("torch") is None:
        raise MissingDependencyError(
            "the torch runner needs torch, which is not installed; pip install 'octavo[torch]', or run on the kernels"
        )
    if weights == "int8":
        raise UnsupportedError("the torch runner keeps weights in f32 or bf16, not int8; int8 is for the kernels")
    from octavo.models.encoders.encoder import TorchEncoder

    return TorchEncoder(checkpoint, weights=weights or "f32")
