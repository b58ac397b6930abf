"""ctypes over the kernels' library: found beside this file, checked, its functions typed once.

Unusual: nothing here raises when the library is missing or the processor is unknown; `available()` says so in words,
and `library()` and `choose_level()` raise for those who need it.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo import settings
from octavo.errors import MissingDependencyError, OctavoError

LEVELS = {"c": 1, "neon": 32, "avx2": 2, "avxvnni": 16, "avx512": 4, "amx": 8}
"""The instruction sets, slowest first, with the library's bit for each."""
ENCODINGS = {
    "f32": 0, "bf16": 1, "q8_0": 2, "q4_0": 3, "q4_1": 4, "q5_0": 5, "q5_1": 6, "q4_k": 7, "q5_k": 8, "q6_k": 9,
    "int8": 10,
}  # fmt: skip
"""Weight encodings that have kernels. int8: a row is its scale, four bytes of fp32, and a signed byte a column, whole
groups of 32 of them, each turned by the Walsh-Hadamard matrix."""
MATRICES = {
    "q": 0, "k": 1, "v": 2, "o": 3, "gate": 4, "up": 5, "down": 6, "router": 7, "shared_gate": 8, "q_a": 9,
    "embed": 10, "positions": 11, "head": 12,
}  # fmt: skip
ADAPTED = ("q", "k", "v", "o", "gate", "up", "down")
"""Matrices that may have adapters."""
EXPERTS = 13
"""Where the matrices of experts begin, three each."""
HEADS = 1 << 20
"""Where the matrices of latent attention's heads begin, a key's and a value's each."""
ENCODER_MATRICES = {"q": 0, "k": 1, "v": 2, "o": 3, "up": 4, "down": 5}
ENCODER_NORMS = {"embed_norm": 0, "attention_output_norm": 1, "mlp_output_norm": 2}
ENCODER_TABLES = {"embed_tokens": 0, "embed_positions": 1, "embed_types": 2}
NORMS = {
    "attention_norm": 0, "attention_output_norm": 1, "mlp_norm": 2, "mlp_output_norm": 3, "attention.q_norm": 4,
    "attention.k_norm": 5, "norm": 6, "embed_norm": 7, "attention.q_a_norm": 4, "attention.kv_a_norm": 5,
}  # fmt: skip
VECTORS = {"mlp.correction_bias": 0, "attention.sinks": 1}
CACHES = {"bf16": 0, "f32": 1, "int8": 2}
"""What keys and values are kept in. int8: with a scale a position and head."""
QK_NORMS = {None: 0, "head": 1, "per_head": 2, "full": 3}
MAX_HEAD_DIM = 576
MAX_TREE = 64
"""Tokens of a tree after its first."""
INT32, FLOAT, POINTER = ctypes.c_int32, ctypes.c_float, ctypes.c_void_p


class MoeShape(ctypes.Structure):
    """moe_shape in kernels.h."""

    _fields_ = (
        *((name, INT32) for name in ("experts", "experts_per_token", "expert_size", "shared_size", "shared_gated")),
        *((name, INT32) for name in ("sigmoid", "normalise", "groups", "groups_kept", "group_top")),
        ("scale", FLOAT),
    )


class LatentShape(ctypes.Structure):
    """latent_shape in kernels.h."""

    _fields_ = (
        *((name, INT32) for name in ("kv_rank", "q_rank", "rotary_dim", "kept_dim", "value_dim")),
        ("eps", FLOAT),
    )


class Shape(ctypes.Structure):
    """model_shape in kernels.h."""

    _fields_ = (
        *((name, INT32) for name in ("vocab_size", "hidden_size", "num_layers", "context_length", "num_heads")),
        *((name, INT32) for name in ("num_kv_heads", "head_dim", "intermediate_size", "gated", "activation")),
        *((name, INT32) for name in ("norm_kind", "qk_norm", "qk_norm_after", "parallel", "post", "alibi_after")),
        *((name, INT32) for name in ("num_rotaries", "num_blocks", "threads", "level", "cache")),
        *((name, INT32) for name in ("num_adapters", "adapter_rank")),
        *((name, FLOAT) for name in ("norm_eps", "attention_scale", "attention_softcap", "attention_clip")),
        ("embedding_scale", FLOAT),
        *((name, FLOAT) for name in ("residual_scale", "logit_scale", "logit_softcap", "mlp_limit")),
        ("moe", MoeShape),
        ("latent", LatentShape),
    )


class LayerShape(ctypes.Structure):
    """layer_shape in kernels.h. rotary: an index, -1 for none. window: positions seen, 0 for all."""

    _fields_ = (("rotary", INT32), ("window", INT32), ("moe", INT32))


class RotaryShape(ctypes.Structure):
    """rotary_shape in kernels.h."""

    _fields_ = (("dim", INT32), ("factor", FLOAT), ("frequencies", POINTER))


class Step(ctypes.Structure):
    """step in step.h."""

    _fields_ = (
        *((name, INT32) for name in ("tokens", "wanted", "table_width")),
        *(
            (name, POINTER)
            for name in ("token", "row", "position", "slot", "adapter", "parent", "tables", "wanted_tokens")
        ),
        *((name, POINTER) for name in ("logits", "hidden")),
    )


class EncoderShape(ctypes.Structure):
    """encoder_shape in encoder.c."""

    _fields_ = (
        *((name, INT32) for name in ("hidden_size", "num_layers", "num_heads", "head_dim", "intermediate_size")),
        *((name, INT32) for name in ("activation", "longest", "chunk", "threads", "level", "exact")),
        ("norm_eps", FLOAT),
    )


