"""LayerNorm, GroupNorm, InstanceNorm and LocalResponseNorm against the functional pairs; formats, state, errors."""

import numpy as np
import pytest

from xpnet import backend
from xpnet import functional as F
from xpnet.errors import ArgumentError, ShapeError
from xpnet.layers import Conv2D, Dense, Flatten, GroupNorm, InstanceNorm, LayerNorm, LocalResponseNorm, Sequential
from xpnet.testing import assert_close

LAYERS = {
    "layer_norm": (lambda **o: LayerNorm(eps=1e-3, **o), {"eps": 1e-3}),
    "group_norm": (lambda **o: GroupNorm(2, eps=1e-3, **o), {"eps": 1e-3, "groups": 2}),
    "instance_norm": (lambda **o: InstanceNorm(eps=1e-3, **o), {"eps": 1e-3}),
}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(4,), (4, 2, 3)])
@pytest.mark.parametrize("op", LAYERS)
def test_equals_the_functional_pair(xp, rng, op, shape, affine):
    if op == "instance_norm" and len(shape) == 1:
        with pytest.raises(ShapeError, match="InstanceNorm: one value to normalise has no variance"):
            InstanceNorm().build(shape)
        return
    make, options = LAYERS[op]
    layer = make(affine=affine).build(shape)
    parameters = [None, None]
    if affine:
        for p in layer.parameters():
            p.data[...] = xp.asarray(rng.normal(size=p.shape), "float32")
        parameters = [layer.gamma.data, layer.beta.data]
        assert [p.decay for p in layer.parameters()] == [False, False]
        assert layer.gamma.shape == (shape if op == "layer_norm" else (4,))
    else:
        assert layer.parameters() == []
    x = xp.asarray(rng.normal(size=(3, *shape)), "float32")
    dy = xp.asarray(rng.normal(size=(3, *shape)), "float32")
    y, ctx = getattr(F, f"{op}_forward")(x, *parameters, **options)
    expected = getattr(F, f"{op}_backward")(dy, ctx)
    assert np.array_equal(xp.to_numpy(layer.forward(x)), xp.to_numpy(y))
    assert np.array_equal(xp.to_numpy(layer.predict(x)), xp.to_numpy(y))
    assert np.array_equal(xp.to_numpy(layer.backward(dy)), xp.to_numpy(expected[0]))
    for p, gradient in zip(layer.parameters(), expected[1:], strict=False):
        assert np.array_equal(xp.to_numpy(p.grad), xp.to_numpy(gradient))
    layer.forward(x)
    assert layer.backward(dy, need_dx=False) is None


@pytest.mark.parametrize("op", [*LAYERS, "local_response_norm"])
def test_nhwc_equals_nchw(xp, rng, op):
    make = LAYERS[op][0] if op in LAYERS else (lambda **o: LocalResponseNorm(3, alpha=1.0, k=2.0, **o))
    affine = {"affine": True} if op in LAYERS else {}
    first = make(**affine).build((4, 2, 3))
    last = make(data_format="NHWC", **affine).build((2, 3, 4))
    for p in first.parameters():
        p.data[...] = xp.asarray(rng.normal(size=p.shape), "float32")
    last.load_state_dict(first.state_dict())  # weights do not depend on the format
    x, dy = rng.normal(size=(2, 3, 4, 2, 3)).astype(np.float32)
    y, y_last = first.forward(xp.asarray(x)), last.forward(xp.asarray(x.transpose(0, 2, 3, 1)))
    assert_close(y_last, xp.to_numpy(y).transpose(0, 2, 3, 1), terms=10)
    dx, dx_last = first.backward(xp.asarray(dy)), last.backward(xp.asarray(dy.transpose(0, 2, 3, 1)))
    assert_close(dx_last, xp.to_numpy(dx).transpose(0, 2, 3, 1), terms=10)
    for p, q in zip(first.parameters(), last.parameters(), strict=True):
        assert_close(q.grad, xp.to_numpy(p.grad), terms=10)


