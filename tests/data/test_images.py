"""Reading picture files: what comes out of each kind, and what is said of those that cannot be read."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from xpnet.data import read_image
from xpnet.errors import DataError


@pytest.fixture
def pillow():
    return pytest.importorskip("PIL.Image")


def test_read(tmp_path, rng, pillow):
    colours = rng.integers(0, 256, (5, 8, 3), dtype=np.uint8)
    pillow.fromarray(colours).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colours.transpose(2, 0, 1), strict=True)
    grey = read_image(str(tmp_path / "a.png"), channels=1)[0]
    assert grey.shape == (5, 8)
    np.testing.assert_allclose(grey, colours @ [0.299, 0.587, 0.114], atol=1)  # ITU-R 601
    pillow.fromarray(grey).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), grey[None], strict=True)


@pytest.mark.parametrize(
    ("mode", "shape"), [("RGBA", (3, 5, 8)), ("CMYK", (3, 5, 8)), ("LA", (1, 5, 8)), ("1", (1, 5, 8))]
)
def test_other_kinds_of_pictures_become_rgb_or_grey(tmp_path, pillow, mode, shape):
    name = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    pillow.new(mode, (8, 5), 1 if mode == "1" else None).save(name)
    picture = read_image(name)
    assert picture.shape == shape
    assert picture.dtype == np.uint8


@pytest.mark.parametrize("depth", [8, 16])
def test_grey_with_opacity_is_grey_whatever_its_depth(tmp_path, pillow, depth):
    grey, opacity = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4), np.full((3, 4), 200, np.uint8)
    pixels = np.stack([grey, opacity], axis=-1)
    deep = pixels if depth == 8 else (pixels.astype(">u2") << 8).astype(">u2")

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.tobytes() for row in deep)  # each after the number of its filter: none
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 3, depth, 4, 0, 0, 0))  # 4: grey with opacity
    body = header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)  # Pillow writes none of 16 bits
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), grey[None], strict=True)
    rgba = read_image(tmp_path / "a.png", channels=4)
    np.testing.assert_array_equal(rgba, np.stack([grey, grey, grey, opacity]), strict=True)


def test_a_photo_is_turned_upright(tmp_path, pillow):
    picture = pillow.fromarray(np.repeat(np.arange(0, 240, 40, dtype=np.uint8), 16).reshape(6, 16).repeat(8, axis=0))
    exif = pillow.Exif()
    exif[0x0112] = 6  # turn a quarter to the right to view
    picture.save(tmp_path / "a.jpg", exif=exif)
    upright = read_image(tmp_path / "a.jpg")
    assert upright.shape == (1, 16, 48)
    assert upright[0, 0, 0] > upright[0, 0, -1]


def test_files_that_cannot_be_read(tmp_path, pillow):
    with pytest.raises(DataError, match=r"none\.png: cannot be read \(No such file"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"text\.png: no image that can be read \(of no kind that is known\);"):
        read_image(tmp_path / "text.png")
    with pytest.raises(DataError, match="this is no regular file"):
        read_image(tmp_path)
    pillow.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="no image that can be read"):
        read_image(tmp_path / "half.png")
    with pytest.raises(DataError, match="64 x 64 pixels are more than the limit of 4095; raise max_pixels"):
        read_image(tmp_path / "a.png", max_pixels=4095)
    assert read_image(tmp_path / "a.png", max_pixels=4096).shape == (1, 64, 64)
    pillow.fromarray(np.full((4, 4), 0x1234, np.uint16)).save(tmp_path / "deep.png")
    assert np.all(read_image(tmp_path / "deep.png") == 0x12)
    pillow.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match="pixels of 32 bits"):
        read_image(tmp_path / "float.tif")


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_a_header_that_claims_too_much_costs_no_memory(tmp_path, pillow, side):
    pillow.new("1", (4, 4)).save(tmp_path / "a.bmp")
    data = bytearray((tmp_path / "a.bmp").read_bytes())
    data[18:26] = side.to_bytes(4, "little") * 2  # width and height, which Pillow warns of or refuses itself
    (tmp_path / "huge.bmp").write_bytes(data)
    with pytest.raises(DataError, match="pixels"):
        read_image(tmp_path / "huge.bmp")
