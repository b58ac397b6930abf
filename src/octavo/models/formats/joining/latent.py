"""Latent attention in newer GGUF files: the matrix that makes a head's keys and values, cut in two, as one again.

Unusual: the half for keys lies turned, head by head, as it is multiplied into the queries there.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from octavo.models.formats.mapped import TensorEntry
from octavo.models.tensors import StoredTensor

KEYS, VALUES, WHOLE = "attn_k_b.weight", "attn_v_b.weight", "attn_kv_b.weight"


def join_latent(entries: Mapping[str, TensorEntry]) -> dict[str, TensorEntry]:
    """The entries with each such pair as one, under the name that older files have for it."""
    joined = dict(entries)
    for name, keys in entries.items():
        values = entries.get(name.removesuffix(KEYS) + VALUES)
        if not name.endswith(KEYS) or values is None or len(keys.shape) != 3 or len(values.shape) != 3:
            continue
        if keys.shape[:2] != (values.shape[0], values.shape[2]):
            continue  # the shapes of the config will not be there
        heads, rank, width = keys.shape
        shape = (heads * (width + values.shape[1]), rank)
        whole = name.removesuffix(KEYS) + WHOLE
        place = (keys.offset, keys.nbytes + values.nbytes, keys.file)
        joined[whole] = TensorEntry(whole, "F32", "f32", shape, *place, make=partial(_whole, keys, values))
        del joined[name], joined[values.name]
    return joined


def _whole(keys: TensorEntry, values: TensorEntry) -> StoredTensor:
    """Each head's keys, then its values, expanded. keys: (heads, rank, width); values: (heads, width, rank)."""
    parts = keys.read().dequantize().swapaxes(1, 2), values.read().dequantize()
    return StoredTensor.from_array(np.concatenate(parts, axis=1).reshape(-1, keys.shape[1]))