def test_local_response_equals_the_functional_pair(xp, rng):
    layer = LocalResponseNorm(4, alpha=1.0, beta=0.5, k=2.0).build((5, 2, 3))
    x, dy = (xp.asarray(a, "float32") for a in rng.normal(size=(2, 3, 5, 2, 3)))
    y, ctx = F.local_response_norm_forward(x, size=4, alpha=1.0, beta=0.5, k=2.0)
    assert np.array_equal(xp.to_numpy(layer.forward(x)), xp.to_numpy(y))
    assert np.array_equal(xp.to_numpy(layer.backward(dy)), xp.to_numpy(F.local_response_norm_backward(dy, ctx)))
    layer.forward(x)
    assert layer.backward(dy, need_dx=False) is None


@pytest.mark.parametrize("train", [True, False])
def test_in_a_network_on_half_floats(rng, train):
    with backend.using("numpy", dtype="float16"):
        model = Sequential(
            Conv2D(4, 3), GroupNorm(2), LayerNorm(), InstanceNorm(), LocalResponseNorm(), Flatten(), Dense(2)
        )
        model.build((1, 6, 6))
    y = model.forward(rng.normal(size=(2, 1, 6, 6)).astype(np.float16), train=train)
    assert y.dtype == np.float16
    if train:
        assert model.backward(y).dtype == np.float16


def test_summary_counts_what_is_kept():
    def kept(layer, shape=(4, 2, 3)):
        return layer.summary(shape).kept_bytes

    assert kept(LayerNorm()) == 24 * 4 + 2 * 4
    assert kept(GroupNorm(2)) == 24 * 4 + 2 * 2 * 4
    assert kept(InstanceNorm()) == 24 * 4 + 4 * 2 * 4
    assert kept(LocalResponseNorm()) == 24 * 4 * 2
    assert LayerNorm().summary((4, 2, 3)).parameters == 48
    assert InstanceNorm().summary((4, 2, 3)).parameters == 0


@pytest.mark.parametrize(
    "make, shape, error, text",
    [
        (lambda: LayerNorm(eps=0.0), None, ArgumentError, r"LayerNorm: eps must be above 0, got 0\.0"),
        (lambda: InstanceNorm(data_format="CHW"), None, ArgumentError, "InstanceNorm: data_format must be one of"),
        (lambda: LocalResponseNorm(data_format="CHW"), None, ArgumentError, "LocalResponseNorm: data_format must be"),
        (lambda: GroupNorm(0), None, ArgumentError, "GroupNorm: groups must be a number of groups, at least 1, got 0"),
        (lambda: GroupNorm(3), (4, 2, 2), ArgumentError, "groups must divide the 4 channels of the input, got 3"),
        (lambda: GroupNorm(3, data_format="NHWC"), (3, 3, 4), ArgumentError, "divide the 4 channels"),
        (lambda: GroupNorm(4), (4,), ShapeError, "GroupNorm: one value to normalise has no variance"),
        (lambda: LayerNorm(), (1,), ShapeError, "LayerNorm: one value to normalise has no variance"),
        (lambda: InstanceNorm(), (4, 1, 1), ShapeError, "InstanceNorm: one value to normalise has no variance"),
        (lambda: GroupNorm(2), (4, 2), ShapeError, r"GroupNorm: the input must be images or features.*\(4, 2\)"),
        (lambda: LocalResponseNorm(), (4, 2), ShapeError, r"LocalResponseNorm: the input must be images or features"),
    ],
)
def test_errors(make, shape, error, text):
    with pytest.raises(error, match=text):
        make().build(shape)


def test_repr():
    assert repr(LayerNorm()) == "LayerNorm()"
    assert repr(GroupNorm(2, affine=False)) == "GroupNorm(groups=2, affine=False)"
    assert repr(InstanceNorm(affine=True)) == "InstanceNorm(affine=True)"
    assert repr(LocalResponseNorm(3, k=2.0)) == "LocalResponseNorm(size=3, k=2.0)"
