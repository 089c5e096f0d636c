"""Images from bytes to RGB, by rules that are the same for every operator; decoded once per batch, within a bound.

An image is what a browser would show, on white, as 8-bit RGB:

- the first frame of an animation, the first page of a TIFF;
- turned as its EXIF orientation says;
- CMYK, YCbCr, Lab, palettes and greys converted by Pillow; colour profiles are not applied;
- 16 bits per sample: the high byte;
- transparency composited over white, as img2dataset does (its `resizer.py`).

Whatever Pillow cannot read to its end is an error: truncated data, no pixels, no image. How many pixels there are is
looked at before any is decoded, and more than `max_pixels` are refused.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import simplejpeg
from PIL import Image, UnidentifiedImageError

from fdf.sharing import shared_by_row

Pixels = npt.NDArray[np.uint8]
"""An image as height x width x 3."""
Integers = npt.NDArray[np.int64]

MAX_PIXELS = 89_478_485
"""A quarter of a gibibyte as RGB: Pillow's own bound."""
HELD = 256 << 20
"""How many bytes of decoded images one batch may hold for the next operator."""

# What may be met in a crawl. Pillow knows more formats: some start another program (EPS), some are told by no mark
# (TGA), so that any bytes might pass for one.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "AVIF", "JPEG2000", "ICO", "PPM")
_ORIENTATION = 0x0112
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")


class BadImage(ValueError):
    """Bytes that are no image, or one that cannot be taken."""


class Images:
    """The images of a column: each is decoded when it is first asked for, and kept while there is room."""

    def __init__(self, store: _Store, rows: Integers) -> None:
        self._store = store
        self._rows = rows

    def take(self, rows: Integers) -> Images:
        """Return the images of these rows, which stay with the same store."""
        return Images(self._store, self._rows[rows])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> Pixels:
        """Return one image as RGB. Raises BadImage."""
        return self._store.pixels(int(self._rows[row]))

    def no_longer_than(self, row: int, *, max_aspect: float | None) -> Pixels:
        """Return one image as RGB. Raises BadImage, also where one side is more than so many times the other."""
        pixels = self[row]
        short, long = sorted(pixels.shape[:2])
        if max_aspect is not None and long > short * max_aspect:
            raise BadImage(f"sides of {short} and {long} pixels are further apart than max_aspect ({max_aspect:g})")
        return pixels


class _Store:
    def __init__(self, column: pa.Array, max_pixels: int) -> None:
        self._column = column
        self._max_pixels = max_pixels
        self._known: dict[int, Pixels | str] = {}
        self._room = HELD

    def pixels(self, row: int) -> Pixels:
        found = self._known.get(row)
        if found is None:
            found = self._decoded(row)
            size = 0 if isinstance(found, str) else found.nbytes
            if size <= self._room:
                self._room -= size
                self._known[row] = found
        if isinstance(found, str):
            raise BadImage(found)
        return found

    def _decoded(self, row: int) -> Pixels | str:
        try:
            return decode(memoryview(self._column[row].as_buffer()), max_pixels=self._max_pixels)
        except BadImage as error:
            return str(error)


def images_of(column: pa.Array, *, max_pixels: int = MAX_PIXELS) -> Images:
    """Return the images of a column of bytes, shared with other operators of the stage that ask for the same."""

    def make(whole: pa.Array) -> Images:
        return Images(_Store(whole, max_pixels), np.arange(len(whole), dtype=np.int64))

    return shared_by_row(column, ("fdf_ops_vision.images", max_pixels), make)


def decode(data: memoryview | bytes, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Return an image as RGB, by the rules above. Raises BadImage, which says what is wrong with it."""
    with opened(data, max_pixels=max_pixels) as image:
        # Its header names the only case that the faster decoder is asked about.
        pixels = _plain_jpeg(data) if image.format == "JPEG" and image.mode == "RGB" else None
        try:
            if pixels is None:
                image.load()
                _check_size(image, max_pixels)
                # A copy, because torch wants memory that may be written to.
                pixels = np.array(_rgb(image))
            return _upright(pixels, orientation(image))
        except BadImage:
            raise
        except Exception as error:  # decoders raise whatever they like on damaged data
            raise BadImage(f"{image.format} cannot be decoded: {error}") from error


def _plain_jpeg(data: memoryview | bytes) -> Pixels | None:
    """Return a JPEG as the same library decodes it, without Pillow's copies; None where anything is odd about it."""
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:
        return None  # Pillow is more patient, and says what is wrong
    return pixels


@contextmanager
def opened(data: memoryview | bytes, *, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image: its header is read, and its size judged; no pixel is decoded. Raises BadImage."""
    if len(data) == 0:
        raise BadImage("there are no bytes")
    with warnings.catch_warnings(), _pillow_bound(max_pixels):
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=_formats())
        except UnidentifiedImageError as error:
            raise BadImage(f"not an image in one of the formats {', '.join(_formats())}") from error
        except Image.DecompressionBombError as error:
            raise BadImage(f"more pixels than max_pixels ({max_pixels:,}): {error}") from error
        except Exception as error:
            raise BadImage(f"the image's header cannot be read: {error}") from error
        with image:
            _check_size(image, max_pixels)
            yield image


@cache
def _formats() -> tuple[str, ...]:
    """Return those of the formats that this build of Pillow has, once its plugins are loaded."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def shown_size(image: Image.Image) -> tuple[int, int]:
    """Return the width and height of an opened image as its EXIF orientation shows it."""
    width, height = image.size
    # Pillow says of a TIFF how it will be once it is loaded.
    return (height, width) if image.format != "TIFF" and orientation(image) >= 5 else (width, height)


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 (damaged EXIF says nothing about the pixels)
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width <= 0 or height <= 0:
        raise BadImage("the image has no pixels")
    if width * height > max_pixels:
        raise BadImage(f"{width} x {height} pixels are more than max_pixels ({max_pixels:,})")


def _upright(pixels: Pixels, number: int) -> Pixels:
    """Turn an image as its EXIF orientation says (EXIF 2.32, table 6)."""
    if number >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if number in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if number in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _DEEP:
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise BadImage(f"samples of kind {image.mode} have no fixed range, so no colour")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


@contextmanager
def _pillow_bound(max_pixels: int) -> Iterator[None]:
    # Pillow checks what a decoder finds behind the header too (frames of a GIF, the picture in an icon): against a
    # bound that is the module's, and only from twice that on. One thread of a process decodes.
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = (max_pixels + 1) // 2
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
