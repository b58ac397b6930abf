"""LoRA against live PEFT: logits, gradients and a loss curve; what is frozen, merged, saved and read again."""

from __future__ import annotations

import copy
import runpy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from octavo.adapt.lora import Lora, LoraLinear, adapted, inject, merge, targeted, unmerge
from octavo.adapt.peft_folder import save_adapter
from octavo.errors import UnknownNameError, UnsupportedError
from octavo.models.checkpoint import Checkpoint, open_checkpoint
from octavo.models.compiled import CompiledRunner
from octavo.models.formats.peft import read_adapter
from octavo.models.runner import Row
from octavo.models.transformer import TorchRunner, Transformer
from octavo.train.objectives.causal_lm import CausalLM

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft = pytest.importorskip("peft", reason="peft is not installed")

PEERS = runpy.run_path(str(Path(__file__).parents[1] / "parity/tiny.py"))
CASES = {
    "all of llama": ("llama", Lora(rank=4, alpha=16)),
    "rank-stabilised": ("llama", Lora(rank=8, alpha=8, rank_stabilized=True)),
    "queries and values": ("llama", Lora(rank=4, targets=("q_proj", "v_proj"))),
    "the MLP's end": ("llama", Lora(rank=2, targets=("down_proj",))),
    "biases": ("qwen2", Lora(rank=4, targets=("q_proj", "k_proj", "o_proj", "gate_proj"))),
    "q, k and v in one, turned round": ("gpt2", Lora(rank=4, targets=("c_attn", "mlp.c_proj"))),
    "q, k and v in one, and gate and up": ("phi3", Lora(rank=4)),
    "in groups": ("gpt_neox", Lora(rank=4, targets=("query_key_value", "dense_h_to_4h"))),
    "soft caps": ("gemma2", Lora(rank=4)),
}
WINDOWS = [np.random.default_rng(seed).integers(0, 160, 33).astype(np.int32) for seed in range(4)]


def opened(name: str, folder: Path) -> tuple[Any, Checkpoint]:
    return PEERS["make_tiny"](name, folder), open_checkpoint(folder)


def jitter(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if name.endswith("lora_b"):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(noise * 0.5 / parameter.shape[-1] ** 0.5)


def arrays(model: torch.nn.Module, *, gradients: bool = False) -> dict[str, NDArray[Any]]:
    wanted = {name: p.grad if gradients else p for name, p in model.named_parameters() if p.requires_grad}
    return {name: value.detach().numpy() for name, value in wanted.items()}


def saved(folder: Path, model: Any, lora: Lora, checkpoint: Checkpoint, **given: bool) -> Path:
    save_adapter(folder, arrays(model, **given), lora, checkpoint.family, checkpoint.config, checkpoint.name)
    return folder


def peer_of(model: Any, folder: Path) -> Any:
    return peft.PeftModel.from_pretrained(model, str(folder), is_trainable=True).eval()  # GPT-2 drops out


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_logits_and_gradients_are_the_peer_s(case: str, tmp_path: Path) -> None:
    name, lora = CASES[case]
    base, checkpoint = opened(name, tmp_path / "model")
    model = Transformer.from_checkpoint(checkpoint).train()
    inject(model, checkpoint.family, lora, seed=5)
    jitter(model)
    peer = peer_of(base, saved(tmp_path / "adapter", model, lora, checkpoint))
    batch = CausalLM().collate(WINDOWS)
    tokens, targets = batch.tensors["tokens"], batch.tensors["targets"]
    expected = peer(input_ids=tokens).logits
    with torch.no_grad():
        assert (model(tokens) - expected).abs().max() <= 1e-4
    torch.nn.functional.cross_entropy(expected.flatten(0, 1), targets.flatten(), reduction="sum").backward()
    CausalLM().loss(model, batch).backward()
    ours = load_file(
        saved(tmp_path / "gradients", model, lora, checkpoint, gradients=True) / "adapter_model.safetensors"
    )
    theirs = {key.replace(".default", ""): p.grad for key, p in peer.named_parameters() if p.requires_grad}
    assert set(ours) == set(theirs) and len(ours) >= 4
    for key, gradient in theirs.items():
        assert (ours[key] - gradient).abs().max() <= 1e-4 * max(1.0, float(gradient.abs().max())), key


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", ["all of llama", "queries and values", "the MLP's end", "biases", "soft caps"])
def test_bfloat16_products_lose_no_more_of_the_gradients_than_the_peer_s(case: str, tmp_path: Path) -> None:
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor does not multiply bfloat16")
    name, lora = CASES[case]
    base, checkpoint = opened(name, tmp_path / "model")
    batch, gradients = CausalLM().collate(WINDOWS), []
    for narrow in (False, True):
        model = Transformer.from_checkpoint(checkpoint).train()
        inject(model, checkpoint.family, lora, seed=5, narrow=narrow)
        jitter(model)
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            loss = CausalLM().loss(model, batch)
        loss.backward()
        folder = saved(tmp_path / "gradients", model, lora, checkpoint, gradients=True)
        gradients.append(load_file(folder / "adapter_model.safetensors"))
    assert all(layer.weight.dtype == torch.bfloat16 for _, layer in adapted(model))
    peer = peer_of(base, saved(tmp_path / "adapter", model, lora, checkpoint))
    with torch.autocast("cpu", torch.bfloat16):
        logits = peer(input_ids=batch.tensors["tokens"]).logits.float()
    torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.tensors["targets"].flatten(), reduction="sum"
    ).backward()
    gradients.append({key.replace(".default", ""): p.grad for key, p in peer.named_parameters() if p.requires_grad})
    ours, theirs = (
        sum(float((each[key] - exact).square().sum()) for key, exact in gradients[0].items()) for each in gradients[1:]
    )
    assert 0 < ours <= 2 * theirs  # squares


