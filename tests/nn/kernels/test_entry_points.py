"""Every way into the kernels' library with every argument made wrong in turn: an error in Python, never a crash.

Each entry point has one lawful call. Arrays are given another length, number of dimensions, type and byte order;
numbers the ends of their ranges and what lies behind them; names those of others. What does not fit must be refused by
Python, and what is only odd, read-only, with gaps or at an odd address, must give the same bits or be refused. The
calls are made in a child process, so that a crash is a failure which names its call.
"""

from __future__ import annotations

import contextlib
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.errors import MissingDependencyError
from octavo.nn.kernels import binding
from octavo.nn.kernels.encoder_handle import KernelEncoder
from octavo.nn.kernels.handle import KernelModel, Rotary, checksum, pack, packed_bytes, product, quantize
from octavo.nn.kernels.indices import Indices
from octavo.nn.kernels.layers import Layer
from octavo.nn.kernels.sampling import draw_weight, likeliest, sum_weights
from octavo.nn.kernels.scanning import nearest
from octavo.nn.kernels.tables import codes
from octavo.nn.kernels.tables.interface import INT32, SIGNATURES, EncoderShape, LatentShape, MoeShape, Shape

try:
    LEVEL = binding.machine_levels()[-1]
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)
WALKING: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("walking.py")))
REFUSED, say, random, walk = (WALKING[name] for name in ("REFUSED", "say", "random", "walk"))


# ------------------------------------------------------------------------------------------------------------ functions
def walk_functions() -> None:
    weights = random(37, 64).view(np.uint8)
    walk(
        "product",
        product,
        {"level": LEVEL, "encoding": "f32", "rows": 37, "columns": 64, "data": weights, "x": random(3, 64)},
        ("x",),
    )
    blocks = quantize("q4_0", "f32", 37, 64, weights)
    walk(
        "product",
        product,
        {"level": LEVEL, "encoding": "q4_0", "rows": 37, "columns": 64, "data": blocks, "x": random(3, 64)},
        ("x",),
    )
    for target in ("int8", "q4_1"):
        walk("quantize", quantize, {"target": target, "encoding": "f32", "rows": 37, "columns": 64, "data": weights})
    walk("pack", pack, {"encoding": "f32", "rows": 37, "columns": 64, "data": weights})
    walk("checksum", checksum, {"data": weights}, ("data",))
    walk("packed_bytes", packed_bytes, {"encoding": "q4_0", "rows": 37, "columns": 64})
    drawn = {"level": LEVEL, "logits": random(700), "temperature": 0.7}
    walk("sum_weights", sum_weights, drawn, ("logits",))
    for drawing in (draw_weight, likeliest):
        walk(drawing.__name__, drawing, {**drawn, "part": 0.5}, ("logits",))
    ids, query = np.arange(50), random(9)
    searched = {"level": LEVEL, "threads": 2, "ids": ids, "query": query, "limit": 4, "rows": ids[3:].copy()}
    for vectors, scales in ((random(50, 9), None), (random(50, 9, dtype=np.int8), random(50))):
        walk("nearest", nearest, {**searched, "vectors": vectors, "scales": scales}, ("rows",))
    big = np.zeros((1 << 15, 1 << 9), np.float32)  # enough for threads
    for threads in (0, -1, 3):
        nearest(LEVEL, threads, np.arange(len(big)), big, None, big[0], 1)


# --------------------------------------------------------------------------------------------------------------- models
SHAPE = {
    "vocab_size": 40, "hidden_size": 32, "context_length": 64, "num_heads": 2, "num_kv_heads": 1, "head_dim": 16,
    "intermediate_size": 48, "gated": 1, "activation": 0, "norm_kind": 0, "norm_eps": 1e-5, "attention_scale": 0.25,
    "num_blocks": 4, "threads": 2, "cache": 1, "num_adapters": 1, "adapter_rank": 3, "qk_norm": 1,
    "output_gate": 1, "growth": 0.1, "growth_length": 8, "growth_first": 1,
}  # fmt: skip
MOE = {
    "experts": 8, "experts_per_token": 2, "expert_size": 32, "shared_size": 16, "shared_gated": 1, "scoring": 1,
    "normalise": 1, "groups": 4, "groups_kept": 2, "group_top": 2, "scale": 1.0, "jitter": 0.1, "scale_input": 1,
}  # fmt: skip
LATENT = {"kv_rank": 32, "q_rank": 16, "rotary_dim": 8, "kept_dim": 24, "value_dim": 16, "eps": 1e-6}
OF_LATENT = {"num_kv_heads": 1, "head_dim": 40, "qk_norm": 0, "num_adapters": 0, "adapter_rank": 0, "output_gate": 0}
KINDS = {
    "plain": (SHAPE, None, None),
    "experts": (SHAPE, MOE, None),
    "latent": ({**SHAPE, **OF_LATENT}, None, LATENT),
}


