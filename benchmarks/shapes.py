"""Random weights in the shapes of real models, as GGUF files that Octavo and llama.cpp both open: speed needs no sense.

python benchmarks/shapes.py 1.1b q4_0 FILE.gguf
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

SCALES = {"q4_0": (0,), "q4_1": (0, 2), "q5_0": (0,), "q8_0": (0,), "q4_k": (0, 2), "q5_k": (0, 2), "q6_k": (208,)}
"""Where the f16 numbers of a block are, by encoding."""
SCALE = {"q8_0": 2e-4, "q6_k": 1e-5, "q4_k": 1e-4, "q5_k": 5e-5}


@dataclass(frozen=True)
class Shape:
    """A LLaMA-like decoder with tied embeddings."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    feed_forward: int
    vocabulary: int


SHAPES = {
    "135m": Shape(30, 576, 9, 3, 1536, 49152),
    "0.5b": Shape(24, 896, 14, 2, 4864, 151936),
    "1.1b": Shape(22, 2048, 32, 4, 5632, 32000),
}


def write_shape(path: Path, name: str, encoding: str) -> None:
    """Write a model of a shape; all matrices in one encoding, the table among them."""
    shape = SHAPES[name]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.width // shape.heads)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_tokenizer_model("none")
    kv = shape.width // shape.heads * shape.kv_heads
    matrices = {
        "attn_q": (shape.width, shape.width),
        "attn_k": (kv, shape.width),
        "attn_v": (kv, shape.width),
        "attn_output": (shape.width, shape.width),
        "ffn_gate": (shape.feed_forward, shape.width),
        "ffn_up": (shape.feed_forward, shape.width),
        "ffn_down": (shape.width, shape.feed_forward),
    }
    generator = np.random.default_rng(0)
    _add(writer, "token_embd.weight", (shape.vocabulary, shape.width), encoding, generator)
    for layer in range(shape.layers):
        for key, size in matrices.items():
            _add(writer, f"blk.{layer}.{key}.weight", size, encoding, generator)
        for key in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{key}.weight", np.ones(shape.width, np.float32))
    writer.add_tensor("output_norm.weight", np.ones(shape.width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(
    writer: gguf.GGUFWriter, name: str, size: tuple[int, int], encoding: str, generator: np.random.Generator
) -> None:
    kind = gguf.GGMLQuantizationType[encoding.upper()]
    writer.add_tensor(name, _random(size, encoding, generator), raw_dtype=kind)


def _random(size: tuple[int, int], encoding: str, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Bytes (rows, bytes of a row) that expand to small weights."""
    rows, columns = size
    if encoding == "bf16":
        values = generator.standard_normal(size, np.float32) * np.float32(columns**-0.5)
        return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    weights, block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[encoding.upper()]]
    data = generator.integers(0, 256, (rows * math.ceil(columns / weights), block), np.uint8)
    for offset, sign in zip(SCALES[encoding], (1, -8), strict=False):
        scale = np.float16(sign * SCALE.get(encoding, 3e-3))
        data[:, offset : offset + 2] = np.frombuffer(scale.tobytes(), np.uint8)
    return data.reshape(rows, -1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("encoding", choices=(*SCALES, "bf16"))
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    write_shape(arguments.path, arguments.shape, arguments.encoding)
