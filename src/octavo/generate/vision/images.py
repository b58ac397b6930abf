"""Pictures to pixels, as a folder's preprocessor_config.json says: RGB, resized, cropped, scaled, normalised. No torch.

Source: the image processors of CLIP, SigLIP, BLIP, ViT and LLaVA in the `transformers` library. Pictures come from
strangers, so only common formats are opened, and none that would fill the memory.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from octavo.errors import FormatError, MissingDependencyError
from octavo.models.formats.folder import read_json
from octavo.models.mapping.config_reader import ConfigReader

if TYPE_CHECKING:
    from PIL.Image import Image

PREPROCESSOR_NAME = "preprocessor_config.json"
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 64_000_000
"""Of a picture as it comes: 256 MB once it is open."""
RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
HARMLESS_KEYS = {
    **dict.fromkeys(("image_processor_type", "feature_extractor_type", "processor_class"), "names a class of a peer"),
    **dict.fromkeys(("data_format", "input_data_format", "device", "return_tensors", "do_pad"), "how peers are called"),
    **dict.fromkeys(("disable_grouping", "image_seq_length", "crop_pct", "default_to_square"), "how peers are called"),
}


@dataclass(frozen=True)
class ImageProcessor:
    """size: (height, width), or the shorter side. crop: (height, width) out of the middle. resample: PIL's number.

    mean, std: of each channel, of values times scale.
    """

    size: tuple[int, int] | int | None
    crop: tuple[int, int] | None
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_folder(cls, folder: Path) -> ImageProcessor:
        """Read preprocessor_config.json. Raises FormatError, UnknownNameError for a key that nobody reads."""
        path = folder / PREPROCESSOR_NAME
        return cls.from_config(read_json(path), str(path))

    @classmethod
    def from_config(cls, raw: Mapping[str, Any], source: str) -> ImageProcessor:
        """As `from_folder`, of what the file holds."""
        reader = ConfigReader(raw, source)
        resizes = reader.flag("do_resize", default=True)
        crops = reader.flag("do_center_crop", default=False)
        scales, normalises = reader.flag("do_rescale", default=True), reader.flag("do_normalize", default=True)
        reader.neutral({"do_convert_rgb": (True, False)})  # a picture is always RGB here
        size = _size(reader, "size") if reader.has("size") or resizes else None
        crop = _size(reader, "crop_size") if reader.has("crop_size") else None
        if isinstance(crop, int):
            crop = (crop, crop)
        scale = reader.number("rescale_factor", default=1 / 255)
        mean, std = (reader.take(f"image_{name}", [value] * 3) for name, value in (("mean", 0.0), ("std", 1.0)))
        for name, values in (("mean", mean), ("std", std)):
            if len(_list(values)) != 3 or (name == "std" and min(values) <= 0):
                raise FormatError(f"{source} has image_{name} {values!r}; it must be three numbers")
        resample = reader.integer("resample", default=3, low=0, high=3)
        reader.finish(HARMLESS_KEYS)
        return cls(
            size if resizes else None,
            crop if crops else None,
            resample,
            scale if scales else 1.0,
            tuple(mean) if normalises else (0.0, 0.0, 0.0),
            tuple(std) if normalises else (1.0, 1.0, 1.0),
        )

    def __call__(self, pictures: Sequence[Image]) -> NDArray[np.float32]:
        """(pictures, 3, height, width). All must come out of one size, which size and crop see to."""
        return np.stack([self._pixels(picture) for picture in pictures])

    def _pixels(self, picture: Image) -> NDArray[np.float32]:
        from PIL.Image import Resampling

        picture = picture.convert("RGB")
        if self.size is not None:
            height, width = _resized(picture.height, picture.width, self.size)
            picture = picture.resize((width, height), Resampling(self.resample))
        pixels = np.asarray(picture)
        if self.crop is not None:
            pixels = _centre(pixels, *self.crop)
        scaled = pixels.astype(np.float32) * np.float32(self.scale)
        normalised = (scaled - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(normalised.transpose(2, 0, 1))


def open_picture(source: Path | bytes) -> Image:
    """A picture of a file, or of its bytes, the right way up. Raises FormatError for what is none, or too large."""
    if find_spec("PIL") is None:
        raise MissingDependencyError("pictures need pillow, which is not installed; pip install 'octavo[images]'")
    from PIL import Image, ImageOps

    name = str(source) if isinstance(source, Path) else "the picture"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
            if picture.width * picture.height > MAX_PIXELS:
                raise FormatError(
                    f"{name} has {picture.width} x {picture.height} pixels; at most {MAX_PIXELS} are read"
                )
            picture.load()
            return ImageOps.exif_transpose(picture)
    except FormatError:
        raise
    except FileNotFoundError:
        raise FormatError(f"there is no picture {name}") from None
    except Exception as error:  # its decoders raise many kinds on damaged files
        kinds = ", ".join(FORMATS)
        raise FormatError(f"{name} is not a picture that can be read ({error}); give one of {kinds}") from None


def _size(reader: ConfigReader, key: str) -> tuple[int, int] | int:
    """{"height", "width"}, {"shortest_edge"}, or one number, which is the shorter side."""
    if isinstance(reader.raw.get(key), int):
        return reader.integer(key, high=16384)
    section = reader.section(key)
    if section is None:
        raise FormatError(f"{reader.source} lacks the field {key!r}; add it", param=key)
    if section.has("shortest_edge"):
        return section.integer("shortest_edge", high=16384)
    return section.integer("height", high=16384), section.integer("width", high=16384)


def _list(value: object) -> Sequence[float]:
    good = isinstance(value, list | tuple) and all(type(item) in (int, float) for item in value)
    return value if good else ()  # type: ignore[return-value]


def _resized(height: int, width: int, size: tuple[int, int] | int) -> tuple[int, int]:
    if not isinstance(size, int):
        return size
    shorter, longer = sorted((height, width))
    other = int(size * longer / shorter)
    return (size, other) if height <= width else (other, size)


def _centre(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Cut the middle out, with black around what is smaller."""
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    if top < 0 or left < 0:
        above, before = max(0, -(-(height - pixels.shape[0]) // 2)), max(0, -(-(width - pixels.shape[1]) // 2))
        below, after = max(0, height - pixels.shape[0] - above), max(0, width - pixels.shape[1] - before)
        pixels = np.pad(pixels, ((above, below), (before, after), (0, 0)))
        top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]
