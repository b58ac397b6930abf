"""`SearchAdvice`: how the authors of an encoder-decoder have its answers searched for.

Read from generation_config.json or, where there is none, from config.json, under the names of `transformers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from octavo.errors import FormatError, UnsupportedError
from octavo.models.mapping.config_reader import ConfigReader


@dataclass(frozen=True)
class SearchAdvice:
    """num_beams, length_penalty, early_stopping: of beam search; 1 beam is the likeliest token after another.

    min_length: tokens before an end may come, the one that starts the answer counted. no_repeat_ngram_size: no run of
    so many tokens comes twice, encoder_no_repeat_ngram_size: none of the source's comes at all; 0 is off.
    forced_bos_token_id: the first token. forced_eos_token_id: the last where the limit cuts. suppress_tokens: never
    written. renormalize_logits: after these rules, scores are probabilities again.
    """

    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    min_length: int = 0
    no_repeat_ngram_size: int = 0
    encoder_no_repeat_ngram_size: int = 0
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = None
    suppress_tokens: tuple[int, ...] = ()
    renormalize_logits: bool = False


KEYS = (*(field.name for field in fields(SearchAdvice)), "bad_words_ids")


def read_search(reader: ConfigReader) -> SearchAdvice:
    """Raises FormatError for a value of a wrong kind, UnsupportedError for bad words of several tokens."""
    early = reader.take("early_stopping", False)
    if early not in (True, False, None, "never"):
        raise FormatError(f"{reader.source} has early_stopping {early!r}; it must be true, false or 'never'")
    penalty = reader.take("length_penalty", 1.0)
    if type(penalty) not in (int, float) or not -10 <= penalty <= 10:
        raise FormatError(f"{reader.source} has length_penalty {penalty!r}; it must be a number from -10 to 10")
    words = reader.take("bad_words_ids", None) or []
    if not isinstance(words, list) or not all(isinstance(word, list) and len(word) == 1 for word in words):
        raise UnsupportedError(
            f"{reader.source} has bad_words_ids of several tokens, which is not supported; "
            "--ignore-config-key bad_words_ids loads the model without it",
            param="bad_words_ids",
        )
    suppressed = reader.take("suppress_tokens", None) or []
    banned = [*(suppressed if isinstance(suppressed, list) else [suppressed]), *(word[0] for word in words)]
    if not all(type(token) is int and token >= 0 for token in banned):
        raise FormatError(f"{reader.source} has suppress_tokens or bad_words_ids {banned!r}; they must be token ids")
    return SearchAdvice(
        num_beams=reader.integer("num_beams", default=1, high=64),
        length_penalty=float(penalty),
        early_stopping=early or False,
        min_length=reader.integer("min_length", default=0, low=0),
        no_repeat_ngram_size=reader.integer("no_repeat_ngram_size", default=0, low=0),
        encoder_no_repeat_ngram_size=reader.integer("encoder_no_repeat_ngram_size", default=0, low=0),
        forced_bos_token_id=_token(reader, "forced_bos_token_id"),
        forced_eos_token_id=_token(reader, "forced_eos_token_id"),
        suppress_tokens=tuple(dict.fromkeys(banned)),
        renormalize_logits=reader.flag("renormalize_logits", default=False),
    )


def write_search(advice: SearchAdvice) -> dict[str, Any]:
    """The keys that `read_search` reads to the same values."""
    said = {key: value for key, value in asdict(advice).items() if value != getattr(SearchAdvice(), key)}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in said.items()}


def search_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a config.json."""
    return {key: config[key] for key in KEYS if key in config}


def _token(reader: ConfigReader, key: str) -> int | None:
    return None if reader.take(key, None) is None else reader.integer(key, low=0)
