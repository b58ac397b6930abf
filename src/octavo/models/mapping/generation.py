"""`GenerationDefaults`: what a model's authors advise for generating with it.

Read from `generation_config.json` and config.json of a folder, or from a GGUF file's token ids; written with a saved
model. Values for ways of decoding that are not here must be neutral, or are refused by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from octavo.errors import FormatError
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.mapping.searching import SearchAdvice, read_search, search_keys, write_search
from octavo.models.mapping.tables.config_keys import GENERATION_HARMLESS, GENERATION_NEUTRAL, SEARCH_NEUTRAL

ADVICE = ("temperature", "top_k", "top_p", "repetition_penalty")


@dataclass(frozen=True)
class GenerationDefaults:
    """eos_token_ids: any of them ends an answer. The others are None where the authors advise nothing.

    search: of an encoder-decoder.
    """

    eos_token_ids: tuple[int, ...] = ()
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float | None = None
    search: SearchAdvice = field(default_factory=SearchAdvice)


def read_generation(
    generation: Mapping[str, Any], config: Mapping[str, Any], source: str, *, ignore: Collection[str] = ()
) -> GenerationDefaults:
    """generation: the object of generation_config.json, empty where there is no such file. config: of config.json."""
    searched = config.get("is_encoder_decoder") is True
    reader = ConfigReader(generation or (search_keys(config) if searched else {}), source, ignore=ignore)
    search = read_search(reader) if searched else SearchAdvice()
    reader.neutral(GENERATION_NEUTRAL if searched else {**GENERATION_NEUTRAL, **SEARCH_NEUTRAL})
    ids = reader.raw.get("eos_token_id")
    if ids is None:
        ids = config.get("eos_token_id")
    sampled = reader.flag("do_sample", default=True)  # absent: the values stand for when one samples
    defaults = GenerationDefaults(
        eos_token_ids=_token_ids(ids, source),
        temperature=_optional(reader, "temperature"),
        top_k=reader.integer("top_k", low=0) if reader.has("top_k") else None,
        top_p=_optional(reader, "top_p"),
        repetition_penalty=_optional(reader, "repetition_penalty"),
        search=search,
    )
    reader.finish({*GENERATION_HARMLESS, "eos_token_id", *ADVICE})
    return defaults if sampled else GenerationDefaults(defaults.eos_token_ids, search=search)


def gguf_ends(metadata: Mapping[str, Any], source: str) -> list[int]:
    """The ids of end of sequence, end of turn and end of message, where the file names them."""
    names = ("eos_token_id", "eot_token_id", "eom_token_id")
    ids = [metadata.get(f"tokenizer.ggml.{name}") for name in names]
    return list(_token_ids([value for value in ids if value is not None], source))


def write_generation(defaults: GenerationDefaults) -> dict[str, Any]:
    """The object of generation_config.json that `read_generation` reads to the same values."""
    ids = list(defaults.eos_token_ids)
    advised = {key: getattr(defaults, key) for key in ADVICE if getattr(defaults, key) is not None}
    written = {"eos_token_id": ids[0] if len(ids) == 1 else ids} if ids else {}
    return {**written, **({"do_sample": True} if advised else {}), **advised, **write_search(defaults.search)}


def _optional(reader: ConfigReader, key: str) -> float | None:
    if type(reader.raw.get(key)) in (int, float) and reader.raw[key] == 0:
        return 0.0  # greedy, or a stage that is off
    return reader.number(key) if reader.has(key) else None


def _token_ids(value: Any, source: str) -> tuple[int, ...]:
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(item) is int and 0 <= item < 2**31 for item in ids):
        raise FormatError(f"{source} has eos_token_id {value!r}; it must be a token id or a list of them")
    return tuple(dict.fromkeys(ids))