def slots_of(moe: Any, latent: Any) -> list[str]:
    slots = ["q", "k", "v", "o", *(() if moe else ("gate", "up", "down"))]
    if moe:
        owners = [*(f"experts.{e}" for e in range(int(moe["experts"]))), "shared"]
        slots += ["router", "shared_gate", *(f"{owner}.{leaf}" for owner in owners for leaf in ("gate", "up", "down"))]
    if latent:
        return [*slots, "q_a", *(f"heads.{head}.{leaf}" for head in range(2) for leaf in ("key", "value"))]
    return [*slots, "output_gate"]


def made(shape: Any, moe: Any, latent: Any, layers: Any = None, rotaries: Any = None) -> KernelModel:
    layers = layers or [Layer(rotary=0, window=9, moe=moe is not None)]
    model = KernelModel(LEVEL, layers, rotaries or [Rotary(np.full(4, 0.1))], moe=moe, latent=latent, **shape)
    for layer in range(len(layers)):
        for slot in [*slots_of(moe, latent), "embed"]:
            rows, columns = model.matrix_shape(slot)
            model.set_matrix(layer, slot, "f32", rows, columns, random(rows, columns).view(np.uint8).reshape(rows, -1))
        heads = {"a_": ("attention.q_a_norm", "attention.kv_a_norm"), "": ("attention.q_norm", "attention.k_norm")}
        for slot, width in zip(heads["a_" if latent else ""], (16, 32) if latent else (16, 16), strict=True):
            with contextlib.suppress(ValueError):
                model.set_norm(layer, slot, np.ones(width, np.float32), bias=False)
    return model


def ran(model: KernelModel) -> Any:
    logits, _ = model.step(Indices([1, 2, 3], [0, 0, 0], [0, 1, 2], [[0, 1]], [2]), hidden=True)
    return logits


def built_and_run(kind: str, **changes: Any) -> Any:
    """A model with another shape, which runs if it is one."""
    shape, moe, latent = ({**part} if part else None for part in KINDS[kind])
    for part, fields in ((shape, Shape), (moe, MoeShape), (latent, LatentShape)):
        if part is not None:
            part |= {name: value for name, value in changes.items() if name in dict(fields._fields_)}  # type: ignore[arg-type]
    model = made(shape, moe, latent)
    result = ran(model)
    model.close()
    return result


def walk_shapes() -> None:
    for kind, parts in KINDS.items():
        numbers = {name: value for part in parts if part for name, value in part.items() if isinstance(value, int)}
        walk(f"a model of {kind}", lambda kind=kind, **changes: built_and_run(kind, **changes), numbers)  # type: ignore[misc]
    for layer in (Layer(1), Layer(-2), Layer(window=0), Layer(window=-3), Layer(moe=True), Layer(2**31)):
        with contextlib.suppress(*REFUSED):
            made(SHAPE, None, None, [layer])
            raise SystemExit(f"{layer} is taken")
    for frequencies in (np.zeros(9), np.zeros(4, np.float32), np.zeros((2, 2)), np.zeros(8)[::2], np.zeros(4, ">f8")):
        with contextlib.suppress(*REFUSED):
            made(SHAPE, None, None, rotaries=[Rotary(frequencies)])
            raise SystemExit(f"frequencies of {frequencies.dtype} {frequencies.shape} are taken")


def walk_models() -> None:
    for kind, (shape, moe, latent) in KINDS.items():
        bare = KernelModel(
            LEVEL, [Layer(0, moe=moe is not None)], [Rotary(np.full(4, 0.1))], moe=moe, latent=latent, **shape
        )
        with pytest.raises(ValueError, match="not every matrix"):
            ran(bare)
        bare.close()
        for left_out in [*slots_of(moe, latent), "embed"]:
            lacking(left_out, shape, moe, latent)
        walk_methods(kind, made(shape, moe, latent), latent)


