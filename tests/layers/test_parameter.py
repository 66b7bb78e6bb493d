"""Parameters in flat buffers: views of one array per float type, whoever builds, moves or shares them."""

import numpy as np
import pytest

from xpnet import backend, optim
from xpnet.layers import BatchNorm, Conv2D, Dense, Flatten, Parameter, Residual, Sequential
from xpnet.layers.parameter import ParameterStore
from xpnet.testing import assert_close


def _model(rng=0):
    body = Sequential(Conv2D(3, 3, padding=1, bias=False), BatchNorm())
    return Sequential(Conv2D(3, 3), Residual(body), Flatten(), Dense(2)).build((1, 5, 5), rng=rng)


def _flat(arrays):
    return np.concatenate([_lying(a).ravel() for a in arrays])


def _lying(a):
    """Return the numbers of an array in the order in which they are to lie in memory: torch's, as it convolves them."""
    host = np.array(backend.to_numpy(a))
    of_torch = backend.array_namespace(a).__name__.endswith(".torch")
    return host.transpose(0, 2, 3, 1) if host.ndim == 4 and of_torch else host


def test_views_of_one_buffer(xp, rng):
    model = _model()
    (segment,) = model.store.segments
    parameters = model.parameters()
    assert segment.parameters == parameters
    assert segment.data.shape == segment.grad.shape == (sum(p.size for p in parameters),)
    for flat, arrays in ((segment.data, [p.data for p in parameters]), (segment.grad, [p.grad for p in parameters])):
        assert np.array_equal(xp.to_numpy(flat), _flat(arrays))
        flat[...] = xp.asarray(rng.normal(size=flat.shape), "float32")  # one way
        assert np.array_equal(xp.to_numpy(flat), _flat(arrays))
        for a in arrays:  # and the other
            a[...] = xp.asarray(rng.normal(size=tuple(a.shape)), "float32")
        assert np.array_equal(xp.to_numpy(flat), _flat(arrays))


def test_weights_lie_as_torch_convolves_them(rng):
    """Else it would convert them in every forward and backward."""
    torch = pytest.importorskip("torch")
    with backend.using("torch"):
        model = Sequential(Conv2D(4, 3), Conv2D(5, 2), Flatten(), Dense(2)).build((3, 6, 6))
        model.load_state_dict(model.state_dict())
        for conv in (model[0], model[1]):
            for a in (conv.W.data, conv.W.grad):
                assert a.is_contiguous(memory_format=torch.channels_last)


def test_gradients_arrive_in_the_buffer(xp, rng):
    model = _model()
    model.backward(model.forward(xp.asarray(rng.normal(size=(4, 1, 5, 5)), "float32")))
    (segment,) = model.store.segments
    assert np.array_equal(xp.to_numpy(segment.grad), _flat([p.grad for p in model.parameters()]))
    assert xp.to_numpy(segment.grad).any()
    model.zero_grad()
    assert not xp.to_numpy(segment.grad).any()
    assert model.store.segments[0] is segment


def test_building_keeps_the_drawn_values():
    """Gathering must not mix values up: each layer has what it has when its parameters stand alone."""
    with backend.using("numpy"):
        model = _model(rng=7)
        rng = np.random.Generator(np.random.Philox(key=np.array([7, 0], dtype=np.uint64)))
        alone = Conv2D(3, 3).build((1, 5, 5), rng=rng)
    assert np.array_equal(model[0].W.data, alone.W.data)
    assert np.array_equal(model[1].body[1].gamma.data, np.ones(3))
    assert not model[3].b.data.any()


