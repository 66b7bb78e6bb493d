"""Data sets of plain arrays and of .npz files: every form that is taken, and what is said about the others."""

from __future__ import annotations

import io
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from xpnet import data
from xpnet.errors import DataError


def pictures(rng, n, *shape, dtype=np.uint8):
    return rng.integers(0, 256, (n, *shape)).astype(dtype)


# --- from_arrays ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "layout", "axes"),
    [
        ((8, 6), "auto", None),
        ((1, 8, 6), "auto", (0, 1, 2, 3)),
        ((3, 8, 6), "auto", (0, 1, 2, 3)),
        ((8, 6, 1), "auto", (0, 3, 1, 2)),
        ((8, 6, 3), "auto", (0, 3, 1, 2)),
        ((8, 6, 4), "auto", (0, 3, 1, 2)),
        ((3, 8, 3), "auto", (0, 1, 2, 3)),
        ((3, 8, 3), "NHWC", (0, 3, 1, 2)),
        ((8, 6, 3), "NCHW", (0, 1, 2, 3)),
        ((5, 8, 6), "auto", (0, 1, 2, 3)),
        ((8, 6, 5), "NHWC", (0, 3, 1, 2)),
    ],
)
def test_layouts(rng, shape, layout, axes):
    x, t = pictures(rng, 10, *shape), rng.integers(0, 3, 10)
    found = data.from_arrays(x, t, test=(x[:4], t[:4]), layout=layout)
    expected = x[:, np.newaxis] if axes is None else x.transpose(axes)
    np.testing.assert_array_equal(found.x_train, expected, strict=True)
    np.testing.assert_array_equal(found.x_test, expected[:4], strict=True)
    np.testing.assert_array_equal(found.t_train, t)
    assert found.classes == tuple(str(k) for k in range(t.max() + 1))
    assert found.name == "arrays"


@pytest.mark.parametrize(
    ("dtype", "kept", "max_value"),
    [
        (np.uint8, np.uint8, 255.0),
        (np.int64, np.uint8, 255.0),
        (">u2", np.uint8, 255.0),
        (np.bool_, np.uint8, 1.0),
        (np.float32, np.float32, 1.0),
        (np.float64, np.float32, 1.0),
        (np.float16, np.float32, 1.0),
        (">f4", np.float32, 1.0),
    ],
)
def test_types(rng, dtype, kept, max_value):
    x = (pictures(rng, 12, 1, 4, 4) > 99).astype(dtype)
    found = data.from_arrays(x, np.arange(12) % 2)
    assert found.x_train.dtype == kept
    assert found.x_train.dtype.isnative
    assert found.max_value == max_value
    both = np.concatenate([found.x_train, found.x_test])
    assert sorted(both.reshape(12, -1).tolist()) == sorted(x.astype(kept).reshape(12, -1).tolist())
    assert data.from_arrays(x, np.arange(12) % 2, max_value=16).max_value == 16.0


def test_what_fits_is_not_copied(rng):
    for x in (pictures(rng, 4, 1, 3, 3), pictures(rng, 4, 3, 3, dtype=np.float32)):
        assert np.shares_memory(data.from_arrays(x, [0, 1, 1, 0], test=(x, [0, 1, 1, 0])).x_train, x)


