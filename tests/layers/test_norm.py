"""The batch normalisation layer against the functional pair and torch, running statistics included."""

import numpy as np
import pytest

from xpnet import backend
from xpnet import functional as F
from xpnet.errors import ArgumentError, ShapeError
from xpnet.layers import BatchNorm, Sequential
from xpnet.testing import assert_close


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(3,), (3, 4, 5)])
def test_equals_the_functional_pair(xp, rng, shape, affine):
    layer = BatchNorm(momentum=0.3, eps=1e-3, affine=affine).build(shape)
    gamma = beta = None
    if affine:
        layer.gamma.data[...] = gamma = xp.asarray(rng.normal(size=3), "float32")
        layer.beta.data[...] = beta = xp.asarray(rng.normal(size=3), "float32")
    else:
        assert layer.parameters() == []
    mean, var = xp.asarray(np.zeros(3), "float32"), xp.asarray(np.ones(3), "float32")
    for step in range(3):
        x = xp.asarray(2 + 3 * rng.normal(size=(6, *shape)), "float32")
        dy = xp.asarray(rng.normal(size=(6, *shape)), "float32")
        y, ctx, mean, var = F.batch_norm_forward(x, gamma, beta, mean, var, train=True, momentum=0.3, eps=1e-3)
        dx, dgamma, dbeta = F.batch_norm_backward(dy, ctx)
        assert np.array_equal(xp.to_numpy(layer.forward(x)), xp.to_numpy(y))
        layer.forward(x, train=False)  # inference leaves the statistics alone
        if affine:
            layer.zero_grad()
        assert np.array_equal(xp.to_numpy(layer.backward(dy)), xp.to_numpy(dx))
        if affine:
            assert np.array_equal(xp.to_numpy(layer.gamma.grad), xp.to_numpy(dgamma))
            assert np.array_equal(xp.to_numpy(layer.beta.grad), xp.to_numpy(dbeta))
        assert np.array_equal(xp.to_numpy(layer.running_mean), xp.to_numpy(mean)), step
        assert np.array_equal(xp.to_numpy(layer.running_var), xp.to_numpy(var))
    y, *_ = F.batch_norm_forward(x, gamma, beta, mean, var, train=False, eps=1e-3)
    assert np.array_equal(xp.to_numpy(layer(x)), xp.to_numpy(y))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(3,), (3, 4, 5)])
def test_equals_torch_over_several_steps(rng, shape, momentum, affine):
    torch = pytest.importorskip("torch")
    kind = torch.nn.BatchNorm1d if len(shape) == 1 else torch.nn.BatchNorm2d
    theirs = kind(3, momentum=momentum, affine=affine, dtype=torch.float64)
    with backend.using("numpy", dtype="float64"):
        layer = BatchNorm(momentum=momentum, affine=affine).build(shape)
    if affine:
        with torch.no_grad():
            theirs.weight[...] = torch.tensor(rng.normal(size=3))
            theirs.bias[...] = torch.tensor(rng.normal(size=3))
        layer.gamma.data[...], layer.beta.data[...] = theirs.weight.detach().numpy(), theirs.bias.detach().numpy()
    terms = 8 * int(np.prod(shape[1:]))
    for _ in range(4):
        x = torch.tensor(1 + 2 * rng.normal(size=(8, *shape)), requires_grad=True)
        theirs.train()
        y = theirs(x)
        dy = rng.normal(size=tuple(y.shape))
        y.backward(torch.tensor(dy))
        assert_close(layer.forward(x.detach().numpy()), y.detach().numpy(), terms=terms)
        assert_close(layer.backward(dy), x.grad.numpy(), terms=terms)
        assert_close(layer.running_mean, theirs.running_mean.numpy(), terms=terms)
        assert_close(layer.running_var, theirs.running_var.numpy(), terms=terms)
        theirs.eval()
        assert_close(layer(x.detach().numpy()), theirs(x).detach().numpy(), terms=terms)
    if affine:  # both have added up the gradients of all steps
        assert_close(layer.gamma.grad, theirs.weight.grad.numpy(), terms=4 * terms)
        assert_close(layer.beta.grad, theirs.bias.grad.numpy(), terms=4 * terms)


def test_nhwc_equals_nchw(xp, rng):
    x, dy = rng.normal(size=(2, 6, 3, 4, 5)).astype(np.float32)
    first, last = BatchNorm().build((3, 4, 5)), BatchNorm(data_format="NHWC").build((4, 5, 3))
    assert last.gamma.shape == (3,)
    y, y_last = first.forward(xp.asarray(x)), last.forward(xp.asarray(x.transpose(0, 2, 3, 1)))
    assert_close(y_last, xp.to_numpy(y).transpose(0, 2, 3, 1), terms=120)
    dx, dx_last = first.backward(xp.asarray(dy)), last.backward(xp.asarray(dy.transpose(0, 2, 3, 1)))
    assert_close(dx_last, xp.to_numpy(dx).transpose(0, 2, 3, 1), terms=120)
    assert_close(last.gamma.grad, xp.to_numpy(first.gamma.grad), terms=120)
    assert_close(last.running_var, xp.to_numpy(first.running_var), terms=120)


