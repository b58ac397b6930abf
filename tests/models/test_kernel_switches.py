"""The kernels refuse each switch that they were not taught, those of a later config too, and torch takes over."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest

from octavo.errors import UnsupportedError
from octavo.models import loading
from octavo.models.checkpoint import GenerationDefaults, open_checkpoint
from octavo.models.compiled import CompiledRunner
from octavo.models.kernel_plan import refuse_unknown_switches
from octavo.models.saving import save_checkpoint
from octavo.models.tables.kernel_switches import SWITCHES
from octavo.models.transformer import Transformer
from octavo.nn.config import (
    Activation,
    AttentionConfig,
    EncoderConfig,
    LatentConfig,
    MlpConfig,
    MoeConfig,
    NormConfig,
    NormKind,
    Placement,
    QkNorm,
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
PARTS = ("rope_layers.", "attention.latent.", "attention.growth.")
"""Parts that the configs here do not have."""
LATENT = LatentConfig(16, None, 16)
WINDOWED = replace(CONFIG, windows=(8, 8))
EXPERTS = replace(CONFIG, moe=MoeConfig(4, 2, 16, True, None, (True, True)))


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


def test_every_switch_of_the_config_is_known() -> None:
    known = {prefix + name for prefix, names in SWITCHES.items() for name in names if prefix not in PARTS}
    known = {name for name in known if not is_dataclass(getattr(EXPERTS, name, None))}
    refused = {"encoder", "memory", "memory_layers", "final_norm", "attention.relative", "attention.disentangled"}
    assert {*switches(EXPERTS)} == known | refused
    for config in (CONFIG, EXPERTS, replace(CONFIG, rope=None)):
        refuse_unknown_switches(config)


@pytest.mark.parametrize(
    "switch",
    ["windows", "moe", "encoder", "attention.softcap", "rope.attention_factor", "moe.normalise", "attention.latent"],
)
def test_a_switch_without_kernels_is_refused_by_name(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix, name = switch.rpartition(".")[0], switch.rpartition(".")[2]
    monkeypatch.delitem(SWITCHES[f"{prefix}." if prefix else ""], name, raising=False)  # type: ignore[arg-type]
    refuse_unknown_switches(CONFIG)
    values = {
        "attention.latent": LATENT,
        "windows": (8, None),
        "moe": EXPERTS.moe,
        "moe.normalise": True,
        "encoder": EncoderConfig(),
    }
    with pytest.raises(UnsupportedError, match=rf"kernels do not know {switch} .*octavo\[torch\]"):
        CompiledRunner(Source(changed(EXPERTS, switch, values.get(switch, 1.5))), num_blocks=1)


def test_a_kind_without_kernels_is_refused_by_name() -> None:
    kinds = {"norm.kind": NormKind, "mlp.activation": Activation, "attention.qk_norm": QkNorm, "placement": Placement}
    for switch, taught in kinds.items():
        for kind in get_args(taught):
            refuse_unknown_switches(changed(CONFIG, switch, kind))
        with pytest.raises(UnsupportedError, match=f"{switch} 'later'"):
            refuse_unknown_switches(changed(CONFIG, switch, "later"))


@dataclass(frozen=True)
class LaterNorm(NormConfig):
    later: bool = False


@dataclass(frozen=True)
class LaterRope(RopeConfig):
    later: int = 0


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
    with pytest.raises(UnsupportedError, match=r"know rope_layers\.later 1"):
        refuse_unknown_switches(replace(CONFIG, rope_layers=(CONFIG.rope, LaterRope(1e4, 16, later=1))))
    refuse_unknown_switches(replace(CONFIG, norm=LaterNorm("rms", 1e-5)))
    with pytest.raises(UnsupportedError, match=r"know norm\.later True"):
        refuse_unknown_switches(replace(CONFIG, norm=LaterNorm("rms", 1e-5, later=True)))


def test_torch_runs_what_the_kernels_refuse_or_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OCTAVO_KERNELS", raising=False)
    monkeypatch.delitem(SWITCHES[""], "windows")  # type: ignore[arg-type]
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
