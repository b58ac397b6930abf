"""The recipe of a CKIP model, whose `objective` is "ckip": annotated sentences, a task, and what is made for it.

`recipes/ckip-ws.toml` shows every key with its default. No torch here.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from octavo.nn.config import AttentionConfig, EncoderConfig, HeadConfig, MlpConfig, NormConfig, TransformerConfig
from octavo.train.recipe import AnyRecipe, Count, Section

Names = Annotated[tuple[str, ...], Field(strict=False)]
Share = Annotated[float, Field(ge=0, lt=1)]


class AnnotatedFiles(Section):
    """`[data]`: files of annotated sentences."""

    path: Annotated[str, Field(min_length=1)]
    """A folder, sought beside the recipe, then in the current folder."""
    files: Annotated[Names, Field(min_length=1)]
    """In the folder: `.conllu`, or `.jsonl` of {"words": [...], "pos": [...], "entities": [...]}; either as .gz."""
    held_out: Names = ()
    """Files that are never trained on: for validation, and for the figure at the end."""
    source: str | None = None
    """Where the files can be had; shown when they are missing."""
    tags: Literal["xpos", "upos"] = "xpos"
    """Which column of a `.conllu` file holds the parts of speech."""


class LabellerSettings(Section):
    """`[model]`: what is trained."""

    task: Literal["ws", "pos", "ner"]
    """Word segmentation, parts of speech, named entities."""
    kind: Literal["bilstm", "encoder"] = "bilstm"
    """bilstm: a CKIP Tagger. encoder: BERT's kind with a head, as CKIP Transformers."""
    init: str | None = None
    """Of an encoder: a model's folder or reference to begin with. None: a fresh one in these sizes."""
    hidden_size: Count = 128
    """Of a CKIP Tagger: of each direction."""
    num_layers: Count = 2
    num_heads: Count = 4
    """Of a fresh encoder."""
    intermediate_size: Count = 256
    """Of a fresh encoder."""
    character_size: Count = 64
    """Numbers of a character's vector, of a CKIP Tagger."""
    word_size: Count = 64
    """Numbers of a word's vector, of a CKIP Tagger for pos and ner."""
    occurrences: Count = 2
    """Characters and words that the files have so often are known; the others are one."""
    dropout: Share = 0.35
    """Of a CKIP Tagger's features and states."""
    unknown: Share = 0.02
    """Of known characters and words, how many a CKIP Tagger reads as unknown while it is trained."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind == "bilstm" and self.init is not None:
            raise ValueError("init is for kind = 'encoder': a CKIP Tagger begins fresh")
        if self.kind == "encoder" and self.hidden_size % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} must divide hidden_size {self.hidden_size}")
        return self

    def encoder(self, vocab_size: int, labels: int) -> TransformerConfig:
        """A fresh encoder's configuration."""
        return TransformerConfig(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            context_length=512,
            norm=NormConfig("layer", 1e-12),
            attention=AttentionConfig(
                self.num_heads, self.num_heads, self.hidden_size // self.num_heads, qkv_bias=True, output_bias=True
            ),
            mlp=MlpConfig(self.intermediate_size, "gelu", gated=False, bias=True),
            rope=None,
            tie_embeddings=True,
            placement="post",
            head_bias=True,
            embedding_norm=True,
            encoder=EncoderConfig(0, 2, head=HeadConfig("tokens", labels)),
        )


class CkipRecipe(AnyRecipe):
    """A whole run. `data.path`, `data.files` and `model.task` have no default."""

    data: AnnotatedFiles
    model: LabellerSettings
