"""Data sets: the four-file kind on made-up files, digits, and the real MNIST where it is at hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from xpnet import data
from xpnet.data import _download, fetch, write_idx
from xpnet.errors import DataError, MissingDependencyError

pytestmark = pytest.mark.usefixtures("nothing_found")
REAL = os.environ.get("XPNET_DATA", "")  # read before any test changes it
FILES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]


def write_four(folder: Path, *, seed=0, suffix="", **changed):
    """Write four small files that fit together, but for those in `changed`; return the arrays."""
    rng = np.random.default_rng(seed)
    arrays = {
        "train_images": rng.integers(0, 256, (30, 28, 28), dtype=np.uint8),
        "train_labels": rng.integers(0, 10, 30, dtype=np.uint8),
        "t10k_images": rng.integers(0, 256, (7, 28, 28), dtype=np.uint8),
        "t10k_labels": rng.integers(0, 10, 7, dtype=np.uint8),
    } | changed
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(FILES, arrays.values(), strict=True):
        write_idx(folder / (name + suffix), array)
    return arrays


# --- MNIST and Fashion-MNIST ---------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(
    ("load", "place"),
    [
        (data.mnist, "mnist"),
        (data.mnist, "MNIST/raw"),
        (data.mnist, ""),
        (data.fashion_mnist, "fashion-mnist"),
        (data.fashion_mnist, "fashion_mnist"),
        (data.fashion_mnist, "FashionMNIST/raw"),
        (data.kmnist, "kmnist"),
        (data.kmnist, "KMNIST/raw"),
    ],
)
def test_four_files(tmp_path, load, place, suffix):
    arrays = write_four(tmp_path / "data" / place, suffix=suffix)
    found = load()
    assert found.name == load.__name__
    assert found.max_value == 255.0
    assert len(found.classes) == 10
    assert found.input_shape == (1, 28, 28)
    np.testing.assert_array_equal(found.x_train, arrays["train_images"].reshape(30, 1, 28, 28), strict=True)
    np.testing.assert_array_equal(found.t_train, arrays["train_labels"].astype(np.int64), strict=True)
    np.testing.assert_array_equal(found.x_test, arrays["t10k_images"].reshape(7, 1, 28, 28), strict=True)
    np.testing.assert_array_equal(found.t_test, arrays["t10k_labels"].astype(np.int64), strict=True)


def test_the_three_are_not_taken_for_each_other(tmp_path, monkeypatch):
    """Their files have the same names and shapes, so only a folder's name tells them apart."""
    loaders = {"mnist": data.mnist, "fashion-mnist": data.fashion_mnist, "kmnist": data.kmnist}
    written = {place: write_four(tmp_path / "data" / place, seed=i) for i, place in enumerate(loaders)}
    for place, load in loaders.items():
        monkeypatch.setenv("XPNET_DATA", str(tmp_path / "data"))
        np.testing.assert_array_equal(load().t_train, written[place]["train_labels"])
        monkeypatch.setenv("XPNET_DATA", str(tmp_path / "data" / place))
        np.testing.assert_array_equal(load().t_train, written[place]["train_labels"])
        for other in loaders.values():
            if other is not load:
                with pytest.raises(DataError, match="was not found"):
                    other()


def test_loose_files_in_a_folder_of_any_name_are_mnist(tmp_path, monkeypatch):
    digits = write_four(tmp_path / "data" / "mnist", seed=1)
    (tmp_path / "data" / "mnist").rename(tmp_path / "numbers")
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "numbers"))
    np.testing.assert_array_equal(data.mnist().t_train, digits["train_labels"])


def test_root(tmp_path):
    write_four(tmp_path / "data" / "mnist", seed=1)
    arrays = write_four(tmp_path / "mine", seed=2)
    np.testing.assert_array_equal(data.mnist(root=tmp_path / "mine").t_train, arrays["train_labels"])
    with pytest.raises(DataError, match="nothing is downloaded where root is given"):
        data.mnist(root=tmp_path / "nowhere")


def test_all_mirrors_are_named_when_there_is_nothing():
    with pytest.raises(DataError) as caught:
        data.fashion_mnist()
    assert str(caught.value).count("https://") == 2
    assert str(caught.value).count("no network in tests") == 2


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"train_labels": np.zeros(29, np.uint8)}, "30 images but .* 29 labels"),
        ({"t10k_images": np.zeros((8, 28, 28), np.uint8)}, "8 images but .* 7 labels"),
        ({"train_images": np.zeros((30, 28, 27), np.uint8)}, r"28 x 28 uint8, the file holds \(28, 27\)"),
        ({"train_images": np.zeros((30, 28, 28), np.int8)}, "28 x 28 uint8, the file holds .* int8"),
        ({"train_images": np.zeros((30, 784), np.uint8)}, r"expected 3 dimension\(s\), the header says 2"),
        ({"train_labels": np.full(30, 10, np.uint8)}, "labels from 0 to 9, the file holds uint8 up to 10"),
        ({"train_labels": np.zeros(30, np.int32)}, "labels from 0 to 9, the file holds int32"),
        ({"train_labels": np.zeros((30, 1), np.uint8)}, r"expected 1 dimension\(s\), the header says 2"),
        (
            {"train_images": np.zeros((0, 28, 28), np.uint8), "train_labels": np.zeros(0, np.uint8)},
            "0 images and 0 labels",
        ),
    ],
)
def test_files_that_do_not_fit(tmp_path, changed, match):
    write_four(tmp_path / "data" / "mnist", **changed)
    with pytest.raises(DataError, match=match):
        data.mnist()


