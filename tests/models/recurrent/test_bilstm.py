"""The numpy network against `torch.nn.LSTM`, whose layout its weights have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from octavo.models.recurrent.bilstm import UNKNOWN, TaggerNetwork, TaggerRow, lstm, turned
from octavo.nn.recurrent.tagger_config import TaggerConfig

LENGTHS = np.array([9, 7, 7, 2, 1])


def test_one_direction_equals_torch() -> None:
    torch.manual_seed(0)
    peer = nn.LSTM(6, 5)
    x = torch.randn(int(LENGTHS[0]), len(LENGTHS), 6) * 3
    packed = pack_padded_sequence(x, torch.from_numpy(LENGTHS))
    expected = pad_packed_sequence(peer(packed)[0])[0].detach().numpy()
    bias = (peer.bias_ih_l0 + peer.bias_hh_l0).detach().numpy()
    ours = lstm(x.numpy(), LENGTHS, peer.weight_ih_l0.detach().numpy(), peer.weight_hh_l0.detach().numpy(), bias)
    assert np.abs(ours - expected).max() <= 1e-6


def test_large_gates_do_not_overflow() -> None:
    x = np.array([[[1e4]], [[-1e4]]], np.float32)
    ones = np.ones((4, 1), np.float32)
    assert np.isfinite(lstm(x, np.array([2]), ones, ones, ones[:, 0])).all()


def test_turning_twice_changes_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(9, 5, 2)).astype(np.float32)
    once = turned(x, LENGTHS)
    assert np.array_equal(once[:7, 1], x[6::-1, 1]) and np.array_equal(once[7:, 1], x[7:, 1])
    assert np.array_equal(turned(once, LENGTHS), x)


@pytest.mark.parametrize("words", [False, True])
def test_the_whole_network_equals_torch(words: bool) -> None:
    config = TaggerConfig("ner" if words else "ws", ("B", "I"), 11, 6, 5, 3, *((4, 3, ("Na",)) if words else ()))
    random = np.random.default_rng(1)
    tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in config.shapes().items()}
    peer = nn.LSTM(config.input_size, 5, num_layers=3, bidirectional=True)
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            bias = name.replace("bias_ih", "bias") if "bias_ih" in name else name
            value = torch.zeros_like(parameter) if "bias_hh" in name else torch.from_numpy(tensors[bias])
            parameter.copy_(value)
    rows = [row(config, int(length), random) for length in LENGTHS[::-1]]
    network = TaggerNetwork(config, tensors)
    for one, ours in zip(rows, network(rows), strict=True):
        states = peer(torch.from_numpy(network.vectors(one))[:, None])[0][:, 0].detach().numpy()
        assert np.abs(ours - (states @ tensors["output.weight"].T + tensors["output.bias"])).max() <= 1e-5
        assert np.abs(ours - network([one])[0]).max() <= 1e-5


def test_what_is_unknown_is_one_vector_whatever_its_features() -> None:
    config = TaggerConfig("ner", ("O",), 2, 3, 4, 1, 2, 2, ("Na",))
    tensors = {name: np.full(shape, 0.5, np.float32) for name, shape in config.shapes().items()}
    tensors["unknown_character"] += 1
    tensors["unknown_word"] += 2
    features = np.eye(6, dtype=np.float32)[:2]
    unknown = np.array([UNKNOWN, 0])
    vectors = TaggerNetwork(config, tensors).vectors(TaggerRow(unknown, features, unknown, np.array([0, 0])))
    assert vectors[0].tolist() == [1.5] * 9 + [2.5] * 3
    assert vectors[1].tolist() == [0.5] * 3 + [0, 1, 0, 0, 0, 0] + [0.5] * 2 + [1]


def row(config: TaggerConfig, length: int, random: np.random.Generator) -> TaggerRow:
    size = config.character_width - config.character_size
    ids = random.integers(-1, config.num_characters, length)
    features = random.integers(0, 2, (length, size)).astype(np.float32)
    if not config.reads_words:
        nothing = np.zeros(0, np.int64)
        return TaggerRow(ids, features, nothing, nothing)
    words, tags = random.integers(-1, config.num_words, length), random.integers(-1, len(config.tags), length)
    return TaggerRow(ids, features, words, tags)