@pytest.mark.parametrize("fraction", [0.2, 0.5])
def test_a_share_for_testing(rng, fraction):
    x, t = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1), np.arange(40) % 2
    found = data.from_arrays(x, t.reshape(40, 1), test_fraction=fraction, seed=3, classes=["a", "b"], name="mine")
    assert str(found).startswith(f"<Dataset mine: {40 - 40 * fraction:.0f} train, {40 * fraction:.0f} test")
    for part in (found.train, found.test):
        np.testing.assert_array_equal(part.x.ravel() % 2, part.t)
        assert np.bincount(part.t).tolist() == [len(part.t) // 2] * 2
    assert not set(found.x_train.ravel()) & set(found.x_test.ravel())
    other = data.from_arrays(x, t, test_fraction=fraction, seed=4)
    assert not np.array_equal(other.x_test, found.x_test)


def test_arrays_of_another_library(rng):
    torch = pytest.importorskip("torch")
    x, t = pictures(rng, 10, 8, 8, 3), rng.integers(0, 3, 10)
    found = data.from_arrays(torch.from_numpy(x), torch.from_numpy(t), seed=1)
    np.testing.assert_array_equal(found.x_train, data.from_arrays(x, t, seed=1).x_train)


X, T = np.zeros((6, 4, 4), np.uint8), np.arange(6) % 2


@pytest.mark.parametrize(
    ("x", "t", "options", "match"),
    [
        (X[0], T, {}, r"x has shape \(4, 4\); expected .*reshape"),
        (X.reshape(6, 16), T, {}, r"x has shape \(6, 16\)"),
        (X[:0], T[:0], {}, "at least one image"),
        (X.astype(object), T, {}, "x is object; expected numbers"),
        (X.astype(str), T, {}, "expected numbers"),
        (X.astype(complex), T, {}, "expected numbers"),
        (X.astype(np.int16) - 1, T, {}, "from -1 to -1; expected integers from 0 to 255"),
        (X.astype(np.int16) + 256, T, {}, "from 256 to 256"),
        (X + np.float32("nan"), T, {}, "finite"),
        (X + np.float64(1e39), T, {}, "within float32"),
        (X - np.float32("inf"), T, {}, "finite"),
        (X, T[:5], {}, "x holds 6 images and t 5 labels"),
        (X, T.astype(float), {}, r"t has shape \(6,\) and type float64; .*argmax"),
        (X, np.eye(2)[T], {}, "argmax"),
        (X, T - 1, {}, "labels from -1 to 0; number the classes from 0"),
        (X, T + 10**6, {}, "labels go up to 1000001"),
        (X, np.full(6, 2**64 - 1, np.uint64), {}, "number the classes from 0"),
        (X, T, {"test": X}, "test is ndarray; give a pair"),
        (X, T, {"test": 3}, "test is int; give a pair"),
        (X, T, {"test": (X[:, :3], T)}, r"test images \(1, 3, 4\)"),
        (X, T, {"test": (X.astype(np.float32), T)}, "test images .* float32"),
        (X, T, {"test": (X, T[:2])}, "6 images and 2 labels"),
        (X, T, {"classes": ["a"]}, "labels from 0 to 1; expected 0 to 0"),
        (X, T, {"max_value": 0}, "max_value is 0"),
        (X, T, {"max_value": float("nan")}, "max_value is nan"),
        (X, T, {"layout": "HWC"}, "layout is 'HWC'; choose from 'auto', 'NCHW', 'NHWC'"),
        (X, T, {"test_fraction": 1.5}, "fraction is 1.5"),
        (X, T, {"test_fraction": 0.01}, r"arrays: test_fraction=0.01 of 6 image\(s\) leaves one of the parts empty"),
        (X, T, {"test_fraction": 0.99}, r"arrays: test_fraction=0.99 of 6 image\(s\) leaves one of the parts empty"),
    ],
)
def test_refusals(x, t, options, match):
    with pytest.raises(ValueError, match=match):
        data.from_arrays(x, t, **options)


# --- npz -----------------------------------------------------------------------------------------


def arrays(rng, **changed):
    return {
        "x_train": pictures(rng, 7, 5, 4),
        "t_train": rng.integers(0, 3, 7),
        "x_test": pictures(rng, 3, 5, 4),
        "t_test": rng.integers(0, 3, 3),
    } | changed


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("labels", ["t", "y"])
def test_round_trip(tmp_path, rng, save, labels):
    stored = {name.replace("t_", f"{labels}_", 1) if name[0] == "t" else name: a for name, a in arrays(rng).items()}
    save(tmp_path / "pets.npz", **stored, other=np.zeros(3))
    found = data.npz(tmp_path / "pets.npz", classes=["a", "b", "c"])
    assert str(found) == "<Dataset pets: 7 train, 3 test, (1, 5, 4) uint8 0..255, 3 classes>"
    assert found.classes == ("a", "b", "c")
    np.testing.assert_array_equal(found.x_train[:, 0], stored["x_train"], strict=True)
    np.testing.assert_array_equal(found.x_test[:, 0], stored["x_test"], strict=True)
    np.testing.assert_array_equal(found.t_train, stored[f"{labels}_train"])
    np.testing.assert_array_equal(found.t_test, stored[f"{labels}_test"])
    assert data.npz(tmp_path / "pets.npz", name="cats", max_value=16).name == "cats"


@pytest.mark.parametrize("names", [("x_validation", "t_validation"), ("x_val", "y_val"), ("x_val", "t_val")])
def test_a_part_for_validation(tmp_path, rng, names):
    np.savez(tmp_path / "a.npz", **arrays(rng), **{names[0]: pictures(rng, 2, 5, 4), names[1]: np.array([0, 2])})
    assert data.npz(tmp_path / "a.npz").validation.t.tolist() == [0, 2]


@pytest.mark.parametrize("dtype", ["|b1", "|i1", "<u2", ">i4", "<i8", "<f2", ">f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_types_and_orders_of_memory(tmp_path, rng, dtype, order):
    x = np.array(rng.integers(0, 2, (7, 5, 4, 3)).astype(dtype), order=order)
    np.savez(tmp_path / "a.npz", **arrays(rng, x_train=x, x_test=x, t_test=np.zeros(7, ">i2")))
    found = data.npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.x_train, x.transpose(0, 3, 1, 2))
    assert found.input_shape == (3, 5, 4)
    layout = data.npz(tmp_path / "a.npz", layout="NCHW")
    assert layout.input_shape == (5, 4, 3)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"x_test": None}, "no array x_test; it holds t_test, t_train, x_train: save it by numpy.savez"),
        ({"t_train": None}, "no array t_train or y_train"),
        ({"y_train": np.zeros(7, int)}, "t_train and y_train mean the same"),
        ({"x_val": np.zeros((2, 5, 4), np.uint8)}, "no array t_validation or t_val or y_validation or y_val"),
        ({"x_train": np.zeros((7, 5, 4), complex)}, "x_train: expected an array of plain numbers"),
        ({"t_train": np.array(list("abcdefg"))}, "t_train: expected an array of plain numbers"),
        ({"x_train": np.zeros((7, 5, 4), "f4,f4")}, "x_train: expected an array of plain numbers"),
        ({"x_train": np.array(3)}, r"x_train has shape \(\)"),
        ({"t_train": np.zeros((7, 3), int)}, "argmax"),
    ],
)
def test_files_that_do_not_fit(tmp_path, rng, change, match):
    stored = {name: array for name, array in (arrays(rng) | change).items() if array is not None}
    np.savez(tmp_path / "bad.npz", **stored)
    with pytest.raises(DataError, match=f"bad.*{match}"):
        data.npz(tmp_path / "bad.npz")


