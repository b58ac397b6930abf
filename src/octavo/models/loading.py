"""Chooses what runs a checkpoint: the C kernels where they are built and know the model, else torch.

Unusual: torch is imported only when it is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Literal, TypeVar

from octavo import settings
from octavo.errors import MissingDependencyError, UnsupportedError
from octavo.models.checkpoint import Checkpoint
from octavo.models.encoders.decoder import MAX_TOKENS, DecoderStates
from octavo.models.encoders.runner import EncoderRunner, Weights
from octavo.models.formats.peft import Adapter
from octavo.models.runner import BLOCK_SIZE, Runner

RunnerName = Literal["kernels", "torch"]
Made = TypeVar("Made")


class EncoderDecoderError(UnsupportedError):
    """A model that reads a source, where one that goes on from a text is wanted."""


def make_runner(
    checkpoint: Checkpoint,
    *,
    runner: RunnerName | None = None,
    quantize: str | None = None,
    num_blocks: int,
    adapters: Sequence[Adapter] = (),
) -> Runner:
    """A runner with KV memory for num_blocks * BLOCK_SIZE positions, over all sequences together.

    runner None: OCTAVO_KERNELS decides, else OCTAVO_DEVICE, a GPU being torch's; else kernels, and torch where they are
    not built or do not know the model.
    quantize: a key of `packing.quantizing.QUANTIZATIONS`, for dense weights on kernels.
    adapters: what rows may name by their number, from 1 on.
    Raises MissingDependencyError when what is needed is not installed, UnsupportedError for an encoder, OctavoError
    when memory does not suffice.
    """
    _refuse_other_kinds(checkpoint)

    def on_kernels() -> Runner:
        from octavo.models.compiled import CompiledRunner
        from octavo.models.packing.cache import pack_cache

        cache = pack_cache(checkpoint, quantize)
        return CompiledRunner(checkpoint, num_blocks=num_blocks, quantize=quantize, cache=cache, adapters=adapters)

    def on_torch(asked: bool) -> Runner:
        if quantize is not None:
            raise UnsupportedError("the torch runner does not quantise; leave out --quantize or --runner torch")
        if settings.kv_cache() is not None:
            raise UnsupportedError(
                f"OCTAVO_KV_CACHE={settings.kv_cache()} is the kernels'; unset it for the torch runner"
            )
        from octavo.models.torch_loading import fitting_runner

        return fitting_runner(checkpoint, num_blocks, adapters)

    return _kernels_or_torch(_of_device(runner), on_kernels, on_torch, fall_back=quantize is None)


def _refuse_other_kinds(checkpoint: Checkpoint) -> None:
    """Raises UnsupportedError for what does not go on from a text."""
    if checkpoint.config.encoder is not None:
        raise UnsupportedError(
            f"{checkpoint.name} is an encoder ({checkpoint.family}), which writes no text; use `octavo embed`"
        )
    if checkpoint.score is not None:
        raise UnsupportedError(
            f"{checkpoint.name} scores texts ({checkpoint.family} for classification); use `octavo rerank`"
        )
    if checkpoint.config.memory is not None:
        raise EncoderDecoderError(
            f"{checkpoint.name} is an encoder-decoder ({checkpoint.family}), which reads a source; `octavo run`, or "
            "octavo.generate.encoder_decoder.torch_seq2seq.Seq2Seq, answers one"
        )


def _of_device(runner: RunnerName | None) -> RunnerName | None:
    """The runner asked for; torch where OCTAVO_DEVICE names a GPU. Raises UnsupportedError where both cannot be."""
    device = settings.device()
    if device is None or device == "cpu":
        return runner
    if runner == "kernels" or (runner is None and settings.kernels() not in (None, "torch")):
        raise UnsupportedError(f"OCTAVO_DEVICE={device} is the torch runner's; unset it for the kernels")
    return "torch"


def make_encoder(
    checkpoint: Checkpoint, *, runner: RunnerName | None = None, weights: Weights | None = None
) -> EncoderRunner:
    """A runner of an encoder's checkpoint, or of a decoder's whose states are wanted.

    weights None: on the kernels bf16 where the processor multiplies it, else int8; f32 on torch.

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

        return CompiledEncoder(checkpoint, weights=weights)

    def on_torch(asked: bool) -> EncoderRunner:
        from octavo.models.encoders.encoder import TorchEncoder

        if weights == "int8" and asked:
            raise UnsupportedError("the torch runner keeps weights in f32 or bf16, not int8; int8 is for the kernels")
        return TorchEncoder(checkpoint, weights="bf16" if weights == "bf16" else "f32")

    return _kernels_or_torch(runner, on_kernels, on_torch)


def _kernels_or_torch(
    runner: RunnerName | None, kernels: Callable[[], Made], torch: Callable[[bool], Made], *, fall_back: bool = True
) -> Made:
    """What one of them makes. runner None: OCTAVO_KERNELS decides, else kernels, and torch where they raise.

    torch: given whether it was asked for. fall_back: whether it may take the kernels' place. Raises
    MissingDependencyError where torch is wanted and not installed.
    """
    if runner is None and settings.kernels() is not None:
        runner = "torch" if settings.kernels() == "torch" else "kernels"
    installed = find_spec("torch") is not None
    if runner == "torch":
        if not installed:
            raise MissingDependencyError(
                "the torch runner needs torch, which is not installed; pip install 'octavo[torch]', or run on the "
                "kernels"
            )
        return torch(True)
    try:
        return kernels()
    except (MissingDependencyError, UnsupportedError):
        if runner == "kernels" or not fall_back or not installed:
            raise
        return torch(False)
