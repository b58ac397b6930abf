"""The reader's loss and gradients equal those of BertForQuestionAnswering; padding and batching change nothing."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from octavo.models.checkpoint import open_checkpoint
from octavo.models.families.bert import BERT
from octavo.models.formats.folder import read_folder
from octavo.models.mapping.keys import to_canonical
from octavo.models.transformer import Transformer
from octavo.train.objectives.extractive_qa import DistilledQA, ExtractiveQA, Marked

PARITY = Path(__file__).parents[1] / "parity"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("span")
    return folder, runpy.run_path(str(PARITY / "tiny_encoders.py"))["make_tiny"]("bert-span", folder)


def examples() -> list[Marked]:
    """Windows of three lengths, one without an answer."""
    rng = np.random.default_rng(2)
    made = []
    for length, start, end in ((30, 12, 14), (17, 0, 0), (23, 22, 22), (30, 7, 7)):
        made.append(Marked(rng.integers(5, 160, length).tolist(), [0] * 6 + [1] * (length - 6), start, end))
    return made


def test_loss_and_gradients_equal_those_of_transformers(pair: tuple[Path, Any], tmp_path: Path) -> None:
    folder, peer = pair
    expected = 0.0
    peer.zero_grad()
    for example in examples():  # one by one: the peer's softmax takes padding in
        given = {
            "input_ids": torch.tensor([example.ids]),
            "token_type_ids": torch.tensor([example.types]),
            "start_positions": torch.tensor([example.start]),
            "end_positions": torch.tensor([example.end]),
        }
        loss = peer(**given).loss
        loss.backward()
        expected += loss.item()
    model = Transformer.from_checkpoint(open_checkpoint(folder))
    objective = ExtractiveQA()
    batch = objective.collate(examples())
    loss = objective.loss(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert batch.count == 4
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    gradients = peer_gradients(peer, tmp_path)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert np.abs(parameter.grad.numpy() - gradients[name].dequantize()).max() <= 2e-5, name


def peer_gradients(peer: Any, folder: Path) -> Any:
    """The peer's gradients under our names, by way of a file in its names."""
    for parameter in peer.parameters():
        parameter.data = parameter.grad
    peer.save_pretrained(folder)
    config = open_checkpoint(folder).config
    return to_canonical(read_folder(folder), BERT.rules, config, harmless=BERT.harmless_tensors, source="gradients")


def test_a_batch_is_the_sum_of_its_rows(pair: tuple[Path, Any]) -> None:
    model = Transformer.from_checkpoint(open_checkpoint(pair[0]))
    objective = ExtractiveQA()
    alone = sum(objective.loss(model, objective.collate([example])).item() for example in examples())
    assert objective.loss(model, objective.collate(examples())).item() == pytest.approx(alone, rel=1e-5)


def test_a_teacher_that_is_the_model_leaves_its_own_entropy_and_no_gradient(pair: tuple[Path, Any]) -> None:
    # Cross-entropy is least where the chances are the teacher's, and is their entropy there.
    folder, _ = pair
    model, teacher = (Transformer.from_checkpoint(open_checkpoint(folder)) for _ in range(2))
    objective = DistilledQA([teacher])
    batch = objective.collate([replace(example, taught=1.0) for example in examples()])
    loss = objective.loss(model.train(), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    given = (batch.tensors[name] for name in ("tokens", "mask", "types"))
    scores = model(*given).masked_fill(~batch.tensors["mask"][:, :, None], -torch.inf)
    entropy = torch.distributions.Categorical(logits=scores.transpose(1, 2)).entropy().sum() / 2
    assert loss.item() == pytest.approx(entropy.item(), rel=1e-5)
    assert max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None) < 1e-5
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_teachers_are_averaged_each_on_its_part_and_weighed_beside_the_marks(pair: tuple[Path, Any]) -> None:
    folder, _ = pair
    model, one, other = (Transformer.from_checkpoint(open_checkpoint(folder)).train() for _ in range(3))
    with torch.no_grad():
        for factor, teacher in ((1.5, one), (0.5, other)):
            for parameter in teacher.parameters():
                parameter.mul_(factor)

    def loss(teachers: list[Transformer], example: Marked, taught: float, part: int = 0, parts: int = 1) -> float:
        objective = DistilledQA(teachers, parts)
        return objective.loss(model, objective.collate([replace(example, taught=taught, part=part)])).item()

    for example in examples():
        marks = ExtractiveQA().loss(model, ExtractiveQA().collate([example])).item()
        alone = [loss([teacher], example, 1.0) for teacher in (one, other)]
        assert alone[0] != pytest.approx(alone[1], rel=1e-3)
        assert loss([one, other], example, 0.7) == pytest.approx(0.7 * sum(alone) / 2 + 0.3 * marks, rel=1e-5)
        for part in (0, 1):
            assert loss([one, other], example, 1.0, part, 2) == pytest.approx(alone[part], rel=1e-5)
    objective = DistilledQA([one, other], 2)
    rows = [replace(example, taught=0.6, part=index % 2) for index, example in enumerate(examples())]
    apart = [loss([one, other], row, 0.6, row.part, 2) for row in rows]
    assert objective.loss(model, objective.collate(rows)).item() == pytest.approx(sum(apart), rel=1e-5)
    hard = ExtractiveQA().loss(model, ExtractiveQA().collate(rows)).item()
    assert objective.loss(model.eval(), objective.collate(rows)).item() == pytest.approx(hard, rel=1e-6)
