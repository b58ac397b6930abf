"""CodeT5+ (Wang et al. 2023, arXiv 2305.07922): one encoder-decoder for code, used in its parts.

The encoder alone gives a text or code a vector of 256 numbers: a linear layer on its first state, scaled to length 1.
The decoder over a text's states, run on code that begins with `[ENC]`, judges whether the two match by its state at the
code's end. Both together write: `[CDEC]` begins code, `[TDEC]` text. Retrieval takes the nearest by vector and orders
them by the judgement and the cosine; retrieval-augmented generation adds the best code found to the source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from octavo.errors import FormatError, UnsupportedError
from octavo.generate.encoder_decoder.torch_beams import beam_search, without_end
from octavo.generate.encoder_decoder.torch_steps import padded, steps
from octavo.generate.lm import Beams
from octavo.generate.tasks.completion import Limits
from octavo.models.checkpoint import open_checkpoint
from octavo.models.formats.folder import read_folder
from octavo.models.torch_tensors import to_torch
from octavo.models.transformer import Transformer
from octavo.text.tokenizer import Tokenizer

TEXT_TOKENS, CODE_TOKENS = 64, 360
CANDIDATES = 256
"""Of a search, which are judged."""
MATCHING, TEXT, CODE = "[ENC]", "[TDEC]", "[CDEC]"
AT_ONCE = 32


class CodeT5p(nn.Module):
    """model: an encoder-decoder, or the encoder alone, which has no `matching`.

    projection: hidden_size -> dimensions. matching: hidden_size -> 2, no and yes.
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, projection: nn.Linear, matching: nn.Linear | None, end_id: int
    ) -> None:
        super().__init__()
        self.model = model
        self.projection = projection
        self.matching = matching
        self.tokenizer = tokenizer
        self.end_id = end_id

    @classmethod
    def load(cls, path: Path) -> CodeT5p:
        """From a folder of `codet5p_bimodal` or `codet5p_embedding`. Raises FormatError for one without their heads."""
        checkpoint = open_checkpoint(path)
        entries = read_folder(path)
        if "proj.weight" not in entries:
            raise FormatError(f"{path} has no head for vectors; give a CodeT5+ bimodal or embedding model")

        def head(name: str) -> nn.Linear:
            weight, bias = (to_torch(entries[f"{name}.{part}"].read()) for part in ("weight", "bias"))
            layer = nn.Linear(weight.shape[1], weight.shape[0])
            with torch.no_grad():
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
            return layer

        (end_id,) = checkpoint.generation.eos_token_ids[:1]
        matching = head("itm_head") if "itm_head.weight" in entries else None
        model = Transformer.from_checkpoint(checkpoint)
        return cls(model, checkpoint.tokenizer(), head("proj"), matching, end_id).requires_grad_(False).eval()

    def ids(self, text: str, longest: int) -> list[int]:
        """Token ids from the first special token to the end; a longer text is cut before its end."""
        ids = self.tokenizer.encode(text)
        return ids if len(ids) <= longest else [*ids[: longest - 1], self.end_id]

    def encoded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """The encoder's states (rows, tokens, hidden_size) and their mask."""
        tokens, mask = padded(rows, self.projection.weight.device)
        encoder = self.model if self.model.memory is None else self.model.memory
        return encoder(tokens, mask), mask

    def vectors(self, states: Tensor) -> Tensor:
        """(rows, tokens, hidden_size) -> (rows, dimensions), of length 1."""
        return functional.normalize(self.projection(states[:, 0]), dim=-1)

    @torch.inference_mode()
    def embed(self, rows: Sequence[Sequence[int]], *, advance: Callable[[int], object] = lambda count: None) -> Tensor:
        """(rows, dimensions) of token ids, in batches of like length. advance: told how many more are done."""
        order = sorted(range(len(rows)), key=lambda at: len(rows[at]))
        result = torch.empty(len(rows), self.projection.out_features)
        for start in range(0, len(order), AT_ONCE):
            part = order[start : start + AT_ONCE]
            result[part] = self.vectors(self.encoded([rows[at] for at in part])[0]).cpu()
            advance(len(part))
        return result

    def judged(self, states: Tensor, mask: Tensor, codes: Sequence[Sequence[int]]) -> Tensor:
        """(rows, 2): logits of not matching and of matching, of the encoder's states of texts and of as many codes.

        Raises UnsupportedError for the encoder alone.
        """
        if self.matching is None or self.model.memory is None:
            raise UnsupportedError("this CodeT5+ is an encoder alone and judges nothing; give a bimodal model")
        special = self.special(MATCHING)
        tokens, own = padded([[special, *code[1:]] for code in codes], states.device)
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        memory = self.model.remembered(states, mask)
        x = self.model.hidden(self.model.embed(tokens, positions), positions, mask=own, memory=memory)
        ends = own.sum(1) - 1
        logits: Tensor = self.matching(x[torch.arange(len(x), device=x.device), ends])
        return logits

    @torch.inference_mode()
    def match(self, text: Sequence[int], codes: Sequence[Sequence[int]]) -> Tensor:
        """(codes,): the logit of each matching the text."""
        states, mask = self.encoded([text])
        parts = []
        for start in range(0, len(codes), AT_ONCE):
            part = codes[start : start + AT_ONCE]
            rows = (len(part), *states.shape[1:])
            parts.append(self.judged(states.expand(rows), mask.expand(rows[:2]), part)[:, 1])
        return torch.cat(parts)

    @torch.inference_mode()
    def write(self, source: Sequence[int], *, start: str = CODE, beams: int = 1, max_tokens: int = 128) -> str:
        """What begins with the special token `start` and answers the source."""
        if self.model.memory is None:
            raise UnsupportedError("this CodeT5+ is an encoder alone and writes nothing; give a bimodal model")
        found, *_ = beam_search(
            steps(self.model, [source], self.special(start)),
            Beams(beams),
            Limits(frozenset([self.end_id]), max_tokens),
        )
        return self.tokenizer.decode(list(without_end(found, [self.end_id])))

    def special(self, name: str) -> int:
        """The id of a special token. Raises FormatError where the vocabulary has none."""
        token = self.tokenizer.token_id(name)
        if token is None:
            raise FormatError(f"the vocabulary lacks {name}, which CodeT5+ has")
        return token


def search(
    model: CodeT5p, text: str, codes: Sequence[Sequence[int]], vectors: Tensor, limit: int, *, judge: bool = True
) -> list[tuple[int, float]]:
    """The codes that fit a text best, and their scores, best first.

    codes: token ids. vectors: (codes, dimensions), of `embed`. judge: whether the nearest are ordered by the matching
    head's logit and the cosine; else by the cosine alone.
    """
    asked = model.ids(text, TEXT_TOKENS)
    cosines = (vectors @ model.embed([asked])[0]).float()
    nearest = cosines.topk(min(CANDIDATES if judge else limit, len(codes))).indices
    scores = cosines[nearest]
    if judge:
        scores = scores + model.match(asked, [codes[at] for at in nearest.tolist()]).cpu()
    order = scores.argsort(descending=True, stable=True)[:limit]
    return [(int(nearest[at]), float(scores[at])) for at in order]
