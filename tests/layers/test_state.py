"""State of a model: copies out, checked copies in, moves between libraries and float types."""

import copy

import numpy as np
import pytest

from xpnet import backend, optim
from xpnet.errors import BackendUnavailableError, WeightsError
from xpnet.layers import (
    BatchNorm,
    Conv2D,
    ConvTranspose2D,
    Dense,
    Dropout,
    Flatten,
    Pool2D,
    ReLU,
    Residual,
    Sequential,
)  # fmt: skip
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.optim import SGD
from xpnet.testing import assert_close
from xpnet.training import train_step

TARGETS = [("numpy", "float32"), ("numpy", "float64"), ("torch", "float32"), ("torch", "float64"),
           ("array_api_strict:device1", "float32"), ("array_api_strict", "float64")]  # fmt: skip


def _model(rng=0):
    body = Sequential(Conv2D(3, 3, padding=1, activation="tanh"), BatchNorm())
    model = Sequential(Conv2D(3, 3), Residual(body), BatchNorm(affine=False), Pool2D(2), Flatten(), Dropout(), Dense(2))
    return model.build((1, 6, 6), rng=rng)


def _trained(rng):
    """A model whose running statistics and weights have moved."""
    model = _model()
    like = model.parameters()[0].data
    for _ in range(2):
        model.zero_grad()
        y = model.forward(backend.asarray_like(rng.normal(1, 2, size=(8, 1, 6, 6)), like))
        model.backward(y, need_dx=False)
        optim.SGD(0.01).update(model)
    return model


def _host(model):
    return {path: np.array(backend.to_numpy(a)) for path, a in model.state_dict().items()}


def _same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def test_state_dict_is_a_copy(xp, rng):
    model = _trained(rng)
    state = model.state_dict()
    assert set(state) == {p.name for p in model.parameters()} | {
        "1.body.1.running_mean", "1.body.1.running_var", "2.running_mean", "2.running_var"}  # fmt: skip
    before = {k: np.array(xp.to_numpy(a)) for k, a in state.items()}
    for p in model.parameters():
        p.data[...] = 7.0
    model.forward(xp.asarray(rng.normal(size=(8, 1, 6, 6)), "float32"))  # new statistics
    assert all(np.array_equal(xp.to_numpy(a), before[k]) for k, a in state.items())
    model.load_state_dict(state)
    for a in state.values():
        a[...] = 9.0  # and the model does not follow what it was loaded from
    assert _same(_host(model), before)


@pytest.mark.parametrize("source, dtype", TARGETS)
def test_load_from_any_library_and_float_type(xp, rng, source, dtype):
    with backend.using("numpy"):
        values = _host(_trained(rng))
    model = _model(rng=9)
    (segment,) = model.store.segments
    data = segment.data
    try:
        with backend.using(source, dtype=dtype) as chosen:
            given = {k: backend.asarray(v, dtype=chosen.dtype) for k, v in values.items()}
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    model.load_state_dict(given)
    assert _same(_host(model), values)
    assert model.store.segments[0].data is data
    x = rng.normal(size=(3, 1, 6, 6))
    with backend.using("numpy"):
        other = _model(rng=5)
        other.load_state_dict(values)
    assert_close(model(xp.asarray(x, "float32")), other(x.astype(np.float32)), terms=100)


