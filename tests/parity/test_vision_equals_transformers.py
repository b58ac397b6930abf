"""Every row that sees, against the live peer: patches, queries, projections and the logits of texts with images."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from octavo.errors import FormatError, OctavoError, UnknownNameError
from octavo.models.checkpoint import GenerationDefaults, open_checkpoint
from octavo.models.saving import save_checkpoint
from octavo.models.transformer import Transformer
from octavo.models.vision.folder import open_vision
from octavo.models.vision.transformer import VisionLanguageModel

BOUND = 1e-4
PEERS = runpy.run_path(str(Path(__file__).with_name("tiny_vision.py")))
ENCODERS, LANGUAGE, IMAGE_TOKEN = PEERS["ENCODERS"], PEERS["LANGUAGE"], PEERS["IMAGE_TOKEN"]


def pixels(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def written(positions: int, pad: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Two texts with an image in each; the second is padded on the left."""
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(5, 90, (2, 30), generator=generator)
    tokens[0, 3 : 3 + positions] = IMAGE_TOKEN
    tokens[1, 9 : 9 + positions] = IMAGE_TOKEN
    mask = torch.ones_like(tokens)
    mask[1, :pad] = 0
    return tokens, mask


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_of_images_equals_the_peer_and_is_saved_as_its_file(name: str, tmp_path: Path) -> None:
    variant = ENCODERS[name]
    peer = PEERS["make_tiny"](variant, tmp_path / "peer")
    given = pixels(3, variant.config["image_size"])
    with torch.no_grad():
        output = peer(given)
    expected = output.logits if variant.architecture.endswith("Classification") else output.last_hidden_state
    checkpoint = open_checkpoint(tmp_path / "peer")
    ours = Transformer.from_checkpoint(checkpoint).requires_grad_(False)
    assert expected.std() > 0.2
    assert (ours(given) - expected).abs().max() <= BOUND
    saved = tmp_path / "ours"
    save_checkpoint(saved, checkpoint.config, checkpoint.family, checkpoint.tensors, None, GenerationDefaults())
    assert open_checkpoint(saved).config == checkpoint.config
    theirs, again = load_file(tmp_path / "peer" / "model.safetensors"), load_file(saved / "model.safetensors")
    bare = {key.removeprefix("vit."): tensor for key, tensor in theirs.items()}
    assert again
    assert all(torch.equal(tensor, bare[key.removeprefix("vit.")]) for key, tensor in again.items())


@pytest.mark.parametrize("name", LANGUAGE)
def test_the_logits_of_a_text_with_an_image_equal_the_peer(name: str, tmp_path: Path) -> None:
    variant = LANGUAGE[name]
    peer = PEERS["make_tiny"](variant, tmp_path)
    given = pixels(2, 28)
    tokens, mask = written(variant.positions, pad=4)
    theirs = given[:, None] if variant.model_type in ("idefics3", "smolvlm") else given
    with torch.no_grad():
        expected = peer(pixel_values=theirs, input_ids=tokens, attention_mask=mask).logits
    model = VisionLanguageModel.from_checkpoint(open_vision(tmp_path)).requires_grad_(False)
    ours = model(tokens, given, mask)
    assert expected.std() > 0.2
    assert (ours - expected)[mask.bool()].abs().max() <= BOUND
    changed = model(tokens, given.flip(0), mask)
    assert (ours - changed).abs().max() > 10 * BOUND, "the image changes nothing"


def test_four_patches_that_follow_each_other_become_one_as_minigpt_v2_has_it(tmp_path: Path) -> None:
    peer = PEERS["make_tiny"](LANGUAGE["blip2-llama"], tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    kept = {key: raw[key] for key in ("vision_config", "text_config", "image_token_index")}
    (tmp_path / "config.json").write_text(json.dumps({**kept, "model_type": "minigpt_v2"}))
    parts = ("vision_model.", "language_model.")
    tensors = load_file(tmp_path / "model.safetensors")
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(parts)}
    layer = torch.nn.Linear(4 * 48, 40).requires_grad_(False)
    save_file({**own, "llama_proj.weight": layer.weight, "llama_proj.bias": layer.bias}, tmp_path / "model.safetensors")
    given = pixels(2, 28)
    seen = peer.vision_model(given).last_hidden_state[:, 1:]
    expected = layer(seen.reshape(2, 16 // 4, 48 * 4))  # as in the authors' encode_img
    model = VisionLanguageModel.from_checkpoint(open_vision(tmp_path)).requires_grad_(False)
    assert (model.see(given) - expected).abs().max() <= BOUND


def test_only_the_projection_learns_where_it_alone_may(tmp_path: Path) -> None:
    PEERS["make_tiny"](LANGUAGE["blip2-llama"], tmp_path)
    model = VisionLanguageModel.from_checkpoint(open_vision(tmp_path)).requires_grad_(False)
    model.projector.requires_grad_(True)
    tokens, _ = written(5)
    model(tokens, pixels(2, 28)).square().mean().backward()
    learning = {name: p.grad.abs().sum() for name, p in model.named_parameters() if p.grad is not None}
    assert list(learning) == ["projector.out.weight", "projector.out.bias"]
    assert min(learning.values()) > 0


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    PEERS["make_tiny"](LANGUAGE["blip2-llama"], tmp_path)
    model = VisionLanguageModel.from_checkpoint(open_vision(tmp_path)).requires_grad_(False)
    tokens, _ = written(4)
    with pytest.raises(OctavoError, match="8 image tokens, but its images have 10 positions"):
        model(tokens, pixels(2, 28))
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    for change, error, match in (
        ({"model_type": "blip2"}, UnknownNameError, "did you mean 'blip-2'"),
        ({"glue": 1}, UnknownNameError, "'glue'"),
        ({"image_token_index": 99}, FormatError, "past its vocabulary"),
        ({"qformer_config": {**raw["qformer_config"], "encoder_hidden_size": 9}}, FormatError, "width of 9"),
    ):
        path.write_text(json.dumps({**raw, **change}))
        with pytest.raises(error, match=match):
            open_vision(tmp_path)