def test_one_segment_per_float_type(xp, rng):
    with backend.using(xp.backend_name, dtype="float64"):
        wide = Dense(3).build((4,))
    first, last = Dense(4), Dense(2)
    first.build((5,))
    model = Sequential(first, wide, last).build((5,))
    segments = model.store.segments
    assert [[p.name for p in s.parameters] for s in segments] == [["0.W", "0.b", "2.W", "2.b"], ["1.W", "1.b"]]
    assert [backend.dtype_name(s.data.dtype) for s in segments] == ["float32", "float64"]
    assert [s.data.shape for s in segments] == [(32,), (15,)]
    before = [p.data * 1.0 for p in model.parameters()]
    for p in model.parameters():
        p.grad[...] = 1.0
    optimizer = optim.Momentum(0.5, weight_decay=0.1)
    optimizer.update(model)
    for p, w in zip(model.parameters(), before, strict=True):
        w = xp.to_numpy(w)
        assert_close(p.data, w - 0.5 * (1 + 0.1 * w * p.name.endswith("W")))
    assert set(optimizer.state_dict()) == {"step", "lr", *(f"v.{p.name}" for p in model.parameters())}
    model.zero_grad()
    assert not _flat([p.grad for p in model.parameters()]).any()


def test_one_value_for_each_parameter(xp):
    model = _model()
    (segment,) = model.store.segments
    expected = np.concatenate([np.full(p.size, p.name.endswith("W")) for p in model.parameters()])
    assert np.array_equal(
        xp.to_numpy(segment.per_element([p.decay for p in segment.parameters])), expected.astype(np.float32)
    )


def test_model_that_becomes_part_of_a_larger_one(xp, rng):
    """Whoever clears or updates, parent or child, in any order, sees the same parameters."""
    child = Sequential(Dense(3), Dense(3)).build((3,), rng=1)
    weights = _flat([p.data for p in child.parameters()])
    assert child.parameters()[0].name == "0.W"
    parent = Sequential({"child": child, "out": Dense(2)}).build((3,), rng=2)
    assert np.array_equal(_flat([p.data for p in child.parameters()]), weights)
    assert child.parameters()[0].name == "child.0.W"
    of_child, of_parent = optim.Momentum(0.02), optim.Momentum(0.01)
    expected = {p.name: np.array(xp.to_numpy(p.data), np.float64) for p in parent.parameters()}
    speed = [dict.fromkeys(expected, 0.0), dict.fromkeys(expected, 0.0)]
    x, dy = xp.asarray(rng.normal(size=(4, 3)), "float32"), xp.asarray(rng.normal(size=(4, 2)), "float32")
    for who in rng.permutation([0, 1] * 4):
        model = (child, parent)[who]
        for p in parent.parameters():
            p.grad[...] = 1.0
        model.zero_grad()
        kept = [xp.to_numpy(p.grad).max() for p in parent.parameters()]
        assert kept == [0, 0, 0, 0, 1, 1] if who == 0 else kept == [0] * 6
        parent.zero_grad()
        parent.forward(x)
        parent.backward(dy)
        (of_child, of_parent)[who].update(model)
        for p in model.parameters():
            speed[who][p.name] = 0.9 * speed[who][p.name] - (0.02, 0.01)[who] * xp.to_numpy(p.grad)
            expected[p.name] += speed[who][p.name]
        for p in parent.parameters():
            assert_close(p.data, expected[p.name], terms=8)


def test_parameters_shared_by_two_models(rng):
    shared = Dense(3)
    first, second = Sequential(shared, Dense(2)), Sequential(shared, Dense(4))
    first.build((3,), rng=1)
    second.build((3,), rng=2)
    first[0].W.data[...] = 5.0
    assert (second.parameters()[0].data == 5.0).all()
    for model in (first, second, first):
        store = model.store
        assert store.is_current()
        store.segments[0].data[0] += 1.0
        assert shared.W.data[0, 0] == store.segments[0].data[0]
    assert shared.W.data[0, 0] == 8.0


def _train(model, optimizer, xs, dys):
    outputs = []
    for x, dy in zip(xs, dys, strict=True):
        model.zero_grad()
        outputs.append(np.array(backend.to_numpy(model.forward(x))))
        model.backward(dy, need_dx=False)
        optimizer.update(model)
    return outputs


