"""A recipe: everything that decides a training run, as TOML checked before anything is computed.

Unusual: no torch here, so that a mistake is answered at once; every section is a frozen pydantic model in strict mode
("5" is not 5), and `recipes/shakespeare.toml` shows every key with its default.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from octavo.errors import FormatError, OctavoError, UnknownNameError, nearest
from octavo.nn.config import AttentionConfig, MlpConfig, NormConfig, RopeConfig, TransformerConfig
from octavo.train.recipe_errors import explain

Count = Annotated[int, Field(ge=1)]
CAUSAL_LM: Final = "causal_lm"
"""The objective of a recipe that names none."""
Beta = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """What all sections share: unknown keys are refused, types are not bent, nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DataSettings(Section):
    """`[data]`: the text, and which part of it is kept for validation."""

    path: Annotated[str, Field(min_length=1)]
    """A UTF-8 text file (.gz too), sought beside the recipe, then in the current folder."""
    source: str | None = None
    """Where the text can be had; shown when the file is missing."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """The file's checksum; another file is refused."""
    document_separator: Annotated[str, Field(min_length=1)] | None = None
    """A text between documents; no prediction crosses it. None: the file is one document."""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The last part of the text (or of its documents) is never trained on. 0: no validation."""


class TokenizerSettings(Section):
    """`[tokenizer]`: trained from the text."""

    kind: Literal["bpe", "characters"] = "bpe"
    """bpe: byte-level, from the training part. characters: one token a character of the whole text."""
    vocab_size: Annotated[int, Field(ge=257)] | None = None
    """Tokens of a BPE (None: 4096). A character tokenizer has what the text has."""

    @model_validator(mode="after")
    def _only_bpe_has_a_size(self) -> Self:
        if self.kind == "characters" and self.vocab_size is not None:
            raise ValueError("vocab_size is for kind = 'bpe'; characters are counted from the text: remove it")
        return self


class ModelSettings(Section):
    """`[model]`: a LLaMA-shaped decoder (RMSNorm, rotary, gated SiLU, no biases), or one to begin with."""

    init: str | None = None
    """A decoder to train on: a path, name or reference. Beside it only context_length may stand."""
    num_layers: Annotated[int, Field(ge=1, le=4096)] = 4
    hidden_size: Count = 128
    num_heads: Count = 4
    num_kv_heads: Count | None = None
    """Heads of keys and values; None: as many as num_heads. Fewer is grouped-query attention."""
    intermediate_size: Count | None = None
    """Width of the MLP; None: 8/3 of hidden_size, rounded up to a multiple of 8."""
    context_length: Annotated[int, Field(ge=2)] = 256
    rope_theta: Annotated[float, Field(gt=0)] = 10000.0
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5
    tie_embeddings: bool = True
    """One matrix for embedding and head."""

    @model_validator(mode="after")
    def _init_has_its_sizes(self) -> Self:
        given = sorted(self.model_fields_set - {"init", "context_length"})
        if self.init is not None and given:
            raise ValueError(f"{given[0]} is that of init, {self.init}: remove it")
        return self

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.hidden_size % self.num_heads or (self.hidden_size // self.num_heads) % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size} over num_heads {self.num_heads} must be an even whole number"
            )
        if self.num_kv_heads and self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads {self.num_kv_heads} must divide num_heads {self.num_heads}")
        return self

    def transformer(self, vocab_size: int) -> TransformerConfig:
        """The model's configuration for a tokenizer of `vocab_size` tokens."""
        head_dim = self.hidden_size // self.num_heads
        return TransformerConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            context_length=self.context_length,
            norm=NormConfig("rms", self.norm_eps),
            attention=AttentionConfig(self.num_heads, self.num_kv_heads or self.num_heads, head_dim),
            mlp=MlpConfig(self.intermediate_size or -(-self.hidden_size // 3) * 8, "silu", gated=True),
            rope=RopeConfig(self.rope_theta, head_dim),
            tie_embeddings=self.tie_embeddings,
        )


class AdapterSettings(Section):
    """`[adapter]`: low-rank pairs (LoRA, Hu et al. 2021) beside the frozen matrices of `model.init`."""

    rank: Count = 8
    """Rows of A, columns of B."""
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """B A is multiplied by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of what A reads that is left out in training."""
    targets: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)] = ()
    """Matrices by their Hugging Face names, whole or how these end. None: all that may be adapted."""
    rank_stabilized: bool = False
    """Multiply by alpha / sqrt(rank) instead (rsLoRA, Kalajdzievski 2023)."""


