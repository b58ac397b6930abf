"""Models that the kernels' tests run: every switch in a small config, loud weights, and their encodings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from octavo.models.compiled import CompiledRunner
from octavo.models.packing.cache import PackCache
from octavo.models.runner import Row
from octavo.models.tensors import StoredTensor
from octavo.models.transformer import TorchRunner, Transformer
from octavo.nn.config import (
    AttentionConfig,
    LatentConfig,
    MlpConfig,
    MoeConfig,
    NormConfig,
    RopeConfig,
    TransformerConfig,
)
from octavo.nn.encodings import Encoding

NUM_BLOCKS = 24
NATIVE: tuple[Encoding, ...] = ("f32", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1")
LLAMA = TransformerConfig(
    vocab_size=65,
    hidden_size=64,
    num_layers=2,
    context_length=128,
    norm=NormConfig("rms", 1e-5),
    attention=AttentionConfig(6, 2, 16),
    mlp=MlpConfig(96, "silu", gated=True),
    rope=RopeConfig(1e4, 16),
    tie_embeddings=True,
)
GPT2 = TransformerConfig(
    vocab_size=131,
    hidden_size=60,
    num_layers=2,
    context_length=100,
    norm=NormConfig("layer", 1e-5),
    attention=AttentionConfig(4, 4, 15, qkv_bias=True, output_bias=True),
    mlp=MlpConfig(172, "gelu_tanh", gated=False, bias=True),
    rope=None,
    tie_embeddings=True,
)
CONFIGS = {
    "llama": LLAMA,
    "gpt2": GPT2,
    "untied": replace(LLAMA, tie_embeddings=False),
    "tiny heads": replace(LLAMA, attention=AttentionConfig(8, 4, 8), rope=RopeConfig(1e4, 8)),
    "wide heads": replace(LLAMA, attention=AttentionConfig(2, 1, 144), rope=RopeConfig(1e4, 144)),
    "multi-query": replace(LLAMA, attention=AttentionConfig(13, 1, 16)),
    "partial rotary": replace(LLAMA, rope=RopeConfig(1e4, 10, (1.0, 1.5, 2.0, 4.0, 8.0))),
    "biases": replace(
        LLAMA,
        attention=AttentionConfig(6, 2, 16, qkv_bias=True, output_bias=True),
        mlp=MlpConfig(83, "gelu", gated=True, bias=True),
    ),
    "layer norm": replace(LLAMA, norm=NormConfig("layer", 1e-3), hidden_size=61),
    "relu": replace(GPT2, mlp=MlpConfig(33, "relu", gated=False), rope=RopeConfig(500.0, 4)),
    "windows": replace(LLAMA, windows=(5, None)),
    "soft caps": replace(LLAMA, attention=replace(LLAMA.attention, softcap=3.0), logit_softcap=5.0, windows=(20, 7)),
    "scales": replace(
        LLAMA, attention=replace(LLAMA.attention, scale=0.2), embedding_scale=3.0, residual_scale=0.5, logit_scale=1.5
    ),
    "norms of heads": replace(LLAMA, attention=AttentionConfig(6, 2, 15, qk_norm="head"), rope=RopeConfig(1e4, 14)),
    "a norm for each head": replace(
        LLAMA, norm=NormConfig("layer_without_bias", 1e-5), attention=AttentionConfig(8, 4, 15, qk_norm="per_head"),
        rope=RopeConfig(1e4, 10, None, 1.2),
    ),
    "norms of all heads": replace(LLAMA, placement="output", attention=AttentionConfig(6, 2, 16, qk_norm="full")),
    "norms on both sides": replace(LLAMA, placement="sandwich", norm=NormConfig("rms", 1e-5, offset=True)),
    "norms on sums": replace(GPT2, placement="post", tie_embeddings=False),
    "parallel": replace(GPT2, placement="parallel", rope=RopeConfig(1e4, 6), tie_embeddings=False, head_bias=True),
    "parallel with two norms": replace(GPT2, placement="parallel_two", residual_scale=0.5),
    "alibi": replace(GPT2, attention=AttentionConfig(6, 3, 10, alibi=True), placement="parallel"),
    "a rotary for each layer": replace(
        LLAMA, num_layers=4, rope_layers=(RopeConfig(1e4, 16), None, RopeConfig(50.0, 8), RopeConfig(1e4, 16))
    ),
    "sinks": replace(LLAMA, attention=replace(LLAMA.attention, sinks=True), windows=(9, None)),
    "a cut of q, k and v": replace(LLAMA, attention=replace(LLAMA.attention, clip=0.9), embedding_norm=True),
    "bare norms, after turning": replace(
        LLAMA, norm=NormConfig("layer_bare", 1e-5), mlp=MlpConfig(96, "relu_squared", gated=False),
        attention=AttentionConfig(4, 2, 16, qk_norm="head", qk_norm_after_rope=True),
    ),
    "alibi after the scale": replace(GPT2, attention=AttentionConfig(6, 3, 10, alibi=True, alibi_after_scale=True)),
    "a limit of the gate": replace(LLAMA, mlp=MlpConfig(96, "quick_gelu", gated=True, limit=1.0)),
    "groups of experts": replace(
        LLAMA, moe=MoeConfig(8, 3, 32, True, 96, (True, True), "sigmoid", 2.5, False, True, True, 4, 2, 2)
    ),
    "experts": replace(LLAMA, moe=MoeConfig(5, 2, 96, True, None, (True, True))),
    "experts in some layers, and one for all": replace(
        LLAMA, num_layers=3, moe=MoeConfig(6, 3, 32, False, 64, (False, True, True)), placement="sandwich"
    ),
    "latent": replace(
        LLAMA, attention=AttentionConfig(4, 4, 32, latent=LatentConfig(32, None, 16)), rope=RopeConfig(1e4, 8)
    ),
    "latent, with queries of low rank": replace(
        LLAMA, rope=RopeConfig(1e4, 10), moe=MoeConfig(5, 2, 96, True, 64, (False, True)), attention=AttentionConfig(
            14, 14, 32, qkv_bias=True, output_bias=True, scale=0.3, latent=LatentConfig(32, 64, 16)
        ),
    ),
    "more experts than tokens": replace(LLAMA, moe=MoeConfig(40, 4, 32, True, None, (True, True))),
}  # fmt: skip


@dataclass
class Source:
    """Weights in memory, as a checkpoint would give them."""

    config: TransformerConfig
    tensors: Mapping[str, StoredTensor]

    def release(self) -> None:
        """Nothing is mapped."""


def loud_model(config: TransformerConfig) -> Transformer:
    model = Transformer(config).requires_grad_(False)
    for index, parameter in enumerate(model.parameters()):
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
        parameter.copy_(1.5 * noise / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 1 + 0.3 * noise)
    return model


def stored(array: NDArray[np.float32], encoding: Encoding) -> StoredTensor:
    if encoding == "f32" or array.ndim == 1:
        return StoredTensor.from_array(array)
    if encoding == "f16":
        return StoredTensor.from_array(array.astype(np.float16))
    data = gguf.quants.quantize(array, gguf.GGMLQuantizationType[encoding.upper()])
    return StoredTensor(encoding, array.shape, np.ascontiguousarray(data).view(np.uint8))


def encoded(model: Transformer, encoding: Encoding) -> Source:
    parameters = {name: value.detach().numpy() for name, value in model.named_parameters()}
    return Source(model.config, {name: stored(array, encoding) for name, array in parameters.items()})


def dequantized(source: Source) -> Transformer:
    model = Transformer(source.config).requires_grad_(False)
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.from_numpy(source.tensors[name].dequantize()))
    return model


@contextmanager
def kernels(
    source: Source, level: str, *, threads: int = 2, kv_cache: str | None = None, cache: PackCache | None = None
) -> Iterator[CompiledRunner]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCTAVO_KERNELS", level)
        runner = CompiledRunner(source, num_blocks=NUM_BLOCKS, threads=threads, kv_cache=kv_cache, cache=cache)
    yield runner
    runner.close()


def sequence(config: TransformerConfig, length: int, seed: int = 0) -> NDArray[np.int32]:
    return np.random.default_rng(seed).integers(0, config.vocab_size, length).astype(np.int32)


def whole(runner: CompiledRunner | TorchRunner, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
    return runner.step([Row(tokens, 0, range(NUM_BLOCKS), 0)]).logits
