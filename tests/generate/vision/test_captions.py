"""What models that see write of a picture, against the peer's own generation, and the command."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from octavo.errors import ContextLengthError, FormatError
from octavo.generate.vision.torch_captions import Captioner

PEERS = runpy.run_path(str(Path(__file__).parents[2] / "parity/tiny_vision.py"))
IMAGE_TOKEN, PROMPT = 511, "Once upon a time"
PROCESSOR = {"size": {"height": 28, "width": 28}, "image_mean": [0.5] * 3, "image_std": [0.3] * 3, "resample": 2}


@pytest.fixture(params=["blip2-llama", "llava-clip"])
def model(request: pytest.FixtureRequest, tmp_path: Path, stories: Path):  # type: ignore[no-untyped-def]
    """(folder, the peer's model, how many positions an image has); the words are those of stories260K."""
    variant = PEERS["LANGUAGE"][request.param]
    text = {**variant.config["text_config"], "vocab_size": 512}
    config = {**variant.config, "text_config": text, "image_token_index": IMAGE_TOKEN}
    peer = PEERS["make_tiny"](variant._replace(config=config), tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(stories / name, tmp_path / name)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return tmp_path, peer, variant.positions


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "noise.png"
    pixels = np.random.default_rng(3).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_the_words_are_those_of_the_peer(model, picture: Path) -> None:  # type: ignore[no-untyped-def]
    folder, peer, positions = model
    ours = Captioner.load(folder)
    ids = ours._tokens(PROMPT, positions)
    assert ids.count(IMAGE_TOKEN) == positions and ids[0] == ours.tokenizer.encode("")[0]
    pixels = torch.from_numpy(ours._processor([Image.open(picture)]))
    asked = torch.tensor(ids)[None]
    with torch.no_grad():
        written = peer.generate(
            pixel_values=pixels, input_ids=asked, attention_mask=torch.ones_like(asked), max_new_tokens=9,
            do_sample=False, eos_token_id=2, pad_token_id=0,
        )  # fmt: skip
    expected = written[0].tolist()
    expected = expected[len(ids) :] if expected[: len(ids)] == ids else expected
    expected = [token for token in expected if token != 2]
    assert ours.describe(picture, PROMPT, max_tokens=9) == ours.tokenizer.decode(expected)


def test_a_picture_stands_where_the_prompt_has_its_token(model, picture: Path) -> None:  # type: ignore[no-untyped-def]
    folder, _, positions = model
    captioner = Captioner.load(folder)
    start = captioner.tokenizer.encode("")
    assert captioner._tokens("", positions) == [*start, *[IMAGE_TOKEN] * positions]
    with pytest.raises(ContextLengthError, match="no answer fits"):
        captioner.describe(picture, "word " * 60)
    with pytest.raises(FormatError, match="not a picture"):
        captioner.describe(b"GIF89a, or not")
