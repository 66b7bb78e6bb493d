"""The book's params.pkl: read whoever wrote it, put into the model that it belongs to, refused by any other."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from xpnet import backend
from xpnet.errors import StateError, WeightsError
from xpnet.io import import_book_weights, read_book_params
from xpnet.layers import BatchNorm, Conv2D, Dense, Flatten, LayerNorm, Sequential
from xpnet.models import DeepConvNet, SimpleConvNet

PROTOCOLS = range(6)


def simple_params(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What the book's SimpleConvNet saves, float64 as NumPy draws it, in the book's order."""
    shapes = {"W1": (30, 1, 5, 5), "b1": (30,), "W2": (4320, 100), "b2": (100,), "W3": (100, 10), "b3": (10,)}
    return {name: 0.1 * rng.standard_normal(shape) for name, shape in shapes.items()}


def book_predict(params: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """The book's Convolution, Relu, Pooling, Affine, Relu, Affine in plain NumPy."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3))  # (N, C, 24, 24, 5, 5)
    y = np.einsum("nchwij,fcij->nfhw", windows, params["W1"]) + params["b1"][:, None, None]
    y = np.maximum(y, 0.0).reshape(len(x), 30, 12, 2, 12, 2).max(axis=(3, 5))
    y = np.maximum(y.reshape(len(x), -1) @ params["W2"] + params["b2"], 0.0)
    return y @ params["W3"] + params["b3"]


def save(path: Path, params: object, protocol: int = pickle.DEFAULT_PROTOCOL) -> Path:
    path.write_bytes(pickle.dumps(params, protocol=protocol))
    return path


def refused(model, path: Path, message: str) -> None:
    before = {name: backend.to_numpy(a) for name, a in model.state_dict().items()}
    with pytest.raises(WeightsError, match=message) as caught:
        import_book_weights(model, path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith("The model has not been changed.")
    assert all(np.array_equal(backend.to_numpy(a), before[name]) for name, a in model.state_dict().items())


def test_simple_convnet_predicts_as_in_the_book(xp, rng, tmp_path) -> None:
    params = simple_params(rng)
    model = SimpleConvNet().build((1, 28, 28), rng=1)
    import_book_weights(model, save(tmp_path / "params.pkl", params))
    x = rng.random((3, 1, 28, 28))
    y = xp.to_numpy(model.predict(xp.asarray(x, "float32")))
    expected = book_predict(params, x)
    assert np.abs(y - expected).max() < 1e-4 * np.abs(expected).max()


def test_deep_convnet_and_dense_networks_take_theirs(rng, tmp_path) -> None:
    with backend.using("numpy", dtype="float64"):
        deep = DeepConvNet().build((1, 28, 28))
        dense = Sequential(Dense(50, activation="sigmoid"), Dense(100), Dense(10)).build((784,))
        shapes = {"W1": (16, 1, 3, 3), "W2": (16, 16, 3, 3), "W3": (32, 16, 3, 3), "W4": (32, 32, 3, 3),
                  "W5": (64, 32, 3, 3), "W6": (64, 64, 3, 3), "W7": (64 * 4 * 4, 50), "W8": (50, 10)}  # fmt: skip
        units = {"b1": 16, "b2": 16, "b3": 32, "b4": 32, "b5": 64, "b6": 64, "b7": 50, "b8": 10}
        params = {k: rng.standard_normal(s) for k, s in shapes.items()} | {k: rng.random(n) for k, n in units.items()}
        import_book_weights(deep, save(tmp_path / "deep.pkl", params))
        assert np.array_equal(deep["conv2a"].W.data, params["W3"])
        assert np.array_equal(deep["output"].b.data, params["b8"])
        sample = {"b2": rng.random(100), "W1": rng.random((784, 50)), "W2": rng.random((50, 100)),
                  "b1": rng.random(50), "W3": rng.random((100, 10)), "b3": rng.random(10)}  # fmt: skip
        import_book_weights(dense, save(tmp_path / "sample_weight.pkl", sample))  # in whatever order
        assert np.array_equal(dense[1].W.data, sample["W2"])
        assert np.array_equal(dense[2].b.data, sample["b3"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_type_and_order(protocol, rng, tmp_path) -> None:
    base = rng.standard_normal((2, 3, 4))
    params = {
        "float64": base,
        "float32": base.astype(np.float32),
        "float16": base.astype(np.float16),
        "big-endian": base.astype(">f4"),
        "Fortran": np.asfortranarray(base),
        "transposed": base.transpose(1, 0, 2),
        "strided": base[:, ::2],
        "int64": np.arange(5),
        "uint8": np.arange(5, dtype=np.uint8),
        "0-d": np.array(2.5),
        "W1 \u00fc \u4e2d": base,
    }
    params["shared"] = params["float32"]
    read = read_book_params(save(tmp_path / "params.pkl", params, protocol))
    assert list(read) == list(params)
    for name, array in params.items():
        assert read[name].dtype == array.dtype.newbyteorder("=")
        assert np.array_equal(read[name], array), name
        assert read[name].flags.writeable


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_files_of_numpy_1(protocol, rng, tmp_path) -> None:
    params = {"W1": rng.standard_normal((3, 2)), "b1": rng.standard_normal(2).astype(np.float32)}
    content = pickle.dumps(params, protocol=protocol)
    if protocol < 4:
        old = content.replace(b"numpy._core.", b"numpy.core.")
    else:  # the names are strings there, with their length before them
        old = content.replace(b"\x16numpy._core.multiarray", b"\x15numpy.core.multiarray")
        old = old.replace(b"\x13numpy._core.numeric", b"\x12numpy.core.numeric")
    assert old != content
    path = tmp_path / "params.pkl"
    path.write_bytes(old)
    read = read_book_params(path)
    assert all(np.array_equal(read[name], params[name]) for name in params)


def test_misfits_show_both_sides(rng, tmp_path) -> None:
    params = simple_params(rng)
    path = save(tmp_path / "params.pkl", params)
    with backend.using("numpy"):
        refused(
            SimpleConvNet(hidden=50).build((1, 28, 28)),
            path,
            r"W2 has shape \(4320, 100\) but the model's hidden\.W \(4320, 50\)\. The file holds '?W1.*"
            r"the model conv\.W \(30, 1, 5, 5\), conv\.b \(30,\), hidden\.W \(4320, 50\)",
        )
        refused(Sequential(Flatten(), Dense(10)).build((1, 28, 28)), path, "'W2' has no counterpart in the model")
        refused(DeepConvNet().build((1, 28, 28)), path, "there is no W4 for the model's conv2b.W")
        model = SimpleConvNet().build((1, 28, 28))
        refused(model, save(path, params | {"lr": np.array(0.1)}), "'lr' has no counterpart")
        refused(model, save(path, {k: v for k, v in params.items() if k != "b2"}), "there is no b2 for .*hidden.b")
        refused(model, tmp_path / "missing.pkl", "no such file")
        refused(model, tmp_path, "cannot be read")


def test_models_that_the_book_cannot_describe(rng, tmp_path) -> None:
    path = save(tmp_path / "params.pkl", {"W1": rng.random((4, 2)), "b1": rng.random(2)})
    with backend.using("numpy"):
        refused(Sequential(Dense(2), LayerNorm()).build((4,)), path, r"1\.gamma \(2,\) has no counterpart in the book")
        refused(Sequential(BatchNorm(affine=False), Dense(2)).build((4,)), path, "no running statistics")
        nhwc = Sequential(Conv2D(2, 1, data_format="NHWC"), Flatten(), Dense(2)).build((2, 2, 3))
        refused(nhwc, path, 'layer "0" takes images as NHWC')
        with pytest.raises(StateError, match=r"call model\.build\(input_shape\)"):
            import_book_weights(SimpleConvNet(), path)
