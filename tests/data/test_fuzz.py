"""Damaged files of every kind: what was written comes back, or DataError; and no more memory goes than they hold."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnet import data
from xpnet.errors import DataError

SLACK = 3 << 20  # what reading takes besides: a chunk of 1 MiB, objects of zipfile and gzip

FUZZ = settings(max_examples=150)


@st.composite
def damaged(draw, good):
    """One of the good files with bytes changed, cut out, put in or doubled, and an end cut off or put on."""
    content = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        # near the front, where headers are, as often as anywhere
        at = draw(st.sampled_from([at, at % 64, at % 600]))
        match draw(st.sampled_from(["set", "flip", "word", "delete", "insert", "double"])):
            case "set":
                content[at : at + 1] = bytes([draw(st.sampled_from([0, 1, 8, 0x7F, 0x80, 0xFF]))])
            case "flip" if at < len(content):
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "word":
                word = draw(
                    st.sampled_from([b"\xff" * 4, b"\x7f" + b"\xff" * 3, b"\0" * 4, b"\0\0\xff\x7f", b"77777777"])
                )
                content[at : at + len(word)] = word
            case "delete":
                del content[at : at + draw(st.integers(1, 40))]
            case "insert":
                content[at:at] = draw(st.binary(max_size=20))
            case "double":
                content[at:at] = content[at : at + draw(st.integers(1, 600))]
    end = draw(st.integers(-700, 40))
    if draw(st.booleans()):
        content = content[:end] if end < 0 else content + bytes(end)
    return bytes(content)


def check(path, content, read, honest):
    """Read the file; DataError apart nothing may be raised, and memory stays in proportion to what is there.

    `honest` is what an undamaged file unpacks to; a damaged one can unpack to no more than zlib can get out of it.
    """
    path.write_bytes(content)
    tracemalloc.start()
    try:
        found = read(path)
    except DataError as error:
        found, message = None, str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * max(honest, len(content)) + SLACK
    assert found is not None or "fuzz" in message
    return found


# --- IDX -----------------------------------------------------------------------------------------

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
IDX = b"\0\0\x08\x03\0\0\0\x05\0\0\0\x04\0\0\0\x03" + PIXELS.tobytes()


@FUZZ
@given(damaged([IDX, gzip.compress(IDX, mtime=0)]))
def test_idx(tmp_path, content):
    found = check(tmp_path / "fuzz", content, data.read_idx, len(IDX))
    assert found is None or found.nbytes <= max(len(content), len(IDX))


# --- CIFAR ---------------------------------------------------------------------------------------


def make_cifar():
    rng = np.random.default_rng(1)

    def records(n):
        return b"".join(bytes([rng.integers(20), rng.integers(100)]) + rng.bytes(3072) for _ in range(n))

    files = {"train.bin": records(2), "test.bin": records(1), "coarse_label_names.txt": b"group\n" * 20}
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"cifar-100-binary/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return files, target.getvalue()


CIFAR, TAR = make_cifar()


@FUZZ
@given(damaged([TAR, gzip.compress(TAR, mtime=0)]))
def test_cifar_archive(tmp_path, content):
    found = check(tmp_path / "fuzz", content, lambda path: data.read_cifar(path, labels="coarse"), len(TAR))
    if found is not None:
        assert found.x_train.nbytes + found.x_test.nbytes <= max(len(content), len(TAR))
        assert found.t_train.max() < 20


@FUZZ
@given(st.sampled_from(sorted(CIFAR)), st.data())
def test_cifar_folder(tmp_path, name, chosen):
    folder = tmp_path / "fuzz"
    folder.mkdir(exist_ok=True)
    for other, content in CIFAR.items():
        (folder / other).write_bytes(content)
    content = chosen.draw(damaged([CIFAR[name]]))
    found = check(folder / name, content, lambda path: data.read_cifar(folder, labels="coarse"), len(TAR))
    if found is not None and name == "test.bin":
        assert len(found.t_test) == len(content) // 3074
        np.testing.assert_array_equal(found.x_train.reshape(2, -1)[0], list(CIFAR["train.bin"][2:3074]))


# --- npz -----------------------------------------------------------------------------------------


def make_npz(save):
    target = io.BytesIO()
    labels = np.arange(5) % 3
    save(target, x_train=PIXELS, y_train=labels, x_test=PIXELS, y_test=labels.astype(np.uint8))
    return target.getvalue()


NPZ = [make_npz(np.savez), make_npz(np.savez_compressed)]


def refuse_objects(*args, **options):
    raise AssertionError("something was unpickled")


@FUZZ
@given(damaged(NPZ))
def test_npz(tmp_path, monkeypatch, content):
    monkeypatch.setattr("pickle.load", refuse_objects)
    found = check(tmp_path / "fuzz", content, data.npz, len(NPZ[0]))
    if found is not None:
        # an undamaged check sum vouches for the elements, so only their type and shape may differ
        assert found.x_train.size * found.x_train.itemsize <= 4 * len(content)


HEADERS = st.text("'{}(),:<>|=0123456789OVSUbiufFTdescrfortanshpe_ \n", max_size=60) | st.sampled_from(
    ["'shape': (5, 4, 3), }", "'shape': (99999999, 4, 3), }", "'shape': (5, 12), }", "'shape': (0, 4, 3), }"]
)


@FUZZ
@given(st.sampled_from(["|u1", "<f4", "|O", "<i8", "|V9", "<U4", "<f2"]), st.booleans(), HEADERS, st.integers(0, 300))
def test_npy_headers(tmp_path, descr, fortran, rest, size):
    """Headers that lie in files whose check sums are right."""
    text = f"{{'descr': '{descr}', 'fortran_order': {fortran}, {rest}".encode()
    member = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(size)
    target = io.BytesIO(NPZ[1])
    with zipfile.ZipFile(target) as source, zipfile.ZipFile(tmp_path / "made", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in source.namelist():
            archive.writestr(name, member if name == "x_train.npy" else source.read(name))
    found = check(tmp_path / "fuzz", (tmp_path / "made").read_bytes(), data.npz, len(NPZ[0]))
    if found is not None:
        assert found.x_train.shape == (5, 1, 4, 3)
        assert not found.x_train.any()


# --- images --------------------------------------------------------------------------------------


def make_images():
    image = pytest.importorskip("PIL.Image")
    made = []
    for kind, mode in [("PNG", "RGB"), ("JPEG", "RGB"), ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "L"), ("WEBP", "RGB")]:
        target = io.BytesIO()
        image.fromarray(PIXELS.repeat(2, axis=0)).convert(mode).save(target, kind)
        made.append(target.getvalue())
    return made


@settings(FUZZ, max_examples=100)
@given(st.data())
def test_images(tmp_path, chosen):
    content = chosen.draw(damaged(make_images()))
    for part in ("train", "test"):
        (tmp_path / part / "only").mkdir(parents=True, exist_ok=True)
    (tmp_path / "test" / "only" / "good.png").write_bytes(make_images()[0])
    # max_pixels, since what a file can say within it is Pillow's to unpack
    found = check(
        tmp_path / "train" / "only" / "fuzz.png",
        content,
        lambda path: data.image_folder(tmp_path, size=(4, 4), max_pixels=1 << 16),
        4 << 16,
    )
    if found is not None:
        assert found.x_train.shape == (1, 3, 4, 4)
