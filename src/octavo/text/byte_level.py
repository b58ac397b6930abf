"""The byte-level alphabet of GPT-2's BPE, and the rules that split text into words before it.

Each byte is written as one printable character: the printable Latin-1 bytes as themselves, the 68 others as U+0100
onwards. The split rules carry the names that GGUF files give them (`tokenizer.ggml.pre`).
Source: Radford et al. 2019 and the published tokenizer.json files of the families.
"""

from __future__ import annotations

from functools import lru_cache

from tokenizers import Regex, pre_tokenizers
from tokenizers.pre_tokenizers import PreTokenizer

from octavo.errors import UnsupportedError, nearest

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

_EACH_DIGIT = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone")
_GPT2 = ("gpt-2", "gpt2", "olmo", "mpt")
_LLAMA_BPE = ("llama-bpe", "llama3", "llama-v3")
_QWEN = ("qwen2",)
_FALCON = ("falcon", "default")
PRE_TOKENIZERS = (*_EACH_DIGIT, *_GPT2, *_LLAMA_BPE, *_QWEN, *_FALCON)


@lru_cache(maxsize=1)
def byte_of() -> dict[str, int]:
    """The byte that each character of the alphabet stands for; 256 entries."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = sorted(set(range(256)) - set(printable))
    table.update({chr(0x100 + place): byte for place, byte in enumerate(others)})
    return table


def pre_tokenizer(name: str) -> PreTokenizer:
    """The rule that splits text into words, by its GGUF name, ending in the byte-level alphabet.

    Raises UnsupportedError for a name that is not in PRE_TOKENIZERS.
    """
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name in _EACH_DIGIT:
        return _sequence(pre_tokenizers.Digits(individual_digits=True), gpt2)
    if name in _GPT2:
        return gpt2
    if name in _FALCON:
        punctuation = pre_tokenizers.Punctuation(behavior="contiguous")
        groups = pre_tokenizers.Split(Regex(r"[0-9][0-9][0-9]"), behavior="isolated")
        return _sequence(punctuation, gpt2, groups)
    if name in (*_LLAMA_BPE, *_QWEN):
        pattern = Regex(QWEN2 if name in _QWEN else LLAMA3)
        bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return _sequence(pre_tokenizers.Split(pattern, behavior="isolated"), bytes_only)
    raise UnsupportedError(
        f"the file's pre-tokenizer {name!r} is not one we know ({', '.join(PRE_TOKENIZERS)})"
        + nearest(name, PRE_TOKENIZERS)
    )


def _sequence(*steps: PreTokenizer) -> PreTokenizer:
    return pre_tokenizers.Sequence(list(steps))
