"""What every layer can do: forward and backward in step, gradients that add up, building, pending contexts."""

import numpy as np
import pytest

from xpnet import backend
from xpnet.errors import ArgumentError, ArrayMismatchError, DTypeError, ShapeError, StateError
from xpnet.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, Layer, Pool2D, ReLU, Residual, Sequential, base
from xpnet.testing import assert_close


def _net():
    return Sequential(
        Conv2D(4, 3, padding=1, activation="relu"),
        Residual(Sequential(Conv2D(4, 3, padding=1), ReLU())),
        Pool2D(2),
        Flatten(),
        Dense(3, activation="tanh"),
    )


def _grads(model):
    return {p.name: np.array(backend.to_numpy(p.grad)) for p in model.parameters()}


def _pending(model):
    return [len(layer._pending) for _, layer in model.named_layers()]


def test_train_false_keeps_nothing(xp, rng):
    model = _net().build((2, 6, 6))
    x = xp.asarray(rng.normal(size=(3, 2, 6, 6)), "float32")
    for infer in (model.predict, model, lambda x: model.forward(x, train=False)):
        assert_close(infer(x), backend.to_numpy(model.forward(x, train=True)))
        model.forget()
        infer(x)
        assert not any(_pending(model))
    with pytest.raises(StateError, match=r"^Sequential: backward without a forward in training mode; call forward"):
        model.backward(model(x))


@pytest.mark.parametrize("x", [[[1.0, 2.0]], None, 3.0])
def test_what_is_no_array_is_refused_by_name(x):
    model = _net().build((2, 6, 6))
    for forward in (model.forward, model.predict):
        with pytest.raises(DTypeError, match=r"expected an array, got (list|NoneType|float) .*xpnet.backend.asarray"):
            forward(x)


def test_backward_takes_its_forward_once(rng):
    layer = Dense(2).build((3,))
    x = rng.normal(size=(4, 3)).astype(np.float32)
    dy = layer.forward(x)
    layer.backward(dy)
    with pytest.raises(StateError, match=r"Dense: backward without a forward in training.*once for each backward"):
        layer.backward(dy)


def test_inputs_are_not_changed(xp, rng):
    model = _net().build((2, 6, 6))
    x, dy = rng.normal(size=(3, 2, 6, 6)), rng.normal(size=(3, 3))
    mine, grad = xp.asarray(x, "float32"), xp.asarray(dy, "float32")
    model.forward(mine)
    model.backward(grad)
    assert np.array_equal(xp.to_numpy(mine), x.astype(np.float32))
    assert np.array_equal(xp.to_numpy(grad), dy.astype(np.float32))


def test_two_forwards_then_two_backwards(xp, rng):
    """The later forward goes with the earlier backward, and the gradients add up."""
    model = _net().build((2, 6, 6))
    xs = [xp.asarray(rng.normal(size=(n, 2, 6, 6)), "float32") for n in (3, 2)]
    dys = [xp.asarray(rng.normal(size=(n, 3)), "float32") for n in (3, 2)]
    apart = []
    for x, dy in zip(xs, dys, strict=True):
        model.zero_grad()
        model.forward(x)
        dx = model.backward(dy)
        apart.append((backend.to_numpy(dx), _grads(model)))
    model.zero_grad()
    for x in xs:
        model.forward(x)
    for dy, (dx, _) in list(zip(dys, apart, strict=True))[::-1]:
        assert_close(model.backward(dy), dx)
    for name, grad in _grads(model).items():
        assert_close(grad, apart[0][1][name] + apart[1][1][name])
    assert not any(_pending(model))


def test_micro_batches_sum_to_the_batch(xp, rng):
    model = _net().build((2, 6, 6))
    x, dy = rng.normal(size=(7, 2, 6, 6)), rng.normal(size=(7, 3))
    model.forward(xp.asarray(x, "float32"))
    model.backward(xp.asarray(dy, "float32"))
    whole = _grads(model)
    model.zero_grad()
    for part in (slice(0, 1), slice(1, 4), slice(4, 7)):
        model.forward(xp.asarray(x[part], "float32"))
        model.backward(xp.asarray(dy[part], "float32"))
    for name, grad in _grads(model).items():
        assert np.abs(whole[name]).max() > 1e-3
        assert_close(grad, whole[name], terms=7 * 36)


def test_zero_grad(xp, rng):
    model = _net().build((2, 6, 6))
    model.backward(model.forward(xp.asarray(rng.normal(size=(3, 2, 6, 6)), "float32")))
    assert all(grad.any() for grad in _grads(model).values())
    model.zero_grad()
    assert not any(grad.any() for grad in _grads(model).values())