@pytest.mark.parametrize(
    "spoil, text",
    [
        (lambda s: {k: v for k, v in s.items() if k != "6.b"}, r"missing 6\.b \(12 arrays expected, 11 given\)"),
        (lambda s: s | {"7.W": s["6.W"]}, r"not in the model 7\.W \(12 arrays expected, 13 given\); build the same"),
        (lambda s: {}, r"missing 0\.W, 0\.b, 1\.body\.0\.W, 1\.body\.0\.b, 1\.body\.1\.beta \.\.\. \("),
        (lambda s: s | {"6.b": s["6.b"][:1]}, r"6\.b has shape \(1,\) but the model's has \(2,\)"),
        (lambda s: s | {"6.W": s["6.W"].T}, r"6\.W has shape \(2, 12\) but the model's has \(12, 2\)"),
        (
            lambda s: s | {"6.b": s["6.b"][:1], "6.W": s["6.W"][:, :1]},
            r"6\.W has .*, 6\.b has shape \(1,\) but the model's has \(2,\); \d+ of \d+ arrays fit\. Build the same",
        ),
        (lambda s: s | {"2.running_var": s["2.running_var"].reshape(3, 1)}, r"2\.running_var has shape \(3, 1\)"),
        (lambda s: s | {"6.b": np.array(["a", "b"])}, r"6\.b holds <U1, not real numbers"),
        (lambda s: s | {"6.b": np.array([1j, 2j])}, r"6\.b holds complex128, not real numbers"),
        (lambda s: s | {"6.b": np.array([True, False])}, r"6\.b holds bool, not real numbers"),
        (lambda s: s | {"6.b": np.array([None, 1.0])}, r"6\.b holds object, not real numbers"),
    ],
)
def test_refused_state_changes_nothing(xp, rng, spoil, text):
    model = _trained(rng)
    before = _host(model)
    other = {k: v + np.float32(1.0) for k, v in before.items()}  # what a half-done load would let in
    with pytest.raises(WeightsError, match=f"{text}.*The model has not been changed"):
        model.load_state_dict(spoil(other))
    assert _same(_host(model), before)
    model.load_state_dict(other)
    assert _same(_host(model), other)


def test_load_integers_and_lists():
    layer = Dense(2).build((1,))
    layer.load_state_dict({"W": [[1, 2]], "b": np.array([3, 4])})
    assert np.array_equal(backend.to_numpy(layer(backend.asarray([[2.0]]))), [[5.0, 8.0]])


@pytest.mark.parametrize("target, dtype", TARGETS)
def test_to_keeps_predictions(xp, rng, target, dtype):
    model = _trained(rng)
    x = rng.normal(size=(4, 1, 6, 6)).astype(np.float32)
    model.forward(xp.asarray(x))  # what it keeps cannot move along
    expected, state = xp.to_numpy(model(xp.asarray(x))), _host(model)
    seed, step = model[5].seed, model[5].step
    try:
        assert model.to(target, dtype=dtype) is model
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    with backend.using(target, dtype=dtype) as chosen:
        given = backend.asarray(x, dtype=chosen.dtype)
    y = model(given)
    assert backend.array_namespace(y) is chosen.xp
    assert chosen.device is None or backend.device_of(y) == chosen.device
    assert_close(np.array(backend.to_numpy(y), np.float32), expected, terms=100)
    for path, a in model.state_dict().items():
        assert backend.dtype_name(a.dtype) == dtype, path
        assert np.array_equal(backend.to_numpy(a), state[path]), path
    assert not any(layer._pending for _, layer in model.named_layers())
    assert (model[5].seed, model[5].step) == (seed, step)
    (segment,) = model.store.segments
    for p in model.parameters():
        p.data[...] = 3.0
        assert backend.array_namespace(p.grad) is chosen.xp
        assert backend.dtype_name(p.grad.dtype) == dtype
    assert (backend.to_numpy(segment.data) == 3.0).all()
    model.backward(model.forward(given), need_dx=False)  # and it still learns
    optim.Adam().update(model)


@pytest.mark.parametrize("path", [TARGETS, TARGETS[::-1]], ids=["there", "back"])
def test_round_trip(xp, rng, path):
    model = _trained(rng)
    before = _host(model)
    for target, dtype in path:
        try:
            model.to(target, dtype=dtype)
        except BackendUnavailableError:
            continue
    model.to(xp.backend_name, dtype="float32")
    assert _same(_host(model), before)
    assert all(backend.array_namespace(a) is xp.xp for a in model.state_dict().values())


def test_to_without_dtype_keeps_the_float_type(xp):
    with backend.using(xp.backend_name, dtype="float64"):
        model = _model()
    model.to("numpy")
    assert {a.dtype for a in model.state_dict().values()} == {np.dtype("float64")}
    model.to("numpy", dtype="float16")
    names = {k: a.dtype.name for k, a in model.state_dict().items()}
    assert {v for k, v in names.items() if "running" in k} == {"float32"}  # statistics stay wide
    assert {v for k, v in names.items() if "running" not in k} == {"float16"}