def test_checksums_and_mirrors_are_complete():
    from xpnet.data._sources import CIFAR10, CIFAR100, FASHION_MNIST, KMNIST, MNIST

    checksums = [CIFAR10.checksum, CIFAR100.checksum]
    for source in (MNIST, FASHION_MNIST, KMNIST):
        assert list(source.checksums) == FILES
        checksums += source.checksums.values()
    assert all(len(bytes.fromhex(checksum)) == 16 for checksum in checksums)
    assert len(set(checksums)) == 14
    for source in (MNIST, FASHION_MNIST, KMNIST, CIFAR10, CIFAR100):
        assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in source.mirrors)
        assert source.mirrors


@pytest.fixture(scope="module")
def real_mnist():
    if not REAL or fetch.find(FILES[0], ["mnist", "MNIST/raw"], root=REAL) is None:
        pytest.skip("XPNET_DATA names no folder with mnist/ in it")
    return data.mnist(root=REAL)


def test_real_mnist(real_mnist):
    assert str(real_mnist) == "<Dataset mnist: 60000 train, 10000 test, (1, 28, 28) uint8 0..255, 10 classes>"
    assert real_mnist.t_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(real_mnist.t_train).tolist() == train
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(real_mnist.t_test).tolist() == test
    assert real_mnist.x_train.max() == 255
    assert real_mnist.x_train.mean() == pytest.approx(0.1307 * 255, rel=1e-3)  # the well-known mean


# --- digits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.2, 0.37, 0.01])
def test_digits(fraction):
    source = pytest.importorskip("sklearn.datasets").load_digits()
    found = data.digits(test_fraction=fraction, seed=3)
    assert found.x_train.dtype == np.uint8
    assert found.input_shape == (1, 8, 8)
    assert found.max_value == 16.0 == max(found.x_train.max(), found.x_test.max())
    for k, total in enumerate(np.bincount(source.target)):
        assert abs(np.sum(found.t_test == k) - fraction * total) < 1
    both = np.concatenate([found.x_train, found.x_test]).reshape(1797, 64)
    labelled = np.column_stack([both, np.concatenate([found.t_train, found.t_test])])
    expected = np.column_stack([source.data.astype(int), source.target])
    np.testing.assert_array_equal(labelled[np.lexsort(labelled.T)], expected[np.lexsort(expected.T)])


def test_digits_by_seed():
    pytest.importorskip("sklearn")
    np.testing.assert_array_equal(data.digits(seed=1).x_test, data.digits(seed=1).x_test)
    assert not np.array_equal(data.digits(seed=1).t_test, data.digits(seed=2).t_test)


def test_digits_upscaled():
    pytest.importorskip("sklearn")
    small, large = data.digits(), data.digits(upscale=4)
    assert large.input_shape == (1, 32, 32)
    rng = np.random.default_rng(0)
    for i, row, column in zip(*(rng.integers(0, n, 200) for n in (359, 32, 32)), strict=True):
        assert large.x_test[i, 0, row, column] == small.x_test[i, 0, row // 4, column // 4]


def test_digits_refusals(monkeypatch):
    for upscale in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="upscale"):
            data.digits(upscale=upscale)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'xpnet\[train\]'"):
        data.digits()


def test_digits_with_an_empty_half():
    pytest.importorskip("sklearn")
    with pytest.raises(DataError, match=r"digits: test_fraction=0\.0001 of 1797 image\(s\) leaves one"):
        data.digits(test_fraction=1e-4)


# --- load ----------------------------------------------------------------------------------------


def test_load_by_name(tmp_path):
    write_four(tmp_path / "data" / "mnist", seed=1)
    write_four(tmp_path / "data" / "fashion-mnist", seed=2)
    assert data.load("mnist").name == "mnist"
    assert data.load("Fashion-MNIST").name == "fashion_mnist"
    assert data.load("auto").name == "mnist"
    with pytest.raises(
        ValueError, match=r"'cifar'; did you mean 'cifar10'\? There are auto, cifar10, cifar100, digits, fashion_mnist"
    ):
        data.load("cifar")
    with pytest.raises(ValueError, match="data: mnist has no option 'upscale'; it has root"):
        data.load("mnist", upscale=2)


def test_every_name_leads_to_its_function(tmp_path):
    x, t = np.zeros((2, 4, 4), np.uint8), np.array([0, 1])
    np.savez(tmp_path / "pets.npz", x_train=x, t_train=t, x_test=x, t_test=t)
    assert data.load("npz", path=tmp_path / "pets.npz").name == "pets"
    with pytest.raises(DataError, match="cannot be read"):
        data.load("image_folder", path=tmp_path / "nowhere")
    for name, file in [("cifar10", "cifar-10-binary.tar"), ("CIFAR-100", "cifar-100-binary.tar"), ("kmnist", FILES[0])]:
        with pytest.raises(DataError, match=rf"{file} \(or {file}\.gz\) was not found"):
            data.load(name)


def test_auto_without_mnist_is_digits_and_no_download(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(_download, "_open", lambda url, timeout: pytest.fail(f"tried to open {url}"))
    found = data.load("auto", upscale=2, seed=1)
    assert (found.name, found.input_shape) == ("digits", (1, 16, 16))
    write_four(tmp_path / "data" / "mnist")
    (tmp_path / "data" / "mnist" / FILES[3]).unlink()  # three of the four are not enough
    assert data.load("auto").name == "digits"
    write_four(tmp_path / "elsewhere")
    assert data.load("auto", root=tmp_path / "elsewhere").name == "mnist"


def test_auto_does_not_hide_a_damaged_mnist(tmp_path):
    write_four(tmp_path / "data" / "mnist")
    (tmp_path / "data" / "mnist" / FILES[2]).write_bytes(b"")
    with pytest.raises(DataError, match="t10k-images"):
        data.load("auto")
