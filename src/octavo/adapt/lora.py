"""LoRA (Hu et al. 2021, arXiv 2106.09685): a frozen matrix W and a trained pair A, B beside it, Wx + s B(Ax).

s is alpha / rank, or alpha / sqrt(rank) (rsLoRA: Kalajdzievski 2023, arXiv 2312.03732). A begins as PEFT's does, B as
zeros, so that the first step is the base's. Matrices are named as in a Hugging Face folder of the model's family; where
several of ours lie there in one (q, k and v), they share A, as they do in PEFT.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from octavo.adapt.products import JointPairs, Products
from octavo.errors import UnknownNameError, UnsupportedError, nearest
from octavo.models.formats.peft import ADAPTED, matrix_rules, may_adapt
from octavo.models.mapping.keys import KeyRule
from octavo.models.transformer import Transformer
from octavo.nn.attention import Attention
from octavo.nn.config import TransformerConfig
from octavo.nn.linear import Linear


@dataclass(frozen=True)
class Lora:
    """What is trained. rank: rows of A. alpha, rank_stabilized: the scale. dropout: of what A reads.

    targets: the matrices' names in the family's Hugging Face folders, or how these end ("q_proj", "self_attn.q_proj");
    none: all that may be adapted.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ()
    rank_stabilized: bool = False

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)


class LoraLinear(nn.Module):
    """A linear layer with a pair beside it. lora_a: (rank, in); lora_b: (out, rank), both fp32; the base is frozen.

    merged: the pair is in the base's weight, and nothing is added.
    """

    def __init__(self, base: nn.Module, lora_a: nn.Parameter, lora: Lora) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_a = lora_a
        self.lora_b = nn.Parameter(torch.zeros(len(self.weight), len(lora_a), device=self.weight.device))
        self.scale, self.dropout, self.merged = lora.scale, lora.dropout, False
        self._products = Products([self])

    @property
    def weight(self) -> Tensor:
        """The base's, (out, in)."""
        return self.base.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """The base's, (out,) or none."""
        return self.base.bias  # type: ignore[return-value]

    @property
    def nbytes(self) -> int:
        """Bytes of the base's weight."""
        return self.weight.nbytes

    def dequantize(self) -> Tensor:
        """The base's weight as (out, in) numbers."""
        return self.weight

    @property
    def is_apart(self) -> bool:
        """Whether base and pair cannot be one product: there is no pair now, or it reads less than the base."""
        return self.merged or (self.training and self.dropout > 0)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        if not self.is_apart and self._products.takes(x):
            return self._products(x)
        given: Tensor = self.base(x)
        if self.merged:
            return given
        dropped = functional.dropout(x, self.dropout, self.training)
        return given + functional.linear(functional.linear(dropped, self.lora_a), self.lora_b) * self.scale

    def of_gated(self, gate: Tensor, up: Tensor) -> Tensor:
        """As `Linear.of_gated`."""
        if self.is_apart or not self._products.takes(gate):
            return self(functional.silu(gate) * up)  # type: ignore[no-any-return]
        return self._products.of_gated(gate, up)

    @torch.no_grad()
    def merge(self, sign: int = 1) -> None:
        """Add the pair to the base's weight, or, with -1, take it out again."""
        if self.merged != (sign > 0):
            self.weight.copy_(self.weight.float() + self.lora_b @ self.lora_a * (sign * self.scale))
            self.merged = sign > 0


def inject(model: Transformer, family: str, lora: Lora, *, seed: int = 0, narrow: bool = False) -> None:
    """Freeze the model and put trained pairs beside its matrices.

    narrow: the blocks' frozen matrices are kept in bfloat16, which products under autocast round them to anyway.
    Raises UnknownNameError for a target that the model lacks, UnsupportedError for one that may not be adapted.
    """
    rules = targeted(family, model.config, lora.targets)
    model.requires_grad_(False)
    if narrow:
        _narrow(model)
    generator = torch.Generator().manual_seed(seed)
    for rule in rules.values():
        places = [name.removesuffix(".weight").rpartition(".") for name in rule.canonical]
        bases = [model.get_submodule(f"{owner}.{leaf}") for owner, _, leaf in places]
        weight: Tensor = bases[0].weight  # type: ignore[assignment]
        bound = 1 / math.sqrt(weight.shape[1])  # PEFT's kaiming_uniform, whose a is sqrt(5)
        values = torch.empty(lora.rank, weight.shape[1]).uniform_(-bound, bound, generator=generator)
        lora_a = nn.Parameter(values.to(weight.device))
        for (owner, _, leaf), base in zip(places, bases, strict=True):
            setattr(model.get_submodule(owner), leaf, LoraLinear(base, lora_a, lora))
    for module in model.modules():
        if isinstance(module, Attention) and any(isinstance(each, LoraLinear) for each in module.children()):
            module._joint = JointPairs((module.q, module.k, module.v))


def _narrow(model: Transformer) -> None:
    """Frozen matrices of blocks, and of an output of its own, in bfloat16."""
    for name, module in model.named_modules():
        if isinstance(module, Linear) and (ADAPTED.fullmatch(f"{name}.weight") or name == "lm_head"):
            module.weight = nn.Parameter(module.weight.to(torch.bfloat16), requires_grad=False)


def targeted(family: str, config: TransformerConfig, targets: Sequence[str]) -> dict[str, KeyRule]:
    """The rules of the matrices that the targets name, by the names of their modules; of all that may be adapted where
    there are none."""
    if config.attention.latent is not None:
        raise UnsupportedError(f"a model of the family {family} has latent attention, which is not adapted here")
    rules = matrix_rules(family, config)
    may = {name: rule for name, rule in rules.items() if may_adapt(rule)}
    made: dict[tuple[str, ...], str] = {}
    for name in may if not targets else (name for target in targets for name in _named(target, rules, may)):
        made.setdefault(may[name].canonical, name)  # some matrices have several names; the first is what is written
    return {name: may[name] for name in made.values()}


def _named(target: str, rules: Mapping[str, KeyRule], may: Mapping[str, KeyRule]) -> list[str]:
    """The modules whose names end like this."""
    named = [name for name in rules if f".{name}".endswith(f".{target}")]
    if not named:
        known = dict.fromkeys(name.rpartition(".")[2] for name in may)
        raise UnknownNameError(
            f"the model has no matrix {target!r}{nearest(target, known)}; {', '.join(known)} may be adapted",
            param="adapter.targets",
        )
    odd = next((name for name in named if name not in may), None)
    if odd is not None:
        raise UnsupportedError(
            f"{target!r} names {odd}, too; only attention's projections and a plain MLP's matrices may be adapted",
            param="adapter.targets",
        )
    return named


def adapted(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """The adapted layers and their names."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoraLinear))


def merge(model: nn.Module) -> None:
    """Add all pairs to their matrices: the model then runs as fast as its base. Once is enough."""
    for _, layer in adapted(model):
        layer.merge()


def unmerge(model: nn.Module) -> None:
    """Take them out again: the base's weights come back within rounding."""
    for _, layer in adapted(model):
        layer.merge(-1)