@pytest.mark.filterwarnings("ignore")
def test_the_loss_falls_as_the_peer_s(tmp_path: Path) -> None:
    lora = Lora(rank=4)
    base, checkpoint = opened("llama", tmp_path / "model")
    model = Transformer.from_checkpoint(checkpoint).train()
    inject(model, checkpoint.family, lora)
    peer = peer_of(base, saved(tmp_path / "adapter", model, lora, checkpoint))
    batch = CausalLM().collate(WINDOWS)
    curves = []
    for each in (model, peer):
        parameters = [parameter for parameter in each.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1e-2)
        curves.append([])
        for _ in range(8):
            optimizer.zero_grad()
            if each is model:
                loss = CausalLM().loss(model, batch) / batch.count
            else:
                logits = peer(input_ids=batch.tensors["tokens"]).logits
                loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.tensors["targets"].flatten())
            loss.backward()
            optimizer.step()
            curves[-1].append(float(loss.detach()))
    assert curves[0][-1] < curves[0][0] - 0.5
    assert np.abs(np.array(curves[0]) - curves[1]).max() <= 1e-3


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_fresh_adapter_changes_nothing_and_training_nothing_but_the_adapter(name: str, tmp_path: Path) -> None:
    _, checkpoint = opened(name, tmp_path)
    plain = Transformer.from_checkpoint(checkpoint).eval()
    model = copy.deepcopy(plain)
    inject(model, checkpoint.family, Lora(rank=4))
    tokens = CausalLM().collate(WINDOWS).tensors["tokens"]
    with torch.no_grad():
        assert torch.equal(model(tokens), plain(tokens)) or (model(tokens) - plain(tokens)).abs().max() <= 1e-5
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    for _ in range(3):
        CausalLM().loss(model.train(), CausalLM().collate(WINDOWS)).backward()
        optimizer.step()
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {key for key in before if "lora_" in key}


