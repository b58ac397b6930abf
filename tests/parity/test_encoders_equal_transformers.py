"""Every encoder row and every head against the live peer: padded batches, token types, from its folder and back."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from octavo.errors import OctavoError
from octavo.models.checkpoint import GenerationDefaults, open_checkpoint
from octavo.models.saving import save_checkpoint
from octavo.models.transformer import Transformer
from octavo.nn.config import EncoderConfig, HeadConfig, TransformerConfig

BOUND = 1e-4
PEERS = runpy.run_path(str(Path(__file__).with_name("tiny_encoders.py")))
NAMES = tuple(PEERS["VARIANTS"])
SIZES = tuple(PEERS["SIZES"])
LENGTHS = (40, 11, 1, 23)
every_variant = pytest.mark.parametrize("name", NAMES)

Tiny = Callable[[str], tuple[Path, PreTrainedModel]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    @cache
    def made(name: str) -> tuple[Path, PreTrainedModel]:
        folder = tmp_path_factory.mktemp(name)
        return folder, PEERS["make_tiny"](name, folder)

    return made


def batch(name: str, side: str = "right") -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, padded with the family's own padding id, mask and token types."""
    padding = PEERS["VARIANTS"][name].config.get("pad_token_id", 0)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.full((len(LENGTHS), max(LENGTHS)), padding)
    mask, types = torch.zeros_like(tokens), torch.zeros_like(tokens)
    for index, length in enumerate(LENGTHS):
        place = slice(0, length) if side == "right" else slice(max(LENGTHS) - length, None)
        tokens[index, place] = torch.randint(5, 160, (length,), generator=generator)
        mask[index, place] = 1
        if PEERS["VARIANTS"][name].model_type in PEERS["WITH_TYPES"]:
            types[index, place] = (torch.arange(length) > length // 2).long()
    return tokens, mask, types


def load(folder: Path) -> Transformer:
    return Transformer.from_checkpoint(open_checkpoint(folder)).requires_grad_(False)


def largest(ours: torch.Tensor, theirs: torch.Tensor, mask: torch.Tensor) -> float:
    """The largest difference at true tokens; of sequences, at all."""
    assert ours.shape == theirs.shape
    difference = (ours - theirs).abs()
    return float((difference if difference.ndim == 2 else difference[mask.bool()]).max())


@every_variant
def test_a_padded_batch_equals_the_peer(name: str, tiny: Tiny) -> None:
    folder, peer = tiny(name)
    tokens, mask, types = batch(name)
    expected = PEERS["peer_scores"](peer, tokens, mask, types)
    assert expected.std() > 0.2, "the tiny model says nothing"
    assert largest(load(folder)(tokens, mask, types), expected, mask) <= BOUND


@every_variant
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_equals_its_rows_alone(name: str, side: str, tiny: Tiny) -> None:
    model = load(tiny(name)[0])
    tokens, mask, types = batch(name, side)
    together = model(tokens, mask, types)
    for index, row in enumerate(mask.bool()):
        alone = model(tokens[index, row][None], None, types[index, row][None])[0]
        rows = together[index] if together.ndim == 2 else together[index, row]
        assert (rows - alone).abs().max() <= 5e-5


@every_variant
def test_a_saved_model_loads_in_the_peer_with_the_same_scores(name: str, tiny: Tiny, tmp_path: Path) -> None:
    folder, peer = tiny(name)
    checkpoint = open_checkpoint(folder)
    ours = tmp_path / "saved"
    save_checkpoint(ours, checkpoint.config, checkpoint.family, checkpoint.tensors, None, GenerationDefaults())
    unused = ("embed_positions", "pooler", *(() if checkpoint.config.tie_embeddings else ("predictions.bias",)))
    again = PEERS["load_peer"](name, ours, unused=unused)
    given = batch(name)
    assert largest(PEERS["peer_scores"](again, *given), PEERS["peer_scores"](peer, *given), given[1]) <= 1e-5
    assert open_checkpoint(ours).config == checkpoint.config


def test_the_tasks_of_heads_are_read_from_the_architecture(tiny: Tiny) -> None:
    def head(name: str) -> HeadConfig | None:
        return open_checkpoint(tiny(name)[0]).config.head

    assert head("bert") is None
    assert head("bert-sequence") == HeadConfig("sequence", 3, "tanh")
    assert head("xlm-roberta-tokens") == HeadConfig("tokens", 7)


def test_every_switch_of_encoders_is_set_by_some_row(tiny: Tiny) -> None:
    configs = [open_checkpoint(tiny(name)[0]).config for name in NAMES]
    encoders = [config.encoder for config in configs if config.encoder is not None]
    heads = [encoder.head for encoder in encoders if encoder.head is not None]
    for kind, parts in ((EncoderConfig, encoders), (HeadConfig, heads)):
        silent = [field.name for field in fields(kind) if len({getattr(part, field.name) for part in parts}) < 2]
        of_images = ["patches", "queries"]  # see test_vision_equals_transformers.py
        assert silent == (of_images if kind is EncoderConfig else [])


def test_older_spellings_of_modernbert_mean_the_same(tiny: Tiny, tmp_path: Path) -> None:
    folder, _ = tiny("modernbert-masked-lm")
    raw = json.loads((folder / "config.json").read_text())
    ropes = raw.pop("rope_parameters")
    del raw["layer_types"]
    raw |= {"global_rope_theta": ropes["full_attention"]["rope_theta"], "global_attn_every_n_layers": 3}
    raw |= {"local_rope_theta": ropes["sliding_attention"]["rope_theta"], "position_embedding_type": "absolute"}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    assert open_checkpoint(tmp_path).config == open_checkpoint(folder).config


OLD_NOMIC = {
    "n_embd": 64, "n_head": 4, "n_inner": 112, "n_layer": 4, "n_positions": 64, "activation_function": "swiglu",
    "layer_norm_epsilon": 1e-12, "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None, "rotary_scaling_factor": None, "prenorm": False, "causal": False,
    "qkv_proj_bias": False, "mlp_fc1_bias": False, "mlp_fc2_bias": False, "use_rms_norm": False, "attn_pdrop": 0.0,
    "parallel_block": False, "max_trained_positions": 2048, "pad_vocab_size_multiple": 64, "use_flash_attn": True,
}  # fmt: skip
"""As the authors' own files of Nomic Embed say it."""
OLD_GTE = {
    "layer_norm_type": "layer_norm", "logn_attention_scale": False, "logn_attention_clip1": False, "pack_qkv": True,
    "position_embedding_type": "rope", "rope_theta": 500.0, "rope_scaling": None, "unpad_inputs": False,
    "use_memory_efficient_attention": False, "model_type": "new", "architectures": ["NewModel"],
}  # fmt: skip
"""As those of GTE do."""


@pytest.mark.parametrize(
    ("name", "gone", "old"),
    [
        ("nomic_bert", [*SIZES, "layer_norm_eps", "hidden_act", "rope_parameters", "head_dim"], OLD_NOMIC),
        ("gte", ["rope_parameters"], OLD_GTE),
    ],
)
def test_the_authors_spelling_means_the_same(
    name: str, gone: list[str], old: dict[str, object], tiny: Tiny, tmp_path: Path
) -> None:
    folder, _ = tiny(name)
    raw = {key: value for key, value in json.loads((folder / "config.json").read_text()).items() if key not in gone}
    raw |= {**old, **({"vocab_size": 160} if "vocab_size" in gone else {})}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    assert open_checkpoint(tmp_path).config == open_checkpoint(folder).config
    (tmp_path / "config.json").write_text(
        json.dumps({**raw, **dict.fromkeys(("prenorm", "logn_attention_scale"), True)})
    )
    with pytest.raises(OctavoError, match=r"prenorm|logn_attention_scale"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["mpnet", "bert"])
def test_a_body_whose_config_names_a_head_that_is_not_there_is_a_body(name: str, tiny: Tiny, tmp_path: Path) -> None:
    folder, _ = tiny(name)
    raw = json.loads((folder / "config.json").read_text())
    classes = raw["architectures"][0].removesuffix("Model")
    (tmp_path / "config.json").write_text(json.dumps({**raw, "architectures": [f"{classes}ForMaskedLM"]}))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    assert open_checkpoint(tmp_path).config == open_checkpoint(folder).config


@pytest.mark.parametrize("name", ["mpnet-masked-lm", "nomic_bert-masked-lm", "bert-masked-lm"])
def test_a_tensor_of_no_use_and_one_that_lacks_are_errors(name: str, tiny: Tiny, tmp_path: Path) -> None:
    folder, _ = tiny(name)
    (tmp_path / "config.json").symlink_to(folder / "config.json")
    tensors = load_file(folder / "model.safetensors")
    dense = next(key for key in tensors if key.endswith("dense.weight") and "layer" not in key)
    save_file({**tensors, dense.replace("dense", "denser"): tensors[dense].clone()}, tmp_path / "model.safetensors")
    with pytest.raises(OctavoError, match="denser"):
        open_checkpoint(tmp_path)
    save_file({key: value for key, value in tensors.items() if key != dense}, tmp_path / "model.safetensors")
    with pytest.raises(OctavoError, match="lacks the tensor"):
        open_checkpoint(tmp_path)


def test_positions_of_roberta_begin_after_the_padding_id(tiny: Tiny) -> None:
    config: TransformerConfig = open_checkpoint(tiny("roberta")[0]).config
    assert (config.context_length, config.num_positions) == (62, 64)
