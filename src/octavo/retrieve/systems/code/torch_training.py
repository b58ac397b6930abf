"""A CodeT5+ trained on functions and what they are said to do, by the second stage's four losses.

Contrast: a text's vector is nearest its own code's among the batch's, both ways. Matching: the decoder tells a text's
own code from the one that the vectors confuse it with most. Generation: code of text, and text of code. Unusual:
negatives are the batch's own; the paper adds a queue of a slowly following encoder's vectors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from torch import Tensor, nn
from torch.nn import functional

from octavo.generate.encoder_decoder.torch_steps import padded
from octavo.models.checkpoint import GenerationDefaults
from octavo.models.formats.safetensors import read_safetensors, write_safetensors
from octavo.models.saving import save_checkpoint
from octavo.models.torch_tensors import from_torch
from octavo.models.transformer import Transformer
from octavo.progress import track
from octavo.retrieve.systems.code.corpus import Function, read_functions
from octavo.retrieve.systems.code.torch_codet5p import CODE, CODE_TOKENS, MATCHING, TEXT, TEXT_TOKENS, CodeT5p, search
from octavo.retrieve.systems.recipes import CodeRecipe
from octavo.text.tokenizer import Tokenizer
from octavo.train.data import Shuffled
from octavo.train.metrics import Event, Noted
from octavo.train.objectives.objective import Batch
from octavo.train.run import Prepared, RunResult, run_training
from octavo.train.run_folder import RunFolder
from octavo.train.trainer import Trainer
from octavo.writing import whole_folder

SPECIAL = ("<pad>", "<s>", "</s>", MATCHING, TEXT, CODE)
TEMPERATURE = 0.07
WIDTH = 256


def train_codet5p(
    recipe: CodeRecipe,
    data: Path,
    folder: Path,
    *,
    restart: bool = False,
    on_event: Callable[[Event], object] = lambda event: None,
) -> RunResult:
    """Train on a folder's functions; resume what is there unless `restart`."""
    functions = read_functions(data)
    training, held_out = split(functions, recipe.data.held_out)
    listed = json.dumps([[one.path, one.line, one.code] for one in functions])
    digest = hashlib.sha256(listed.encode()).hexdigest()

    def prepare(run: RunFolder) -> Prepared[int]:
        on_event(Noted(f"{len(training):,} functions to train on and {len(held_out):,} held out, of {data}"))
        tokenizer = _tokenizer(run, training, recipe.model.vocab_size)
        model = fresh(recipe, tokenizer)
        lengths = (recipe.model.text_tokens, recipe.model.code_tokens)
        return Prepared(
            model,
            CodeObjective(model, [*training, *held_out], lengths),
            Shuffled(range(len(training)), recipe.training.seed),
            range(len(training), len(training) + len(held_out)),
            lambda trainer: _export(trainer, model, run.model),
        )

    return run_training(recipe, digest, folder, prepare, restart=restart, on_event=on_event)


def split(functions: Sequence[Function], held_out: float) -> tuple[list[Function], list[Function]]:
    """Training and held-out functions; those of one file stay together, so that near copies are not on both sides."""
    paths = sorted({one.path for one in functions})
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(paths)).tolist()
    kept_out = {paths[at] for at in order[: round(len(paths) * held_out)]}
    return (
        [one for one in functions if one.path not in kept_out],
        [one for one in functions if one.path in kept_out],
    )


def fresh(recipe: CodeRecipe, tokenizer: Tokenizer) -> CodeT5p:
    """A model with fresh weights."""
    config = recipe.model.transformer(tokenizer.vocab_size)
    model = Transformer(config, seed=recipe.training.seed)
    generator = torch.Generator().manual_seed(recipe.training.seed)
    heads = nn.Linear(config.hidden_size, WIDTH), nn.Linear(config.hidden_size, 2)
    with torch.no_grad():
        for head in heads:
            head.weight.normal_(0, config.hidden_size**-0.5, generator=generator)
            head.bias.zero_()
    assert tokenizer.eos_id is not None, "made with it"
    return CodeT5p(model, tokenizer, *heads, tokenizer.eos_id)