def lacking(left_out: str, shape: Any, moe: Any, latent: Any) -> None:
    """A step of a model that never got one of its matrices."""
    set_matrix = KernelModel.set_matrix

    def all_but_one(self: KernelModel, layer: int, slot: str, *rest: Any) -> None:
        if slot != left_out:
            set_matrix(self, layer, slot, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KernelModel, "set_matrix", all_but_one)
        model = made(shape, moe, latent)
    say("without", left_out)
    with pytest.raises(ValueError, match="not every matrix"):
        ran(model)
    model.close()


def walk_methods(kind: str, model: KernelModel, latent: Any) -> None:
    def then_run(method: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            getattr(model, method)(**arguments)
            return ran(model)

        return call

    rows, columns = model.matrix_shape("q")
    data = random(rows, columns).view(np.uint8)
    arguments = {"layer": 0, "slot": "q", "encoding": "f32", "rows": rows, "columns": columns}
    walk(f"set_matrix of {kind}", then_run("set_matrix"), {**arguments, "data": data})
    packed = model.packed(0, "q", "f32").copy()
    walk(f"use_matrix of {kind}", then_run("use_matrix"), {**arguments, "packed": packed})
    walk(f"use_rows of {kind}", then_run("use_rows"), {**arguments, "data": data})
    model.use_matrix(**arguments, packed=packed)
    walk(
        f"packed of {kind}", lambda **given: model.packed(**given).copy(), {"layer": 0, "slot": "k", "encoding": "f32"}
    )
    walk(f"set_bias of {kind}", then_run("set_bias"), {"layer": 0, "slot": "q", "values": random(rows)})
    norm = "attention.q_a_norm" if latent else "attention.q_norm"
    walk(f"set_norm of {kind}", then_run("set_norm"), {"layer": 0, "slot": norm, "values": random(16), "bias": False})
    walk(f"set_norm of {kind}", then_run("set_norm"), {"layer": 0, "slot": "norm", "values": random(32), "bias": True})
    walk(f"set_vector of {kind}", then_run("set_vector"), {"layer": 0, "slot": "attention.sinks", "values": random(2)})
    blocks, slots = np.arange(3, dtype=np.int32), np.array([20, 22], np.int32)
    walk(f"move of {kind}", then_run("move"), {"blocks": blocks, "start": 20, "slots": slots}, ("blocks", "slots"))
    if not latent:
        adapter = {"adapter": 0, "layer": 0, "slot": "up", "down": random(2, 32), "up": random(48, 2)}
        walk(f"set_adapter of {kind}", then_run("set_adapter"), adapter)
    walk(f"step of {kind}", lambda embedding: model.step(
        Indices([1, 2], [0, 0], [0, 1], [[0]], [1], embedded=[0, 1]), hidden=True, embedding=embedding
    )[0], {"embedding": random(2, 32)}, ("embedding",))  # fmt: skip
    model.close()
    for method, given in (("packed", (0, "q", "f32")), ("step", (Indices([1], [0], [0], [[0]], [0]),))):
        with pytest.raises((ValueError, TypeError)):
            getattr(model, method)(*given, **({"hidden": False} if method == "step" else {}))


# ------------------------------------------------------------------------------------------------------------- encoders
ENCODER = {
    "hidden_size": 32, "num_layers": 2, "num_heads": 2, "head_dim": 16, "intermediate_size": 48, "activation": 1,
    "longest": 20, "threads": 2, "exact": 1, "embedding_size": 16, "blocks": 1, "pre": 0, "gated": 1,
}  # fmt: skip
TURNS = random(20, 8)


def encoder(left_out: str = "", turns: Any = TURNS, **changes: Any) -> KernelEncoder:
    shape = {**ENCODER, "norm_eps": 1e-5, **changes}
    layers = [Layer(0, 5)] * min(9, int(shape["num_layers"]))
    made_one = KernelEncoder(LEVEL, layers, [turns], **shape)
    width, narrow, inner = (int(shape[name]) for name in ("hidden_size", "embedding_size", "intermediate_size"))
    wide = {"up": (inner, width), "gate": (inner, width), "down": (width, inner), "embed_projection": (width, narrow)}
    for slot in codes.ENCODER_MATRICES:
        rows, columns = wide.get(slot, (width, width))
        if slot != left_out:
            data = random(rows, columns).view(np.uint8).reshape(rows, -1)
            made_one.set_matrix(0, slot, "f32", data, np.zeros(rows, np.float32))
    for slot in ("attention_output_norm", "mlp_output_norm"):
        if slot != left_out:
            made_one.set_norm(0, slot, np.ones(width, np.float32), np.zeros(width, np.float32))
    for slot, rows in (("embed_tokens", 30), ("embed_positions", 20), ("embed_types", 2)):
        made_one.set_table(slot, random(rows, narrow))
    return made_one


IDS = np.arange(12, dtype=np.int32)
TEXTS: dict[str, Any] = {"tokens": IDS, "types": np.zeros(12, np.int32), "lengths": [7, 5]}


def encoded(**changes: Any) -> Any:
    one = encoder(**changes)
    result = one.encode(**TEXTS)
    one.close()
    return result


def walk_encoders() -> None:
    walk("an encoder", encoded, {**ENCODER, "turns": TURNS})
    for left_out in (*codes.ENCODER_MATRICES, "attention_output_norm", "mlp_output_norm"):
        with pytest.raises(ValueError, match="not every"):
            encoded(left_out=left_out)
    one = encoder()
    walk("encode", one.encode, TEXTS)
    for lengths in ([], [12, 0], [-1, 13], [13], [2**31, 12 - 2**31], None, [21]):
        with pytest.raises(REFUSED):
            one.encode(TEXTS["tokens"], TEXTS["types"], lengths)
    for ids in (IDS - 1, IDS + 30, IDS + (2**31 - 12)):
        with pytest.raises(REFUSED):
            one.encode(ids, TEXTS["types"], [7, 5])

    def then_run(method: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            getattr(one, method)(**arguments)
            return one.encode(**TEXTS)

        return call

    data = random(32, 32).view(np.uint8)
    walk("set_matrix of an encoder", then_run("set_matrix"),
         {"layer": 0, "slot": "q", "encoding": "f32", "data": data, "bias": random(32)})  # fmt: skip
    walk(
        "set_norm of an encoder",
        then_run("set_norm"),
        {"layer": 0, "slot": "norm", "weight": random(32), "bias": random(32)},
    )
    walk("set_table of an encoder", then_run("set_table"), {"slot": "embed_tokens", "rows": random(30, 16)}, ("rows",))
    one.close()
    with pytest.raises(ValueError, match="closed"):
        one.encode(**TEXTS)


WALKS = {
    "functions": (walk_functions, (
        "product", "quantize", "checksum", "pack", "packed_bytes", "sum_weights", "draw", "likeliest", "scan",
    )),
    "shapes": (walk_shapes, ("create", "refusal", "destroy")),
    "models": (walk_models, (
        "set_matrix", "use_matrix", "use_rows", "packed_matrix", "set_bias", "set_norm", "set_vector", "set_adapter",
        "move", "step",
    )),
    "encoders": (walk_encoders, (
        "encoder_create", "encoder_refusal", "encoder_destroy", "encoder_set_matrix", "encoder_set_norm",
        "encoder_set_table", "encode",
    )),
}  # fmt: skip
"""What each walk calls of the library."""
ELSEWHERE = {
    "levels", "max_tokens", "packing", "pin_threads", "interface",  # of no arrays
    "pool_create", "cross_entropy", "rms_forward", "rms_backward", "rotate", "gate",  # tests/nn/fused
}  # fmt: skip


def test_every_function_of_the_library_is_walked_or_takes_no_memory() -> None:
    walked = {name for _, names in WALKS.values() for name in names}
    assert {name.removeprefix("octavo_") for name in SIGNATURES} - ELSEWHERE == walked


def test_every_whole_number_of_a_shape_is_made_wrong() -> None:
    given = {*SHAPE, *MOE, *LATENT, *ENCODER, "level", "num_layers", "num_rotaries", "chunk", "rotary_dim"}
    switches = {"qk_norm_after", "parallel", "post", "alibi_after", "chunked", "growth_turned"}  # any number is one
    fields = [field for shape in (Shape, MoeShape, LatentShape, EncoderShape) for field in shape._fields_]
    assert {name for name, kind in fields if kind is INT32} - given - switches == set()


@pytest.mark.parametrize("name", WALKS)
def test_what_is_wrong_is_an_error_in_python(name: str) -> None:
    program = f"import runpy; runpy.run_path({__file__!r})['WALKS'][{name!r}][0]()"
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    last = done.stdout.splitlines()[-1:] or ["nothing"]
    assert done.returncode == 0, f"after {last[0]!r}: {done.stderr[-3000:]}"