class Trap:
    def __reduce__(self):
        return os.mkdir, ("/nonexistent/sprung",)


@pytest.mark.parametrize("name", ["x_train", "t_test"])
def test_objects_are_never_unpickled(tmp_path, rng, monkeypatch, name):
    monkeypatch.setattr(pickle, "load", lambda *args, **options: pytest.fail("something was unpickled"))
    np.savez(tmp_path / "trap.npz", **arrays(rng, **{name: np.array([Trap()], dtype=object)}))
    with pytest.raises(DataError, match=f"{name}: expected an array of plain numbers.*pickles"):
        data.npz(tmp_path / "trap.npz")


def npy(descr="'|u1'", shape="(1000, 4, 4)", version=1, length=None, body=b"", extra=""):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, {extra}}}\n".encode()
    width = 2 if version == 1 else 4
    size = len(text) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + size.to_bytes(width, "little") + text + body


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    ("content", "match"),
    [
        (npy(shape="(1000000000, 4)", body=b"abc"), "promises shape .* but 3 are announced"),
        (npy(shape="(1099511627776, 1099511627776)"), "more than the .* left of max_bytes"),
        (npy(shape="(281474976710656,)"), "more than can be"),
        (npy(shape="(" + "1, " * 9 + ")"), "more than can be"),
        (npy(shape="(" + "9" * 4000 + ",)"), "more than"),
        (npy(shape="(0, 281474976710655, 281474976710655, 281474976710655, 281474976710655)"), "x_train|damaged"),
        (npy(version=2, length=1 << 31), "a header of 2147483648 bytes"),
        (npy(version=9), "expected an array in NumPy's format"),
        (npy(descr="'|O'"), "pickles"),
        (npy(descr="'<f3'"), "plain numbers"),
        (npy(descr="'|b4'"), "NumPy has no type"),
        (npy(shape="(2,)", body=b"abc"), "2 bytes, but 3 are announced"),
        (npy(shape="__import__('os').mkdir('sprung')"), "plain numbers"),
        (npy(shape="(-5,)"), "plain numbers"),
        (b"", "x_train: expected 8 bytes of the header"),
        (b"\x93NUMPY\x01\x00\xff", "expected 2 bytes of the header"),
        (b"(" * 5000, "expected an array in NumPy's format"),
    ],
    ids=[
        "body-missing",
        "huge",
        "one-axis",
        "nine-axes",
        "digits",
        "empty-but-huge",
        "long-header",
        "version",
        "objects",
        "type",
        "no-such-type",
        "body-too-long",
        "code",
        "negative",
        "empty",
        "cut",
        "nested",
    ],
)
def test_headers_that_lie(tmp_path, rng, method, content, match):
    buffer = io.BytesIO()
    np.savez(buffer, **{name: a for name, a in arrays(rng).items() if name != "x_train"})
    with zipfile.ZipFile(buffer, "a", compression=method) as archive:
        archive.writestr("x_train.npy", content)
    (tmp_path / "liar.npz").write_bytes(buffer.getvalue())
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=rf"liar\.npz: .*({match})"):
            data.npz(tmp_path / "liar.npz")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_directory_that_lies_about_sizes(tmp_path, rng):
    """The size of a member is in front of it and in the directory: here it is raised in both."""
    lie = npy(shape=f"({500 << 20},)", body=bytes(1000))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", lie)
    size = len(lie)
    claimed = (500 << 20) + len(lie) - 1000
    content = buffer.getvalue()
    assert content.count(size.to_bytes(4, "little")) == 2
    (tmp_path / "liar.npz").write_bytes(content.replace(size.to_bytes(4, "little"), claimed.to_bytes(4, "little")))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"x_train.*truncated|damaged"):
            data.npz(tmp_path / "liar.npz")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_max_bytes(tmp_path, rng):
    stored = arrays(rng)
    total = sum(array.nbytes for array in stored.values())
    np.savez(tmp_path / "a.npz", **stored)
    assert len(data.npz(tmp_path / "a.npz", max_bytes=total).t_train) == 7
    with pytest.raises(DataError, match=f"max_bytes={total - 1}"):
        data.npz(tmp_path / "a.npz", max_bytes=total - 1)


def test_what_is_no_npz(tmp_path):
    for content in (b"", b"PK\x05\x06", b"\x93NUMPY", bytes(100)):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"bad\.npz: no \.npz file"):
            data.npz(tmp_path / "bad.npz")
    with pytest.raises(DataError, match="nowhere: cannot be read"):
        data.npz(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no regular file"):
        data.npz(tmp_path)
    with zipfile.ZipFile(tmp_path / "lzma.npz", "w", compression=zipfile.ZIP_LZMA) as archive:
        archive.writestr("x_train.npy", npy())
    with pytest.raises(DataError, match="x_train is packed in a way that NumPy does not use"):
        data.npz(tmp_path / "lzma.npz")
