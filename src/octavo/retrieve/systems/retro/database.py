"""RETRO's database (Borgeaud et al. 2022, arXiv 2112.04426): chunks of 64 tokens with a key each, searched exactly.

A chunk's key is the mean of a frozen encoder's states of its text, and chunks are found by the least distance between
keys. A neighbour is a chunk and its continuation. What comes from the text's own document is never found for it, or the
loss would be flattered by what the decoder sees anyway.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from octavo.errors import FormatError, OctavoError
from octavo.progress import track
from octavo.text.tokenizer import Tokenizer
from octavo.writing import whole_file

CHUNK = 64
AT_ONCE = 256
Ints = NDArray[np.int64]
Keys = NDArray[np.float32]


class ChunkEncoder(Protocol):
    """What makes keys, such as `octavo.generate.embed.Embedder`."""

    def embed(self, texts: Sequence[str]) -> Keys: ...


@dataclass(frozen=True)
class Origin:
    """What keys were made by, and the vocabulary that the chunks are of: its sha256."""

    encoder: str
    tokenizer: str
    chunk_size: int = CHUNK


@dataclass(frozen=True)
class Database:
    """tokens: (n,) int32 of all documents, one after another. starts: (chunks + 1,), of each chunk, and n.

    documents: (chunks,), each chunk's document. keys: (chunks, dimensions).
    """

    tokens: NDArray[np.int32]
    starts: Ints
    documents: Ints
    keys: Keys
    origin: Origin

    def __len__(self) -> int:
        return len(self.documents)

    def nearest(self, keys: Keys, count: int, documents: Ints) -> Ints:
        """(queries, count) chunks whose keys are the least far away, nearest first; -1 where there are no more.

        documents: (queries,), whose chunks are left out for a query; -1 leaves none out.
        """
        found = np.full((len(keys), count), -1, np.int64)
        squares = np.square(self.keys).sum(1)
        width = min(count, len(self))
        for start in range(0, len(keys), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            distances = squares - 2 * keys[part] @ self.keys.T
            distances[documents[part, None] == self.documents] = np.inf
            best = np.argpartition(distances, width - 1, axis=1)[:, :width]
            values = np.take_along_axis(distances, best, 1)
            order = np.lexsort((best, values), axis=1)
            best, values = np.take_along_axis(best, order, 1), np.take_along_axis(values, order, 1)
            found[part, :width] = np.where(np.isinf(values), -1, best)
        return found

    def neighbour(self, chunk: int) -> NDArray[np.int32]:
        """A chunk's tokens and those of the next one of its document; none for -1."""
        if chunk < 0:
            return np.zeros(0, np.int32)
        last = chunk + 1
        if last < len(self) and self.documents[last] == self.documents[chunk]:
            last += 1
        return self.tokens[self.starts[chunk] : self.starts[last]]

    def save(self, path: Path) -> None:
        """Write one `.npz`, whole or not at all."""
        with whole_file(path) as partial, partial.open("wb") as file:
            np.savez(
                file,
                allow_pickle=False,
                tokens=self.tokens,
                starts=self.starts,
                documents=self.documents,
                keys=self.keys,
                origin=np.array(json.dumps(asdict(self.origin))),
            )

    @staticmethod
    def load(path: Path) -> Database:
        """Raises FormatError for a file that is damaged or none of these."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            origin = Origin(**json.loads(str(arrays.pop("origin"))))
            database = Database(**arrays, origin=origin)
        except FileNotFoundError:
            raise OctavoError(f"there is no database at {path}; `octavo retro build` makes one") from None
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise FormatError(f"{path} is no database of chunks: {error}") from None
        if not len(database.starts) - 1 == len(database.documents) == len(database.keys):
            raise FormatError(f"{path} is damaged: its chunks and keys are not as many")
        return database


def vocabulary_of(tokenizer: Tokenizer) -> str:
    """What tells one vocabulary from another."""
    return hashlib.sha256(tokenizer.backend.to_str().encode()).hexdigest()


def cut_documents(documents: Sequence[NDArray[np.int32]]) -> tuple[Ints, Ints]:
    """Where each chunk begins in the documents' joined tokens (and their end), and each chunk's document."""
    starts, owners, begin = [], [], 0
    for number, document in enumerate(documents):
        for start in range(0, len(document), CHUNK):
            starts.append(begin + start)
            owners.append(number)
        begin += len(document)
    return np.array([*starts, begin], np.int64), np.array(owners, np.int64)


def make_keys(chunks: Sequence[NDArray[np.int32]], tokenizer: Tokenizer, encoder: ChunkEncoder, title: str) -> Keys:
    """(chunks, dimensions): of the text of each, with progress."""
    parts = []
    with track(len(chunks), title, unit="chunks") as work:
        for start in range(0, len(chunks), AT_ONCE):
            part = [tokenizer.decode(chunk.tolist()) or " " for chunk in chunks[start : start + AT_ONCE]]
            parts.append(encoder.embed(part))
            work.advance(len(part))
    return np.concatenate(parts)


def build_database(
    documents: Sequence[NDArray[np.int32]], tokenizer: Tokenizer, encoder: ChunkEncoder, name: str
) -> Database:
    """Of documents' token ids. name: the encoder's, which is written down. Raises OctavoError without any token."""
    starts, owners = cut_documents(documents)
    if not len(owners):
        raise OctavoError("the documents hold no text to make a database of")
    tokens = np.concatenate(documents).astype(np.int32)
    chunks = [tokens[starts[at] : starts[at + 1]] for at in range(len(owners))]
    keys = make_keys(chunks, tokenizer, encoder, "Making keys of chunks")
    return Database(tokens, starts, owners, keys, Origin(name, vocabulary_of(tokenizer)))


def longest_shared(first: NDArray[np.int32], second: NDArray[np.int32]) -> int:
    """Tokens of the longest run that stands in both."""
    lengths, longest = np.zeros(len(second) + 1, np.int64), 0
    for token in first:
        lengths[1:] = np.where(second == token, lengths[:-1] + 1, 0)
        longest = max(longest, int(lengths.max()))
    return longest