@pytest.mark.parametrize(
    "target, dtype",
    [("nowhere", None), ("numpy:cuda", None), ("numpy", "int8"), ("array_api_strict", "float16"), ("torch:99", None)],
)
def test_failing_to_leaves_the_model(xp, rng, target, dtype):
    model = _trained(rng)
    y = model.forward(xp.asarray(rng.normal(size=(2, 1, 6, 6)), "float32"))
    before, data = _host(model), model.store.segments[0].data
    with pytest.raises(BackendUnavailableError):
        model.to(target, dtype=dtype)
    assert model.store.segments[0].data is data
    assert _same(_host(model), before)
    model.backward(y)  # not even the pending forward is lost


def test_memory_that_runs_out_half_way_leaves_the_model(rng, monkeypatch):
    model = _trained(rng)
    before, asarray, made = _host(model), backend.asarray, []

    def scarce(*args, **kwargs):
        if len(made) == 5:
            raise MemoryError("out of memory")
        made.append(asarray(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(backend, "asarray", scarce)
    with pytest.raises(MemoryError):
        model.to("numpy", dtype="float64")
    assert _same(_host(model), before)
    assert {p.data.dtype.name for p in model.parameters()} == {"float32"}


def test_a_deep_copy_is_a_model_of_its_own(xp, rng) -> None:
    x, t = xp.asarray(rng.standard_normal((4, 5)).astype("float32")), xp.asarray(rng.integers(0, 3, 4))
    model = Sequential(Dense(4, activation="relu"), Dense(3)).build((5,), rng=1)
    before = {name: xp.to_numpy(a) for name, a in model.state_dict().items()}
    twin = copy.deepcopy(model)
    for _ in range(2):  # the copy learns: its weights and the flat buffers its optimizer writes to are the same memory
        train_step(twin, SoftmaxCrossEntropy(), SGD(lr=0.5), x, t)
    for name, a in model.state_dict().items():
        assert np.array_equal(xp.to_numpy(a), before[name])
    assert not np.array_equal(xp.to_numpy(twin[1].W.data), before["1.W"])
    train_step(model, SoftmaxCrossEntropy(), optimizer := SGD(lr=0.5), x, t)
    train_step(model, SoftmaxCrossEntropy(), optimizer, x, t)
    assert np.array_equal(xp.to_numpy(model[1].W.data), xp.to_numpy(twin[1].W.data))


def test_layers_moved_one_by_one_keep_their_names(xp, rng):
    """By names of their own, such as "W", two layers would be one in the state of the optimizer."""
    model = Sequential(Dense(4, activation="relu"), Dense(3)).build((5,), rng=1)
    names = [p.name for p in model.parameters()]
    for layer in model:
        layer.to("numpy")
    assert [p.name for p in model.parameters()] == names
    x, t = rng.standard_normal((4, 5)).astype("float32"), rng.integers(0, 3, 4)
    train_step(model, SoftmaxCrossEntropy(), optimizer := optim.Adam(), x, t)
    assert set(optimizer.state_dict()) == {"step", "lr"} | {f"{kind}.{name}" for kind in "mv" for name in names}


def test_weights_of_torch_come_over_as_the_documentation_says(rng):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    theirs = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.ConvTranspose2d(4, 3, 2, stride=2), nn.Flatten(), nn.Linear(3 * 6 * 8, 5)),
    )
    theirs(torch.tensor(rng.normal(size=(7, 2, 6, 8)).astype(np.float32)))  # running statistics other than 0 and 1
    theirs.eval()
    ours = Sequential(
        *(Conv2D(4, 3, padding=1), BatchNorm(), ReLU(), Pool2D(2)),
        *(ConvTranspose2D(3, 2, stride=2), Flatten(), Dense(5)),
    ).build((2, 6, 8))
    given = {name: a.numpy() for name, a in theirs.state_dict().items()}
    ours.load_state_dict(
        {f"{i}.W": given[f"{i}.weight"] for i in (0, 4)}
        | {f"{i}.b": given[f"{i}.bias"] for i in (0, 4, 6)}
        | {"1.gamma": given["1.weight"], "1.beta": given["1.bias"], "6.W": given["6.weight"].T}
        | {name: given[name] for name in ("1.running_mean", "1.running_var")}
    )
    x = rng.normal(size=(3, 2, 6, 8)).astype(np.float32)
    assert_close(ours.predict(x), theirs(torch.tensor(x)).detach().numpy(), terms=3 * 6 * 8)
