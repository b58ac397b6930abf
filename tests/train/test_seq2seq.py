"""T5's training: spans as the original code cuts them, the peer's own loss, and runs from a text and from pairs."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from octavo.errors import FormatError, OctavoError
from octavo.generate.encoder_decoder.torch_seq2seq import Seq2Seq
from octavo.models.checkpoint import open_checkpoint
from octavo.models.transformer import Transformer
from octavo.train.metrics import Event, Stepped
from octavo.train.objectives.span_corruption import (
    SpanCorruption,
    corrupted,
    noise_mask,
    span_counts,
    window_length,
)
from octavo.train.objectives.text_to_text import Pair, TextToText
from octavo.train.recipe import load_any
from octavo.train.seq2seq.recipe import PairRecipe, SpanRecipe
from octavo.train.seq2seq.run import read_pairs, train_span_corruption, train_text_to_text

VARIANTS = runpy.run_path(str(Path(__file__).parents[1] / "parity/tiny_seq2seq.py"))["VARIANTS"]
SENTINELS = list(range(900, 1000))


@pytest.mark.parametrize(
    ("source", "window", "target"), [(512, 568, 114), (256, 284, 58), (128, 141, 29), (64, 70, 14)]
)
def test_lengths_are_those_of_the_original_code(source: int, window: int, target: int) -> None:
    assert window_length(source) == window
    noise, spans = span_counts(window)
    assert (window - noise + spans + 1, noise + spans + 1) == (source, target)
    pair = SpanCorruption(0, 1, SENTINELS, seed=3).pair(np.arange(10, 10 + window, dtype=np.int32))
    assert (len(pair.source), len(pair.target)) == (source, target)


def test_source_and_target_together_are_the_text() -> None:
    for length in (2, 3, 7, 50, 200):
        window = np.arange(10, 10 + length, dtype=np.int32)
        pair = SpanCorruption(0, 1, SENTINELS, seed=length).pair(window)
        assert pair.source[-1] == pair.target[-1] == 1
        spans: dict[int, list[int]] = {}
        for token in pair.target[:-1]:
            if token in SENTINELS:
                spans[token] = []
            else:
                spans[list(spans)[-1]].append(token)
        assert list(spans) == SENTINELS[: len(spans)] and all(spans.values())
        whole = [inner for token in pair.source[:-1] for inner in spans.get(token, [token])]
        assert whole == window.tolist()


def test_noise_is_fifteen_percent_in_spans_of_three_anywhere_but_first() -> None:
    random = np.random.Generator(np.random.PCG64(0))
    masks = np.stack([noise_mask(100, random) for _ in range(2000)])
    assert (masks.sum(1) == 15).all() and not masks[:, 0].any() and masks[:, -1].all()
    starts = np.diff(masks.astype(int), axis=1) == 1
    assert (starts.sum(1) == 5).all()
    assert np.allclose(masks[:, 20:80].mean(0), 0.15, atol=0.04)
    assert len({mask.tobytes() for mask in masks}) > 1990


def test_a_window_is_cut_up_the_same_way_again_and_by_seed() -> None:
    window = np.arange(10, 80, dtype=np.int32)
    first, again, other = (SpanCorruption(0, 1, SENTINELS, seed=seed).pair(window) for seed in (1, 1, 2))
    assert first == again != other
    assert corrupted(window[:4], np.array([False, True, True, False]), [7]) == ([10, 7, 13], [7, 11, 12])


def test_too_few_sentinels_are_refused() -> None:
    with pytest.raises(OctavoError, match="no sentinels"):
        SpanCorruption(0, 1, [], 0)
    with pytest.raises(OctavoError, match="more spans"):
        SpanCorruption(0, 1, SENTINELS[:2], 0).pair(np.arange(200, dtype=np.int32))


@pytest.mark.parametrize("name", ["t5", "t5 v1.1", "marian"])
def test_the_loss_and_its_gradient_are_the_peer_s(name: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    peer = VARIANTS[name]().eval()
    peer.save_pretrained(tmp_path)
    model = Transformer.from_checkpoint(open_checkpoint(tmp_path))
    pairs = [Pair([5, 9, 30, 1], [7, 8, 1]), Pair([4, 1], [90, 3, 12, 50, 1])]
    objective = TextToText(0)
    batch = objective.collate(pairs)
    loss = objective.loss(model, batch)
    tensors = batch.tensors
    given = {"input_ids": tensors["source"], "attention_mask": tensors["mask"].long()}
    expected = peer(**given, decoder_input_ids=tensors["tokens"], labels=tensors["targets"]).loss
    assert float(loss.detach()) / batch.count == pytest.approx(float(expected.detach()), abs=1e-5) and batch.count == 8
    (loss / batch.count).backward()
    expected.backward()
    shared = peer.get_input_embeddings().weight.grad[1:]  # Marian's peer gives the padding's row no gradient
    assert (model.embed_tokens.weight.grad[1:] - shared).abs().max() <= 1e-5 < shared.abs().max()


MODEL = """
[model]
num_layers = 1
hidden_size = 32
intermediate_size = 48
vocab_size = 400
source_tokens = 32
[optimizer]
learning_rate = 1e-2
[schedule]
warmup_steps = 2
[training]
steps = {steps}
batch_size = 8
log_every = 1
threads = 1
validate_every = 20
"""


def losses(events: list[Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, Stepped)]


def test_spans_then_pairs_and_the_model_answers(tmp_path: Path) -> None:
    words = ["red", "green", "blue", "black"]
    (tmp_path / "text.txt").write_text("".join(f"the {a} fox sees the {b} bird. " for a in words for b in words) * 8)
    (tmp_path / "spans.toml").write_text(
        'objective = "span_corruption"\n[data]\npath = "text.txt"' + MODEL.format(steps=12)
    )
    events: list[Event] = []
    spans = load_any(tmp_path / "spans.toml", {"span_corruption": SpanRecipe})
    first = train_span_corruption(spans, tmp_path / "text.txt", tmp_path / "spans", on_event=events.append)
    assert np.mean(losses(events)[-3:]) < 0.8 * np.mean(losses(events)[:3]) and first.model is not None
    pairs = [{"source": f"fox: {word}", "target": word} for word in words * 8]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    text = 'objective = "text_to_text"\n[data]\npath = "pairs.jsonl"' + MODEL.format(steps=30)
    (tmp_path / "pairs.toml").write_text(text.replace("[model]", f'[model]\ninit = "{first.model}"'))
    tuned = load_any(tmp_path / "pairs.toml", {"text_to_text": PairRecipe})
    events.clear()
    second = train_text_to_text(tuned, tmp_path / "pairs.jsonl", tmp_path / "pairs", on_event=events.append)
    assert np.mean(losses(events)[-3:]) < 0.3 * np.mean(losses(events)[:3]) and second.model is not None
    answers = Seq2Seq.load(str(second.model)).generate([f"fox: {word}" for word in words], max_tokens=8)
    assert len(answers) == 4
    resumed = train_text_to_text(tuned, tmp_path / "pairs.jsonl", tmp_path / "pairs")
    assert (resumed.resumed_from, resumed.step) == (30, 30)


def test_what_is_no_pair_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"source": "a", "target": "b"}\n{"source": "a"}\n')
    with pytest.raises(FormatError, match="line 2"):
        read_pairs(path)
    path.write_text('{"source": "a", "target": "b"}\n')
    with pytest.raises(OctavoError, match="too few"):
        read_pairs(path)