def test_need_dx_false(xp, rng):
    model = _net().build((2, 6, 6))
    x, dy = xp.asarray(rng.normal(size=(3, 2, 6, 6)), "float32"), xp.asarray(rng.normal(size=(3, 3)), "float32")
    model.forward(x)
    assert model.backward(dy).shape == x.shape
    whole = _grads(model)
    model.zero_grad()
    model.forward(x)
    assert model.backward(dy, need_dx=False) is None
    for name, grad in _grads(model).items():
        assert np.array_equal(grad, whole[name]), name
    assert not any(_pending(model))


@pytest.mark.parametrize(
    "layer, shape",
    [(Conv2D(2, 3), (2, 5, 5)), (Pool2D(2), (2, 4, 4)), (BatchNorm(), (3,)), (Dense(2), (3,)), (Flatten(), (2, 2)),
     (Dropout(), (3,)), (ReLU(), (3,)), (Residual(Dense(3)), (3,)), (Sequential(ReLU(), Dropout()), (3,))],
)  # fmt: skip
def test_need_dx_false_gives_none_everywhere(layer, shape):
    layer.build(shape)
    y = layer.forward(np.ones((2, *shape), np.float32))
    assert layer.backward(y, need_dx=False) is None


def test_need_dx_false_behind_layers_without_parameters(rng):
    """What comes before the first layer that learns has nothing to do, and leaves nothing waiting."""
    model = Sequential(Pool2D(2), Sequential(ReLU(), Flatten()), Residual(Dense(4)), Dense(2)).build((1, 4, 4))
    x, dy = rng.normal(size=(3, 1, 4, 4)).astype(np.float32), rng.normal(size=(3, 2)).astype(np.float32)
    model.forward(x)
    model.backward(dy)
    grads = [p.grad.copy() for p in model.parameters()]
    model.zero_grad()
    model.forward(x)
    model[0]._backward = lambda *a: pytest.fail("nobody needs this")
    assert model.backward(dy, need_dx=False) is None
    for p, grad in zip(model.parameters(), grads, strict=True):
        assert np.array_equal(p.grad, grad)
    assert not any(layer._pending for _, layer in model.named_layers())


def test_max_pending(monkeypatch):
    monkeypatch.setattr(base, "MAX_PENDING", 5)
    model = Sequential(Dense(2), ReLU()).build((3,))
    x = np.ones((1, 3), np.float32)
    for _ in range(5):
        y = model.forward(x)
    with pytest.raises(StateError, match=r'Dense \(layer "0"\): 5 forwards in training mode without a backward.*pred'):
        model.forward(x)
    assert _pending(model) == [5, 5, 5]  # as before the refused one
    for _ in range(5):
        model.backward(y)
    model.forward(x)
    model.forget()
    for _ in range(20):  # a loop of steps, or of predictions, is no leak
        model.backward(model.forward(x))
        model.predict(x)


def test_max_pending_is_large_and_finite():
    assert 64 <= base.MAX_PENDING <= 4096


def test_drop_pending_and_forget(rng):
    model = _net().build((2, 6, 6))
    first, second = rng.normal(size=(2, 1, 2, 6, 6)).astype(np.float32)
    dy = np.ones((1, 3), np.float32)
    model.forward(first)
    expected = model.backward(dy)
    model.forward(first)
    model.forward(second)
    model.drop_pending()
    assert set(_pending(model)) == {1}
    assert np.array_equal(model.backward(dy), expected)
    for _ in range(3):
        model.forward(second)
    model.forget()
    assert not any(_pending(model))


def test_a_failing_backward_does_not_spoil_the_next_step(rng):
    model = _net().build((2, 6, 6))
    x, dy = rng.normal(size=(2, 2, 6, 6)).astype(np.float32), rng.normal(size=(2, 3)).astype(np.float32)
    model.forward(x)
    expected = model.backward(dy)
    grads = _grads(model)
    model.zero_grad()
    model.forward(x)
    with pytest.raises(ShapeError, match=r'\(layer "4"\): dy has shape \(2, 4\) but'):
        model.backward(np.ones((2, 4), np.float32))
    model.zero_grad()
    model.forward(x)
    assert np.array_equal(model.backward(dy), expected)
    for name, grad in _grads(model).items():
        assert np.array_equal(grad, grads[name])


class Scale(Layer):
    """A layer as a user would write one, made of another layer."""

    def __init__(self):
        super().__init__()
        self.inner = Dense(3, bias=False, init="ones")

    def _forward(self, x, train):
        return 2.0 * self.inner.forward(x, train), None

    def _backward(self, dy, ctx, need_dx):
        return self.inner.backward(2.0 * dy, need_dx=need_dx)


def test_a_layer_of_ones_own():
    layer = Scale().build((3,))
    assert [p.name for p in layer.parameters()] == ["inner.W"]
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(layer.forward(x), 2 * np.repeat(x.sum(1, keepdims=True), 3, 1))
    assert np.array_equal(layer.backward(np.ones((2, 3), np.float32)), np.full((2, 3), 6.0))
    assert np.array_equal(layer.inner.W.grad, 2 * np.repeat(x.sum(0)[:, None], 3, 1))
    assert repr(layer) == "Scale()"
    unfinished = Layer().build((3,))
    with pytest.raises(NotImplementedError, match=r"Layer must define _forward"):
        unfinished(x)


