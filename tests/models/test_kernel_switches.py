"""The kernels refuse each switch that they were not taught, those of a later config too, and torch takes over."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from octavo.errors import UnsupportedError
from octavo.models import loading
from octavo.models.checkpoint import GenerationDefaults, open_checkpoint
from octavo.models.compiled import SWITCHES, CompiledRunner, refuse_unknown_switches
from octavo.models.saving import save_checkpoint
from octavo.models.transformer import Transformer
from octavo.nn.config import (
    Activation,
    AttentionConfig,
    LatentConfig,
    MlpConfig,
    MoeConfig,
    NormConfig,
    NormKind,
    RopeConfig,
    TransformerConfig,
)

CONFIG = TransformerConfig(
    vocab_size=64,
    hidden_size=32,
    num_layers=2,
    context_length=64,
    norm=NormConfig("rms", 1e-5),
    attention=AttentionConfig(2, 1, 16),
    mlp=MlpConfig(64, "silu", gated=True),
    rope=RopeConfig(1e4, 16),
    tie_embeddings=False,
)
GATED = ("silu", "gelu", "gelu_tanh", "relu")
WINDOWED = replace(CONFIG, windows=(8, 8))
SET: dict[str, Any] = {
    "placement": "sandwich", "rope_layers": (None, CONFIG.rope), "windows": (8, None), "head_bias": True,
    "embedding_scale": 2.0, "residual_scale": 0.5, "logit_scale": 0.25, "logit_softcap": 30.0,
    "moe": MoeConfig(4, 2, 16, True, None, (True, True)),
    "norm.offset": True, "norm.round_last": True, "rope.attention_factor": 1.1,
    "attention.scale": 0.1, "attention.softcap": 50.0, "attention.qk_norm": "head", "attention.alibi": True,
    "attention.alibi_after_scale": True, "attention.qk_norm_after_rope": True, "attention.clip": 6.0,
    "attention.sinks": True, "attention.latent": LatentConfig(16, None, 16), "mlp.limit": 7.0, "embedding_norm": True,
    "rope.original_length": 16, "rope.long_factors": (2.0,) * 8, "rope.ntk_factor": 2.0,
}  # fmt: skip
"""A value for each switch that the kernels do not know."""


def changed(config: TransformerConfig, switch: str, value: Any) -> TransformerConfig:
    part, _, name = switch.rpartition(".")
    if not part:
        return replace(config, **{name: value})
    return replace(config, **{part: replace(getattr(config, part), **{name: value})})


def switches(part: Any, prefix: str = "") -> list[str]:
    found = []
    for field in fields(part):
        value = getattr(part, field.name)
        found += switches(value, f"{prefix}{field.name}.") if is_dataclass(value) else [prefix + field.name]
    return found


def test_every_switch_of_the_config_is_known_or_tried_here() -> None:
    known = {prefix + name for prefix, names in SWITCHES.items() for name in names}
    parts = {name for name in known if is_dataclass(getattr(CONFIG, name, None))}
    assert {*switches(CONFIG)} == (known - parts) | {*SET}
    refuse_unknown_switches(CONFIG)
    refuse_unknown_switches(replace(CONFIG, rope=None))


@pytest.mark.parametrize("switch", SET)
def test_a_switch_without_kernels_is_refused_by_name(switch: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"kernels do not know {switch} .*octavo\[torch\]"):
        CompiledRunner(Source(changed(CONFIG, switch, SET[switch])), num_blocks=1)


def test_a_kind_without_kernels_is_refused_by_name() -> None:
    for switch, kinds, taught in (("norm.kind", NormKind, ("rms", "layer")), ("mlp.activation", Activation, GATED)):
        for kind in (*get_args(kinds), "later"):
            config = changed(CONFIG, switch, kind)
            if kind in taught:
                refuse_unknown_switches(config)
            else:
                with pytest.raises(UnsupportedError, match=f"{switch} '{kind}'"):
                    refuse_unknown_switches(config)


@dataclass(frozen=True)
class LaterNorm(NormConfig):
    later: bool = False


@dataclass(frozen=True, kw_only=True)
class LaterConfig(TransformerConfig):
    later: int = 0
    part: LaterNorm | None = None
    must: str


def test_a_switch_that_a_later_config_adds_is_refused_until_the_kernels_learn_it() -> None:
    plain = {field.name: getattr(CONFIG, field.name) for field in fields(CONFIG)}
    with pytest.raises(UnsupportedError, match="know must 'x'"):
        refuse_unknown_switches(LaterConfig(**plain, must="x"))
    with pytest.raises(UnsupportedError, match="know later 1"):
        refuse_unknown_switches(LaterConfig(**plain, later=1, must="x"))
    with pytest.raises(UnsupportedError, match="know part LaterNorm"):
        refuse_unknown_switches(LaterConfig(**plain, part=LaterNorm("rms", 1e-5), must="x"))
    refuse_unknown_switches(replace(CONFIG, norm=LaterNorm("rms", 1e-5)))
    with pytest.raises(UnsupportedError, match=r"know norm\.later True"):
        refuse_unknown_switches(replace(CONFIG, norm=LaterNorm("rms", 1e-5, later=True)))


def test_torch_runs_what_the_kernels_refuse_or_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OCTAVO_KERNELS", raising=False)
    tensors = Transformer(WINDOWED).stored_tensors()
    save_checkpoint(tmp_path / "model", WINDOWED, "mistral", tensors, None, GenerationDefaults())
    checkpoint = open_checkpoint(tmp_path / "model")
    assert loading.make_runner(checkpoint, num_blocks=2).name == "torch cpu"
    with pytest.raises(UnsupportedError, match=r"windows \(8, 8\)"):
        loading.make_runner(checkpoint, runner="kernels", num_blocks=2)
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"windows \(8, 8\); pip install 'octavo\[torch\]'"):
        loading.make_runner(checkpoint, num_blocks=2)


class Source:
    """Weights that must not be asked for."""

    def __init__(self, config: TransformerConfig) -> None:
        self.config = config

    @property
    def tensors(self) -> Any:
        raise AssertionError("the config is refused before a weight is read")

    def release(self) -> None:
        raise AssertionError("the config is refused before a weight is read")
