"""`CompiledEncoder`: an encoder of BERT's shape on the C kernels, the default on a CPU. No torch here.

Matrices are kept in float32, bfloat16 or int8 (a scale for each 32 numbers); tables of embeddings stay in the file's
mapping, norms in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo import settings
from octavo.errors import UnsupportedError
from octavo.models.checkpoint import Checkpoint
from octavo.models.encoders.runner import EncoderRow, Floats, Weights, lengths_of
from octavo.models.formats.blocks import encoded
from octavo.models.formats.joining.int8 import BLOCK, in_int8
from octavo.models.tensors import StoredTensor
from octavo.nn.config import EncoderConfig, TransformerConfig
from octavo.nn.kernels.binding import choose_level
from octavo.nn.kernels.encoder_handle import KernelEncoder
from octavo.nn.kernels.tables.codes import MAX_HEAD_DIM

ACTIVATIONS = {"silu": 0, "gelu": 1, "gelu_tanh": 2, "relu": 3}
MATRICES = {
    "q": "attention.q", "k": "attention.k", "v": "attention.v", "o": "attention.o", "up": "mlp.up", "down": "mlp.down"
}  # fmt: skip


class CompiledEncoder:
    """Implements `EncoderRunner`. threads None: `settings.threads()`.

    Raises MissingDependencyError (library not built), UnsupportedError (a switch without kernels), OctavoError (a
    forced level that the machine lacks, no memory).
    """

    def __init__(self, checkpoint: Checkpoint, *, weights: Weights = "bf16", threads: int | None = None) -> None:
        self.config = checkpoint.config
        refuse_unknown_switches(self.config)
        forced = settings.kernels()
        level = choose_level(None if forced == "torch" else forced)
        attention, mlp = self.config.attention, self.config.mlp
        self._model = KernelEncoder(
            level,
            hidden_size=self.config.hidden_size,
            num_layers=self.config.num_layers,
            num_heads=attention.num_heads,
            head_dim=attention.head_dim,
            intermediate_size=mlp.intermediate_size,
            activation=ACTIVATIONS[mlp.activation],
            longest=self.config.context_length,
            threads=threads or settings.threads(),
            exact=weights == "f32",
            norm_eps=self.config.norm.eps,
        )
        self.name = f"kernels {level} {weights}"
        try:
            self._load(checkpoint, weights)
        except BaseException:
            self.close()
            raise

    def encode(self, rows: Sequence[EncoderRow]) -> Floats:
        """As `EncoderRunner.encode`. Raises ContextLengthError for too long a row, ValueError for ids out of range."""
        lengths = lengths_of(rows, self.config)
        tokens = np.concatenate([np.asarray(row.tokens, np.int32) for row in rows])
        types = [np.zeros(len(row.tokens), np.int32) if row.types is None else row.types for row in rows]
        return self._model.encode(tokens, np.concatenate(types).astype(np.int32), lengths)

    def close(self) -> None:
        """Join the threads and free the memory. Idempotent."""
        self._model.close()

    def _load(self, checkpoint: Checkpoint, weights: Weights) -> None:
        tensors, encoder = checkpoint.tensors, self.config.encoder
        assert encoder is not None, "refused before"
        for name in ("embed_tokens", "embed_positions", *(("embed_types",) if encoder.token_types else ())):
            table = _table(tensors[f"{name}.weight"])
            self._model.set_table(name, table[encoder.position_offset :] if name == "embed_positions" else table)
        self._set_norm(tensors, 0, "embed_norm", "embed_norm")
        for layer in range(self.config.num_layers):
            block = f"blocks.{layer}."
            for slot, name in MATRICES.items():
                matrix, bias = _kept(tensors[f"{block}{name}.weight"], weights), _vector(tensors[f"{block}{name}.bias"])
                self._model.set_matrix(layer, slot, matrix.encoding, matrix.data, bias)
            for slot in ("attention_output_norm", "mlp_output_norm"):
                self._set_norm(tensors, layer, slot, block + slot)

    def _set_norm(self, tensors: Mapping[str, StoredTensor], layer: int, slot: str, name: str) -> None:
        self._model.set_norm(layer, slot, _vector(tensors[f"{name}.weight"]), _vector(tensors[f"{name}.bias"]))


def refuse_unknown_switches(config: TransformerConfig) -> None:
    """Raise UnsupportedError, with the first switch that is not of BERT's shape, for what has no kernels."""
    encoder = config.encoder
    assert encoder is not None, "not an encoder"
    known = replace(
        config, vocab_size=1, hidden_size=1, num_layers=1, context_length=1, norm=replace(config.norm, eps=0.0),
        attention=replace(config.attention, num_heads=1, num_kv_heads=1, head_dim=1),
        mlp=replace(config.mlp, intermediate_size=1, activation="gelu"), tie_embeddings=True, head_bias=False,
        encoder=replace(encoder, position_offset=0, token_types=0, head=None), windows=(), rope_layers=(),
    )  # fmt: skip
    wanted = replace(
        known, norm=type(config.norm)("layer", 0.0),
        attention=type(config.attention)(1, 1, 1, qkv_bias=True, output_bias=True),
        mlp=type(config.mlp)(1, "gelu", gated=False, bias=True), rope=None, placement="post", encoder=EncoderConfig(),
    )  # fmt: skip
    for name in ("placement", "rope", "norm", "attention", "mlp", "encoder"):
        if getattr(known, name) != getattr(wanted, name) or (name == "rope" and config.rope_layers):
            raise _unsupported(name, getattr(config, name))
    if known != wanted or config.windows:
        raise _unsupported("windows" if config.windows else "scales", config.windows)
    if config.attention.head_dim > MAX_HEAD_DIM or config.mlp.activation not in ACTIVATIONS:
        raise _unsupported("mlp.activation", config.mlp.activation)


def _kept(tensor: StoredTensor, weights: Weights) -> StoredTensor:
    """A matrix as it is kept; one whose rows are not whole blocks of int8 in bf16."""
    if weights == "int8" and tensor.shape[1] % BLOCK == 0:
        return in_int8(tensor)
    return encoded(tensor, "f32" if weights == "f32" else "bf16")


def _table(tensor: StoredTensor) -> NDArray[Any]:
    """Rows as the kernels read them: where they lie, in float32 or bfloat16; of other encodings a copy."""
    return tensor.bits() if tensor.encoding in ("f32", "bf16") else tensor.dequantize()


def _vector(tensor: StoredTensor) -> Floats:
    return np.ascontiguousarray(tensor.dequantize())


def _unsupported(name: str, value: object) -> UnsupportedError:
    text = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
    return UnsupportedError(
        f"the kernels do not know encoders with {name} {text}; pip install 'octavo[torch]' runs this model on torch",
        param=name,
    )
