"""The library's structures and functions, as `kernels.h` and the C files named here have them."""

from __future__ import annotations

import ctypes
from typing import Any

INT32, INT64, FLOAT, DOUBLE, POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_double, ctypes.c_void_p


class MoeShape(ctypes.Structure):
    """moe_shape in kernels.h."""

    _fields_ = (
        *((name, INT32) for name in ("experts", "experts_per_token", "expert_size", "shared_size", "shared_gated")),
        *((name, INT32) for name in ("scoring", "normalise", "scale_input", "groups", "groups_kept", "group_top")),
        *((name, FLOAT) for name in ("scale", "jitter")),
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
        *((name, INT32) for name in ("num_adapters", "adapter_rank", "output_gate", "chunked")),
        *((name, INT32) for name in ("growth_length", "growth_first", "growth_turned")),
        *((name, FLOAT) for name in ("norm_eps", "attention_scale", "attention_softcap", "attention_clip")),
        ("embedding_scale", FLOAT),
        *((name, FLOAT) for name in ("residual_scale", "logit_scale", "logit_softcap", "mlp_limit", "growth")),
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
        *((name, INT32) for name in ("tokens", "wanted", "rows", "table_width", "embeddings")),
        *((name, POINTER) for name in ("token", "row", "position", "slot", "adapter", "parent", "tables")),
        *((name, POINTER) for name in ("wanted_tokens", "embedded", "embedding", "logits", "hidden")),
    )


class EncoderShape(ctypes.Structure):
    """encoder_shape in encoder.c."""

    _fields_ = (
        *((name, INT32) for name in ("hidden_size", "num_layers", "num_heads", "head_dim", "intermediate_size")),
        *((name, INT32) for name in ("activation", "longest", "chunk", "threads", "level", "exact")),
        *((name, INT32) for name in ("embedding_size", "blocks", "pre", "gated", "rotary_dim")),
        ("norm_eps", FLOAT),
    )


class Texts(ctypes.Structure):
    """texts in encoder.c."""

    _fields_ = (("chunks", INT32), *((name, POINTER) for name in ("chunk", "start", "token", "type", "hidden")))


class Scan(ctypes.Structure):
    """scan in scan.c."""

    _fields_ = (
        *((name, INT32) for name in ("dimensions", "limit", "threads", "level")),
        ("count", INT64),
        *((name, POINTER) for name in ("rows", "vectors", "scales", "ids", "query", "best_ids", "best_scores")),
    )


class Rotation(ctypes.Structure):
    """rotation in training.c. Strides in numbers: of the batch, the heads and the tokens."""

    _fields_ = (
        *((name, POINTER) for name in ("x", "out", "cos", "sin")),
        *((name, INT64 * 3) for name in ("x_stride", "out_stride")),
        ("turns_stride", INT64),
        *((name, INT32) for name in ("bf16", "batch", "heads", "tokens", "dim", "rotary_dim", "back", "threads")),
    )


SIGNATURES: dict[str, tuple[Any, ...]] = {
    "octavo_levels": (INT32,),
    "octavo_max_tokens": (INT32,),
    "octavo_pin_threads": (None, POINTER, INT32),
    "octavo_interface": (ctypes.c_uint32,),
    "octavo_refusal": (ctypes.c_char_p, ctypes.POINTER(Shape), POINTER, POINTER),
    "octavo_create": (POINTER, ctypes.POINTER(Shape), POINTER, POINTER, POINTER),
    "octavo_destroy": (None, POINTER),
    "octavo_set_matrix": (INT32, POINTER, INT32, INT32, INT32, INT32, INT32, POINTER),
    "octavo_use_matrix": (None, POINTER, INT32, INT32, INT32, INT32, INT32, POINTER),
    "octavo_use_rows": (None, POINTER, INT32, INT32, INT32, INT32, INT32, POINTER),
    "octavo_pack": (None, INT32, INT32, INT32, POINTER, POINTER),
    "octavo_packed_matrix": (POINTER, POINTER, INT32, INT32, INT32),
    "octavo_packed_bytes": (INT64, INT32, INT32, INT32),
    "octavo_product": (INT32, INT32, INT32, INT32, INT32, POINTER, POINTER, INT32, POINTER),
    "octavo_quantize": (INT32, INT32, INT32, INT32, INT32, POINTER, POINTER),
    "octavo_sum_weights": (FLOAT, INT32, POINTER, INT32, FLOAT, POINTER),
    "octavo_draw": (INT32, INT32, POINTER, INT32, FLOAT, DOUBLE, POINTER),
    "octavo_likeliest": (INT32, INT32, POINTER, INT32, FLOAT, DOUBLE, INT32, *4 * (POINTER,)),
    "octavo_packing": (INT32,),
    "octavo_checksum": (ctypes.c_uint64, POINTER, ctypes.c_uint64),
    "octavo_set_bias": (INT32, POINTER, INT32, INT32, POINTER, INT32),
    "octavo_set_norm": (INT32, POINTER, INT32, INT32, INT32, POINTER, INT32),
    "octavo_set_vector": (INT32, POINTER, INT32, INT32, POINTER, INT32),
    "octavo_set_adapter": (INT32, POINTER, INT32, INT32, INT32, INT32, INT32, INT32, POINTER, POINTER),
    "octavo_move": (None, POINTER, POINTER, INT32, POINTER, INT32),
    "octavo_step": (INT32, POINTER, ctypes.POINTER(Step)),
    "octavo_encoder_refusal": (ctypes.c_char_p, ctypes.POINTER(EncoderShape)),
    "octavo_encoder_create": (POINTER, ctypes.POINTER(EncoderShape), POINTER, POINTER),
    "octavo_encoder_destroy": (None, POINTER),
    "octavo_encoder_set_matrix": (INT32, POINTER, INT32, INT32, INT32, INT32, INT32, POINTER, POINTER),
    "octavo_encoder_set_norm": (INT32, POINTER, INT32, INT32, POINTER, POINTER),
    "octavo_encoder_set_table": (None, POINTER, INT32, POINTER, INT32),
    "octavo_encode": (INT32, POINTER, ctypes.POINTER(Texts)),
    "octavo_scan": (INT32, ctypes.POINTER(Scan)),
    "octavo_pool_create": (POINTER, INT32),
    "octavo_cross_entropy": (INT32, POINTER, INT32, POINTER, INT32, INT64, INT32, POINTER, POINTER),
    "octavo_rms_forward": (INT32, POINTER, INT32, POINTER, POINTER, INT64, INT32, FLOAT, POINTER, INT32, POINTER),
    "octavo_rms_backward": (INT32, POINTER, INT32, *4 * (POINTER,), INT32, INT64, INT32, POINTER, POINTER),
    "octavo_rotate": (INT32, POINTER, INT32, POINTER),
    "octavo_gate": (INT32, POINTER, INT32, POINTER, POINTER, POINTER, POINTER, POINTER, INT32, INT64, INT32),
}
"""Result and arguments of each function."""
