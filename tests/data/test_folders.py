"""Folders of images: what is found, in which order, how it is brought to a size, and what is refused."""

from __future__ import annotations

import struct
import sys
import tracemalloc
import zlib

import numpy as np
import pytest

from xpnet import data
from xpnet.errors import DataError, MissingDependencyError

Image = pytest.importorskip("PIL.Image")


def save(path, pixels, **options):
    """Write pixels (H, W) or (H, W, C) as an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **options)


def pixels(rng, *shape):
    return rng.integers(0, 256, shape, dtype=np.uint8)


def fill(root, rng, classes=("cat", "dog"), n=5, shape=(6, 8, 3)):
    """n images of each class; returns them as (N, C, H, W) with their labels, in the order of the names."""
    made = [(name, f"{i:03d}.png", pixels(rng, *shape)) for name in classes for i in range(n)]
    for name, file, x in made:
        save(root / name / file, x)
    x = np.stack([x if x.ndim == 3 else x[..., None] for _, _, x in made]).transpose(0, 3, 1, 2)
    return x, np.repeat(np.arange(len(classes)), n)


# --- what is found -------------------------------------------------------------------------------


def test_a_folder_for_each_class(tmp_path, rng):
    x, t = fill(tmp_path / "pets", rng)
    found = data.image_folder(tmp_path / "pets", test_fraction=0.2, seed=2)
    assert str(found) == "<Dataset pets: 8 train, 2 test, (3, 6, 8) uint8 0..255, 2 classes>"
    assert found.classes == ("cat", "dog")
    for part in (found.train, found.test):
        assert np.bincount(part.t).tolist() == [len(part.t) // 2] * 2
        for image, label in zip(*part, strict=True):
            (i,) = (i for i in range(10) if np.array_equal(x[i], image))
            assert t[i] == label
    assert len({image.tobytes() for image in [*found.x_train, *found.x_test]}) == 10
    again = data.image_folder(str(tmp_path / "pets"), test_fraction=0.2, seed=2)
    np.testing.assert_array_equal(again.x_train, found.x_train)


@pytest.mark.parametrize("validation", [None, "validation", "val"])
def test_a_folder_for_each_part(tmp_path, rng, validation):
    parts = {part: fill(tmp_path / part, rng) for part in ("train", "test", validation) if part}
    found = data.image_folder(tmp_path)
    np.testing.assert_array_equal(found.x_train, parts["train"][0], strict=True)
    np.testing.assert_array_equal(found.t_train, parts["train"][1])
    np.testing.assert_array_equal(found.x_test, parts["test"][0])
    assert (found.validation is None) == (validation is None)
    if validation:
        np.testing.assert_array_equal(found.x_validation, parts[validation][0])


def test_which_files_count(tmp_path, rng):
    save(tmp_path / "a" / "deep" / "er" / "1.PNG", pixels(rng, 4, 4))
    save(tmp_path / "a" / "2.bmp", pixels(rng, 4, 4))
    save(tmp_path / "b" / "1.gif", pixels(rng, 4, 4))
    save(tmp_path / "b" / "2.tiff", pixels(rng, 4, 4))
    for name in ("a/notes.txt", "a/._2.bmp", "a/.hidden.png", "b/Thumbs.db", "readme.png"):
        (tmp_path / name).write_bytes(b"no image")
    (tmp_path / ".cache").mkdir()
    found = data.image_folder(tmp_path, channels=1, test_fraction=0.5)
    assert found.classes == ("a", "b")
    assert sorted([*found.t_train, *found.t_test]) == [0, 0, 1, 1]


# --- how it is brought to form -------------------------------------------------------------------


def one(tmp_path, name, image, size=None, channels=3, **options):
    """The pixels that image_folder makes of one image."""
    for part in ("train", "test"):
        path = tmp_path / part / "only" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **options)
    return data.image_folder(tmp_path, size, channels).x_train[0]


@pytest.mark.parametrize(
    ("name", "options"), [("a.png", {}), ("a.jpg", {"quality": 90}), ("a.webp", {"lossless": True})]
)
def test_pixels_are_those_that_pillow_decodes(tmp_path, rng, name, options):
    found = one(tmp_path, name, Image.fromarray(pixels(rng, 9, 7, 3)), **options)
    with Image.open(tmp_path / "train" / "only" / name) as image:
        np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")).transpose(2, 0, 1), strict=True)


def test_channels(tmp_path, rng):
    x = pixels(rng, 5, 4, 4)
    rgba = Image.fromarray(x)
    np.testing.assert_array_equal(one(tmp_path, "a.png", rgba, channels=4), x.transpose(2, 0, 1))
    np.testing.assert_array_equal(one(tmp_path, "a.png", rgba), x[..., :3].transpose(2, 0, 1))
    grey = one(tmp_path, "a.png", rgba, channels=1)
    np.testing.assert_allclose(grey[0], x[..., :3] @ [0.299, 0.587, 0.114], atol=1)  # ITU-R 601
    lifted = one(tmp_path, "a.png", Image.fromarray(x[..., 0]))
    np.testing.assert_array_equal(lifted, np.repeat(x[None, ..., 0], 3, axis=0))
    palette = Image.fromarray(x[..., :3]).quantize(4)
    np.testing.assert_array_equal(
        one(tmp_path, "a.png", palette), np.asarray(palette.convert("RGB")).transpose(2, 0, 1)
    )
    bits = Image.fromarray(x[..., 0] > 99)
    np.testing.assert_array_equal(one(tmp_path, "a.png", bits, channels=1)[0], (x[..., 0] > 99) * 255)


def test_sixteen_bits_become_eight(tmp_path, rng):
    x = rng.integers(0, 1 << 16, (5, 4), dtype=np.uint16)
    for name in ("a.png", "a.tif", "a.pgm"):
        np.testing.assert_array_equal(one(tmp_path / name, name, Image.fromarray(x), channels=1)[0], x // 256)


def test_exif_says_which_way_is_up(tmp_path, rng):
    x = pixels(rng, 6, 4, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    found = one(tmp_path, "a.png", Image.fromarray(x), exif=exif)
    np.testing.assert_array_equal(found, np.rot90(x, -1).transpose(2, 0, 1))


@pytest.mark.parametrize("size", [(4, 4), 4])
def test_resizing_keeps_proportions_and_cuts_both_sides(tmp_path, rng, size):
    wide = pixels(rng, 8, 16)
    for i, (x, middle) in enumerate([(wide, (4, 0, 12, 8)), (wide.T, (0, 4, 8, 12))]):
        found = one(tmp_path / str(i), "a.png", Image.fromarray(x), size, channels=1)[0]
        expected = Image.fromarray(x).resize((4, 4), Image.Resampling.BICUBIC, box=middle)
        np.testing.assert_array_equal(found, np.asarray(expected))


def test_size_is_height_and_width(tmp_path, rng):
    fill(tmp_path, rng, shape=(6, 8, 3))
    fill(tmp_path, rng, classes=("emu",), shape=(30, 20, 3))
    assert data.image_folder(tmp_path, (5, 7)).input_shape == (3, 5, 7)
    assert data.image_folder(tmp_path, size=3, channels=1).input_shape == (1, 3, 3)
    with pytest.raises(DataError, match=r"emu.000\.png: 30 x 20 pixels, but others have 6 x 8; give size=\(H, W\)"):
        data.image_folder(tmp_path)


# --- refusals ------------------------------------------------------------------------------------


def png(width, height, body=b""):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


GOOD = png(2, 2, bytes(14))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "no image that can be read"),
        (b"no image", "no image that can be read"),
        (GOOD[:43], "no image that can be read"),
        (GOOD[:45] + b"\xff" * 9 + GOOD[54:], "no image that can be read"),
        (png(2, 2, b""), "no image that can be read"),
        (png(10_000, 10_000), "10000 x 10000 pixels are more than the limit of 67108864; raise max_pixels"),
        (png(20_000, 20_000), "DecompressionBombError"),
        (png(1 << 31, 1 << 31), "no image that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n%%EndComments\nshowpage\n", "no image that can be read"),
        (b"P5 99999 99999 255\n", "no image that can be read|more than the limit"),
    ],
    ids=["empty", "text", "cut", "overwritten", "no-pixels", "large", "larger", "too-large", "eps", "pgm"],
)
def test_files_that_are_no_image(tmp_path, rng, content, match):
    fill(tmp_path, rng, shape=(2, 2, 3))
    (tmp_path / "dog" / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.png: .*({match})"):
        data.image_folder(tmp_path)


def test_a_file_that_makes_pillow_ask_for_more_than_there_is(tmp_path, rng):
    fill(tmp_path, rng, shape=(2, 2, 3))
    lying = GOOD[:33] + b"\x7f" + GOOD[34:]  # the length of the chunk of pixels
    (tmp_path / "dog" / "bad.png").write_bytes(lying)
    tracemalloc.start()
    try:
        data.image_folder(tmp_path)  # all its pixels are there, and Pillow does without the rest
        assert tracemalloc.get_traced_memory()[1] < 1 << 22
    finally:
        tracemalloc.stop()


def test_a_file_larger_than_its_image_can_be(tmp_path, rng):
    fill(tmp_path, rng, shape=(2, 2, 3))
    with open(tmp_path / "dog" / "bad.png", "wb") as file:
        file.write(GOOD)
        file.truncate(1 << 40)  # sparse
    with pytest.raises(DataError, match=r"bad\.png: 1099511627776 bytes are more than 67108864 pixels take"):
        data.image_folder(tmp_path)


def test_limits(tmp_path, rng):
    fill(tmp_path, rng, shape=(6, 8, 3))
    assert len(data.image_folder(tmp_path, max_pixels=48, max_bytes=10 * 3 * 48).t_train) == 8
    with pytest.raises(DataError, match=r"000\.png: 8 x 6 pixels are more than the limit of 47"):
        data.image_folder(tmp_path, max_pixels=47)
    with pytest.raises(DataError, match="10 images of 3 x 6 x 8 take 1440 bytes, more than max_bytes=1439"):
        data.image_folder(tmp_path, max_bytes=1439)
    with pytest.raises(DataError, match="take 30000000000 bytes"):
        data.image_folder(tmp_path, (31_250, 32_000))


def test_pixels_of_32_bits(tmp_path):
    with pytest.raises(DataError, match=r"a\.tif: .*32 bits \(mode F\); save it with 8 or 16"):
        one(tmp_path, "a.tif", Image.fromarray(np.ones((3, 3), np.float32)))


def test_folders_that_do_not_fit(tmp_path, rng):
    def refused(match, path=tmp_path / "a"):
        with pytest.raises(DataError, match=match):
            data.image_folder(path)

    refused("a: expected a folder of images, it cannot be read")
    (tmp_path / "a").mkdir()
    refused("a: expected a folder for each class, found none")
    fill(tmp_path / "a", rng, classes=("cat",))
    (tmp_path / "a" / "dog").mkdir()
    refused("dog: expected images .*, found none; add some, or remove it")
    refused("it cannot be read", tmp_path / "a" / "cat" / "000.png")
    fill(tmp_path / "b" / "train", rng)
    refused("b: there is a folder train but none called test", tmp_path / "b")
    fill(tmp_path / "b" / "test", rng, classes=("cat",))
    refused("dog: expected images", tmp_path / "b")
    fill(tmp_path / "b" / "test", rng, classes=("dog", "emu"))
    refused("there are no training images of emu; make the classes alike", tmp_path / "b")
    fill(tmp_path / "c", rng, classes=("train/cat", "test/cat", "val/cat", "validation/cat"))
    refused("validation and val mean the same", tmp_path / "c")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": 0}, "size is 0"),
        ({"size": (8, -1)}, "size is"),
        ({"size": (8,)}, "size is"),
        ({"size": 2.5}, "size is 2.5"),
        ({"size": True}, "size is True"),
        ({"size": "8x8"}, "size is '8x8'"),
        ({"channels": 2}, "channels is 2; choose from 1, 3, 4"),
        ({"test_fraction": 0}, "fraction is 0"),
        ({"test_fraction": 0.01}, r"test_fraction=0\.01 of 11 image\(s\) leaves one of the parts empty"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_arguments_are_looked_at_before_all_images(tmp_path, rng, options, match):
    fill(tmp_path, rng)
    (tmp_path / "dog" / "damaged.png").write_bytes(b"none")
    with pytest.raises(ValueError, match=match):
        data.image_folder(tmp_path, **options)


def test_without_pillow(tmp_path, rng, monkeypatch):
    fill(tmp_path, rng)
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingDependencyError, match=r"reading images needs PIL; pip install 'xpnet\[train\]'"):
        data.image_folder(tmp_path)
