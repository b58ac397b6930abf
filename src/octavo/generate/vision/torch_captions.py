"""Words for a picture: a model that sees writes on, by the likeliest token, from a prompt that holds the picture."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from octavo.errors import ContextLengthError, FormatError
from octavo.generate.vision.images import ImageProcessor, open_picture
from octavo.models.vision.folder import open_vision
from octavo.models.vision.transformer import VisionLanguageModel
from octavo.nn.encoder_decoder.growing import GrowingCache
from octavo.text.tokenizer import Tokenizer


class Captioner:
    """A vision-language model with its tokenizer and what makes pixels of a picture. end_ids: any ends an answer."""

    def __init__(
        self, model: VisionLanguageModel, tokenizer: Tokenizer, processor: ImageProcessor, end_ids: tuple[int, ...]
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self._processor = processor
        self._end_ids = end_ids

    @classmethod
    def load(cls, folder: Path) -> Captioner:
        """A Hugging Face folder. Raises as `open_vision` and `ImageProcessor.from_folder` do."""
        checkpoint = open_vision(folder)
        model = VisionLanguageModel.from_checkpoint(checkpoint).requires_grad_(False).eval()
        tokenizer = Tokenizer.from_folder(folder)
        return cls(model, tokenizer, ImageProcessor.from_folder(folder), checkpoint.text.generation.eos_token_ids)

    @torch.inference_mode()
    def describe(self, picture: Path | bytes, prompt: str = "", *, max_tokens: int = 64) -> str:
        """What the model says after the picture and the prompt; the picture stands where the prompt has its token.

        Raises FormatError for what is no picture, ContextLengthError for too long a prompt.
        """
        seen = self.model.see(torch.from_numpy(self._processor([open_picture(picture)])))
        tokens = torch.tensor(self._tokens(prompt, seen.shape[1]))[None]
        room = self.model.text.config.context_length - tokens.shape[1]
        if room < 1:
            raise ContextLengthError(f"picture and prompt take {tokens.shape[1]} tokens, and no answer fits after them")
        return self.tokenizer.decode(self._write(tokens, seen, min(max_tokens, room)))

    def _tokens(self, prompt: str, positions: int) -> list[int]:
        """The prompt, its image token as often as the picture has positions, and at its beginning where it has none."""
        ids, image = self.tokenizer.encode(prompt), self.model.image_token
        count = ids.count(image)
        if count not in (0, 1, positions):
            raise FormatError(f"the prompt has {count} image tokens; one stands for the picture, or {positions}")
        if count == positions:
            return ids
        at = ids.index(image) if count else self._after_start(ids)
        return [*ids[:at], *[image] * positions, *ids[at + count :]]

    def _after_start(self, ids: list[int]) -> int:
        """Behind what begins every text."""
        start = self.tokenizer.encode("")
        return len(start) if ids[: len(start)] == start else 0

    def _write(self, tokens: Tensor, seen: Tensor, max_tokens: int) -> list[int]:
        text, cache = self.model.text, GrowingCache(self.model.text.relative_bias)
        positions = torch.arange(tokens.shape[1])[None]
        x, answer = self.model.embed(tokens, positions, seen), list[int]()
        while len(answer) < max_tokens:
            logits = text.logits(text.hidden(x, positions, cache)[:, -1])
            token = int(logits.argmax())
            if token in self._end_ids:
                break
            answer.append(token)
            positions = positions[:, -1:] + 1
            x = text.embed(torch.tensor([[token]]), positions)
        return answer
