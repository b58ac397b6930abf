"""GGUF metadata as a config in hub spelling, so that one reader of configs serves both kinds of file.

Source: the metadata keys of ggml's docs/gguf.md; `general.*` and `tokenizer.*` belong to others.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from octavo.errors import FormatError
from octavo.models.formats.gguf import GgufFile
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.family import GgufLayout

OTHER_PREFIXES = ("general.", "tokenizer.", "quantize.", "split.")
"""Where the file comes from, its tokenizer, and how it was quantised or cut: nothing of the graph."""


def hub_config(file: GgufFile, layout: GgufLayout, ignore: Collection[str]) -> dict[str, Any]:
    """The file's config in hub spelling. Raises UnknownNameError for a metadata key that nobody reads."""
    own = layout.architecture + "."
    raw = {key.removeprefix(own): value for key, value in file.metadata.items() if not key.startswith(OTHER_PREFIXES)}
    embedding = file.tensors.get("token_embd.weight")
    if embedding is not None and len(embedding.shape) == 2:
        raw.setdefault("vocab_size", embedding.shape[0])
    reader = ConfigReader(raw, str(file.path), ignore={key.removeprefix(own) for key in ignore})
    config = layout.hub_config(reader, file.tensors.__contains__)
    reader.finish(())
    factors = file.tensors.get("rope_freqs.weight")
    if factors is not None:
        if config.get("rope_scaling") is not None:
            raise FormatError(f"{file.path} has rope_freqs.weight beside rope.scaling, two scalings of one thing")
        config["rope_scaling"] = divided(factors.read().dequantize())
    return config


def rounded(value: float) -> float:
    """The shortest decimal that is the same float32: 1e-05 where the file's float32 reads 9.99999974e-06."""
    return float(str(np.float32(value)))


def rope_scaling(reader: ConfigReader) -> dict[str, Any] | None:
    """`rope.scaling.*`, or the older `rope.scale_linear`, in hub spelling."""
    if reader.has("rope.scale_linear"):
        return {"rope_type": "linear", "factor": rounded(reader.number("rope.scale_linear"))}
    kinds = {"none": None, "linear": "linear", "yarn": "yarn", "longrope": "longrope"}
    kind = reader.choice("rope.scaling.type", table=kinds, default="none")
    factor = reader.number("rope.scaling.factor", default=1.0)
    original = reader.integer("rope.scaling.original_context_length", default=0, low=0)
    reader.neutral({"rope.scaling.attn_factor": (1.0,), "rope.scaling.finetuned": (True, False)})
    reader.skip("rope.dimension_sections", "n_deepstack_layers")  # of images
    if kind is None:
        return None
    scaling = {"rope_type": kind, "factor": rounded(factor)}
    return {**scaling, **_yarn(reader, original)} if kind == "yarn" else scaling


def _yarn(reader: ConfigReader, original: int) -> dict[str, Any]:
    """What else YaRN says; of the logarithm's multiplier DeepSeek's files have a tenth."""
    reader.neutral({"rope.scaling.yarn_ext_factor": (1.0, -1.0), "rope.scaling.yarn_attn_factor": (1.0,)})
    said: dict[str, Any] = {}
    for key in ("beta_fast", "beta_slow"):
        if reader.has(f"rope.scaling.yarn_{key}"):
            said[key] = rounded(reader.number(f"rope.scaling.yarn_{key}"))
    if original:
        said["original_max_position_embeddings"] = original
    if reader.has("rope.scaling.yarn_log_multiplier"):
        tenth = rounded(reader.number("rope.scaling.yarn_log_multiplier"))
        said |= dict.fromkeys(("mscale", "mscale_all_dim"), round(10 * tenth, 6))
    return said


def divided(factors: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, Any]:
    """Divisors of the frequencies as a config says them: longrope with equal lists."""
    values = factors.reshape(-1).tolist()
    return {"rope_type": "longrope", "short_factor": values, "long_factor": values, "attention_factor": 1.0}
