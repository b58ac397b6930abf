"""`params.json` of LLaMA and Mistral in hub spelling.

The widths of the MLP and of the vocabulary are those of the tensors: older files do not say them. How long a context
may be, LLaMA's do not say either; it follows from what else tells the versions apart.
Source: Meta's and Mistral's published files, and the hub's conversion scripts of both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from octavo.errors import FormatError
from octavo.models.formats.mapped import TensorEntry
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.tables.author_names import EMBEDDING
from octavo.models.mapping.tables.class_defaults import LLAMA3_SCALING

MISTRAL_CONTEXT, LLAMA3_THETA = 32768, 500000.0


def hidden_size(params: Mapping[str, Any], source: str) -> int:
    """The one number that is needed before the tensors are read."""
    return ConfigReader(params, source).integer("dim")


def hub_config(
    params: Mapping[str, Any], entries: Mapping[str, TensorEntry], source: str, ignore: Collection[str]
) -> dict[str, Any]:
    """params.json in hub spelling. Raises UnknownNameError for a key that nobody reads, FormatError for a bad value."""
    reader = ConfigReader(params, source, ignore=ignore)
    tied = "output.weight" not in entries
    experts = reader.section("moe")
    is_mistral = reader.has("hidden_dim") or experts is not None
    heads = reader.integer("n_heads", high=65536)
    first = "layers.0.feed_forward." + ("" if experts is None else "experts.0.") + "w1.weight"
    config: dict[str, Any] = {
        "model_type": "llama",
        "vocab_size": _rows(entries, EMBEDDING, source),
        "hidden_size": reader.integer("dim"),
        "intermediate_size": _rows(entries, first, source),
        "num_hidden_layers": reader.integer("n_layers", high=4096),
        "num_attention_heads": heads,
        "num_key_value_heads": reader.integer("n_kv_heads", default=heads, high=65536),
        "rms_norm_eps": reader.number("norm_eps"),
        "rope_theta": reader.number("rope_theta", default=10000.0),
        "tie_word_embeddings": tied,
    }
    if reader.has("head_dim"):
        config["head_dim"] = reader.integer("head_dim", high=65536)
    if is_mistral:
        config |= {"model_type": "mistral", "sliding_window": reader.take("sliding_window", None)}
        if experts is not None:
            config["model_type"] = "mixtral"
            config["num_local_experts"] = experts.integer("num_experts", high=65536)
            config["num_experts_per_tok"] = experts.integer("num_experts_per_tok")
    elif reader.flag("use_scaled_rope", default=False):  # LLaMA 3.1 scales by 8; 3.2, whose small ones are tied, by 32
        factor = reader.number("rope_scaling_factor", default=32.0 if tied else 8.0)
        config["rope_scaling"] = {**LLAMA3_SCALING, "factor": factor}
    config["eos_token_id"] = _ends(config)
    trained = MISTRAL_CONTEXT if is_mistral else _context(config)
    config["max_position_embeddings"] = reader.integer("max_seq_len", "max_position_embeddings", default=trained)
    reader.skip("hidden_dim", "vocab_size", "multiple_of", "ffn_dim_multiplier")  # the tensors say them
    reader.neutral(
        {"use_biases": (False,), "tied_embeddings": (tied,), "model_type": ("transformer",), "causal": (True,)}
    )
    reader.finish(("max_batch_size",))
    return config


def _ends(config: Mapping[str, Any]) -> list[int]:
    """The ids that end an answer: SentencePiece's, or LLaMA 3's end of text, of message and of turn."""
    special = config["vocab_size"] - 256
    return [special + 1, special + 8, special + 9] if config["rope_theta"] == LLAMA3_THETA and special > 0 else [2]


def _context(config: Mapping[str, Any]) -> int:
    """Positions of LLaMA 3.1 and 3.2, 3, Code LLaMA, 2 and 1, by what tells them apart."""
    if "rope_scaling" in config:
        return 131072
    if config["rope_theta"] == LLAMA3_THETA:
        return 8192
    if config["rope_theta"] > 10000:
        return 16384
    return 2048 if config["rms_norm_eps"] < 1e-5 else 4096


def _rows(entries: Mapping[str, TensorEntry], name: str, source: str) -> int:
    if name not in entries or len(entries[name].shape) != 2:
        raise FormatError(f"the weights beside {source} lack the matrix {name!r}; fetch them")
    return entries[name].shape[0]
