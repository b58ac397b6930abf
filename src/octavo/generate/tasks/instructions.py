"""What published embedders were trained to read before a query and before a passage, where their folders do not say.

A row a set: (before a query, before a passage), joined to the text as it stands. Sources: the README of
FlagOpen/FlagEmbedding for BGE and, with a pair a task, for LLM-Embedder (Zhang et al. 2023, arXiv 2310.07554).
"""

from __future__ import annotations

from collections.abc import Mapping

from octavo.errors import OctavoError, nearest

INSTRUCTIONS: Mapping[str, tuple[str, str]] = {
    "bge-en": ("Represent this sentence for searching relevant passages: ", ""),
    "bge-zh": ("为这个句子生成表示以用于检索相关文章：", ""),
    "llm-embedder-qa": (
        "Represent this query for retrieving relevant documents: ",
        "Represent this document for retrieval: ",
    ),
    "llm-embedder-icl": (
        "Convert this example into vector to look for useful examples: ",
        "Convert this example into vector for retrieval: ",
    ),
    "llm-embedder-chat": (
        "Embed this dialogue to find useful historical dialogues: ",
        "Embed this historical dialogue for retrieval: ",
    ),
    "llm-embedder-lrlm": (
        "Embed this text chunk for finding useful historical chunks: ",
        "Embed this historical text chunk for retrieval: ",
    ),
    "llm-embedder-tool": (
        "Transform this user request for fetching helpful tool descriptions: ",
        "Transform this tool description for retrieval: ",
    ),
    "llm-embedder-convsearch": (
        "Encode this query and context for searching relevant passages: ",
        "Encode this passage for retrieval: ",
    ),
}


def read_instructions(name: str) -> tuple[str, str]:
    """(before a query, before a passage) of a set. Raises OctavoError for a name that is not in the table."""
    if name not in INSTRUCTIONS:
        known = ", ".join(INSTRUCTIONS)
        raise OctavoError(
            f"there are no instructions {name!r}; there are {known}{nearest(name, INSTRUCTIONS) or ''}",
            param="instructions",
        )
    return INSTRUCTIONS[name]
