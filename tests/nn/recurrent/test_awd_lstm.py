"""AWD-LSTM is torch's LSTM but for its dropouts, and each dropout is what its paper says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from octavo.nn.recurrent.awd_lstm import AwdLstm, AwdLstmConfig, AwdLstmOutput, activation_penalty
from octavo.nn.recurrent.dropouts import VariationalDropout, drop_weights, drop_words

CONFIG = AwdLstmConfig(vocab_size=37, embedding_size=12, hidden_size=20)
TOKENS = torch.randint(0, 37, (3, 24), generator=torch.Generator().manual_seed(1))


def peer_logits(model: AwdLstm, tokens: torch.Tensor) -> torch.Tensor:
    """The same weights in layers of torch's own."""
    x = model.embedding(tokens)
    widths = model.config.widths()
    for layer, before, after in zip(model.layers, widths, widths[1:], strict=False):
        peer = nn.LSTM(before, after, batch_first=True)
        peer.load_state_dict(layer.state_dict())
        x = peer(x)[0]
    weight = model.embedding.weight if model.decoder_weight is None else model.decoder_weight
    return x @ weight.T + model.decoder_bias


@pytest.mark.parametrize("tie", [True, False])
@torch.no_grad()
def test_in_eval_mode_it_is_torch_s_lstm(tie: bool) -> None:
    model = AwdLstm(replace(CONFIG, tie_embeddings=tie)).eval()
    assert (model(TOKENS).logits - peer_logits(model, TOKENS)).abs().max() <= 1e-5
    assert model(TOKENS).logits.std() > 1e-3


@torch.no_grad()
def test_without_dropouts_training_mode_is_torch_s_lstm_too() -> None:
    rates = {name: 0.0 for name in vars(CONFIG) if name.endswith("dropout")}
    model = AwdLstm(replace(CONFIG, **rates)).train()  # type: ignore[arg-type]
    assert len(rates) == 5
    assert (model(TOKENS).logits - peer_logits(model, TOKENS)).abs().max() <= 1e-5


@pytest.mark.parametrize("name", [name for name in vars(CONFIG) if name.endswith("dropout")])
@torch.no_grad()
def test_each_dropout_changes_training_and_not_eval(name: str) -> None:
    rates = {other: 0.0 for other in vars(CONFIG) if other.endswith("dropout")}
    model = AwdLstm(replace(CONFIG, **{**rates, name: 0.5}))  # type: ignore[arg-type]
    plain = peer_logits(model, TOKENS)
    assert (model.train()(TOKENS).logits - plain).abs().max() > 1e-4
    assert (model.eval()(TOKENS).logits - plain).abs().max() <= 1e-5


@given(cuts=st.lists(st.integers(1, 23), max_size=4, unique=True))
@settings(max_examples=30, deadline=None)
def test_windows_with_the_state_carried_are_the_whole_text(cuts: list[int]) -> None:
    model = AwdLstm(CONFIG).eval()
    whole, state, parts = model(TOKENS).logits, None, []
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), 24], strict=True):
        output = model(TOKENS[:, begin:end], state)
        state = output.state
        parts.append(output.logits)
        assert not any(tensor.requires_grad for layer in state for tensor in layer)
    assert torch.allclose(torch.cat(parts, 1), whole, atol=1e-6)


def test_a_state_that_is_not_carried_is_another_text() -> None:
    model = AwdLstm(CONFIG).eval()
    assert not torch.allclose(model(TOKENS[:, 12:]).logits, model(TOKENS).logits[:, 12:], atol=1e-4)