def test_half_keeps_statistics_in_float32(rng):
    with backend.using("numpy", dtype="float16"):
        layer = BatchNorm().build((3,))
    layer.forward(rng.normal(size=(4, 3)).astype(np.float16))
    assert layer.gamma.data.dtype == np.float16
    assert layer.running_mean.dtype == layer.running_var.dtype == np.float32


def test_no_weight_decay():
    layer = BatchNorm().build((3,))
    assert [(p.name, p.decay) for p in layer.parameters()] == [("gamma", False), ("beta", False)]


def test_errors():
    with pytest.raises(ArgumentError, match="BatchNorm: data_format must be one of NCHW, NHWC, got 'NC'"):
        BatchNorm(data_format="NC")
    with pytest.raises(ShapeError, match=r"BatchNorm: the input must be images or features.*got shape \(3, 4\)"):
        BatchNorm().build((3, 4))
    x = np.ones((4, 3), np.float32)
    for settings, text in (
        ({"momentum": 1.5}, "momentum must be between 0 and 1, got 1.5"),
        ({"eps": 0.0}, "eps must"),
    ):
        with pytest.raises(ArgumentError, match=text):
            Sequential(BatchNorm(**settings)).forward(x)
    layer = BatchNorm().build((3,))
    with pytest.raises(ShapeError, match=r"one value per channel has no variance.*train with a larger batch"):
        layer.forward(x[:1])
    with pytest.raises(ShapeError, match=r"gamma must have shape \(C,\) = \(5,\)"):
        layer.forward(np.ones((4, 5), np.float32))
    assert np.array_equal(layer.running_mean, np.zeros(3))  # nothing of this has left a trace
    assert layer._pending == []


def test_repr():
    assert repr(BatchNorm()) == "BatchNorm()"
    assert repr(BatchNorm(momentum=0.2, affine=False)) == "BatchNorm(momentum=0.2, affine=False)"


# --- momentum=None: the average over all batches -------------------------------------------------


def test_cumulative_average(xp, rng):
    layer = BatchNorm(momentum=None).build((3,))
    x = rng.normal(2.0, 3.0, size=(5, 8, 3)).astype(np.float32)
    for i, batch in enumerate(x, start=1):
        layer.forward(xp.asarray(batch))
        layer.predict(xp.asarray(batch))  # inference does not count
        assert xp.to_numpy(layer.batches).tolist() == [i]
        assert_close(layer.running_mean, x[:i].mean(axis=1, dtype=np.float64).mean(axis=0), terms=8)
        assert_close(layer.running_var, x[:i].var(axis=1, ddof=1, dtype=np.float64).mean(axis=0), terms=8)
    assert repr(layer) == "BatchNorm(momentum=None)"


def test_cumulative_average_against_torch(rng):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.BatchNorm2d(3, momentum=None, dtype=torch.float64)
    with backend.using("numpy", dtype="float64"):
        layer = BatchNorm(momentum=None).build((3, 2, 2))
    for _ in range(4):
        x = rng.normal(size=(4, 3, 2, 2))
        layer.forward(x)
        theirs(torch.tensor(x))
        assert_close(layer.running_mean, theirs.running_mean.numpy())
        assert_close(layer.running_var, theirs.running_var.numpy())


def test_the_number_of_batches_is_saved(xp, rng):
    x = [xp.asarray(rng.normal(size=(8, 3)), "float32") for _ in range(4)]
    whole, half, resumed = (BatchNorm(momentum=None).build((3,)) for _ in range(3))
    for batch in x:
        whole.forward(batch)
    for batch in x[:2]:
        half.forward(batch)
    resumed.load_state_dict(half.state_dict())
    for batch in x[2:]:
        resumed.forward(batch)
    for name, a in whole.state_dict().items():
        assert np.array_equal(xp.to_numpy(a), xp.to_numpy(resumed.state_dict()[name])), name
    assert "batches" not in BatchNorm().build((3,)).state_dict()  # files of fixed momentum stay what they were


def test_a_refused_batch_does_not_count():
    layer = BatchNorm(momentum=None)
    with pytest.raises(ShapeError, match="one value per channel has no variance"):
        layer.forward(np.ones((1, 3), np.float32))
    assert layer.batches.tolist() == [0.0]
