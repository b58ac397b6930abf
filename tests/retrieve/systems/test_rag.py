"""RAG against the live peer's classes, and the paper's own identities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from octavo.generate.lm import Beams
from octavo.models.checkpoint import open_checkpoint
from octavo.models.transformer import Transformer
from octavo.retrieve.systems.torch_generator import Generator
from octavo.retrieve.systems.torch_question_encoder import QuestionEncoder
from octavo.retrieve.systems.torch_rag import answer_log_prob, decode

BOUND = 1e-5
DOCS, END, PAD = 3, 1, 0
MARGINALS = ["sequence", "token"]
PEERS = {"sequence": transformers.RagSequenceForGeneration, "token": transformers.RagTokenForGeneration}


@dataclass(frozen=True)
class Both:
    """One RAG twice."""

    questions: QuestionEncoder
    generator: Generator
    peer_questions: Any
    peer_generator: Any

    def peer(self, marginal: str) -> Any:
        return PEERS[marginal](question_encoder=self.peer_questions, generator=self.peer_generator, n_docs=DOCS).eval()


def jittered(model: Any, size: float) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * size)
    return model.eval()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    torch.manual_seed(4)
    shape = {
        "vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        "max_position_embeddings": 40,
    }  # fmt: skip
    t5 = transformers.T5Config(
        vocab_size=120, d_model=40, d_kv=8, d_ff=64, num_layers=2, num_heads=4, relative_attention_num_buckets=8,
        relative_attention_max_distance=20, decoder_start_token_id=PAD, eos_token_id=END, pad_token_id=PAD,
    )  # fmt: skip
    peer_questions = jittered(transformers.DPRQuestionEncoder(transformers.DPRConfig(**shape)), 0.1)
    peer_generator = jittered(transformers.T5ForConditionalGeneration(t5), 0.4)
    peer_generator.config.bos_token_id = None  # which the peer reads and its T5 does not have
    folders = [tmp_path_factory.mktemp(name) for name in ("questions", "generator")]
    body_of_it = transformers.BertModel(transformers.BertConfig(**shape))
    body_of_it.load_state_dict(peer_questions.question_encoder.bert_model.state_dict(), strict=False)
    body_of_it.save_pretrained(folders[0])
    peer_generator.save_pretrained(folders[1])
    body, model = (Transformer.from_checkpoint(open_checkpoint(folder)) for folder in folders)
    questions = QuestionEncoder(body, None, pooling="cls", max_tokens=40)  # type: ignore[arg-type]
    return Both(questions, Generator(model, None, PAD, [END]), peer_questions, peer_generator)  # type: ignore[arg-type]


def problem() -> tuple[list[list[int]], list[list[list[int]]], list[list[int]], torch.Tensor]:
    """Questions, sources of passages of ragged lengths, answers, and the passages' vectors."""
    random = np.random.Generator(np.random.PCG64(2))

    def ids(count: int) -> list[int]:
        return [int(token) for token in random.integers(2, 90, count)]

    sources = [[ids(size) for size in sizes] for sizes in ((12, 7, 9), (5, 11, 8))]
    targets = [[*ids(6), END], [*ids(3), END]]
    return [ids(9), ids(4)], sources, targets, torch.tensor(random.normal(size=(2, DOCS, 32)), dtype=torch.float32)


def padded(rows: list[list[int]], fill: int = PAD) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, rows))
    tokens = torch.tensor([[*row, *[fill] * (longest - len(row))] for row in rows])
    return tokens, torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])


def peer_inputs(both: Both) -> dict[str, Any]:
    questions, sources, targets, vectors = problem()
    tokens, mask = padded(questions)
    hidden = both.peer_questions(input_ids=tokens, attention_mask=mask)[0]
    context, context_mask = padded([source for row in sources for source in row])
    return {
        "context_input_ids": context, "context_attention_mask": context_mask, "labels": padded(targets)[0],
        "doc_scores": torch.bmm(hidden[:, None], vectors.transpose(1, 2))[:, 0],
    }  # fmt: skip


def ours(both: Both, marginal: Any) -> torch.Tensor:
    questions, sources, targets, vectors = problem()
    scores = torch.einsum("bd,bkd->bk", both.questions(questions), vectors)
    return answer_log_prob(both.generator, sources, targets, scores, marginal)


@pytest.mark.parametrize("marginal", MARGINALS)
def test_the_likelihood_and_its_gradients_are_the_peer_s(marginal: str, both: Both) -> None:
    given = peer_inputs(both)
    given["labels"] = torch.cat([torch.full((2, 1), PAD), given["labels"]], 1)  # as the peer shifts them itself
    theirs = both.peer(marginal)(**given).loss
    mine = ours(both, marginal)
    assert ((mine + theirs).abs() / theirs).max() <= 2e-6 and theirs.min() > 1
    for model in (both.peer_questions, both.peer_generator, both.questions, both.generator.model):
        model.zero_grad()
    theirs.sum().backward()
    (-mine.sum()).backward()
    theirs_grad = both.peer_questions.question_encoder.bert_model.embeddings.word_embeddings.weight.grad
    assert (both.questions.body.embed_tokens.weight.grad - theirs_grad).abs().max() <= BOUND
    assert theirs_grad.abs().max() > 1e-3, "gradients reach the question encoder"
    shared = both.peer_generator.shared.weight.grad
    assert (both.generator.model.embed_tokens.weight.grad - shared).abs().max() <= 1e-4 * shared.abs().max()