class Texts(ctypes.Structure):
    """texts in encoder.c."""

    _fields_ = (("chunks", INT32), *((name, POINTER) for name in ("chunk", "start", "token", "type", "hidden")))


class Scan(ctypes.Structure):
    """scan in scan.c."""

    _fields_ = (
        *((name, INT32) for name in ("dimensions", "limit", "threads", "level")),
        ("count", ctypes.c_int64),
        *((name, POINTER) for name in ("rows", "vectors", "scales", "ids", "query", "best_ids", "best_scores")),
    )


SIGNATURES: dict[str, tuple[Any, ...]] = {
    "octavo_levels": (INT32,),
    "octavo_max_tokens": (INT32,),
    "octavo_pin_threads": (None, POINTER, INT32),
    "octavo_shape_bytes": (INT32,),
    "octavo_create": (POINTER, ctypes.POINTER(Shape), POINTER, POINTER, POINTER),
    "octavo_destroy": (None, POINTER),
    "octavo_set_matrix": (INT32, POINTER, INT32, INT32, INT32, INT32, INT32, POINTER),
    "octavo_use_matrix": (None, POINTER, INT32, INT32, INT32, INT32, INT32, POINTER),
    "octavo_packed_matrix": (POINTER, POINTER, INT32, INT32),
    "octavo_packed_bytes": (ctypes.c_int64, INT32, INT32, INT32),
    "octavo_product": (INT32, INT32, INT32, INT32, INT32, POINTER, POINTER, INT32, POINTER),
    "octavo_quantize": (INT32, INT32, INT32, INT32, INT32, POINTER, POINTER),
    "octavo_packing": (INT32,),
    "octavo_checksum": (ctypes.c_uint64, POINTER, ctypes.c_uint64),
    "octavo_set_bias": (INT32, POINTER, INT32, INT32, POINTER, INT32),
    "octavo_set_norm": (INT32, POINTER, INT32, INT32, INT32, POINTER, INT32),
    "octavo_set_vector": (INT32, POINTER, INT32, INT32, POINTER, INT32),
    "octavo_set_adapter": (INT32, POINTER, INT32, INT32, INT32, INT32, INT32, INT32, POINTER, POINTER),
    "octavo_move": (None, POINTER, POINTER, INT32, POINTER, INT32),
    "octavo_step": (INT32, POINTER, ctypes.POINTER(Step)),
    "octavo_encoder_create": (POINTER, ctypes.POINTER(EncoderShape)),
    "octavo_encoder_destroy": (None, POINTER),
    "octavo_encoder_set_matrix": (INT32, POINTER, INT32, INT32, INT32, INT32, INT32, POINTER, POINTER),
    "octavo_encoder_set_norm": (INT32, POINTER, INT32, INT32, POINTER, POINTER),
    "octavo_encoder_set_table": (None, POINTER, INT32, POINTER, INT32),
    "octavo_encode": (INT32, POINTER, ctypes.POINTER(Texts)),
    "octavo_scan": (INT32, ctypes.POINTER(Scan)),
}
"""Result and arguments of each function."""


@dataclass(frozen=True)
class KernelStatus:
    """built: the library is there and loads. path: where it is. level: the chosen instruction set, or None.

    levels: those of this machine. reason: in words, why this level, or why none.
    """

    built: bool
    path: Path | None
    level: str | None
    levels: tuple[str, ...]
    reason: str


def library_path() -> Path | None:
    """The built library, or None."""
    found = sorted(Path(__file__).parent.glob("_kernels*.so"))
    return found[0] if found else None


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded library. Raises MissingDependencyError when it is not built or does not load."""
    path = library_path()
    if path is None:
        raise MissingDependencyError(
            "the C kernels are not built; install a C compiler and reinstall octavo, or install octavo[torch]"
        )
    try:
        loaded = ctypes.CDLL(str(path))
        for name, (result, *arguments) in SIGNATURES.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise MissingDependencyError(f"the C kernels at {path} do not load ({error}); reinstall octavo") from None
    if loaded.octavo_shape_bytes() != ctypes.sizeof(Shape):
        raise MissingDependencyError(f"the C kernels at {path} are of another version; reinstall octavo")
    if settings.pin_threads():
        processors = settings.processors()
        loaded.octavo_pin_threads((INT32 * len(processors))(*processors), len(processors))
    return loaded


def machine_levels() -> tuple[str, ...]:
    """The levels that this processor runs, slowest first."""
    bits = library().octavo_levels()
    return tuple(name for name, bit in LEVELS.items() if bits & bit)


def choose_level(forced: str | None) -> str:
    """The level to run: `forced`, else the best of this machine. Raises OctavoError when the machine lacks it."""
    levels = machine_levels()
    if forced is None:
        return levels[-1]
    if forced not in levels:
        raise OctavoError(f"OCTAVO_KERNELS={forced!r} needs a processor that has it; this one has {', '.join(levels)}")
    return forced


def available() -> KernelStatus:
    """Whether the kernels can run here, and at which level; never raises for what is missing."""
    path, forced = library_path(), settings.kernels()
    try:
        levels, problem = machine_levels(), ""
    except MissingDependencyError as error:
        levels, problem = (), str(error)
    if forced == "torch":
        return KernelStatus(not problem, path, None, levels, "OCTAVO_KERNELS=torch asks for the torch runner")
    if problem:
        return KernelStatus(False, path, None, (), problem)
    if forced is not None:
        return KernelStatus(True, path, choose_level(forced), levels, f"OCTAVO_KERNELS={forced} asks for it")
    return KernelStatus(True, path, levels[-1], levels, f"the best of what this processor has: {', '.join(levels)}")
