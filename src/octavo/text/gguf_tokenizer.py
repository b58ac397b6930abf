"""A tokenizer as the `tokenizer.*` keys of a GGUF file, the inverse of `gguf_vocabulary`.

A byte-level BPE is written with the name of its split rule; one with byte fallback (SentencePiece's) with scores, the
rank of the merge that makes a piece. What a file cannot say is refused.
"""

from __future__ import annotations

import json
from typing import Any

from octavo.errors import UnsupportedError
from octavo.text.byte_level import PRE_TOKENIZERS, pre_tokenizer
from octavo.text.detokenizer import fallback_byte
from octavo.text.sentencepiece import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED
from octavo.text.tokenizer import Tokenizer

PREFIX = "tokenizer.ggml."
IDS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def gguf_keys(tokenizer: Tokenizer, vocab_size: int) -> dict[str, Any]:
    """The keys; vocab_size: rows of the model's embedding, tokens past the vocabulary are unused ones.

    Raises UnsupportedError for a tokenizer of another kind than BPE or with a split rule that has no name.
    """
    state = json.loads(tokenizer.backend.to_str())
    model = state["model"]
    if model["type"] != "BPE":
        raise UnsupportedError(f"a tokenizer of the kind {model['type']} cannot be written to a GGUF file; BPE can")
    tokens = [tokenizer.backend.id_to_token(token_id) or f"[PAD{token_id}]" for token_id in range(vocab_size)]
    types = [_type(tokenizer, token_id, text) for token_id, text in enumerate(tokens)]
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    keys: dict[str, Any] = {PREFIX + "tokens": tokens, PREFIX + "token_type": types}
    if model.get("byte_fallback"):
        ranks = {merge.replace(" ", ""): -float(rank) for rank, merge in reversed(list(enumerate(merges)))}
        prefix = "Prepend" in json.dumps(state["normalizer"]) or "Metaspace" in json.dumps(state["pre_tokenizer"])
        keys |= {PREFIX + "model": "llama", PREFIX + "scores": [ranks.get(text, 0.0) for text in tokens]}
        keys[PREFIX + "add_space_prefix"] = prefix
    else:
        keys |= {PREFIX + "model": "gpt2", PREFIX + "pre": _split_rule(state), PREFIX + "merges": merges}
    for role, key in IDS.items():
        token_id = tokenizer.token_id(tokenizer.named[role]) if role in tokenizer.named else None
        if token_id is not None:
            keys[f"{PREFIX}{key}_token_id"] = token_id
    keys[PREFIX + "add_bos_token"] = tokenizer.bos_id is not None and tokenizer.encode("a")[:1] == [tokenizer.bos_id]
    for name, template in tokenizer.chat_templates.items():
        keys["tokenizer.chat_template" + ("" if name == "default" else f".{name}")] = template
    return keys


def _type(tokenizer: Tokenizer, token_id: int, text: str) -> int:
    added = tokenizer.backend.get_added_tokens_decoder().get(token_id)
    if text == tokenizer.named.get("unk_token") and token_id == tokenizer.unk_id:
        return UNKNOWN
    if added is not None:
        return CONTROL if added.special else USER_DEFINED
    if tokenizer.backend.id_to_token(token_id) is None:
        return UNUSED
    return BYTE if fallback_byte(text) is not None else NORMAL


def _split_rule(state: dict[str, Any]) -> str:
    """The name that GGUF files give a pre-tokenizer."""
    for name in PRE_TOKENIZERS:
        if json.loads(pre_tokenizer(name).__getstate__()) == state["pre_tokenizer"]:
            return name
    raise UnsupportedError("the tokenizer's rule that splits words has no name in GGUF files; export a folder")
