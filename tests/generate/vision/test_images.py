"""Pixels equal those of the peer's processors; hostile pictures are refused in one line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from octavo.errors import FormatError, UnknownNameError
from octavo.generate.vision.images import ImageProcessor, open_picture

PEERS = (CLIPImageProcessorPil, BlipImageProcessorPil, SiglipImageProcessorPil, ViTImageProcessorPil)
SIZES = [(37, 50), (224, 224), (300, 61), (640, 480), (8, 9)]


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    random = np.random.default_rng(width * height)
    coarse = Image.fromarray(random.integers(0, 256, (9, 7, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_pixels_equal_the_peers(peer: Any, mode: str) -> None:
    theirs = peer(do_convert_rgb=True)
    raw = {key: list(value) if isinstance(value, tuple) else value for key, value in theirs.to_dict().items()}
    ours = ImageProcessor.from_config({**raw, "resample": int(raw["resample"])}, "test")
    for width, height in SIZES:
        given = picture(width, height, mode)
        expected = np.asarray(theirs(given.convert("RGB"), return_tensors="np")["pixel_values"])[0]
        assert np.abs(ours([given])[0] - expected).max() <= 1e-5


def test_a_border_of_black_is_added_where_the_crop_is_larger() -> None:
    theirs = CLIPImageProcessorPil(size={"shortest_edge": 20}, crop_size={"height": 33, "width": 30})
    raw = {"size": {"shortest_edge": 20}, "crop_size": {"height": 33, "width": 30}, "do_center_crop": True}
    raw |= {"image_mean": list(theirs.image_mean), "image_std": list(theirs.image_std)}
    given = picture(21, 40)
    expected = np.asarray(theirs(given, return_tensors="np")["pixel_values"])[0]
    assert np.abs(ImageProcessor.from_config(raw, "test")([given])[0] - expected).max() <= 1e-5


def test_a_key_that_nobody_reads_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="do_sharpen"):
        ImageProcessor.from_config({"size": 224, "do_sharpen": True}, "test")
    with pytest.raises(FormatError, match="image_std"):
        ImageProcessor.from_config({"size": 224, "image_std": [0, 1, 1]}, "test")


def test_hostile_pictures_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    picture(64, 64).save(buffer, "PNG")
    good = buffer.getvalue()
    assert open_picture(good).size == (64, 64)
    large = io.BytesIO()
    Image.new("1", (10000, 10000)).save(large, "PNG")
    for bad in (b"", b"no picture", good[:200], large.getvalue(), b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        with pytest.raises(FormatError):
            open_picture(bad)
    with pytest.raises(FormatError, match="no picture"):
        open_picture(tmp_path / "absent.png")


def test_a_picture_is_turned_as_its_camera_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture(30, 20).save(buffer, "JPEG", exif=exif)
    assert open_picture(buffer.getvalue()).size == (20, 30)
