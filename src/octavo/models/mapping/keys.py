"""Key maps: the names and layouts of a file's tensors against the canonical ones, one table for both directions.

Unusual: nothing is read when a file is opened; a tensor is cut, turned or reordered when it is taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from octavo.errors import FormatError, UnknownNameError
from octavo.models.formats.mapped import TensorEntry
from octavo.models.tensors import StoredTensor, concatenate_rows, stacked, zeros_like
from octavo.nn.config import TransformerConfig
from octavo.nn.shapes import parameter_shapes

Shape = tuple[int, ...]
Layout = Literal[
    "plain", "transposed", "pairs", "tail_pairs", "head_pairs", "groups", "one_more", "after_two", "bare_row",
    "experts", "swapped_experts", "expert_rows", "swapped_expert_rows", "one_row", "patches",
]  # fmt: skip
Order = Callable[[TransformerConfig], NDArray[np.intp]]
"""Which row of the file is row r of the canonical tensors, one under the other."""
STACKED, IN_ROWS = ("experts", "swapped_experts"), ("expert_rows", "swapped_expert_rows")
TURNED = ("transposed", "swapped_experts", "swapped_expert_rows")
RESHAPED = ("head_pairs", "one_row", "bare_row", "patches")
"""Layouts of the same numbers in another shape."""


@dataclass(frozen=True)
class KeyRule:
    """One tensor of a file, `{i}` standing for the block's number and `{e}` for the expert's.

    canonical: the canonical tensor, or several that lie in it one under the other. layout: plain is (out, in);
    transposed is (in, out); pairs has a head's rotary rows in the order 0, hd/2, 1, hd/2 + 1, ...; tail_pairs is the
    same of the last rows of the whole; head_pairs of a vector that lies as (heads, head_dim); groups has q, k and v by
    key-value head: its queries, its key, its value; one_more is a vector plus 1; after_two has two rows more, at the
    beginning; experts has one expert after the other in a dimension of its own, swapped_experts the same with (in, out)
    matrices; expert_rows and swapped_expert_rows have them one under the other; one_row is a tensor with one more
    dimension of 1 before the others, bare_row a matrix of one row as a vector; patches are (out, channels, height,
    width) of a convolution; a function gives the rows' order. interleaved: the rows of the canonical tensors take
    turns. when: for which configs, where names differ between them.

    A tensor that several rules make is read by the first rule whose stored tensor is there, and written by the first.
    """

    stored: str
    canonical: tuple[str, ...]
    layout: Layout | Order = "plain"
    when: Callable[[TransformerConfig], bool] = lambda config: True
    interleaved: bool = False
    expert: int = 0
    """Which expert of the stored tensor this is; set where a rule is expanded."""


def linear_rules(stored: str, *canonical: str, layout: Layout = "plain") -> tuple[KeyRule, KeyRule]:
    """The rules of a linear layer's weight and bias; which of them a config needs, its shapes say."""
    bias: Layout = "plain" if layout == "transposed" else layout
    return (
        KeyRule(f"{stored}.weight", tuple(f"{name}.weight" for name in canonical), layout),
        KeyRule(f"{stored}.bias", tuple(f"{name}.bias" for name in canonical), bias),
    )


def layer_rules(
    stored: str, canonical: str, names: Mapping[str, str], *, pairs: Collection[str] = ()
) -> tuple[KeyRule, ...]:
    """`linear_rules` of layers whose names begin alike: how they end in the file -> how they end here.

    pairs: those of the file whose rows are in pair order.
    """
    return tuple(
        rule
        for name, ours in names.items()
        for rule in linear_rules(stored + name, canonical + ours, layout="pairs" if name in pairs else "plain")
    )


def expert_rules(owner: str, names: Mapping[str, str]) -> tuple[KeyRule, ...]:
    """A block's router and its experts, each a gated MLP of its own: its matrices' names in the file -> those here."""
    return (
        KeyRule(owner + "gate.weight", ("blocks.{i}.mlp.router.weight",)),
        *(
            KeyRule(f"{owner}experts.{{e}}.{stored}.weight", (f"blocks.{{i}}.mlp.experts.{{e}}.{name}.weight",))
            for stored, name in names.items()
        ),
    )


