"""The two real tokenizers that the text tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from octavo.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def smollm2_metadata(smollm2: Path) -> dict[str, Any]:
    """The key-value pairs of the SmolLM2 file, read by the `gguf` package."""
    from gguf import GGUFReader

    return {key: field.contents() for key, field in GGUFReader(smollm2).fields.items()}


@pytest.fixture(scope="session")
def smollm2_tokenizer(smollm2_metadata: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_gguf(smollm2_metadata)


@pytest.fixture(scope="session")
def stories_tokenizer(stories: Path) -> Tokenizer:
    return Tokenizer.from_folder(stories)
