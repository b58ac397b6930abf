"""Which operation of a model runs on which path of the kernels, and why: the data behind `octavo bench --explain`.

A path is `vectors` (the level's own instructions) or `plain C` (the compiler's scalars, correct on every machine).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from octavo.models.compiled import CompiledRunner
from octavo.nn.config import TransformerConfig
from octavo.nn.kernels.binding import BF16_LEVELS

INT8_DOTS = {
    "c": "16-bit products", "neon": "sdot", "avx2": "vpmaddubsw", "avxvnni": "vpdpbusd", "avx512vnni": "vpdpbusd",
    "avx512": "vpdpbusd", "amx": "vpdpbusd, tiles",
}  # fmt: skip
WIDENED = "bfloat16, widened to float32"
OUTPUT_NORMS = ("output", "sandwich", "post")


@dataclass(frozen=True)
class OperationPath:
    """operation: what is computed, how often it is there in brackets. why: what makes it so."""

    operation: str
    path: Literal["vectors", "plain C"]
    why: str


def operation_paths(runner: CompiledRunner) -> tuple[OperationPath, ...]:
    """Of the model that a runner has."""
    config, level, counts = runner.config, runner.level, Counter(runner.encodings)
    products = [
        OperationPath(f"products with {name} ({counts[name]})", "vectors", _product(name, level))
        for name in sorted(counts)
    ]
    return (*products, _attention(config, level, runner.kv_cache), *_rows(config), *_plain(config))


def _product(encoding: str, level: str) -> str:
    if encoding == "f32":
        return "float32 multiply-adds, as the weights are float32"
    if encoding == "bf16":
        return (
            "pairs of bfloat16" if level in BF16_LEVELS else f"widened to float32, as {level} has no bfloat16 products"
        )
    return f"activations in 8 bits by groups of 32, {INT8_DOTS.get(level, 'integer products')}"


def _attention(config: TransformerConfig, level: str, cache: str) -> OperationPath:
    kept = {
        "bf16": "bfloat16, in tiles" if level == "amx" else "bfloat16, in pairs" if level == "avx512" else WIDENED,
        "f32": "float32, as all matrices of the blocks are",
        "int8": "8 bits with a scale a position and head, widened to float32",
    }[cache]
    windows = sum(window is not None for window in config.windows)
    seen = f"; {windows} of {config.num_layers} layers read their window alone" if windows else ""
    return OperationPath(f"attention over {cache} keys and values", "vectors", f"kept in {kept}{seen}")


def _rows(config: TransformerConfig) -> list[OperationPath]:
    exact_gelu = config.mlp.activation == "gelu"
    activation = OperationPath(
        f"activation {config.mlp.activation}",
        "plain C" if exact_gelu else "vectors",
        "the error function is the C library's" if exact_gelu else "a polynomial for the exponential",
    )
    found = [OperationPath(f"norms ({config.norm.kind})", "vectors", "a row at a time"), activation]
    if config.attention.softcap is not None or config.logit_softcap is not None:
        found.append(OperationPath("soft caps", "vectors", "a polynomial for the exponential"))
    return found


def _plain(config: TransformerConfig) -> list[OperationPath]:
    """What is too little work a token to be worth vectors of its own."""
    attention = config.attention
    there = {
        "looking up embeddings": True,
        "rotary embedding": config.rope is not None,
        "ALiBi": attention.alibi,
        "a cut of q, k and v": attention.clip is not None,
        "sums of scaled or normalised branches": config.residual_scale != 1 or config.placement in OUTPUT_NORMS,
        "choosing experts": config.moe is not None,
    }  # fmt: skip
    return [OperationPath(name, "plain C", "little work beside the products") for name, used in there.items() if used]
