"""What published embedders were trained to read before a query and before a passage, where their folders do not say.

A row a set: (before a query, before a passage), joined to the text as it stands. Sources: the README of
FlagOpen/FlagEmbedding for BGE and, with a pair a task, for LLM-Embedder (Zhang et al. 2023, arXiv 2310.07554); the
model cards of E5 (Wang et al. 2022, arXiv 2212.03533).
"""

from __future__ import annotations

from collections.abc import Mapping

from octavo.errors import OctavoError, nearest

INSTRUCTIONS: Mapping[str, tuple[str, str]] = {
    "bge-en": ("Represent this sentence for searching relevant passages: ", ""),
    "bge-zh": ("为这个句子生成表示以用于检索相关文章：", ""),
    "e5": ("query: ", "passage: "),
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


WITH = " with "
"""Between a model and its set where one name says both, as an index keeps them."""


def with_instructions(model: str, name: str | None) -> str:
    """The name of a model with a set; of the model alone where there is none. Raises as `read_instructions` does."""
    if name is None:
        return model
    read_instructions(name)
    return f"{model}{WITH}{name}"


def parted(reference: str) -> tuple[str, str | None]:
    """A model and its set out of one name."""
    model, joint, name = reference.rpartition(WITH)
    return (model, name) if joint and name in INSTRUCTIONS else (reference, None)


def read_instructions(name: str) -> tuple[str, str]:
    """(before a query, before a passage) of a set. Raises OctavoError for a name that is not in the table."""
    if name not in INSTRUCTIONS:
        known = ", ".join(INSTRUCTIONS)
        raise OctavoError(
            f"there are no instructions {name!r}; there are {known}{nearest(name, INSTRUCTIONS) or ''}",
            param="instructions",
        )
    return INSTRUCTIONS[name]
