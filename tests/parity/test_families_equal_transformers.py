"""Every family row against the live peer, from the peer's own folder and back into it."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from octavo.errors import MissingDependencyError, OctavoError
from octavo.models.checkpoint import GenerationDefaults, open_checkpoint
from octavo.models.compiled import CompiledRunner
from octavo.models.families import FAMILIES
from octavo.models.families.vision import blip2
from octavo.models.mapping.config_reader import ConfigReader
from octavo.models.runner import Row
from octavo.models.saving import save_checkpoint
from octavo.models.transformer import TorchRunner, Transformer

BOUND = 1e-4
PEERS_OF_BOTH_SIDES = runpy.run_path(str(Path(__file__).with_name("tiny_seq2seq.py")))
PEERS_THAT_SEE = runpy.run_path(str(Path(__file__).with_name("tiny_vision.py")))
PEERS = runpy.run_path(str(Path(__file__).with_name("tiny.py")))
NAMES = tuple(PEERS["VARIANTS"])
PEERLESS = {"internlm2", "minicpm", "gpt3", "baichuan"}
"""Families that the peer has no code of its own for; `test_families_without_a_peer.py` has them."""
ELSEWHERE = {"codet5p_bimodal", "codet5p_embedding", "new"}
"""Families that `tests/retrieve/systems/test_codet5p.py` compares with the peer's parts, and another's spelling."""
every_variant = pytest.mark.parametrize("name", NAMES)

Tiny = Callable[[str], tuple[Path, PreTrainedModel]]


def ids(batch: int = 2, tokens: int = 40, seed: int = 1) -> torch.Tensor:
    return torch.randint(0, 160, (batch, tokens), generator=torch.Generator().manual_seed(seed))


def peer_logits(model: PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(tokens).logits
    return logits


def difference(ours: object, theirs: torch.Tensor) -> float:
    return float(np.abs(np.asarray(ours, np.float64) - theirs.numpy().astype(np.float64)).max())


def load(folder: Path) -> Transformer:
    return Transformer.from_checkpoint(open_checkpoint(folder)).requires_grad_(False)


def test_every_family_has_a_variant() -> None:
    encoders = runpy.run_path(str(Path(__file__).with_name("tiny_encoders.py")))["VARIANTS"]
    tried = [*PEERS["VARIANTS"].values(), *encoders.values(), *PEERS_THAT_SEE["ENCODERS"].values()]
    both_sides = {name.split()[0] for name in PEERS_OF_BOTH_SIDES["VARIANTS"]}
    assert {variant.model_type for variant in tried} | both_sides == set(FAMILIES) - PEERLESS - ELSEWHERE


@every_variant
def test_logits_equal_the_peer(name: str, tiny: Tiny) -> None:
    folder, peer = tiny(name)
    expected = peer_logits(peer, ids())
    assert expected.std() > 0.5, "the tiny model says nothing"
    assert difference(load(folder)(ids()), expected) <= BOUND


@every_variant
def test_cached_decoding_equals_the_peer_and_the_full_forward(name: str, tiny: Tiny) -> None:
    folder, peer = tiny(name)
    model = load(folder)
    runner = TorchRunner(model, num_blocks=8)
    tokens = ids(batch=1)[0].numpy().astype(np.int32)
    blocks = [5, 0, 7]
    cuts = [0, 7, 8, 9, 25, *range(26, 41)]
    rows = [runner.step([Row(tokens[begin:end], begin, blocks, 0)]).logits for begin, end in pairwise(cuts)]
    cached = np.concatenate(rows)
    assert difference(cached, peer_logits(peer, ids(batch=1))[0]) <= BOUND
    assert difference(cached, model(ids(batch=1))[0]) <= BOUND


@every_variant
def test_greedy_ids_equal_the_peer(name: str, tiny: Tiny) -> None:
    folder, peer = tiny(name)
    prompt = ids(batch=1, tokens=6)
    theirs = peer.generate(prompt, do_sample=False, max_new_tokens=20, eos_token_id=None, pad_token_id=0)[0].tolist()
    runner = TorchRunner(open_checkpoint(folder), num_blocks=4)
    ours = prompt[0].tolist()
    begin = 0
    while len(ours) < len(theirs):
        step = runner.step([Row(np.array(ours[begin:], np.int32), begin, range(4), len(ours) - begin - 1)])
        begin = len(ours)
        ours.append(int(step.logits[0].argmax()))
    assert ours == theirs


@every_variant
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_equals_its_rows_alone(name: str, side: str, tiny: Tiny) -> None:
    folder, _ = tiny(name)
    model = load(folder)
    lengths = (11, 20, 1)
    rows = [ids(batch=1, tokens=length, seed=length)[0] for length in lengths]
    tokens = torch.full((3, 20), 3)
    mask = torch.zeros(3, 20, dtype=torch.long)
    for index, row in enumerate(rows):
        place = slice(20 - len(row), 20) if side == "left" else slice(0, len(row))
        tokens[index, place] = row
        mask[index, place] = 1
    logits = model(tokens, mask)
    for index, row in enumerate(rows):
        assert difference(logits[index][mask[index].bool()], model(row[None])[0]) <= 5e-5


@every_variant
def test_a_saved_model_loads_in_the_peer_with_the_same_logits(name: str, tiny: Tiny, tmp_path: Path) -> None:
    folder, peer = tiny(name)
    checkpoint = open_checkpoint(folder)
    ours = tmp_path / "saved"
    save_checkpoint(ours, checkpoint.config, checkpoint.family, checkpoint.tensors, None, GenerationDefaults((2,)))
    again = PEERS["load_peer"](name, ours)
    assert difference(peer_logits(again, ids()), peer_logits(peer, ids())) <= 1e-5
    second = open_checkpoint(ours)
    assert second.config == checkpoint.config
    for key, tensor in checkpoint.tensors.items():
        assert np.array_equal(second.tensors[key].data, tensor.data), key


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("phimoe", {"num_experts_per_tok": 3}),  # the peer goes on with two
        ("aria_text", {"mlp_bias": True}),  # of experts, which have none
        ("aria_text", {"hidden_act": "gelu"}),  # the peer's experts keep silu
        ("bloom", {"slow_but_exact": True}),  # the peer leaves a bias out, where it cuts products, too
        ("xglm", {"d_model": 65, "attention_heads": 5}),
        ("deepseek_v3", {"n_routed_experts": 9}),  # no groups of one size
        ("deepseek_v2", {"topk_group": 1}),  # fewer experts in the groups that are kept than are wanted
    ],
)
def test_what_the_peer_does_otherwise_than_its_config_says_is_refused(
    name: str, changed: dict[str, object], tiny: Tiny, tmp_path: Path
) -> None:
    folder, _ = tiny(name)
    raw = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**raw, **changed}))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(OctavoError, match=r"num_experts_per_tok|hidden_act|n_group|slow_but_exact|d_model|mlp_bias"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["llama-llama3", "llama-linear", "llama-eps-and-theta", "mistral"])
def test_the_older_spelling_of_the_rotary_config_means_the_same(name: str, tiny: Tiny, tmp_path: Path) -> None:
    folder, _ = tiny(name)
    raw = json.loads((folder / "config.json").read_text())
    rope = raw.pop("rope_parameters")
    raw["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    raw["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    raw["torch_dtype"] = raw.pop("dtype")
    (tmp_path / "config.json").write_text(json.dumps(raw))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    assert open_checkpoint(tmp_path).config == open_checkpoint(folder).config


def test_original_gpt2_files_without_prefix_and_with_mask_buffers_load(tiny: Tiny, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder, peer = tiny("gpt2")
    weights = load_file(folder / "model.safetensors")
    old = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
    old["h.0.attn.bias"] = torch.ones(1, 1, 128, 128, dtype=torch.uint8)
    old["h.0.attn.masked_bias"] = torch.tensor(-1e9)
    save_file(old, tmp_path / "model.safetensors")
    raw = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**raw, "n_ctx": 128, "task_specific_params": {"a": 1}}))
    assert difference(load(tmp_path)(ids()), peer_logits(peer, ids())) <= BOUND


def test_a_head_that_differs_unties_a_config_that_says_tied_as_in_the_peer(tiny: Tiny, tmp_path: Path) -> None:
    folder, peer = tiny("llama")
    raw = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**raw, "tie_word_embeddings": True}))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    assert difference(load(tmp_path)(ids()), peer_logits(peer, ids())) <= BOUND


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gemma3", "olmo2", "granite", "cohere-qk-norm", "glm4"])
def test_bfloat16_rounds_where_the_peer_rounds(name: str, tiny: Tiny) -> None:
    folder, _ = tiny(name)
    peer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager").eval()
    exact = load(folder)(ids())
    ours = Transformer.from_checkpoint(open_checkpoint(folder), dtype=torch.bfloat16)(ids()).detach().float()
    theirs = peer_logits(peer, ids()).float()
    error = (theirs - exact).pow(2).mean().sqrt()
    assert (ours - exact).pow(2).mean().sqrt() <= 1.2 * error, "noisier than the peer in bfloat16"
    assert (ours - theirs).pow(2).mean().sqrt() <= 1.2 * error


def test_the_config_has_no_switch_that_no_row_sets(tiny: Tiny) -> None:
    seen: dict[str, set[object]] = {}
    for name in NAMES:
        collect(open_checkpoint(tiny(name)[0]).config, "", seen)
    collect(FAMILIES["marian"].read_config(ConfigReader(PEERS_OF_BOTH_SIDES["MARIAN_SHAPE"], "a test")), "", seen)
    collect(blip2.read(ConfigReader(PEERS_THAT_SEE["BLIP2"], "a test"), 8).image, "", seen)
    collect(FAMILIES["clip_vision_model"].read_config(ConfigReader(PEERS_THAT_SEE["IMAGE"], "a test")), "", seen)
    silent = [switch for switch, values in seen.items() if len(values) < 2]
    assert [switch for switch in silent if not switch.startswith("encoder.")] == [], "decoders' own"


def collect(part: Any, prefix: str, seen: dict[str, set[object]]) -> None:
    for field in fields(part):
        value = getattr(part, field.name)
        if field.name == "memory":  # an encoder, whose switches are tried apart
            continue
        if is_dataclass(value):
            collect(value, f"{prefix}{field.name}.", seen)
        elif value is not None or "Config" not in str(field.type):  # a part that is not there
            seen.setdefault(prefix + field.name, set()).add(value)


@every_variant
def test_the_kernels_equal_the_peer(name: str, tiny: Tiny) -> None:
    folder, peer = tiny(name)
    checkpoint = open_checkpoint(folder)
    try:
        runner = CompiledRunner(checkpoint, num_blocks=4, threads=1)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    tokens = ids(batch=1)
    logits = runner.step([Row(tokens[0].numpy().astype(np.int32), 0, range(4), 0)]).logits
    runner.close()
    assert difference(logits, peer_logits(peer, tokens)[0]) <= BOUND
