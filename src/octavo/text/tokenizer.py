"""Text to token ids and back, over the Rust `tokenizers` library, whatever file the vocabulary came from.

Unusual: the file's BOS and EOS rule lives in the library's post-processor, so that a saved tokenizer.json carries it;
a text that already starts with BOS (a rendered chat template) never gets a second one. A twin that shares the
vocabulary encodes special-token texts as plain text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import tokenizers

from octavo.errors import OctavoError
from octavo.text import detokenizer as detokenizing
from octavo.text.byte_level import byte_of
from octavo.text.detokenizer import Detokenizer

NAMED_TOKENS: Final = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class Encoded:
    """ids: of the tokens. types: 0 for those of a text, 1 for those of a pair's second."""

    ids: list[int]
    types: list[int]


class Tokenizer:
    """A vocabulary, its rules and its chat templates. Safe to use from several threads.

    backend: the library's tokenizer, complete with post-processor and decoder.
    named: texts of the special tokens by their role (`bos_token`, `eos_token`, …).
    templates: chat templates by name; the plain one is called `default`.
    config: keys of the file's tokenizer_config.json that `save` writes back.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        named: Mapping[str, str],
        templates: Mapping[str, str] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.backend = backend
        self.named = dict(named)
        self.chat_templates = dict(templates or {})
        self.config = dict(config or {})
        added = backend.get_added_tokens_decoder()
        self._added = {token_id: token.content for token_id, token in added.items()}
        self.special_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        self.bos_id = self._named_id("bos_token")
        self.eos_id = self._named_id("eos_token")
        self.pad_id = self._named_id("pad_token")
        self.unk_id = self._named_id("unk_token")

    @staticmethod
    def from_folder(path: Path | str) -> Tokenizer:
        """Open the tokenizer of a Hugging Face folder.

        Raises FormatError for a file that is malformed, ModelNotFoundError for a folder without one.
        """
        from octavo.text.folder import open_folder

        return open_folder(Path(path))

    @staticmethod
    def from_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
        """Build the tokenizer that a GGUF file embeds, from the file's key-value pairs.

        Raises UnsupportedError for a kind or pre-tokenizer that we do not know, FormatError for missing keys.
        """
        from octavo.text.gguf_vocabulary import build_from_gguf

        return build_from_gguf(metadata)

    @staticmethod
    def train_bpe(
        texts: Iterable[str], vocab_size: int, special_tokens: Sequence[str] = ("<|endoftext|>",)
    ) -> Tokenizer:
        """Learn a byte-level BPE of at most vocab_size tokens; the first special token is both BOS and EOS."""
        from octavo.text.training import train_bpe

        return train_bpe(texts, vocab_size, special_tokens)

    @staticmethod
    def train_characters(text: str) -> Tokenizer:
        """Make each distinct character of the text a token, ids in code-point order; any other is refused."""
        from octavo.text.training import train_characters

        return train_characters(text)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included; a model's embedding may be padded to more rows."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    @property
    def chat_template(self) -> str | None:
        """The default chat template's source; None where the file has none."""
        return self.chat_templates.get("default")

    def token_id(self, text: str) -> int | None:
        """The id of a token by its spelling in the vocabulary; None for a text that is not one token."""
        token_id: int | None = self.backend.token_to_id(text)
        return token_id

    def encode(self, text: str, *, special: bool = True, bos: bool | None = None) -> list[int]:
        """Token ids of a text.

        special: whether texts such as `<|im_end|>` inside it become their control ids; False keeps them plain text.
        bos: whether BOS comes first. None follows the file's rule (and adds what else it adds, such as T5's EOS), but
        never puts a second BOS before a text that starts with it.
        Raises OctavoError for a character outside a closed vocabulary, or a lone surrogate.
        """
        if bos and self.bos_id is None:
            raise OctavoError("this tokenizer has no BOS token; leave bos out", param="bos")
        backend = self.backend if special else self._plain_twin
        try:
            ids: list[int] = backend.encode(text, add_special_tokens=bos is None).ids
        except Exception as error:  # the library raises bare Exception; its text names the cause
            raise OctavoError(f"the text cannot be encoded: {self._encode_fault(text, error)}") from error
        if bos:
            assert self.bos_id is not None
            return ids if ids[:1] == [self.bos_id] else [self.bos_id, *ids]
        if bos is None and self.bos_id is not None and ids[:2] == [self.bos_id] * 2:
            return ids[1:]
        return ids

    def encode_batch(
        self, texts: Sequence[str] | Sequence[tuple[str, str]], *, max_tokens: int | None = None
    ) -> list[Encoded]:
        """Texts, or pairs of texts, by the file's own rule, many at a time on all processors.

        max_tokens: longer ones are cut, of a pair the longer text, so that what the rule adds stays. Raises OctavoError
        as `encode`.
        """
        backend = self.backend if max_tokens is None else self._cutting_twin(max_tokens)
        try:
            return [Encoded(item.ids, item.type_ids) for item in backend.encode_batch(list(texts))]
        except Exception as error:  # the library raises bare Exception, and does not say of which text
            flat = (part for text in texts for part in ((text,) if isinstance(text, str) else text))
            for text in flat:
                self.encode(text)
            raise OctavoError(f"the texts cannot be encoded: {error}") from error

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of ids; ids past the vocabulary have none. Bytes that are not UTF-8 become U+FFFD."""
        if any(token_id < 0 for token_id in ids):
            raise OctavoError(f"token id {min(ids)} is negative; ids count from 0")
        text: str = self.backend.decode(list(ids), skip_special_tokens=skip_special)
        return text

    def token_bytes(self, token_id: int) -> bytes:
        """Exact UTF-8 bytes that a token stands for, possibly part of a character; empty past the vocabulary."""
        if token_id in self._added:
            return self._added[token_id].encode()
        return self._bytes_in_text(token_id)

    def token_text(self, token_id: int) -> str:
        """A token's bytes as text, U+FFFD where they are not whole characters."""
        return self.token_bytes(token_id).decode(errors="replace")

    def detokenizer(self, *, skip_special: bool = True, continues: bool = False) -> Detokenizer:
        """A fresh incremental decoder of one stream of ids; its texts add up to `decode` of all of them.

        continues: the stream goes on with a text, so that a SentencePiece token's leading space is kept at once.
        """
        hidden = self.special_ids if skip_special else frozenset()
        if self._is_byte_level:
            return detokenizing.ByteDetokenizer(lambda i: b"" if i in hidden else self._bytes_in_text(i))

        def piece_of(token_id: int) -> str | None:
            return None if token_id in hidden else self._piece(token_id)

        strip = detokenizing.piece_strip(self._decoders)
        if strip is not None:
            return detokenizing.PieceDetokenizer(piece_of, strip=0 if continues else strip)
        return detokenizing.WindowDetokenizer(
            lambda ids: self.decode(ids, skip_special=skip_special), lambda token_id: piece_of(token_id) is not None
        )

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        template_name: str | None = None,
        **variables: Any,
    ) -> str:
        """The prompt that the model's chat template makes of messages.

        continue_final_message: the prompt ends with the last message's words, which the answer goes on with.
        template_name: which of several templates; None: `tool_use` when tools are given and it exists, else `default`.
        variables: further names for the template, such as tools, documents, enable_thinking.
        Raises OctavoError when there is no template, or it fails, takes over 2 s or makes over 1 MiB.
        """
        from octavo.text.chat import choose_template, compile_template, run_template, up_to_content

        name = choose_template(self.chat_templates, template_name, has_tools=bool(variables.get("tools")))
        if name not in self._compiled:
            self._compiled[name] = compile_template(self.chat_templates[name])
        given: dict[str, Any] = {"tools": None, "documents": None, **self.named, **variables}
        given.update(messages=messages, add_generation_prompt=add_generation_prompt and not continue_final_message)
        rendered = run_template(self._compiled[name], given)
        return up_to_content(rendered, messages) if continue_final_message else rendered

    def encode_chat(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> list[int]:
        """Token ids of rendered messages: the template alone says whether BOS comes first."""
        return self.encode(self.render(messages, **variables), bos=False)

    def save(self, folder: Path | str) -> None:
        """Write tokenizer.json, tokenizer_config.json and the chat templates, as `transformers` reads them."""
        from octavo.text.folder import save_folder

        save_folder(self, Path(folder))

    def _named_id(self, role: str) -> int | None:
        text = self.named.get(role)
        return None if text is None else self.token_id(text)

    def _piece(self, token_id: int) -> str | None:
        piece: str | None = self.backend.id_to_token(token_id)
        return piece

    def _bytes_in_text(self, token_id: int) -> bytes:
        """A token's bytes as the decoder sees them: it knows no added tokens, only the vocabulary's spelling."""
        piece = self._piece(token_id)
        if piece is None:
            return b""
        if self._is_byte_level:
            alphabet = byte_of()
            try:
                return bytes([alphabet[character] for character in piece])
            except KeyError:  # an added token, spelled as it is
                return piece.encode()
        byte = detokenizing.fallback_byte(piece)
        if byte is not None:
            return bytes([byte])
        if self._decoders and self._decoders[0]["type"] == "WordPiece":
            return piece.removeprefix("##").encode()
        return piece.replace("▁", " ").encode()

    @cached_property
    def _compiled(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _decoders(self) -> list[dict[str, Any]]:
        if self.backend.decoder is None:
            return []
        return detokenizing.flattened_decoders(json.loads(self.backend.decoder.__getstate__()))

    @cached_property
    def _is_byte_level(self) -> bool:
        return [step["type"] for step in self._decoders] == ["ByteLevel"]

    def _cutting_twin(self, max_tokens: int) -> tokenizers.Tokenizer:
        if max_tokens not in self._cutting:
            twin = self._twin()
            twin.enable_truncation(max_tokens)
            self._cutting[max_tokens] = twin
        return self._cutting[max_tokens]

    @cached_property
    def _cutting(self) -> dict[int, tokenizers.Tokenizer]:
        return {}

    @cached_property
    def _plain_twin(self) -> tokenizers.Tokenizer:
        twin = self._twin()
        twin.encode_special_tokens = True
        return twin

    def _twin(self) -> tokenizers.Tokenizer:
        """Another tokenizer of the same vocabulary and rules."""
        twin = tokenizers.Tokenizer(self.backend.model)
        for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
            value = getattr(self.backend, part)
            if value is not None:
                setattr(twin, part, value)
        twin.add_tokens([token for _, token in sorted(self.backend.get_added_tokens_decoder().items())])
        return twin

    def _encode_fault(self, text: str, error: Exception) -> str:
        surrogate = next((c for c in text if 0xD800 <= ord(c) <= 0xDFFF), None)
        if surrogate is not None:
            return f"it holds the lone surrogate U+{ord(surrogate):04X}, which is not a character"
        vocabulary = self.backend.get_vocab()
        unknown = next((c for c in text if c not in vocabulary), None)
        if "Missing" in str(error) and unknown is not None:
            return f"the character {unknown!r} is not in the vocabulary"
        return str(error)