class CanonicalTensors(Mapping[str, StoredTensor]):
    """Canonical name -> tensor, made when asked for."""

    def __init__(self, makers: Mapping[str, Callable[[], StoredTensor]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> StoredTensor:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def to_canonical(
    entries: Mapping[str, TensorEntry],
    rules: tuple[KeyRule, ...],
    config: TransformerConfig,
    *,
    harmless: tuple[str, ...],
    source: str,
) -> CanonicalTensors:
    """A file's tensors under canonical names. harmless: patterns of tensors that may be there and are not used.

    Raises UnknownNameError for a tensor that no rule knows, FormatError for a missing one or a wrong shape.
    """
    shapes = parameter_shapes(config)
    makers: dict[str, Callable[[], StoredTensor]] = {}
    absent: dict[str, str] = {}
    used: set[str] = set()
    for rule in expand(rules, config):
        entry = entries.get(rule.stored)
        if entry is None:
            absent |= {name: absent.get(name, rule.stored) for name in rule.canonical}
            continue
        sizes = [shapes[name] for name in rule.canonical]
        if rule.layout == "experts" and entry.shape != _stored_shape(sizes, "experts", config):
            rule = replace(rule, layout="swapped_experts")  # Qwen3-VL's files have either, as the sides' lengths say
        shape = _stored_shape(sizes, rule.layout, config)
        if entry.shape != shape:
            raise FormatError(
                f"{source}: tensor {entry.name!r} has shape {list(entry.shape)}, but the config asks for {list(shape)}"
            )
        used.add(rule.stored)
        for number, name in enumerate(rule.canonical):
            makers.setdefault(name, partial(_canonical, entry, rule, sizes, number, config))
    for name in shapes:
        if name not in makers:
            assert name in absent, f"no rule makes {name}"
            raise FormatError(
                f"{source} lacks the tensor {absent[name]!r}; the download or the conversion is incomplete"
            )
    for name in entries:
        if name not in used and not any(re.fullmatch(pattern, name) for pattern in harmless):
            raise UnknownNameError(
                f"{source} has the tensor {name!r}, which its config does not account for and the model would lack; "
                "is config.json of another model?"
            )
    return CanonicalTensors({name: makers[name] for name in shapes})


def to_stored(
    tensors: Mapping[str, StoredTensor], rules: tuple[KeyRule, ...], config: TransformerConfig
) -> dict[str, Callable[[], StoredTensor]]:
    """The inverse: a file's tensor name -> what makes it. Raises FormatError when `tensors` does not fit `config`."""
    shapes = parameter_shapes(config)
    if set(tensors) != set(shapes):
        odd = sorted(set(tensors) ^ set(shapes))[0]
        raise FormatError(f"the tensor {odd!r} {'is missing' if odd in shapes else 'does not belong to the config'}")
    written: dict[str, list[KeyRule]] = {}
    made: set[str] = set()
    for rule in expand(rules, config):
        if not made.issuperset(rule.canonical):
            written.setdefault(rule.stored, []).append(rule)
            made.update(rule.canonical)
    return {stored: partial(_stored, tensors, parts, config) for stored, parts in written.items()}


def expand(rules: tuple[KeyRule, ...], config: TransformerConfig) -> list[KeyRule]:
    """The rules that this config needs, a rule with `{i}` once a block, with `{e}` once an expert."""
    shapes = parameter_shapes(config)
    expanded = []
    for rule in rules:
        memory = config.memory.num_layers if config.memory is not None else 0
        blocks = range(max(config.num_layers, memory)) if "{i}" in rule.stored else range(1)
        each_expert = "{e}" in rule.canonical[0]
        experts = range(0 if config.moe is None else config.moe.num_experts) if each_expert else range(1)
        for index, expert in product(blocks, experts):
            names = tuple(name.format(i=index, e=expert) for name in rule.canonical)
            if names[0] in shapes and rule.when(config):
                stored = rule.stored.format(i=index, e=expert)
                expanded.append(replace(rule, stored=stored, canonical=names, expert=expert))
    return expanded


def rows_of(rule: KeyRule, number: int, config: TransformerConfig) -> NDArray[np.intp]:
    """Which rows of the rule's stored matrix, as (out, in), are its canonical one of this number, in their order."""
    shapes = parameter_shapes(config)
    sizes = [shapes[name] for name in rule.canonical]
    total = sum(size[0] for size in sizes)
    order = _row_order(rule.layout, config, total)
    return (np.arange(total) if order is None else order)[_part(sizes, rule, number)]


def _joined(sizes: Sequence[Shape]) -> Shape:
    """The shape of canonical tensors one under the other."""
    return (sum(size[0] for size in sizes), *sizes[0][1:])


def _stored_shape(sizes: Sequence[Shape], layout: Layout | Order, config: TransformerConfig) -> Shape:
    shape = _joined(sizes)
    if layout == "head_pairs":
        return (shape[0] // config.attention.head_dim, config.attention.head_dim)
    if layout == "one_row":
        return (1, *shape)
    if layout == "after_two":
        return (shape[0] + 2, *shape[1:])
    if layout == "bare_row":
        return shape[1:]
    if layout in STACKED:
        assert config.moe is not None, "only experts lie so"
        return (config.moe.num_experts, *(shape if layout == "experts" else shape[::-1]))
    if layout in IN_ROWS:
        assert config.moe is not None, "only experts lie so"
        rows, columns = shape if layout == "expert_rows" else shape[::-1]
        return (config.moe.num_experts * rows, columns)
    if layout == "patches":
        patches = config.patches if config.memory is None else config.memory.patches
        assert patches is not None, "only images have patches"
        return (shape[0], patches.channels, patches.patch_size, patches.patch_size)
    return shape[::-1] if layout == "transposed" else shape


def _part(sizes: Sequence[Shape], rule: KeyRule, number: int) -> slice:
    """Which rows of the stored tensor, turned round, are its canonical tensor of this number."""
    if rule.interleaved:
        return slice(number, None, len(sizes))
    start = sum(size[0] for size in sizes[:number])
    return slice(start, start + sizes[number][0])


def _canonical(
    entry: TensorEntry, rule: KeyRule, sizes: Sequence[Shape], number: int, config: TransformerConfig
) -> StoredTensor:
    """The rule's canonical tensor of this number. sizes: the shapes of all of them."""
    tensor = entry.slab(rule.expert) if rule.layout in STACKED else entry.read()
    if rule.layout in IN_ROWS and config.moe is not None:
        rows = tensor.shape[0] // config.moe.num_experts
        tensor = tensor.rows(slice(rule.expert * rows, (rule.expert + 1) * rows))
    if rule.layout in TURNED and len(tensor.shape) == 2:
        tensor = tensor.transposed()
    if rule.layout in RESHAPED:
        tensor = tensor.reshaped(_joined(sizes))
    if rule.layout == "after_two":
        tensor = tensor.rows(slice(2, None))
    if rule.layout == "one_more":
        tensor = StoredTensor.from_array(tensor.dequantize() - 1)
    order, part = _row_order(rule.layout, config, tensor.shape[0]), _part(sizes, rule, number)
    if order is not None:
        return tensor.rows(order[part])
    return tensor.rows(part) if len(rule.canonical) > 1 else tensor


def _stored(tensors: Mapping[str, StoredTensor], rules: list[KeyRule], config: TransformerConfig) -> StoredTensor:
    """The inverse: a stored tensor of the canonical ones that lie in it; rules: one, or one an expert."""
    slabs = [_one_stored(tensors, rule, config) for rule in rules]
    if rules[0].layout in IN_ROWS:
        return concatenate_rows(slabs)
    return stacked(slabs) if rules[0].layout in STACKED else slabs[0]


def _one_stored(tensors: Mapping[str, StoredTensor], rule: KeyRule, config: TransformerConfig) -> StoredTensor:
    """What a rule's stored tensor is of canonical ones; of experts, one's."""
    parts = [tensors[name] for name in rule.canonical]
    tensor = parts[0] if len(parts) == 1 else concatenate_rows(parts)
    if rule.layout == "one_more":
        return StoredTensor.from_array(tensor.dequantize() + 1)
    if rule.layout == "after_two":
        return concatenate_rows([zeros_like(tensor.rows(slice(2))), tensor])
    order = _row_order(rule.layout, config, tensor.shape[0])
    if rule.interleaved:
        order = np.arange(tensor.shape[0]).reshape(-1, len(parts)).T.reshape(-1)
    if order is not None:
        tensor = tensor.rows(np.argsort(order))
    if rule.layout in RESHAPED:
        return tensor.reshaped(_stored_shape([tensor.shape], rule.layout, config))
    return tensor.transposed() if rule.layout in TURNED and len(tensor.shape) == 2 else tensor


def _row_order(layout: Layout | Order, config: TransformerConfig, rows: int) -> NDArray[np.intp] | None:
    """(rows,): which row of the file is row r of the canonical tensors, one under the other; None: they lie so."""
    if callable(layout):
        return layout(config)
    if layout in ("pairs", "head_pairs", "tail_pairs"):
        return pair_order(config, rows, rows if layout == "tail_pairs" else config.attention.head_dim)
    return group_order(config) if layout == "groups" else None


def pair_order(config: TransformerConfig, rows: int, head_dim: int) -> NDArray[np.intp]:
    """(rows,): which row of the pair layout is the half layout's row r; features that do not turn stay in place.

    Those that turn are a head's first, and, with latent attention, its last.
    """
    assert config.rope is not None, "without rotary embedding there are no pairs"
    rotary_dim = config.rope.rotary_dim
    first = 0 if config.attention.latent is None else head_dim - rotary_dim
    head = np.arange(head_dim)
    head[first : first + rotary_dim] = first + np.arange(rotary_dim).reshape(rotary_dim // 2, 2).T.reshape(-1)
    return (np.arange(0, rows, head_dim)[:, None] + head).reshape(-1)


def group_order(config: TransformerConfig) -> NDArray[np.intp]:
    """Which row of the groups layout is row r of q, k and v one under the other."""
    attention = config.attention
    shared = attention.num_heads // attention.num_kv_heads
    rows = np.arange((attention.num_heads + 2 * attention.num_kv_heads) * attention.head_dim)
    groups = rows.reshape(attention.num_kv_heads, shared + 2, attention.head_dim)
    return np.concatenate([part.reshape(-1) for part in (groups[:, :-2], groups[:, -2], groups[:, -1])])
