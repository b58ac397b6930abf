"""T5's pre-training: spans of the text are cut out, a sentinel in the place of each, and the target is what was cut.

Of L tokens n = round(0.15 L) are noise, in max(1, round(n / 3)) spans; noise and the rest are each cut into so many
parts at random, all ways equally likely, and the rest comes first. Unusual: how a window is cut up is a function of the
seed and the window itself, so that a resumed run sees what an uninterrupted one does.
Source: Raffel et al. 2019 (arXiv 1910.10683), section 3.1.4, and its code's preprocessors.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from octavo.errors import OctavoError
from octavo.train.objectives.objective import Batch
from octavo.train.objectives.text_to_text import Pair, TextToText

NOISE_DENSITY, MEAN_SPAN = 0.15, 3.0


class SpanCorruption(TextToText):
    """An example is a window's token ids, (n,), n >= 2."""

    def __init__(self, start_id: int, end_id: int, sentinels: Sequence[int], seed: int) -> None:
        """sentinels: ids, the first span's first. Raises OctavoError without any."""
        super().__init__(start_id)
        if not sentinels:
            raise OctavoError("the vocabulary has no sentinels <extra_id_0>, ...; span corruption needs them")
        self._end_id, self._sentinels, self._seed = end_id, sentinels, seed

    def collate(self, examples: Sequence[NDArray[np.int32]]) -> Batch:  # type: ignore[override]
        """As `TextToText`."""
        return super().collate([self.pair(example) for example in examples])

    def pair(self, window: NDArray[np.int32]) -> Pair:
        """A window as its source and target, each with the end."""
        random = np.random.Generator(np.random.PCG64([self._seed, zlib.crc32(window.tobytes())]))
        noise = noise_mask(len(window), random)
        if 1 + np.count_nonzero(np.diff(noise.astype(np.int8)) > 0) > len(self._sentinels):
            raise OctavoError(f"a window of {len(window)} tokens has more spans than {len(self._sentinels)} sentinels")
        source, target = corrupted(window, noise, self._sentinels)
        return Pair([*source, self._end_id], [*target, self._end_id])


def span_counts(length: int) -> tuple[int, int]:
    """Tokens of noise, and spans, of a window of so many tokens."""
    noise = int(np.clip(round(length * NOISE_DENSITY), 1, length - 1))
    return noise, min(max(1, round(noise / MEAN_SPAN)), length - noise)


def window_length(source_tokens: int) -> int:
    """The longest window whose source, sentinels and end counted, has at most so many tokens."""
    length = source_tokens
    while _source_length(length + 1) <= source_tokens:
        length += 1
    while length > 2 and _source_length(length) > source_tokens:
        length -= 1
    return length


def _source_length(length: int) -> int:
    noise, spans = span_counts(length)
    return length - noise + spans + 1


def noise_mask(length: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """(length,), true at what is cut out."""
    noise, spans = span_counts(length)
    kept, cut = _parts(length - noise, spans, random), _parts(noise, spans, random)
    sizes = np.stack((kept, cut), axis=1).ravel()
    return np.repeat(np.arange(2 * spans) % 2 == 1, sizes)


def _parts(total: int, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """`total` as `count` numbers of 1 or more, all ways equally likely."""
    edges = 1 + np.sort(random.choice(total - 1, count - 1, replace=False))
    return np.diff(edges, prepend=0, append=total)


def corrupted(
    window: NDArray[np.int32], noise: NDArray[np.bool_], sentinels: Sequence[int]
) -> tuple[list[int], list[int]]:
    """What is left, a sentinel for each span; and each sentinel with its span."""
    source: list[int] = []
    target: list[int] = []
    spans = -1
    for at, (token, cut) in enumerate(zip(window.tolist(), noise.tolist(), strict=True)):
        if cut and (at == 0 or not noise[at - 1]):
            spans += 1
            source.append(sentinels[spans])
            target.append(sentinels[spans])
        (target if cut else source).append(token)
    return source, target