@pytest.mark.parametrize("name", ["llama", "qwen2", "phi3"])
def test_a_merged_model_is_the_adapted_one_and_comes_back(name: str, tmp_path: Path) -> None:
    _, checkpoint = opened(name, tmp_path)
    model = Transformer.from_checkpoint(checkpoint).eval()
    inject(model, checkpoint.family, Lora(rank=4))
    before = {key: layer.weight.clone() for key, layer in adapted(model)}
    jitter(model)
    tokens = CausalLM().collate(WINDOWS).tensors["tokens"]
    with torch.no_grad():
        expected = model(tokens)
        merge(model)
        merge(model)  # the second does nothing
        assert (model(tokens) - expected).abs().max() <= 1e-4
        assert all((layer.weight - before[key]).abs().max() > 1e-3 for key, layer in adapted(model))
        unmerge(model)
        assert (model(tokens) - expected).abs().max() <= 1e-4
    assert all((layer.weight - before[key]).abs().max() <= 1e-6 for key, layer in adapted(model))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_what_is_saved_runs_on_both_runners_and_in_the_peer(name: str, tmp_path: Path) -> None:
    base, checkpoint = opened(name, tmp_path / "model")
    model, lora = Transformer.from_checkpoint(checkpoint).eval(), Lora(rank=4)
    inject(model, checkpoint.family, lora)
    jitter(model)
    folder = saved(tmp_path / "adapter", model, lora, checkpoint)
    ids = WINDOWS[0][:20]
    with torch.no_grad():
        expected = model(torch.from_numpy(ids.astype(np.int64))[None])[0].numpy()
        peer = peft.PeftModel.from_pretrained(base, str(folder)).eval()
        assert np.abs(peer(torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy() - expected).max() <= 1e-4
    read = [read_adapter("a", folder, checkpoint)]
    for runner in (
        TorchRunner(checkpoint, num_blocks=6, adapters=read),
        CompiledRunner(checkpoint, num_blocks=6, threads=1, adapters=read),
    ):
        got = runner.step([Row(ids, 0, range(3), 0, adapter=1)]).logits
        assert np.abs(got - expected).max() <= 1e-4
        runner.close()


def test_dropout_is_for_training_and_for_the_pair_alone(tmp_path: Path) -> None:
    _, checkpoint = opened("llama", tmp_path)
    model = Transformer.from_checkpoint(checkpoint)
    inject(model, checkpoint.family, Lora(rank=4, dropout=0.5))
    jitter(model)
    layer = next(layer for _, layer in adapted(model))
    x = torch.randn(1, 4000, layer.weight.shape[1])
    with torch.no_grad():
        still, mean = layer.eval()(x), torch.stack([layer.train()(x) for _ in range(200)]).mean(0)
        assert not torch.equal(layer(x), layer(x)) and torch.equal(layer.eval()(x), still)
        scale = (still - layer.base(x)).abs().mean()
        assert (mean - still).abs().mean() <= 0.1 * scale
    assert isinstance(layer, LoraLinear)


def test_weights_that_move_are_followed(tmp_path: Path) -> None:
    _, checkpoint = opened("llama", tmp_path)
    model = Transformer.from_checkpoint(checkpoint).eval()
    inject(model, checkpoint.family, Lora(rank=4))
    jitter(model)
    tokens = CausalLM().collate(WINDOWS).tensors["tokens"]
    with torch.no_grad():
        expected = model(tokens)
        assert (copy.deepcopy(model)(tokens) - expected).abs().max() <= 1e-6
        assert (model.double().float()(tokens) - expected).abs().max() <= 1e-6
        next(layer for _, layer in adapted(model)).base.weight.data.zero_()
        assert (model(tokens) - expected).abs().max() > 1e-3


def test_a_wrong_target_is_told_with_the_nearest(tmp_path: Path) -> None:
    _, checkpoint = opened("llama", tmp_path / "llama")
    model = Transformer.from_checkpoint(checkpoint)
    with pytest.raises(UnknownNameError, match="'q_prj', did you mean 'q_proj'"):
        inject(model, checkpoint.family, Lora(targets=("q_prj",)))
    with pytest.raises(UnsupportedError, match="embed_tokens"):
        targeted(checkpoint.family, checkpoint.config, ("embed_tokens",))
    _, experts = opened("mixtral", tmp_path / "mixtral")
    with pytest.raises(UnsupportedError, match="experts"):
        targeted(experts.family, experts.config, ("q_proj", "w1"))
    assert len(targeted(experts.family, experts.config, ())) == 4 * experts.config.num_layers
