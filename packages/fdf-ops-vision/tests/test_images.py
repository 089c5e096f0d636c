"""How bytes become RGB: by the rules of `fdf_ops_vision.images`, on images made here and on odd ones that were met."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pyarrow as pa
import pytest
import simplejpeg
from PIL import Image

from fdf.sharing import sharing
from fdf_ops_vision import images
from fdf_ops_vision.images import BadImage, decode, images_of


def png(width: int, height: int, *, depth: int, kind: int, rows: bytes, more: bytes = b"") -> bytes:
    """A PNG by hand, as its specification has it: no library of ours decides what is in it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = zlib.compress(rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def corners(pixels: np.ndarray) -> list[list[int]]:
    return [pixels[y, x].tolist() for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1))]


def test_sixteen_bits_keep_their_high_byte():
    # Two grey samples of 16 bits: 0x1234 and 0xFEDC (PNG, section 11.2.2: colour type 0, bit depth 16).
    grey = png(2, 1, depth=16, kind=0, rows=b"\x00\x12\x34\xfe\xdc")
    assert decode(grey).tolist() == [[[0x12] * 3, [0xFE] * 3]]
    colour = png(1, 1, depth=16, kind=2, rows=b"\x00\x12\x34\x56\x78\x9a\xbc")
    assert decode(colour).tolist() == [[[0x12, 0x56, 0x9A]]]


def test_transparency_is_composited_over_white(as_file):
    image = Image.new("RGBA", (3, 1))
    image.putdata([(10, 20, 30, 255), (10, 20, 30, 0), (0, 0, 0, 128)])
    # 255 * (1 - 128 / 255), by the definition of alpha compositing (Porter and Duff 1984, `over`).
    assert decode(as_file(image)).tolist() == [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]]
    grey = Image.new("LA", (1, 1), (40, 0))
    assert decode(as_file(grey)).tolist() == [[[255, 255, 255]]]


def test_palettes_are_looked_up_with_their_transparency(as_file):
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    assert decode(as_file(palette)).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert decode(as_file(palette, transparency=1)).tolist() == [[[255, 0, 0], [255, 255, 255]]]
    assert decode(as_file(palette, "GIF", transparency=0)).tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_cmyk_becomes_rgb(as_file):
    # Without a profile: (1 - C)(1 - K), so pure cyan has no red, and black nothing.
    for ink, colour in (((255, 0, 0, 0), [0, 255, 255]), ((0, 0, 0, 255), [0, 0, 0]), ((0, 0, 0, 0), [255] * 3)):
        pixels = decode(as_file(Image.new("CMYK", (8, 8), ink), "JPEG", quality=100))
        assert np.abs(pixels.astype(int) - colour).max() <= 3


@pytest.mark.parametrize("kind", ["1", "L", "I;16", "YCbCr", "LAB", "RGB"])
def test_every_mode_becomes_rgb(kind, as_file):
    pixels = decode(as_file(Image.new(kind, (5, 4)), "TIFF"))
    assert pixels.shape == (4, 5, 3)
    assert pixels.dtype == np.uint8


def test_samples_without_a_range_are_refused(as_file):
    for kind in ("F", "I"):
        with pytest.raises(BadImage, match="no fixed range"):
            decode(as_file(Image.new(kind, (2, 2)), "TIFF"))