def test_weight_drop_is_one_mask_for_all_tokens_of_a_call() -> None:
    """Two tokens with the same input, state by state: the masked weights must explain both steps."""
    torch.manual_seed(3)
    config = replace(CONFIG, num_layers=1, input_dropout=0.0, output_dropout=0.0, embedding_dropout=0.0)
    model = AwdLstm(config).train()
    layer = model.layers[0]
    seen = []

    def keep(weight: torch.Tensor, rate: float, *, training: bool) -> torch.Tensor:
        seen.append(drop_weights(weight, rate, training=training))
        return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("octavo.nn.recurrent.awd_lstm.drop_weights", keep)
        output = model(TOKENS)
    (dropped,) = seen
    kept = dropped != 0
    assert torch.allclose(dropped[kept], 2 * layer.weight_hh_l0[kept])  # type: ignore[index]
    assert 0.4 < float(kept.float().mean()) < 0.6
    peer = nn.LSTM(12, 12, batch_first=True)
    peer.load_state_dict({**layer.state_dict(), "weight_hh_l0": dropped.detach()})
    assert torch.allclose(peer(model.embedding(TOKENS))[0], output.raw, atol=1e-6)
    output.logits.sum().backward()
    gradient = layer.weight_hh_l0.grad
    assert isinstance(gradient, torch.Tensor) and not gradient[~kept].any() and gradient[kept].any()


@given(rate=st.sampled_from([0.1, 0.5, 0.9]), seed=st.integers(0, 50))
def test_variational_dropout_has_one_mask_for_all_tokens_of_a_row(rate: float, seed: int) -> None:
    torch.manual_seed(seed)
    dropout = VariationalDropout(rate)
    result = dropout(torch.ones(4, 7, 50))
    assert torch.equal(result, result[:, :1].expand_as(result))
    assert all(value == 0 or abs(value - 1 / (1 - rate)) < 1e-5 for value in result.unique().tolist())
    assert not torch.equal(result[0], result[1]) or rate != 0.5
    assert torch.equal(dropout.eval()(torch.ones(4, 7, 50)), torch.ones(4, 7, 50))


def test_a_dropped_word_is_dropped_everywhere() -> None:
    torch.manual_seed(0)
    table = drop_words(torch.ones(400, 9), 0.25, training=True)
    assert torch.equal(table, table[:, :1].expand_as(table))
    assert 0.65 < float((table[:, 0] != 0).float().mean()) < 0.85
    assert table.max() == pytest.approx(1 / 0.75)
    assert torch.equal(drop_words(torch.ones(4, 2), 0.25, training=False), torch.ones(4, 2))


def test_the_penalty_is_the_paper_s() -> None:
    raw, dropped = torch.tensor([[[1.0, 2.0], [4.0, 6.0]]]), torch.tensor([[[0.0, 4.0], [8.0, 0.0]]])
    output = AwdLstmOutput(torch.empty(0), raw, dropped, ())
    assert float(activation_penalty(output)) == pytest.approx(2 * (16 + 64) / 4 + (9 + 16) / 2)
    single = AwdLstmOutput(torch.empty(0), raw[:, :1], dropped[:, :1], ())
    assert float(activation_penalty(single, alpha=1)) == pytest.approx(8)


def test_it_learns_a_text_by_heart_and_has_the_published_size() -> None:
    torch.manual_seed(0)
    model = AwdLstm(replace(CONFIG, weight_dropout=0.1, input_dropout=0.1, layer_dropout=0.0, output_dropout=0.0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    text = torch.arange(37).repeat(3)[None, :80]
    first = last = 0.0
    for step in range(120):
        output = model.train()(text[:, :-1])
        loss = nn.functional.cross_entropy(output.logits[0], text[0, 1:])
        optimizer.zero_grad()
        (loss + 0.01 * activation_penalty(output)).backward()
        optimizer.step()
        first, last = (loss.item() if step == 0 else first), loss.item()
    assert first > 3.5 and last < 2
    with torch.device("meta"):
        wikitext = AwdLstm(AwdLstmConfig(vocab_size=33_278, weight_dropout=0.5))
    assert sum(parameter.numel() for parameter in wikitext.parameters()) == pytest.approx(33.5e6, rel=0.01)