def test_token_decoding_is_the_peer_s(both: Both) -> None:
    _, sources, _, _ = problem()
    given = peer_inputs(both)
    given.pop("labels")
    expected = both.peer("token").generate(
        **given, num_beams=1, do_sample=False, max_length=9, eos_token_id=END, pad_token_id=PAD,
        decoder_start_token_id=PAD, n_docs=DOCS,
    )  # fmt: skip
    for row, question in enumerate(sources):
        best, *_ = decode(
            both.generator, question, given["doc_scores"][row], marginal="token", beams=Beams(1), max_tokens=8
        )
        wanted = [token for token in expected[row, 1:].tolist() if token not in (PAD, END)]
        assert list(best.ids) == wanted


def test_thorough_sequence_decoding_is_the_peer_s(both: Both) -> None:
    _, sources, _, _ = problem()
    given = peer_inputs(both)
    given.pop("labels")
    size = min(len(source) for row in sources for source in row)  # the peer's own generation drops the mask
    cut = [[source[:size] for source in row] for row in sources]
    given["context_input_ids"], given["context_attention_mask"] = given["context_input_ids"][:, :size], None
    given["context_attention_mask"] = torch.ones_like(given["context_input_ids"])
    expected = both.peer("sequence").generate(
        **given, num_beams=3, num_return_sequences=2, do_sample=False, max_new_tokens=6, eos_token_id=END,
        pad_token_id=PAD, decoder_start_token_id=PAD, n_docs=DOCS,
    )  # fmt: skip
    for row, question in enumerate(cut):
        answers = decode(
            both.generator, question, given["doc_scores"][row].detach(), marginal="sequence", beams=Beams(3),
            max_tokens=6,
        )  # fmt: skip
        wanted = [[t for t in line[1:].tolist() if t not in (PAD, END)] for line in expected[2 * row : 2 * row + 2]]
        assert [list(answer.ids) for answer in answers[:2]] == wanted


@torch.no_grad()
def test_with_one_passage_both_are_the_plain_generator(both: Both) -> None:
    _, sources, targets, _ = problem()
    one = [row[:1] for row in sources]
    plain = both.generator.log_probs([row[0] for row in one], targets).sum(-1)
    for marginal in MARGINALS:
        found = answer_log_prob(both.generator, one, targets, torch.tensor([[3.0], [-2.0]]), marginal)  # type: ignore[arg-type]
        assert (found - plain).abs().max() <= BOUND


@torch.no_grad()
def test_identical_passages_are_as_one(both: Both) -> None:
    _, sources, targets, _ = problem()
    plain = both.generator.log_probs([row[0] for row in sources], targets).sum(-1)
    for marginal in MARGINALS:
        found = answer_log_prob(both.generator, [[row[0]] * 4 for row in sources], targets, torch.randn(2, 4), marginal)  # type: ignore[arg-type]
        assert (found - plain).abs().max() <= BOUND


def test_thorough_is_at_least_fast_for_each_hypothesis(both: Both) -> None:
    _, sources, _, _ = problem()
    strict = 0
    for question in sources:
        found = {}
        for decoding in ("thorough", "fast"):
            answers = decode(
                both.generator, question, torch.tensor([0.5, 0.1, -0.3]), marginal="sequence", beams=Beams(2),
                max_tokens=5, decoding=decoding,
            )  # type: ignore[arg-type]  # fmt: skip
            found[decoding] = {answer.ids: answer.log_prob for answer in answers}
        assert found["thorough"].keys() == found["fast"].keys()
        for ids, thorough in found["thorough"].items():
            assert thorough >= found["fast"][ids] - 1e-5
            strict += thorough > found["fast"][ids] + 1e-4
    assert strict


@pytest.mark.parametrize("marginal", MARGINALS)
def test_a_hypothesis_has_the_probability_that_it_is_found_with(marginal: Any, both: Both) -> None:
    _, sources, _, _ = problem()
    scores = torch.tensor([0.5, 0.1, -0.3])
    for answer in decode(both.generator, sources[0], scores, marginal=marginal, beams=Beams(3), max_tokens=5):
        if len(answer.ids) < 5:
            again = answer_log_prob(both.generator, [sources[0]], [[*answer.ids, END]], scores[None], marginal)
            assert answer.log_prob == pytest.approx(float(again), abs=1e-4)


def test_a_decoder_reads_the_passage_in_its_prompt(tiny: Any) -> None:
    folder: Path = tiny("llama")[0]
    model = Transformer.from_checkpoint(open_checkpoint(folder)).requires_grad_(False)
    generator = Generator(model, None, 0, [END])  # type: ignore[arg-type]
    _, sources, targets, _ = problem()
    scores = torch.tensor([[0.4, 1.0, 0.2], [0.0, 0.1, 0.3]])
    expected = []
    for row, weights, target in zip(sources, scores.log_softmax(-1), targets, strict=True):
        parts = []
        for source, weight in zip(row, weights, strict=True):
            logprobs = model(torch.tensor([[*source, *target]]))[0].log_softmax(-1)
            parts.append(weight + sum(logprobs[len(source) - 1 + at, token] for at, token in enumerate(target)))
        expected.append(torch.stack(parts).logsumexp(0))
    assert (
        answer_log_prob(generator, sources, targets, scores, "sequence") - torch.stack(expected)
    ).abs().max() <= 1e-4
    best, *_ = decode(generator, sources[0], scores[0], marginal="token", beams=Beams(2), max_tokens=4)
    again = answer_log_prob(generator, sources[:1], [[*best.ids, END][:4]], scores[:1], "token")
    assert best.log_prob == pytest.approx(float(again), abs=1e-4)
