"""Chooses what runs an encoder: the C kernels where they are built and know it, else torch, imported only then."""

from __future__ import annotations

from dataclasses import replace

from octavo.errors import UnsupportedError
from octavo.models.checkpoint import Checkpoint
from octavo.models.encoders.decoder import MAX_TOKENS, DecoderStates
from octavo.models.encoders.runner import EncoderRunner, Weights
from octavo.models.loading import RunnerName, kernels_or_torch, make_runner
from octavo.models.runner import BLOCK_SIZE


def make_encoder(
    checkpoint: Checkpoint, *, runner: RunnerName | None = None, weights: Weights | None = None
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

    def on_kernels() -> EncoderRunner:
        from octavo.models.encoders.compiled import CompiledEncoder

        return CompiledEncoder(checkpoint, weights=weights or "bf16")

    def on_torch(asked: bool) -> EncoderRunner:
        from octavo.models.encoders.encoder import TorchEncoder

        if weights == "int8" and asked:
            raise UnsupportedError("the torch runner keeps weights in f32 or bf16, not int8; int8 is for the kernels")
        return TorchEncoder(checkpoint, weights="bf16" if weights == "bf16" else "f32")

    return kernels_or_torch(runner, on_kernels, on_torch)
