"""What a CKIP Tagger network is made of. No torch here: running one needs none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TaggerTask = Literal["ws", "pos", "ner"]
"""Word segmentation, parts of speech, named entities."""
CHARACTER_FEATURES: dict[TaggerTask, int] = {"ws": 4, "pos": 6, "ner": 6}
"""Upper case, lower case, digit, punctuation; with words also: Chinese, and not the first of its word."""


@dataclass(frozen=True)
class TaggerConfig:
    """labels: what each character is told apart by, in the order of the scores. tags: parts of speech that are read.

    num_characters, num_words: known ones, with a vector each of character_size and word_size; ws reads no words.
    hidden_size: of each direction. Source: Li, Fu and Ma 2020 (arXiv 1908.11046).
    """

    task: TaggerTask
    labels: tuple[str, ...]
    num_characters: int
    character_size: int
    hidden_size: int
    num_layers: int = 2
    num_words: int = 0
    word_size: int = 0
    tags: tuple[str, ...] = ()

    @property
    def reads_words(self) -> bool:
        """Whether each character is told which word it stands in."""
        return self.task != "ws"

    @property
    def character_width(self) -> int:
        """Numbers of a character: its vector and its features."""
        return self.character_size + CHARACTER_FEATURES[self.task]

    @property
    def word_width(self) -> int:
        """Numbers of a word: its vector and, one-hot, its part of speech."""
        return self.word_size + len(self.tags) if self.reads_words else 0

    @property
    def input_size(self) -> int:
        """Of the first layer."""
        return self.character_width + self.word_width

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each tensor by its name; those of a layer are named and laid out as `torch.nn.LSTM`'s, biases summed."""
        made: dict[str, tuple[int, ...]] = {
            "characters": (self.num_characters, self.character_size), "unknown_character": (self.character_width,)
        }  # fmt: skip
        if self.reads_words:
            made |= {"words": (self.num_words, self.word_size), "unknown_word": (self.word_width,)}
        for layer in range(self.num_layers):
            width = self.input_size if layer == 0 else 2 * self.hidden_size
            for end in ("", "_reverse"):
                made[f"weight_ih_l{layer}{end}"] = (4 * self.hidden_size, width)
                made[f"weight_hh_l{layer}{end}"] = (4 * self.hidden_size, self.hidden_size)
                made[f"bias_l{layer}{end}"] = (4 * self.hidden_size,)
        made |= {"output.weight": (len(self.labels), 2 * self.hidden_size), "output.bias": (len(self.labels),)}
        return made
