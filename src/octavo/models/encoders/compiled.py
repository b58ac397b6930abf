"""`CompiledEncoder`: an encoder on the C kernels, the default on a CPU. No torch here.

BERT's shape, ALBERT's (one block for all layers, embeddings that a matrix widens), ModernBERT's (norms before the
sublayers, rotary positions, gated MLPs, windows), and what lies between. Matrices are kept in float32, bfloat16 or int8
(a scale for each 32 numbers); tables of embeddings stay in the file's mapping, norms in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octavo import settings
from octavo.errors import UnsupportedError, brief
from octavo.models.checkpoint import Checkpoint
from octavo.models.encoders.runner import EncoderRow, Floats, Weights, lengths_of
from octavo.models.formats.blocks import encoded
from octavo.models.formats.joining.int8 import BLOCK, in_int8
from octavo.models.kernel_plan import layers_of, refuse_unknown_switches
from octavo.models.tables.kernel_switches import ENCODER_ACTIVATIONS, ENCODER_SWITCHES, MATRICES, NORMS
from octavo.models.tensors import StoredTensor
from octavo.nn.config import EncoderConfig, RopeConfig, TransformerConfig
from octavo.nn.frequencies import inverse_frequencies
from octavo.nn.kernels.binding import BF16_LEVELS, choose_level
from octavo.nn.kernels.encoder_handle import KernelEncoder
from octavo.nn.kernels.tables.codes import MAX_HEAD_DIM


class CompiledEncoder:
    """Implements `EncoderRunner`. threads None: `settings.threads()`. weights None: what the level multiplies fastest.

    Raises MissingDependencyError (library not built), UnsupportedError (a switch without kernels), OctavoError (a
    forced level that the machine lacks, no memory).
    """

    def __init__(self, checkpoint: Checkpoint, *, weights: Weights | None = None, threads: int | None = None) -> None:
        self.config = checkpoint.config
        attention, mlp, encoder = self.config.attention, self.config.mlp, self.config.encoder
        assert encoder is not None, "not an encoder"
        refuse_unknown_switches(self.config, ENCODER_SWITCHES, "encoders with ")
        _refuse_unknown_shapes(self.config, encoder)
        level = choose_level(settings.kernels())
        weights = weights or ("bf16" if level in BF16_LEVELS else "int8")
        layers, ropes = layers_of(self.config)
        self._model = KernelEncoder(
            level,
            layers,
            [turns(rope, self.config.context_length) for rope in ropes],
            embedding_size=encoder.embedding_size or self.config.hidden_size,
            blocks=1 if encoder.shared_block else self.config.num_layers,
            pre=self.config.placement == "pre",
            gated=mlp.gated,
            hidden_size=self.config.hidden_size,
            num_layers=self.config.num_layers,
            num_heads=attention.num_heads,
            head_dim=attention.head_dim,
            intermediate_size=mlp.intermediate_size,
            activation=ENCODER_ACTIVATIONS[mlp.activation],
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
        for name in ("embed_tokens", "embed_positions", "embed_types"):
            if f"{name}.weight" in tensors:
                table = _table(tensors[f"{name}.weight"])
                self._model.set_table(name, table[encoder.position_offset :] if name == "embed_positions" else table)
        self._set_matrix(tensors, 0, "embed_projection", "embed_projection", weights)
        for name in ("embed_norm", "norm"):
            self._set_norm(tensors, 0, name, name)
        for layer in range(1 if encoder.shared_block else self.config.num_layers):
            block = f"blocks.{layer}."
            for slot, name in MATRICES.items():
                self._set_matrix(tensors, layer, slot, block + name, weights)
            for slot in NORMS:
                self._set_norm(tensors, layer, slot, block + slot)

    def _set_matrix(
        self, tensors: Mapping[str, StoredTensor], layer: int, slot: str, name: str, weights: Weights
    ) -> None:
        """Where the model has it, with its bias or zeros."""
        if f"{name}.weight" in tensors:
            tensor = tensors[f"{name}.weight"]
            matrix, bias = _kept(tensor, weights), _bias(tensors, name, tensor.shape[0])
            self._model.set_matrix(layer, slot, matrix.encoding, matrix.data, bias)

    def _set_norm(self, tensors: Mapping[str, StoredTensor], layer: int, slot: str, name: str) -> None:
        if f"{name}.weight" in tensors:
            weight = _vector(tensors[f"{name}.weight"])
            self._model.set_norm(layer, slot, weight, _bias(tensors, name, len(weight)))


def _refuse_unknown_shapes(config: TransformerConfig, encoder: EncoderConfig) -> None:
    attention, width = config.attention, config.hidden_size
    if len({rope.rotary_dim for rope in layers_of(config)[1]}) > 1:
        raise UnsupportedError("the kernels know encoders with rotary embedding of one width, not of several")
    if attention.num_heads * attention.head_dim != width or attention.num_kv_heads != attention.num_heads:
        raise UnsupportedError(f"the kernels know encoders whose heads fill {width} features, not {brief(attention)}")
    if (encoder.embedding_size or 0) > width or attention.head_dim > MAX_HEAD_DIM:
        raise UnsupportedError(
            f"the kernels know encoders with heads of up to {MAX_HEAD_DIM} features and embeddings of up to {width}, "
            f"not {attention.head_dim} and {encoder.embedding_size}"
        )


def turns(rope: RopeConfig, length: int) -> Floats:
    """(length, rotary_dim): the cosines, then the sines, of each position's angles."""
    angles = np.arange(length)[:, None] * inverse_frequencies(rope)
    both = np.concatenate((np.cos(angles), np.sin(angles)), axis=1) * rope.attention_factor
    return np.ascontiguousarray(both, np.float32)


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


def _bias(tensors: Mapping[str, StoredTensor], name: str, size: int) -> Floats:
    """A bias, or zeros where there is none."""
    tensor = tensors.get(f"{name}.bias")
    return np.zeros(size, np.float32) if tensor is None else _vector(tensor)
