"""The tokenizer of a Hugging Face folder, read and written.

Vocabulary, in this order: tokenizer.json; vocab.json + merges.txt (GPT-2); vocab.txt (BERT's WordPiece); tekken.json or
a .tiktoken file (bytes by rank); tokenizer.model or spiece.model (SentencePiece, or LLaMA 3's ranks). Special tokens,
templates: tokenizer_config.json, special_tokens_map.json, chat_template.jinja and additional_chat_templates/. A
tokenizer.json's own post-processor decides on BOS and EOS, as in `transformers`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from octavo.errors import FormatError, ModelNotFoundError
from octavo.text import tiktoken, wordpiece
from octavo.text.gguf_vocabulary import add_special, set_affixes
from octavo.text.sentencepiece import build_backend, read_model
from octavo.text.tokenizer import NAMED_TOKENS, Tokenizer

# Keys that save() writes itself, or that name code or paths of where the folder came from.
_NOT_KEPT: Final = frozenset(
    {*NAMED_TOKENS, "tokenizer_class", "auto_map", "chat_template", "name_or_path", "tokenizer_file"}
    | {"added_tokens_decoder", "special_tokens_map_file", "backend", "is_local"}
)
SENTENCEPIECE_NAMES: Final = (
    "tokenizer.model", "spiece.model", "tokenizer.model.v3", "tokenizer.model.v2", "tokenizer.model.v1"
)  # fmt: skip


def open_folder(folder: Path) -> Tokenizer:
    """Open the tokenizer of a folder; see `Tokenizer.from_folder`."""
    if not folder.is_dir():
        raise ModelNotFoundError(f"there is no folder {folder} to read a tokenizer from")
    try:
        return _opened(folder, _read_object(folder / "tokenizer_config.json"))
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        what = str(error).split("\n")[0][:120]
        raise FormatError(
            f"{folder} has tokenizer files of another shape than is known ({what}); fetch them"
        ) from error


def _opened(folder: Path, config: Mapping[str, Any]) -> Tokenizer:
    named = _named_tokens(folder, config)
    backend, defaults = _open_vocabulary(folder, config)
    named = {**defaults, **named}
    _add_listed_tokens(backend, folder, config, named)
    templates = _templates(folder, config)
    kept = {key: value for key, value in config.items() if key not in _NOT_KEPT}
    return Tokenizer(backend, named=named, templates=templates, config=kept)


def save_folder(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer's files into a folder, which is made when missing."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.backend.save(str(folder / "tokenizer.json"))
    config = {"clean_up_tokenization_spaces": False, **tokenizer.config, **tokenizer.named}
    # The generic class keeps our rules; a family's class would rebuild them from the vocabulary alone.
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    text = json.dumps(config, ensure_ascii=False, indent=2)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
    for name, template in tokenizer.chat_templates.items():
        if name == "default":
            path = folder / "chat_template.jinja"
        else:
            path = folder / "additional_chat_templates" / f"{Path(name).name}.jinja"
            path.parent.mkdir(exist_ok=True)
        path.write_bytes(template.encode())


def _open_vocabulary(folder: Path, config: Mapping[str, Any]) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """The library tokenizer, and the roles of special tokens that the vocabulary file itself states."""
    if (folder / "tokenizer.json").is_file():
        return _open_json(folder / "tokenizer.json"), {}
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        backend = _open_gpt2(folder, add_prefix_space=bool(config.get("add_prefix_space", False)))
        end = {} if backend.token_to_id("<|endoftext|>") is None else {"<|endoftext|>"}
        named = {role: text for text in end for role in ("bos_token", "eos_token", "unk_token")}
        _set_configured_affixes(backend, config, named, add_bos=False)
        return backend, named
    if (folder / "vocab.txt").is_file():
        return wordpiece.open_vocabulary(folder / "vocab.txt", config), dict(wordpiece.NAMED)
    ranked = [path for path in (folder / "tekken.json", *sorted(folder.glob("*.tiktoken"))) if path.is_file()]
    models_found = [folder / name for name in SENTENCEPIECE_NAMES if (folder / name).is_file()]
    if not ranked and not models_found:
        raise ModelNotFoundError(
            f"{folder} has no tokenizer: neither tokenizer.json, nor vocab.json with merges.txt, nor vocab.txt, "
            "nor tekken.json, nor a .tiktoken file, nor tokenizer.model"
        )
    if ranked or tiktoken.is_tiktoken(models_found[0]):
        return _open_ranked((ranked or models_found)[0], config)
    return _open_sentencepiece(models_found[0], config)


def _open_ranked(path: Path, config: Mapping[str, Any]) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """A vocabulary of ranks; those of LLaMA 3 and Mistral put BOS before a text, the others have none."""
    backend, named = (tiktoken.open_tekken if path.suffix == ".json" else tiktoken.open_tiktoken)(path)
    _set_configured_affixes(backend, config, named, add_bos=path.suffix != ".tiktoken")
    return backend, named


def _open_json(path: Path) -> tokenizers.Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise FormatError(f"{path} is not a tokenizer that the library reads: {error}") from error
    backend.no_truncation()  # a saved maximum length would cut prompts in silence
    backend.no_padding()
    return backend


def _open_gpt2(folder: Path, *, add_prefix_space: bool) -> tokenizers.Tokenizer:
    try:
        model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    except Exception as error:  # the library raises bare Exception
        raise FormatError(f"{folder}/vocab.json and merges.txt do not make a BPE: {error}") from error
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    backend.decoder = decoders.ByteLevel()
    return backend


def _open_sentencepiece(path: Path, config: Mapping[str, Any]) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    model = read_model(path)
    backend = build_backend(model, prefix_after_special=bool(config.get("legacy", True)))
    add_special(backend, model.pieces, model.types)
    ids = {"bos_token": model.bos_id, "eos_token": model.eos_id, "pad_token": model.pad_id, "unk_token": model.unk_id}
    named = {role: model.pieces[i] for role, i in ids.items() if i is not None and 0 <= i < len(model.pieces)}
    is_bpe = model.kind == "bpe"  # the unigram families (T5) end with EOS, the BPE ones (Llama) start with BOS
    _set_configured_affixes(backend, config, named, add_bos=is_bpe, add_eos=not is_bpe)
    return backend, named


def _set_configured_affixes(
    backend: tokenizers.Tokenizer,
    config: Mapping[str, Any],
    defaults: Mapping[str, str],
    *,
    add_bos: bool,
    add_eos: bool = False,
) -> None:
    bos, eos = (_text(config.get(role, defaults.get(role))) for role in ("bos_token", "eos_token"))
    for text in (bos, eos):
        if text is not None and backend.token_to_id(text) is None:
            backend.add_tokens([AddedToken(text, special=True, normalized=False)])
    wants_bos, wants_eos = config.get("add_bos_token", add_bos), config.get("add_eos_token", add_eos)
    set_affixes(backend, bos if wants_bos else None, eos if wants_eos else None)


def _add_listed_tokens(
    backend: tokenizers.Tokenizer, folder: Path, config: Mapping[str, Any], named: Mapping[str, str]
) -> None:
    """Add the tokens that the configuration lists and the vocabulary file lacks, in the order of their ids."""
    listed = {int(i): token for i, token in dict(config.get("added_tokens_decoder") or {}).items()}
    for text, place in _read_object(folder / "added_tokens.json").items():
        listed.setdefault(int(place), {"content": text})
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    wanted = [_added_token(token) for _, token in sorted(listed.items())]
    extra = config.get("additional_special_tokens") or config.get("extra_special_tokens") or []
    extra = extra.values() if isinstance(extra, Mapping) else extra
    for special in [*named.values(), *extra]:
        content = _text(special)
        if content and all(content != token.content for token in wanted):
            wanted.append(AddedToken(content, special=True, normalized=False))
    backend.add_tokens([token for token in wanted if token.content not in known])
    for place, token in listed.items():
        text = str(token.get("content", ""))
        if backend.token_to_id(text) != place:
            raise FormatError(
                f"{folder}: the added token {text!r} should have id {place}, but the vocabulary "
                f"gives it {backend.token_to_id(text)}"
            )


def _added_token(token: Mapping[str, Any]) -> AddedToken:
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(str(token.get("content", "")), **{name: bool(token[name]) for name in names if name in token})


def _named_tokens(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    named: dict[str, str] = {}
    for source in (_read_object(folder / "special_tokens_map.json"), config):
        for role in NAMED_TOKENS:
            text = _text(source.get(role))
            if text is not None:
                named[role] = text
            elif role in source:  # an explicit null
                named.pop(role, None)
    return named


def _templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    stated = config.get("chat_template")
    templates: dict[str, str] = {}
    if isinstance(stated, str):
        templates["default"] = stated
    elif isinstance(stated, list):
        templates = {str(entry["name"]): str(entry["template"]) for entry in stated}
    elif isinstance(stated, dict):
        templates = {str(name): str(template) for name, template in stated.items()}
    legacy = _read_object(folder / "chat_template.json").get("chat_template")
    if isinstance(legacy, str):
        templates["default"] = legacy
    if (folder / "chat_template.jinja").is_file():
        templates["default"] = (folder / "chat_template.jinja").read_bytes().decode()
    for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        templates[path.stem] = path.read_bytes().decode()
    return templates


def _text(token: Any) -> str | None:
    """A special token is written as a string, or as an object with its content."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FormatError(f"{path} should hold a JSON object, but holds a {type(value).__name__}")
    return value
