"""What a run that begins with a decoder trains on a text: all its weights, or a low-rank adapter (`adapt/lora.py`)."""

from __future__ import annotations

import math

from octavo.adapt.lora import Lora, inject
from octavo.adapt.peft_folder import save_adapter
from octavo.errors import OctavoError
from octavo.fetching.sources import resolve
from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.memory import free_memory
from octavo.models.saving import save_checkpoint
from octavo.models.transformer import Transformer
from octavo.nn.shapes import parameter_shapes
from octavo.train.corpus import Corpus
from octavo.train.data import Tokens, Windows, all_windows
from octavo.train.objectives.causal_lm import CausalLM
from octavo.train.recipe import Recipe
from octavo.train.run import Prepared, encode
from octavo.train.run_folder import RunFolder
from octavo.train.trainer import Trainer


def prepare_tuning(recipe: Recipe, init: str, corpus: Corpus, run: RunFolder) -> Prepared[Tokens]:
    """What is trained, and the export of what was. Raises OctavoError for a model that this cannot be done to."""
    checkpoint = open_checkpoint(resolve(init))
    context = _context(recipe, init, checkpoint)
    lora = None if recipe.adapter is None else Lora(**recipe.adapter.model_dump())
    _check_memory(checkpoint, init, all_trained=lora is None)
    tokenizer, stops = checkpoint.tokenizer(), recipe.data.document_separator is not None
    model = Transformer.from_checkpoint(checkpoint)
    if lora is not None:
        narrow = recipe.training.precision == "bf16"
        inject(model, checkpoint.family, lora, seed=recipe.training.seed, narrow=narrow)

    def export(trainer: Trainer[Tokens]) -> None:
        config, family, trained = checkpoint.config, checkpoint.family, trainer.best_parameters()
        if lora is None:
            save_checkpoint(run.model, config, family, trained, tokenizer, checkpoint.generation)
        else:
            save_adapter(run.adapter, trained, lora, family, config, init)

    return Prepared(
        model,
        CausalLM(),
        Windows(encode(corpus.training, tokenizer, end=stops), context, recipe.training.seed),
        all_windows(encode(corpus.validation, tokenizer, end=stops), context),
        export,
        result=run.model if lora is None else run.adapter,
    )


def _context(recipe: Recipe, init: str, checkpoint: Checkpoint) -> int:
    """Tokens of a window."""
    config, wanted = checkpoint.config, recipe.model.context_length
    if config.encoder is not None or config.memory is not None or not config.has_logits:
        raise OctavoError(f"{init} writes no text by itself; give a decoder", param="model.init")
    if wanted > config.context_length:
        raise OctavoError(
            f"model.context_length {wanted} is more than the {config.context_length} tokens of {init}",
            param="model.context_length",
        )
    return wanted


def _check_memory(checkpoint: Checkpoint, init: str, *, all_trained: bool) -> None:
    """Refuse what cannot fit: weights in float32, and gradients and two moments of those that are trained. Activations
    come on top."""
    numbers = sum(math.prod(shape) for shape in parameter_shapes(checkpoint.config).values())
    needed, free = (16 if all_trained else 4) * numbers, free_memory()
    if free is not None and needed > free:
        remedy = "train an [adapter], or take" if all_trained else "take"
        raise OctavoError(
            f"training {init} needs {needed / 1e9:.1f} GB at least and {free / 1e9:.1f} GB are free; "
            f"{remedy} a smaller model",
            param="model.init",
        )
