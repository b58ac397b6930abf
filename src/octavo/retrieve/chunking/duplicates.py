"""Near-duplicates among passages: MinHash (Broder 1997) with banding (Mining of Massive Datasets, §3.4).

Candidates come from equal bands of a signature; each is then confirmed by the exact Jaccard similarity of its shingles,
so nothing is called a duplicate that is not one, and the signature only decides what could be missed (a pair at the
threshold of 0.8: one in twenty million). No randomness: the hash functions are fixed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from octavo.errors import OctavoError

SHINGLE: Final = 8  # characters; white space squeezed, case folded
BANDS, ROWS = 32, 4
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio, as in splitmix64

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Duplicate:
    """Text `index` repeats the earlier text `of`, as far as `similarity` (Jaccard, of shingles) says."""

    index: int
    of: int
    similarity: float


def find_duplicates(texts: Iterable[str], threshold: float = 0.8) -> list[Duplicate]:
    """The texts that repeat an earlier one which is itself no duplicate, in order; the most similar such one.

    Texts without a letter or digit are never duplicates. Raises OctavoError for a threshold outside (0.5, 1].
    """
    if not 0.5 < threshold <= 1:
        raise OctavoError(f"threshold {threshold} is not above 0.5 and at most 1", param="threshold")
    kept: list[tuple[int, Hashes]] = []
    buckets: defaultdict[tuple[int, bytes], list[int]] = defaultdict(list)  # band -> positions in kept
    found: list[Duplicate] = []
    for index, text in enumerate(texts):
        hashes = shingle_hashes(text)
        if not len(hashes):
            continue
        bands = list(enumerate(_bands(signature(hashes))))
        near = sorted({position for band in bands for position in buckets.get(band, ())})
        scored = [(jaccard(hashes, kept[position][1]), -kept[position][0]) for position in near]
        similarity, of = max(scored, default=(0.0, 0))
        if similarity >= threshold:
            found.append(Duplicate(index, -of, similarity))
            continue
        for band in bands:
            buckets[band].append(len(kept))
        kept.append((index, hashes))
    return found


def shingle_hashes(text: str) -> Hashes:
    """The distinct hashes of a text's runs of SHINGLE characters, sorted; the whole text's where it is shorter."""
    folded = " ".join(text.casefold().split())
    if not any(character.isalnum() for character in folded):
        return np.empty(0, np.uint64)
    points = np.frombuffer(folded.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    length = min(SHINGLE, len(points))
    hashes = np.zeros(len(points) - length + 1, np.uint64)
    for offset in range(length):
        hashes = _mix(hashes * _MULTIPLIER + points[offset : offset + len(hashes)] + np.uint64(1))
    return np.unique(hashes)


def signature(hashes: Hashes) -> Hashes:
    """(BANDS · ROWS,): the least hash under each of as many fixed orders (multiplying by an odd number is one)."""
    least: Hashes = (_ORDERS[:, None] * hashes).min(axis=1)
    return least


def jaccard(first: Hashes, second: Hashes) -> float:
    """The share of shingles that two texts have in common. Both sorted, without repeats, not empty."""
    common = len(np.intersect1d(first, second, assume_unique=True))
    return common / (len(first) + len(second) - common)


def _bands(values: Hashes) -> Iterator[bytes]:
    for band in values.reshape(BANDS, ROWS):
        yield band.tobytes()


def _mix(values: Hashes) -> Hashes:
    """The finalizer of splitmix64 (Steele et al. 2014): each bit depends on every bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


_ORDERS: Final[Hashes] = _mix(np.arange(1, BANDS * ROWS + 1, dtype=np.uint64) * _MULTIPLIER) | np.uint64(1)