class CodeObjective:
    """The four losses; an example is a function's number. A batch's count is of functions."""

    def __init__(self, model: CodeT5p, functions: Sequence[Function], lengths: tuple[int, int]) -> None:
        """lengths: most tokens of a text and of code."""
        self._texts = [model.ids(one.text, lengths[0]) for one in functions]
        self._codes = [model.ids(one.code, lengths[1]) for one in functions]

    def collate(self, examples: Sequence[int]) -> Batch:
        """functions: (rows,), their numbers."""
        return Batch({"functions": torch.tensor(list(examples), dtype=torch.long)}, len(examples))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """model: a `CodeT5p`. Rows past a few are taken a few at a time, each with the negatives among them."""
        assert isinstance(model, CodeT5p), "the objective is of this system"
        numbers = batch.tensors["functions"].tolist()
        total = torch.zeros((), device=model.projection.weight.device)
        for start in range(0, len(numbers), 16):
            total = total + self._part(model, numbers[start : start + 16])
        return total

    def _part(self, model: CodeT5p, numbers: Sequence[int]) -> Tensor:
        texts, codes = [self._texts[number] for number in numbers], [self._codes[number] for number in numbers]
        (text_states, text_mask), (code_states, code_mask) = model.encoded(texts), model.encoded(codes)
        similar = model.vectors(text_states) @ model.vectors(code_states).T / TEMPERATURE
        own = torch.arange(len(numbers), device=similar.device)
        contrast = [functional.cross_entropy(rows, own, reduction="sum") for rows in (similar, similar.T)]
        written = [
            _written(model, text_states, text_mask, codes, CODE),
            _written(model, code_states, code_mask, texts, TEXT),
        ]
        return sum(contrast) / 2 + self._matching(model, text_states, text_mask, codes, similar) + sum(written) / 2

    def _matching(
        self, model: CodeT5p, states: Tensor, mask: Tensor, codes: Sequence[Sequence[int]], similar: Tensor
    ) -> Tensor:
        """Each text with its own code and with the hardest other one."""
        if len(codes) < 2:
            return torch.zeros((), device=states.device)
        hardest = similar.detach().fill_diagonal_(-torch.inf).argmax(1).tolist()
        wrong = [codes[at] for at in hardest]
        logits = model.judged(states.repeat(2, 1, 1), mask.repeat(2, 1), [*codes, *wrong])
        wanted = torch.tensor([1] * len(codes) + [0] * len(wrong), device=logits.device)
        return functional.cross_entropy(logits, wanted, reduction="sum") / 2


def _written(model: CodeT5p, states: Tensor, mask: Tensor, targets: Sequence[Sequence[int]], start: str) -> Tensor:
    """Mean nats a token of each target, summed: what the decoder says of it after a special token."""
    kept = [target[1:] for target in targets]  # without what begins a source
    tokens, own = padded(kept, states.device)
    begun, _ = padded([[model.special(start), *target[:-1]] for target in kept], states.device)
    logits = model.model(begun, memory=model.model.remembered(states, mask)).float()
    losses = functional.cross_entropy(logits.transpose(1, 2), tokens, reduction="none") * own
    return (losses.sum(1) / own.sum(1)).sum()


@dataclass(frozen=True)
class CodeScores:
    """Of finding a function by its text among `candidates`, in percent. judged: whether the matching head ordered."""

    questions: int
    candidates: int
    judged: bool
    first: float
    within_5: float
    within_10: float
    mean_reciprocal_rank: float


def evaluate(
    model: CodeT5p, functions: Sequence[Function], *, judge: bool, lengths: tuple[int, int] = (TEXT_TOKENS, CODE_TOKENS)
) -> CodeScores:
    """How well each function's own code is found by its text among all of them."""
    codes = [model.ids(one.code, lengths[1]) for one in functions]
    vectors = model.embed(codes)
    ranks = []
    with track(len(functions), "Searching", unit="texts") as work:
        for number, one in enumerate(work.each(functions)):
            found = search(model, one.text, codes, vectors, len(codes), judge=judge)
            ranks.append(next((rank for rank, (at, _) in enumerate(found, 1) if at == number), len(codes)))
    table = np.array(ranks)
    first, within_5, within_10 = (float(100 * (table <= limit).mean()) for limit in (1, 5, 10))
    mean = float(100 * (1 / table).mean())
    return CodeScores(len(table), len(codes), judge, first, within_5, within_10, mean)


def _tokenizer(run: RunFolder, functions: Sequence[Function], size: int) -> Tokenizer:
    if run.tokenizer.is_dir():
        return Tokenizer.from_folder(run.tokenizer)
    texts = [part for one in functions for part in (one.text, one.code)]
    learnt = Tokenizer.train_bpe(texts, size, SPECIAL).backend
    first, last = ("<s>", learnt.token_to_id("<s>")), ("</s>", learnt.token_to_id("</s>"))
    learnt.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[first, last])
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    Tokenizer(learnt, named=named).save(run.tokenizer)
    return Tokenizer.from_folder(run.tokenizer)


def _export(trainer: Trainer[int], model: CodeT5p, folder: Path) -> None:
    own: dict[str, Any] = model.state_dict(keep_vars=True)
    for name, array in trainer.best_parameters().items():
        own[name].data.copy_(own[name].new_tensor(array))
    save_codet5p(folder, model)


def save_codet5p(folder: Path, model: CodeT5p) -> None:
    """Write a `codet5p_bimodal` folder with its heads, whole or not at all."""
    assert model.matching is not None, "a trained model has both heads"
    inner = model.model
    with whole_folder(folder) as partial:
        save_checkpoint(
            partial, inner.config, "codet5p_bimodal", inner.stored_tensors(), model.tokenizer,
            GenerationDefaults((model.end_id,)),
        )  # fmt: skip
        weights = partial / "model.safetensors"
        stored = {name: entry.read() for name, entry in read_safetensors(weights).items()}
        heads = {"proj": model.projection, "itm_head": model.matching}
        for name, head in heads.items():
            stored |= {f"{name}.weight": from_torch(head.weight), f"{name}.bias": from_torch(head.bias)}
        write_safetensors(weights, stored)
