"""The sentence-transformers layout: modules.json, how hidden states become a vector, prompts, the longest text.

Source: the library's own readers (sentence-transformers 5). A folder without modules.json is what the library takes it
for: the mean over the tokens; here it is normalised, too. A decoder without modules.json is read at its last token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from octavo.errors import FormatError, UnsupportedError, nearest
from octavo.models.formats.folder import read_json, read_json_if_there
from octavo.models.formats.tables.sentence_keys import HARMLESS_POOLING_KEYS, KINDS, POOLING_KEYS, Pooling


@dataclass(frozen=True)
class SentenceLayout:
    """body: the folder of the transformer. poolings: joined in this order. max_tokens: the longest text, if said.

    prompts: name -> what stands before a text; default_prompt: the name of the one that stands before all.
    answers: of a decoder that is asked whether a passage answers a query, the tokens of yes and of no, or of yes alone.
    """

    body: Path
    poolings: tuple[Pooling, ...] = ("mean",)
    normalize: bool = True
    max_tokens: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    answers: tuple[int, int | None] | None = None


def is_layout(folder: Path) -> bool:
    """Whether a model's folder says how its states become a vector."""
    return (folder / "modules.json").is_file()


def read_layout(folder: Path) -> SentenceLayout:
    """The layout of a model's folder. Raises FormatError where it is malformed, UnsupportedError for other modules."""
    if not is_layout(folder):
        return SentenceLayout(folder)
    modules = _modules(folder / "modules.json")
    kinds = [kind for kind, _ in modules]
    if kinds not in KINDS:
        known = "Transformer, Pooling and Normalize, in this order, or Transformer and LogitScore"
        raise UnsupportedError(f"{folder}/modules.json has {', '.join(kinds)}; what is known here is {known}")
    body = folder / modules[0][1]
    prompts = read_json_if_there(folder / "config_sentence_transformers.json")
    return SentenceLayout(
        body,
        _poolings(folder / modules[1][1] / "config.json") if "Pooling" in kinds else ("mean",),
        "Normalize" in kinds,
        _max_tokens(body / "sentence_bert_config.json"),
        _prompts(prompts.get("prompts"), folder),
        prompts.get("default_prompt_name"),
        _answers(folder / modules[1][1] / "config.json", body) if "LogitScore" in kinds else None,
    )


def _modules(path: Path) -> list[tuple[str, str]]:
    """(kind, folder) of each module, in order."""
    import json

    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        found = [(str(entry["type"]).rpartition(".")[2], str(entry["path"])) for entry in listed]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise FormatError(f"{path} is no list of modules with type and path ({error}); fetch it again") from None
    for _, inside in found:
        if len(inside) > 200 or Path(inside).is_absolute() or ".." in Path(inside).parts:
            raise FormatError(f"{path} names {inside[:200]!r}, which is no folder inside its own; fetch it again")
    if not found:
        raise FormatError(f"{path} lists no module; fetch it again")
    return found


def _poolings(path: Path) -> tuple[Pooling, ...]:
    raw = read_json(path)
    if raw.pop("include_prompt", True) is not True:
        raise UnsupportedError(f"{path} has include_prompt false, which is not supported: prompts are pooled here")
    for key in HARMLESS_POOLING_KEYS:
        raw.pop(key, None)
    named = raw.pop("pooling_mode", None)
    for key in raw:
        if key not in POOLING_KEYS:
            raise UnsupportedError(f"{path} has the key {key!r}, which is not known here{nearest(key, POOLING_KEYS)}")
    chosen: list[Any] = [mode for key, mode in POOLING_KEYS.items() if raw.get(key)]
    if named is not None:
        chosen = [named] if isinstance(named, str) else list(named)
    unknown = [mode for mode in chosen if mode not in get_args(Pooling)]
    if unknown or not chosen:
        asked = repr(unknown[0]) if unknown else "none"
        raise UnsupportedError(f"{path} asks for the pooling {asked}; known are {', '.join(get_args(Pooling))}")
    return tuple(chosen)


def _answers(path: Path, body: Path) -> tuple[int, int | None]:
    modalities = read_json_if_there(body / "sentence_bert_config.json").get("modality_config")
    if not isinstance(modalities, dict) or "message" not in modalities:
        raise UnsupportedError(
            f"{body}/sentence_bert_config.json has no 'message' in modality_config: the pair would be read bare, "
            "without the chat template's question, which is not supported"
        )
    raw = read_json(path)
    yes, no = raw.get("true_token_id"), raw.get("false_token_id")
    if type(yes) is not int or yes < 0 or (no is not None and (type(no) is not int or no < 0)):
        raise FormatError(f"{path} has true_token_id {yes!r} and false_token_id {no!r}, which are no tokens")
    return yes, no


def _max_tokens(path: Path) -> int | None:
    value = read_json_if_there(path).get("max_seq_length")
    if value is not None and (type(value) is not int or value < 1):
        raise FormatError(f"{path} has max_seq_length {value!r}; it must be a whole number above 0")
    return value


def _prompts(value: Any, folder: Path) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise FormatError(f"{folder}/config_sentence_transformers.json has prompts that are no map of texts")
    return value