class OptimizerSettings(Section):
    """`[optimizer]`: AdamW (Loshchilov & Hutter 2019); decay acts on matrices only."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    betas: Annotated[tuple[Beta, Beta], Field(strict=False)] = (0.9, 0.95)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    clip_norm: Annotated[float, Field(ge=0)] = 1.0
    """Largest L2 norm of a step's whole gradient; 0: no clipping."""


class ScheduleSettings(Section):
    """`[schedule]`: linear warm-up, then this shape down to the final fraction of the learning rate."""

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    final_fraction: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Learning rate of the last step, as a part of the peak (constant has none)."""


class TrainingSettings(Section):
    """`[training]`: how long, how wide, how often something is written."""

    steps: Count = 2000
    batch_size: Count = 16
    """Windows of one step, all accumulation parts together."""
    accumulation: Count = 1
    """Parts that a step's batch is computed in; changes memory, not the result."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: matrix products in bfloat16 (autocast), weights and moments in fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count | None = None
    """Processor threads; None: OCTAVO_THREADS, or all processors. Another number rounds sums otherwise."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    validate_every: Count = 250
    checkpoint_every: Count = 250
    log_every: Count = 10

    @model_validator(mode="after")
    def _parts_are_not_empty(self) -> Self:
        if self.accumulation > self.batch_size:
            raise ValueError(f"accumulation {self.accumulation} is more than batch_size {self.batch_size}")
        return self


class AnyRecipe(Section):
    """What each recipe has, whatever its objective."""

    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    training: TrainingSettings = TrainingSettings()


class Recipe(AnyRecipe):
    """A whole run. Only `data.path` has no default."""

    data: DataSettings
    tokenizer: TokenizerSettings = TokenizerSettings()
    model: ModelSettings = ModelSettings()
    adapter: AdapterSettings | None = None
    """None: the model's own weights are trained."""

    @model_validator(mode="after")
    def _begins_with_one_thing(self) -> Self:
        if self.model.init is None and self.adapter is not None:
            raise ValueError("[adapter] needs a model to adapt: give model.init")
        if self.model.init is not None and "tokenizer" in self.model_fields_set:
            raise ValueError(f"[tokenizer] is that of model.init, {self.model.init}: remove the section")
        return self


Kind = TypeVar("Kind", bound=Section)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a language model; as `load_any`."""
    return load_any(path, {CAUSAL_LM: Recipe}, overrides)


def load_any(path: Path, kinds: Mapping[str, type[Kind]], overrides: Sequence[str] = ()) -> Kind:
    """Read and check a recipe; `overrides` are `section.key=value`, the value in TOML or a bare word.

    kinds: by the top-level key `objective`, which is "causal_lm" where it is left out. Raises OctavoError for a missing
    file, FormatError for what is not TOML, and OctavoError or UnknownNameError, naming the key and the value, for what
    the recipe may not say.
    """
    tree = _read(path)
    for override in overrides:
        _apply(tree, override)
    objective = tree.pop("objective", CAUSAL_LM)
    if objective not in kinds:
        raise UnknownNameError(
            f"{path}: objective is {objective!r}{nearest(str(objective), kinds)}; known are {', '.join(kinds)}",
            param="objective",
        )
    try:
        return kinds[objective].model_validate(tree)
    except ValidationError as error:
        raise explain(error, kinds[objective], str(path)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        siblings = [str(found) for found in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise OctavoError(f"there is no recipe at {path}{nearest(str(path), siblings)}") from None
    except OSError as error:
        raise OctavoError(f"the recipe {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"the recipe {path} is not TOML: {error}") from None


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and section and name):
        raise OctavoError(f"--set {override!r} is not of the form section.key=value, such as training.steps=500")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word, such as a path
    target = tree.setdefault(section, {})
    if not isinstance(target, dict):
        raise OctavoError(f"--set {override!r}: {section} is not a section of the recipe")
    target[name] = value
