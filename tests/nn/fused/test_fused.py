"""The fused operations against torch's own in float64, in their numbers and in each gradient, on every level."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from octavo.errors import MissingDependencyError
from octavo.models.transformer import Transformer
from octavo.nn.config import AttentionConfig, MlpConfig, NormConfig, RopeConfig, TransformerConfig
from octavo.nn.fused import attention, cross_entropy, gated_mlp, rms_norm, rotary
from octavo.nn.kernels import binding
from octavo.nn.rotary import cos_sin
from octavo.train.objectives.causal_lm import CausalLM

try:
    LEVELS = binding.machine_levels()
except MissingDependencyError as error:
    pytest.skip(str(error), allow_module_level=True)
TYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(params=[*LEVELS, "three threads"], autouse=True)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    if request.param == "three threads":
        torch.set_num_threads(3)
    else:
        monkeypatch.setenv("OCTAVO_KERNELS", request.param)
    with torch.enable_grad():
        yield
    torch.set_num_threads(threads)


def gradients(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The result in float64, and the gradients of a weighted sum of it."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    y = function(*leaves)
    weights = torch.linspace(-1, 2, y.numel()).reshape(y.shape).type_as(y)
    (y * weights).sum().backward()  # type: ignore[no-untyped-call]
    return y.detach().double(), [leaf.grad.double() for leaf in leaves if leaf.grad is not None]


def near(got: Tensor, expected: Tensor, bound: float) -> bool:
    return bool((got - expected).abs().max() <= bound * max(1.0, float(expected.abs().max())))


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 9), width=st.integers(1, 70), dtype=st.sampled_from(TYPES), seed=st.integers(0, 99))
def test_rms_norm_and_its_gradients_are_torchs(rows: int, width: int, dtype: torch.dtype, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn(2, rows, width, generator=generator)
    weight = 1 + torch.randn(width, generator=generator)
    assert rms_norm.usable(x)
    got, found = gradients(lambda x, w: rms_norm.rms_norm(x, w, 1e-5, dtype), x, weight)
    expected, wanted = gradients(lambda x, w: functional.rms_norm(x, (width,), w, 1e-5), x.double(), weight.double())
    bound = 2e-6 if dtype == torch.float32 else 8e-3
    assert near(got, expected, bound)
    assert all(near(a, b, 4 * bound) for a, b in zip(found, wanted, strict=True))


@settings(max_examples=15, deadline=None)
@given(
    heads=st.integers(1, 3), tokens=st.integers(1, 9), dim=st.integers(2, 70), turning=st.integers(1, 35),
    dtype=st.sampled_from(TYPES), rows=st.sampled_from([1, 2]), strided=st.booleans(),
)  # fmt: skip
def test_rotary_and_its_gradient_are_torchs(
    heads: int, tokens: int, dim: int, turning: int, dtype: torch.dtype, rows: int, strided: bool
) -> None:
    x = torch.randn(2, tokens, heads, dim, generator=torch.Generator().manual_seed(0)).to(dtype)
    x = x.transpose(1, 2) if strided else x.transpose(1, 2).contiguous()
    rope = RopeConfig(100.0, 2 * min(turning, dim // 2), attention_factor=1.2)
    cos, sin = cos_sin(rope, torch.arange(tokens).expand(rows, -1) + torch.arange(rows)[:, None])

    def reference(x: Tensor) -> Tensor:
        turned, passed = x[..., : rope.rotary_dim], x[..., rope.rotary_dim :]
        pairs = torch.view_as_complex(torch.stack(turned.chunk(2, dim=-1), dim=-1))
        turns = torch.complex(cos.double(), sin.double())[..., : rope.rotary_dim // 2]
        real = torch.view_as_real(pairs * turns)
        return torch.cat((real[..., 0], real[..., 1], passed), dim=-1)

    assert rotary.usable(x.requires_grad_())
    got, (found,) = gradients(lambda x: rotary.rotate(x, cos, sin), x)
    expected, (wanted,) = gradients(reference, x.double())
    bound = 1e-6 if dtype == torch.float32 else 8e-3
    assert near(got, expected, bound) and near(found, wanted, 2 * bound)


@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(1, 200), width=st.integers(1, 24), vocabulary=st.integers(1, 70), autocast=st.booleans(),
    large=st.sampled_from([1.0, 30.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_cross_entropy_and_its_gradients_are_torchs(
    rows: int, width: int, vocabulary: int, autocast: bool, large: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden, weight = torch.randn(rows, width, generator=generator), torch.randn(vocabulary, width, generator=generator)
    targets = torch.randint(0, vocabulary, (rows,), generator=generator)
    targets[::3] = -100
    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        patch.setattr(cross_entropy, "BYTES", 0)  # parts of 64 rows
        assert cross_entropy.usable(hidden.requires_grad_(), weight)
        got, found = gradients(
            lambda h, w: cross_entropy.linear_cross_entropy(h, w, targets)[None], hidden, large * weight
        )
    expected, wanted = gradients(
        lambda h, w: functional.cross_entropy(h @ w.T, targets, ignore_index=-100, reduction="sum")[None],
        hidden.double(), large * weight.double(),
    )  # fmt: skip
    bound = 2e-2 if autocast else 1e-5
    assert near(got, expected, bound)
    assert all(near(a, b, large * 2 * bound) for a, b in zip(found, wanted, strict=True))


@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(1, 9), width=st.integers(1, 24), wide=st.integers(1, 70), dtype=st.sampled_from(TYPES),
    large=st.sampled_from([1.0, 60.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_gated_product_and_its_gradients_are_torchs(
    rows: int, width: int, wide: int, dtype: torch.dtype, large: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    gate, up = (torch.randn(2, rows, wide, generator=generator) for _ in range(2))
    weight = torch.randn(width, wide, generator=generator) / wide**0.5
    gate, up, weight = (large * gate).to(dtype), up.to(dtype), weight.to(dtype).float()
    assert gated_mlp.usable(gate.requires_grad_(), up.requires_grad_(), weight)
    got, found = gradients(gated_mlp.gated_product, gate, up, weight)
    expected, wanted = gradients(
        lambda g, u, w: functional.linear(functional.silu(g) * u, w), gate.double(), up.double(), weight.double()
    )
    bound = 2e-6 if dtype == torch.float32 else 1e-2
    assert near(got, expected, 2 * bound)
    assert all(near(a, b, 8 * bound) for a, b in zip(found, wanted, strict=True))


@settings(max_examples=15, deadline=None)
@given(
    tokens=st.sampled_from([2, 5, 127, 128, 129, 300]), heads=st.sampled_from([(1, 1), (4, 4), (6, 2)]),
    width=st.sampled_from([8, 64]), large=st.sampled_from([1.0, 6.0]), scale=st.sampled_from([None, 0.3]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_attention_loses_no_more_of_its_gradients_than_torch_does(
    tokens: int, heads: tuple[int, int], width: int, large: float, scale: float | None, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (
        (torch.randn(2, tokens, number, width, generator=generator) * size).bfloat16().transpose(1, 2)
        for number, size in ((heads[0], large), (heads[1], 1), (heads[1], 1))
    )
    plain = partial(functional.scaled_dot_product_attention, is_causal=True, enable_gqa=True, scale=scale)
    assert attention.usable(*(x.detach().requires_grad_() for x in (q, k, v)))
    exact, wanted = gradients(plain, q.double(), k.double(), v.double())
    got, found = gradients(lambda q, k, v: attention.causal_attention(q, k, v, scale), q, k, v)
    torchs, lost = gradients(plain, q, k, v)
    assert torch.equal(got, torchs) and near(got, exact, 2e-2)
    least = 1e-4 * max(gradient.norm() for gradient in wanted)  # where one weight is all, there is no other gradient
    for ours, theirs, gradient in zip(found, lost, wanted, strict=True):
        assert (ours - gradient).norm() <= 2 * (theirs - gradient).norm() + 5e-3 * gradient.norm() + least


def test_torchs_own_check_of_gradients_agrees() -> None:
    """By differences of the operation itself; it is float32, so steps are large and bounds loose."""
    x, weight = torch.randn(3, 5), 1 + 0.1 * torch.randn(5)
    check = {"eps": 1e-2, "atol": 2e-2, "rtol": 2e-2, "nondet_tol": 0.0, "check_batched_grad": False}
    inputs = tuple(value.requires_grad_() for value in (x, weight))
    with pytest.warns(UserWarning, match="not a double precision"):
        torch.autograd.gradcheck(lambda x, w: rms_norm.rms_norm(x, w, 1e-5, torch.float32), inputs, **check)
        cos, sin = cos_sin(RopeConfig(1e4, 6), torch.arange(3)[None])
        head = torch.randn(1, 2, 3, 6).requires_grad_()
        torch.autograd.gradcheck(lambda x: rotary.rotate(x, cos, sin), (head,), **check)


def test_a_second_backward_pass_through_cross_entropy_is_refused() -> None:
    """Its gradients are scaled where they lie, to save a copy of the largest of them."""
    hidden, weight = torch.randn(4, 8).requires_grad_(), torch.randn(5, 8).requires_grad_()
    loss = cross_entropy.linear_cross_entropy(hidden, weight, torch.tensor([1, 2, 3, 4]))
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()  # type: ignore[no-untyped-call]


def test_a_row_that_is_not_finite_spoils_itself_alone() -> None:
    hidden, weight = torch.randn(4, 8), torch.randn(5, 8)
    hidden[1, 2] = float("nan")
    hidden.requires_grad_()
    loss = cross_entropy.linear_cross_entropy(hidden, weight, torch.tensor([1, 2, 3, 4]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isnan(loss) and hidden.grad is not None
    assert torch.isfinite(hidden.grad).all(1).tolist() == [True, False, True, True]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("offset", [True, False])
def test_a_training_step_has_the_loss_and_gradients_that_torch_alone_has(
    precision: str, tied: bool, offset: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TransformerConfig(
        vocab_size=97, hidden_size=48, num_layers=2, context_length=40, norm=NormConfig("rms", 1e-5, offset=offset),
        attention=AttentionConfig(4, 2, 12), mlp=MlpConfig(64, "silu", gated=True), rope=RopeConfig(1e4, 12),
        tie_embeddings=tied,
    )  # fmt: skip
    examples = [np.random.default_rng(seed).integers(0, 97, 9 + 7 * seed).astype(np.int32) for seed in range(4)]
    objective = CausalLM()
    batch = objective.collate(examples)

    def step() -> tuple[float, dict[str, Tensor]]:
        model = Transformer(config, seed=3).train()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = objective.loss(model, batch) / batch.count
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item(), {name: value.grad for name, value in model.named_parameters() if value.grad is not None}

    got, found = step()
    monkeypatch.setenv("OCTAVO_KERNELS", "torch")
    expected, wanted = step()
    bound = 1e-5 if precision == "fp32" else 2e-2
    assert abs(got - expected) <= bound and found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert (found[name] - gradient).norm() <= bound * 10 * gradient.norm() + 1e-7, name


def test_what_would_be_read_past_its_end_is_refused() -> None:
    x = torch.ones(2, 3, 5, 8, requires_grad=True)
    table, short, ids = torch.ones(1, 1, 5, 8), torch.ones(1, 1, 4, 8), torch.zeros(5, dtype=torch.int64)
    hidden, weight = torch.ones(5, 8, requires_grad=True), torch.ones(6, 8)
    for wrong in (
        lambda: rotary.rotate(x, short, short),
        lambda: rotary.rotate(x, table, short),
        lambda: rotary.rotate(x, torch.ones(3, 1, 5, 8), table),
        lambda: rotary.rotate(x, torch.ones(1, 1, 5, 10), torch.ones(1, 1, 5, 10)),
        lambda: rotary.rotate(x, table.double(), table.double()),
        lambda: rms_norm.rms_norm(x, torch.ones(7), 1e-6, torch.float32),
        lambda: rms_norm.rms_norm(x, torch.ones(8, dtype=torch.bfloat16), 1e-6, torch.float32),
        lambda: gated_mlp.gated_product(hidden, hidden[:4], weight),
        lambda: gated_mlp.gated_product(hidden, hidden.bfloat16(), weight),
        lambda: cross_entropy.linear_cross_entropy(hidden, weight, ids[:4]),
        lambda: cross_entropy.linear_cross_entropy(hidden, weight, ids.int()),
    ):
        with pytest.raises(ValueError, match="expected torch"):
            wrong()
