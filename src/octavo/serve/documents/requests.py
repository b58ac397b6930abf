"""The bodies of requests about files and vector stores."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from octavo.errors import OctavoError
from octavo.retrieve.filters import Filter, read_filter
from octavo.retrieve.passages import Splitting
from octavo.serve.fields import Metadata, Strict, Text, wrong

MOST_FILES = 2000
DEEPEST_FILTER, MOST_CONDITIONS = 8, 256
AttributeKey = Annotated[Text, Field(max_length=64)]
AttributeValue = Annotated[Text, Field(max_length=512)] | bool | int | float
Attributes = Annotated[dict[AttributeKey, AttributeValue], Field(max_length=16)]
FileId = Annotated[Text, Field(min_length=1, max_length=256)]
Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
AUTO: Final = Splitting()
"""What `auto` is here: passages that the default encoder reads whole."""


class FileExpiry(Strict):
    """When a file is forgotten."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2_592_000)]


class StoreExpiry(Strict):
    """When a vector store that nobody uses is closed."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(ge=1, le=365)]


class StaticSizes(Strict):
    """Tokens of a passage, and how many it shares with the next."""

    max_chunk_size_tokens: Annotated[int, Field(ge=100, le=4096)]
    chunk_overlap_tokens: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.chunk_overlap_tokens > self.max_chunk_size_tokens // 2:
            raise wrong("chunk_overlap_tokens", "it must not exceed half of max_chunk_size_tokens")
        return self


class Chunking(Strict):
    """How files are cut."""

    type: Literal["auto", "static"]
    static: StaticSizes | None = None

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if (self.type == "static") != (self.static is not None):
            raise wrong("static", "it is given with the type static, and only then")
        return self

    def shown(self) -> dict[str, Any]:
        """As the API describes what was done."""
        return self.model_dump() if self.static else {"type": "other"}


class StoreRequest(Strict):
    """A new vector store."""

    name: Annotated[Text, Field(max_length=256)] | None = None
    description: Annotated[Text, Field(max_length=1024)] | None = None
    file_ids: Annotated[list[FileId], Field(max_length=500)] = Field(default_factory=list)
    chunking_strategy: Chunking = Chunking(type="auto")
    expires_after: StoreExpiry | None = None
    metadata: Metadata = Field(default_factory=dict)


class StoreUpdate(Strict):
    """What of a vector store changes."""

    name: Annotated[Text, Field(max_length=256)] | None = None
    expires_after: StoreExpiry | None = None
    metadata: Metadata | None = None


class StoreFileRequest(Strict):
    """A file for a vector store."""

    file_id: FileId
    attributes: Attributes = Field(default_factory=dict)
    chunking_strategy: Chunking = Chunking(type="auto")


class BatchRequest(Strict):
    """Several files for a vector store; attributes and chunking_strategy are of those in file_ids."""

    file_ids: Annotated[list[FileId], Field(max_length=MOST_FILES)] = Field(default_factory=list)
    files: Annotated[list[StoreFileRequest], Field(max_length=MOST_FILES)] = Field(default_factory=list)
    attributes: Attributes = Field(default_factory=dict)
    chunking_strategy: Chunking = Chunking(type="auto")

    @property
    def wanted(self) -> list[StoreFileRequest]:
        """Each file once; what `files` says of it counts."""
        plain = (
            StoreFileRequest(file_id=name, attributes=self.attributes, chunking_strategy=self.chunking_strategy)
            for name in self.file_ids
        )
        return list({one.file_id: one for one in (*plain, *self.files)}.values())


class AttributesUpdate(Strict):
    """New attributes, in place of the old."""

    attributes: Attributes = Field(default_factory=dict)


class Ranking(Strict):
    """ranker: none leaves the ranking to the search; all others let the reader rank the first passages anew."""

    ranker: Literal["none", "auto", "default-2024-11-15", "default_2024_08_21"] = "auto"
    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0

    @property
    def reads(self) -> bool:
        """Whether the reader ranks."""
        return self.ranker != "none"


class Searching(Strict):
    """What of a search the tool and the endpoint share."""

    filters: dict[str, Any] | None = None
    ranking_options: Ranking = Ranking()

    @field_validator("filters", mode="after")
    @classmethod
    def _can_be_read(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None:
            check_size(value)
            try:
                read_filter(value)
            except OctavoError as error:
                raise wrong(None, str(error)) from None
        return value

    @property
    def where(self) -> Filter | None:
        """The filters, read."""
        return None if self.filters is None else read_filter(self.filters)


class SearchRequest(Searching):
    """A search. Accepted: rewrite_query, since queries are searched as they are."""

    query: (
        Annotated[Text, Field(min_length=1)]
        | Annotated[list[Annotated[Text, Field(min_length=1)]], Field(min_length=1, max_length=32)]
    )
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    rewrite_query: bool = False

    @property
    def queries(self) -> list[str]:
        """One query or several."""
        return [self.query] if isinstance(self.query, str) else self.query


def check_size(value: Any, depth: int = 0) -> int:
    """Refuse filters that nest or branch without end; how many conditions there are."""
    if depth > DEEPEST_FILTER:
        raise wrong(None, f"filters nest at most {DEEPEST_FILTER} deep")
    inside = value.get("filters") if isinstance(value, dict) else None
    count = 1 + sum(check_size(entry, depth + 1) for entry in inside) if isinstance(inside, list) else 1
    if count > MOST_CONDITIONS:
        raise wrong(None, f"there are at most {MOST_CONDITIONS} filters")
    return count