# --- building --------------------------------------------------------------------------------------


def test_first_forward_builds_where_the_input_is(xp, rng):
    model = _net()
    assert not model.built
    x = xp.asarray(rng.normal(size=(2, 2, 6, 6)), "float64")
    with backend.using("numpy", dtype="float32"):  # the selection does not matter here
        y = model(x)
    assert xp.to_numpy(y).dtype == np.float64
    assert model.built
    assert model.input_shape == (2, 6, 6)
    for p in model.parameters():
        assert xp.to_numpy(p.data).dtype == np.float64
        assert xp.to_numpy(p.grad).dtype == np.float64


def test_build_where_selected(xp):
    layer = Sequential(Dense(2), BatchNorm()).build((3,))
    for a in (layer[0].W.data, layer[0].W.grad, layer[1].running_mean):
        assert xp.to_numpy(a).dtype == np.float32
    with backend.using("numpy", dtype="float64"):
        inner = Dense(2).build((3,))
    assert isinstance(inner.W.data, np.ndarray)
    assert inner.W.data.dtype == np.float64


def test_building_twice():
    model = _net().build((2, 6, 6))
    before = _grads(model)
    with pytest.raises(StateError, match=r"Sequential: already built for input shape \(2, 6, 6\); make a new model"):
        model.build((2, 8, 8))
    assert _grads(model).keys() == before.keys()


def test_build_with_a_number():
    with pytest.raises(
        ShapeError, match=r"Dense: input_shape must be sizes without the batch, such as \(784,\), got 8"
    ):
        Dense(3).build(8)


@pytest.mark.parametrize("shape", [(), (0,), (3, -1), (2, 0, 2), (8.5,), (True,)])
def test_build_with_a_senseless_shape(shape):
    model = Sequential(ReLU())
    with pytest.raises(ShapeError, match="Sequential: input_shape must be positive whole sizes without the batch"):
        model.build(shape)
    assert not model.built


@pytest.mark.parametrize(
    "layer, shape",
    [(Conv2D(2, 3), (8, 3, 28, 28)), (Pool2D(2), (8, 3, 28, 28)), (BatchNorm(), (8, 3, 28, 28)), (Dense(2), (8, 3))],
)
def test_input_shape_with_the_batch_by_mistake(layer, shape):
    kind = type(layer).__name__
    with pytest.raises(ShapeError, match=rf'{kind} \(layer "a"\): .*without the batch, got shape \({shape[0]}, '):
        Sequential({"a": layer}).build(shape)
    assert not layer.built


def test_a_model_that_does_not_fit_is_not_built():
    model = Sequential(Conv2D(2, 3), Conv2D(2, 9), Flatten(), Dense(2))
    with pytest.raises(ShapeError, match=r'Conv2D \(layer "1"\): the output would have -2 rows'):
        model.build((1, 8, 8))
    assert not any(layer.built for _, layer in model.named_layers())
    model.build((1, 16, 16))


def test_first_forward_of_something_else():
    x = np.ones((2, 3), np.float32)
    model = Sequential(Dense(2))
    for wrong, error, text in (
        (x.astype(np.uint8), DTypeError, "Sequential: x must hold floating-point numbers, got uint8.*convert it"),
        (x.astype(bool), DTypeError, "Sequential: x must hold floating-point numbers, got bool"),
        (x.tolist(), DTypeError, "Sequential: x: expected an array, got list"),
        (x[0], ShapeError, r"Sequential: x must have at least 2 axes \(N, \.\.\.\), got shape \(3,\)"),
    ):
        with pytest.raises(error, match=text):
            model(wrong)
        assert not model.built
        assert not model.parameters()  # an integer image must not leave integer weights behind
    assert model(x).dtype == np.float32


def test_before_building():
    model = Sequential(Dense(2))
    for what in ("zero_grad", "state_dict"):
        with pytest.raises(StateError, match=rf"Sequential: {what} needs parameters; call model\.build"):
            getattr(model, what)()
    with pytest.raises(StateError, match="to needs parameters"):
        model.to("numpy")
    with pytest.raises(StateError, match="load_state_dict needs parameters"):
        model.load_state_dict({})
    with pytest.raises(StateError, match=r"the model has not been built.*call model\.build"):
        _ = model.store
    assert model.parameters() == []


def test_errors_are_builtin_ones_too():
    with pytest.raises(ValueError, match="no activation"):
        Dense(2, activation="swash")
    for ours, theirs in ((ShapeError, ValueError), (ArgumentError, ValueError), (DTypeError, TypeError),
                         (ArrayMismatchError, TypeError), (StateError, RuntimeError)):  # fmt: skip
        assert issubclass(ours, theirs)