def test_first_frame_of_an_animation(as_file):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = as_file(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert corners(decode(data)) == [[255, 0, 0]] * 4


@pytest.mark.parametrize("number", range(2, 9))
def test_exif_orientation_is_applied(number, real_data, as_file, make_picture):
    folder = real_data / "img_odd"
    # These photographs show the same scene, each stored in another way and marked accordingly: shown, they agree
    # as far as JPEG's blocks, which were cut in different directions, let them.
    upright = decode((folder / "hopper.webp").read_bytes()).astype(int)
    turned = decode((folder / f"hopper_orientation_{number}.jpg").read_bytes()).astype(int)
    assert turned.shape == upright.shape
    assert np.abs(turned - upright).mean() < 8
    # EXIF 2.32, table 6: by hand, for a lossless image.
    shown = np.asarray(make_picture(6, 4))
    stored = {
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.transpose(1, 0, 2),
        6: shown.transpose(1, 0, 2)[::-1],
        7: shown[::-1, ::-1].transpose(1, 0, 2),
        8: shown.transpose(1, 0, 2)[:, ::-1],
    }[number]
    exif = Image.Exif()
    exif[0x0112] = number
    assert np.array_equal(decode(as_file(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)), shown)


def test_damaged_exif_does_not_cost_the_image(real_data):
    folder = real_data / "img_odd"
    for name in ("exif-dpi-zerodivision.jpg", "invalid-exif-without-x-resolution.jpg", "empty_gps_ifd.jpg"):
        assert decode((folder / name).read_bytes()).size


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("truncated_jpeg.jpg", "truncated"),
        ("broken.png", "not an image"),
        ("hopper_bad.p7", "not an image"),
        ("bad_palette_entry.gpl", "not an image"),
        ("invalid.spider", "not an image"),
        ("zero_width.gif", "not an image"),
        ("zero_height.j2k", "not an image"),
        ("rgba16.tga", "not an image"),
        ("decompression_bomb.gif", "more pixels than max_pixels"),
        ("crash-4f085cc12ece8cde18758d42608bed6a2a2cfb1c.tif", "cannot be decoded"),
        ("crash-7d4c83eb92150fb8f1653a697703ae06ae7c4998.j2k", "cannot be decoded"),
        ("crash-abcf1c97b8fe42a6c68f1fb0b978530c98d57ced.sgi", "not an image"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_the_reason(real_data, name, why):
    with pytest.raises(BadImage, match=why):
        decode((real_data / "img_odd" / name).read_bytes())


def test_every_odd_image_is_taken_or_refused_and_nothing_else(real_data):
    outcomes = []
    for path in sorted((real_data / "img_odd").iterdir()):
        try:
            pixels = decode(path.read_bytes())
        except BadImage as error:
            outcomes.append(str(error))
        else:
            assert pixels.ndim == 3
            assert pixels.shape[2] == 3
            outcomes.append(None)
    assert {outcome is None for outcome in outcomes} == {True, False}


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("more", [{}, {"progressive": True}, {"quality": 30}, {"restart_marker_blocks": 2}])
def test_jpegs_are_those_of_pillow_to_the_bit(as_file, make_picture, subsampling, more):
    data = as_file(make_picture(67, 45), "JPEG", subsampling=subsampling, **more)
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_jpeg_with_rubbish_inside_is_as_patient_as_pillow(as_file, make_picture):
    # Bytes between the segments: libjpeg warns of them and goes on.
    data = as_file(make_picture(16, 16), "JPEG")
    dirty = data[:2] + data[2:].replace(b"\xff\xdb", b"\x00\x00\xff\xdb", 1)
    with pytest.raises(ValueError, match="extraneous bytes"):
        simplejpeg.decode_jpeg(dirty, "RGB")
    assert np.array_equal(decode(dirty), np.asarray(Image.open(io.BytesIO(data))))


def test_any_cut_of_a_file_is_taken_or_refused(photos):
    for photo in photos:
        for length in np.linspace(0, len(photo), 12).astype(int)[:-1]:
            with pytest.raises(BadImage):
                decode(photo[:length])


def test_no_bytes_are_told_apart_from_no_image():
    with pytest.raises(BadImage, match="no bytes"):
        decode(b"")


def test_bombs_are_refused_before_they_are_decoded(monkeypatch):
    # 40,000 x 40,000 pixels in a few bytes of header; whoever decoded it would ask for 4.8 GB.
    bomb = png(40_000, 40_000, depth=8, kind=2, rows=b"")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(BadImage, match="more pixels than max_pixels"):
        decode(bomb)


def test_bound_of_pixels_is_exact_and_leaves_pillow_as_it_was(as_file):
    before = Image.MAX_IMAGE_PIXELS
    data = as_file(Image.new("RGB", (20, 30)))
    assert decode(data, max_pixels=600).shape == (30, 20, 3)
    for bound, why in ((599, r"20 x 30 pixels are more than max_pixels \(599\)"), (250, r"max_pixels \(250\)")):
        with pytest.raises(BadImage, match=why):
            decode(data, max_pixels=bound)
    assert before == Image.MAX_IMAGE_PIXELS
    # Larger than Pillow itself would let pass.
    assert decode(as_file(Image.new("1", (20_000, 10_000))), max_pixels=10**9).shape == (10_000, 20_000, 3)


def test_operators_share_decoded_images_whatever_pieces_they_ask_for(photos, monkeypatch):
    calls = []
    real = images.decode
    monkeypatch.setattr(images, "decode", lambda data, **rest: calls.append(1) or real(data, **rest))
    batch = pa.record_batch({"image": photos})
    with sharing():
        whole = images_of(batch.column(0))
        first = [whole[row] for row in range(len(photos))]
        again = images_of(batch.column(0))
        assert all(np.array_equal(again[row], first[row]) for row in range(len(photos)))
    assert len(calls) == len(photos)


def test_failures_are_remembered_like_images(monkeypatch):
    calls = []
    real = images.decode
    monkeypatch.setattr(images, "decode", lambda data, **rest: calls.append(1) or real(data, **rest))
    held = images_of(pa.array([b"no image"]))
    for _ in range(2):
        with pytest.raises(BadImage):
            held[0]
    assert len(calls) == 1


def test_decoded_images_are_held_within_a_bound(photos, monkeypatch):
    monkeypatch.setattr(images, "HELD", 64 * 48 * 3)
    held = images_of(pa.array(photos))
    for row in range(len(photos)):
        held[row]
    store = held._store
    assert sum(pixels.nbytes for pixels in store._known.values()) <= 64 * 48 * 3
    assert store._known