@pytest.mark.parametrize("make", [optim.SGD, optim.Nesterov, optim.Adam, optim.AdamW], ids=lambda m: m.__name__)
def test_without_writable_views(xp, rng, monkeypatch, make):
    """On a library whose slices are copies each parameter stands alone, and the results are equal."""
    xs = [xp.asarray(rng.normal(size=(4, 1, 5, 5)), "float32") for _ in range(3)]
    dys = [xp.asarray(rng.normal(size=(4, 2)), "float32") for _ in range(3)]
    flat, one = _model(), make(0.05, weight_decay=0.1)
    expected = _train(flat, one, xs, dys)
    monkeypatch.setattr(backend, "has_writable_views", lambda namespace: False)
    apart, other = _model(), make(0.05, weight_decay=0.1)
    assert [len(s.parameters) for s in apart.store.segments] == [1] * len(apart.parameters())
    assert all(s.data is p.data for s, p in zip(apart.store.segments, apart.parameters(), strict=True))
    for a, b in zip(_train(apart, other, xs, dys), expected, strict=True):
        assert np.array_equal(a, b)
    for p, q in zip(apart.parameters(), flat.parameters(), strict=True):
        assert np.array_equal(xp.to_numpy(p.data), xp.to_numpy(q.data)), p.name
    resumed = make(0.05, weight_decay=0.1)
    resumed.load_state_dict(other.state_dict(), apart)
    assert_close(apart(xs[0]), flat(xs[0]))


def test_parameter(xp, rng):
    data = xp.asarray(rng.normal(size=(2, 3)), "float32")
    p = Parameter(data, name="a.W")
    assert p.data is data
    assert (p.shape, p.size, p.decay) == ((2, 3), 6, True)
    assert not xp.to_numpy(p.grad).any()
    g = xp.asarray(rng.normal(size=(2, 3)), "float32")
    p.accumulate(g)
    p.accumulate(g)
    assert_close(p.grad, 2 * xp.to_numpy(g))
    assert repr(p).startswith("Parameter(a.W, shape=(2, 3), ")
    assert "float32" in repr(p)
    assert repr(Parameter(data)).startswith("Parameter(unnamed")


def test_empty_store():
    store = ParameterStore([])
    store.zero_grad()
    assert store.segments == []
    assert store.is_current()
    model = Sequential(Flatten()).build((3,))
    model.zero_grad()
    optim.Adam().update(model)  # nothing to learn is no error
    assert model.state_dict() == {}


def test_parameter_names_and_order():
    block = Residual(Sequential({"conv": Conv2D(2, 3, padding=1, bias=False), "norm": BatchNorm()}), Conv2D(2, 1))
    shared = Dense(4)
    model = Sequential(
        {"stem": Conv2D(2, 1), "block": block, "flatten": Flatten(), "a": Dense(4), "b": shared, "c": shared}
    )
    model.build((1, 2, 2))
    names = [name for name, _ in model.named_parameters()]
    assert names == ["stem.W", "stem.b", "block.body.conv.W", "block.body.norm.gamma", "block.body.norm.beta",
                     "block.shortcut.W", "block.shortcut.b", "a.W", "a.b", "b.W", "b.b"]  # fmt: skip
    assert [p.name for p in model.parameters()] == names
    assert [path for path, *_ in model.named_buffers()] == [
        "block.body.norm.running_mean",
        "block.body.norm.running_var",
    ]
    assert list(model.state_dict()) == [*names, "block.body.norm.running_mean", "block.body.norm.running_var"]
    assert next(name for name, _ in block.named_parameters()) == "body.conv.W"  # seen from the block


def test_weight_decay_is_for_weights_alone():
    model = Sequential(Conv2D(2, 3), BatchNorm(), Flatten(), Dense(2)).build((1, 5, 5))
    assert {p.name for p in model.parameters() if p.decay} == {"0.W", "3.W"}


def test_gathering_anew_keeps_gradients(xp):
    """Micro-batches may add up on both sides of a call that moves the buffers."""
    child = Dense(3).build((2,))
    parent = Sequential(child, Dense(2)).build((2,))
    for p in parent.parameters():
        p.grad[...] = float(p.size)
    for model in (child, parent):
        assert model.store.is_current()
        for p in parent.parameters():
            assert (xp.to_numpy(p.grad) == p.size).all()
