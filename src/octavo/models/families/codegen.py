"""CodeGen: GPT-J's graph with q, k and v in one matrix, in four parts of as many heads, each queries, values, keys.

Source: Nijkamp et al. 2022 (arXiv 2203.13474), and the hub's `codegen` config.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from octavo.models.families import gptj
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.keys import KeyRule, pair_order
from octavo.models.mapping.tables.gguf_names import QKV
from octavo.nn.config import TransformerConfig

PARTS = 4


def row_order(config: TransformerConfig) -> NDArray[np.intp]:
    """Which row of the file is row r of q, k and v one under the other."""
    parts = np.arange(3 * config.hidden_size).reshape(PARTS, 3, -1)
    q, k, v = (parts[:, place].reshape(-1) for place in (0, 2, 1))
    turned = pair_order(config, len(q), config.attention.head_dim)
    return np.concatenate((q[turned], k[turned], v))


def read_config(reader: ConfigReader) -> TransformerConfig:
    """A hub config to switches; n_ctx says nothing, and does not follow n_positions."""
    reader.raw.pop("n_ctx", None)
    return gptj.read_config(reader)


CODEGEN = replace(
    gptj.GPTJ,
    name="codegen",
    architecture="CodeGenForCausalLM",
    read_config=read_config,
    rules=(
        *(rule for rule in gptj.RULES if not rule.stored.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))),
        KeyRule(gptj.LAYER + "attn.qkv_proj.weight", tuple(f"{name}.weight" for name in QKV), row_order),
    ),
    harmless_tensors=(r"transformer\.h\.\d+\.attn\.(causal_mask|bias|masked_bias)",),
)
