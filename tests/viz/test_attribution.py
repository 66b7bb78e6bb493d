"""Saliency and Grad-CAM against central differences and torch, on every backend, without a trace in the model."""

import numpy as np
import pytest

from xpnet.backend import to_numpy
from xpnet.errors import ArgumentError, DTypeError, ShapeError, StateError
from xpnet.layers import Conv2D, Dense, Flatten, Layer, Pool2D, Sequential
from xpnet.models import LeNet
from xpnet.testing import assert_close
from xpnet.viz import grad_cam, plot_grad_cam, plot_saliency, saliency


def _trained(model, x):
    """Build for float64 where x is, with running statistics that differ from those of a new model."""
    model.forward(x, train=True)
    model.forget()
    return model


def _differences(scores, x, eps=1e-6):
    """Central differences of scores, a function of a batch: all moved copies of `x` in one forward."""
    moves = eps * np.eye(x.size).reshape(x.size, *x.shape)
    y = scores(np.concatenate([x + moves, x - moves]))
    return ((y[: x.size] - y[x.size :]) / (2 * eps)).reshape(x.shape)


def test_saliency_is_the_largest_central_difference_among_the_channels(xp, rng, branching, untouched):
    x = rng.normal(size=(2, 2, 4, 4))
    model = _trained(branching(), xp.asarray(x, "float64"))
    with untouched(model, xp.asarray(x, "float64")):
        scores = to_numpy(model(xp.asarray(x, "float64")))
        M = xp.to_numpy(saliency(model, xp.asarray(x, "float64"), np.array([2, 0])))
        predicted = xp.to_numpy(saliency(model, xp.asarray(x, "float64")))
    for n, t in enumerate((2, 0)):
        dx = _differences(lambda images, t=t: to_numpy(model(xp.asarray(images, "float64")))[:, t], x[n])
        assert_close(M[n], abs(dx).max(axis=0), rtol=1e-5, atol=1e-8)
    again = saliency(model, xp.asarray(x, "float64"), scores.argmax(axis=1))
    assert_close(predicted, to_numpy(again), rtol=0, atol=0)


def test_labels_may_be_one_hot_or_one_number(rng, branching):
    x = rng.normal(size=(2, 2, 4, 4))
    model = _trained(branching(), x)
    M = saliency(model, x, np.array([1, 2]))
    assert np.array_equal(M, saliency(model, x, np.eye(3)[[1, 2]]))
    assert_close(saliency(model, x[:1], 1), M[:1], rtol=1e-12)  # BLAS may sum in another order


def test_saliency_and_grad_cam_of_nhwc_are_those_of_nchw(rng, branching):
    x = rng.normal(size=(2, 2, 4, 4))
    model, other = branching().build((2, 4, 4), rng=3), branching("NHWC").build((4, 4, 2), rng=3)
    state = model.state_dict()
    # dense weights see the features in another order
    state["output.W"] = state["output.W"].reshape(5, 2, 2, 3).transpose(1, 2, 0, 3).reshape(20, 3)
    other.load_state_dict(state)
    nhwc = np.moveaxis(x, 1, -1)
    assert_close(saliency(other, nhwc, 2 * np.ones(2, int)), saliency(model, x, 2 * np.ones(2, int)), rtol=1e-5)
    assert_close(grad_cam(other, nhwc, None, "block"), grad_cam(model, x, None, "block"), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", ["conv", "norm", "block", "join", "pool", "block.body.1"])
def test_grad_cam_weighs_maps_by_what_raising_them_does(xp, rng, branching, untouched, layer):
    """Raising a whole map by eps moves the score by eps * sum of dS/dA: the paper's alpha times the map's size."""
    x = rng.normal(size=(1, 2, 4, 4))
    model = _trained(branching(), xp.asarray(x, "float64"))
    with untouched(model, xp.asarray(x, "float64")):
        L = xp.to_numpy(grad_cam(model, xp.asarray(x, "float64"), 1, layer))

    names = list(model.children())
    top = layer.partition(".")[0]

    def run(y, some):
        for name in some:
            y = model[name](y)
        return y

    before = run(xp.asarray(x, "float64"), names[: names.index(top)])
    if layer == "block.body.1":
        body = model["block"].body
        A = to_numpy(body[1](body[0](before)))
        tail = lambda a: run(a + before, names[names.index("block") + 1 :])
    else:
        A = to_numpy(model[top](before))
        tail = lambda a: run(a, names[names.index(top) + 1 :])
    score = lambda d: to_numpy(tail(xp.asarray(A + d[:, :, None, None], "float64")))[:, 1]
    alpha = _differences(score, np.zeros(A.shape[1])) / A[0, 0].size
    expected = np.maximum(np.einsum("k,khw->hw", alpha, A[0]), 0.0)
    assert_close(L[0], expected, rtol=1e-5, atol=1e-8)


def test_both_against_torch(rng):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(3, 3, 12, 12))
    model = Sequential(Conv2D(5, 3, activation="relu"), Pool2D(2), Conv2D(4, 3, padding=1), Flatten(), Dense(6))
    model.forward(x, train=False)
    W1, b1, W2, b2, W3, b3 = (torch.from_numpy(p.data.copy()) for p in model.parameters())
    xt = torch.from_numpy(x.copy()).requires_grad_()
    F = torch.nn.functional
    A = F.conv2d(F.max_pool2d(F.relu(F.conv2d(xt, W1, b1)), 2), W2, b2, padding=1)
    A.retain_grad()
    scores = A.flatten(1) @ W3 + b3
    t = np.array([0, 5, 2])
    scores[torch.arange(3), torch.from_numpy(t)].sum().backward()
    assert_close(saliency(model, x, t), xt.grad.abs().amax(dim=1).numpy(), rtol=1e-9)
    cam = F.relu((A.grad.mean(dim=(2, 3), keepdim=True) * A).sum(dim=1)).detach().numpy()
    assert_close(grad_cam(model, x, t, "2"), cam, rtol=1e-9)


def test_arrays_of_another_backend_and_type_go_to_the_model(xp, rng):
    model = LeNet(activation="relu").build((1, 28, 28), rng=1)
    x = rng.random((1, 1, 28, 28))
    expected = saliency(model, xp.asarray(x, "float32"), 3)
    assert_close(xp.to_numpy(saliency(model, x, 3)), xp.to_numpy(expected), rtol=0, atol=0)


def test_figures_show_image_and_map(xp, rng, untouched):
    from matplotlib.figure import Figure

    image = rng.random((1, 28, 28)).astype(np.float32)
    model = LeNet(activation="relu").build((1, 28, 28), rng=1)
    names = [f"class {k}" for k in range(10)]
    with untouched(model, xp.asarray(image[None], "float32")):
        figure = plot_saliency(model, xp.asarray(image, "float32"), 4, classes=names)
        shown, M = figure.axes
        assert [ax.get_title() for ax in figure.axes] == ["image", "saliency of class 4"]
        assert np.array_equal(shown.images[0].get_array(), image[0])
        expected = to_numpy(saliency(model, xp.asarray(image[None], "float32"), 4))
        assert np.array_equal(M.images[0].get_array(), expected[0])

        predicted = int(to_numpy(model(xp.asarray(image[None], "float32"))).argmax())
        own = Figure()
        axes = own.subplots(1, 2)
        assert plot_grad_cam(model, xp.asarray(image, "float32"), None, "conv2", classes=names, ax=axes) is own
    under, over = axes[1].images
    assert axes[1].get_title() == f"Grad-CAM of class {predicted} at conv2"
    assert np.array_equal(under.get_array(), image[0])
    cam = to_numpy(grad_cam(model, xp.asarray(image[None], "float32"), predicted, "conv2"))
    assert np.array_equal(over.get_array(), cam[0])
    assert over.get_extent() == under.get_extent()  # 8x8 maps laid over 28x28 pixels


class _Wrapped(Layer):
    """A layer around another, with a forward of its own."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def output_shape(self, input_shape):
        return self.inner.output_shape(input_shape)

    def _build_tree(self, input_shape, maker):
        self.inner._build_tree(input_shape, maker)
        super()._build_tree(input_shape, maker)

    def _forward(self, x, train):
        return 2.0 * self.inner.forward(x, train), None

    def _backward(self, dy, ctx, need_dx):
        return self.inner.backward(2.0 * dy, need_dx=need_dx)


def test_what_cannot_be_done_is_said(rng):
    x = rng.random((2, 1, 28, 28))
    model = LeNet()
    with pytest.raises(StateError, match=r"LeNet: saliency needs parameters; call model.build"):
        saliency(model, x)
    model.build((1, 28, 28))
    with pytest.raises(ArgumentError, match=r"must be 2 class numbers from 0 to 9, one for each image, got \[3, 10\]"):
        saliency(model, x, np.array([3, 10]))
    with pytest.raises(ArgumentError, match="one for each image"):
        saliency(model, x, 3)
    with pytest.raises(ArgumentError, match="t must be class numbers"):
        saliency(model, x, np.array([0.5, 1.0]))
    with pytest.raises(DTypeError, match="x must hold floating-point numbers, got uint8"):
        saliency(model, np.zeros((2, 1, 28, 28), np.uint8))
    with pytest.raises(ShapeError, match="x must be images with 4 axes"):
        saliency(model, x[0])
    with pytest.raises(ShapeError, match="image must be one image with 3 axes"):
        plot_saliency(model, x)
    with pytest.raises(ValueError, match="plot_saliency: 2 axes needed, one for the image and one for the map; got 1"):
        plot_saliency(model, x[0], ax=[object()])
    with pytest.raises(ArgumentError, match=r"the LeNet has no layer 'conv3'.* has conv1, pool1, .*, output"):
        grad_cam(model, x, None, "conv3")
    with pytest.raises(
        ArgumentError, match=r"'dense1' is no image; layers that give images: conv1, pool1, conv2, pool2$"
    ):
        grad_cam(model, x, None, "dense1")
    with pytest.raises(ShapeError, match=r"must give class scores \(N, K\), but gives \(2, 4, 26, 26\)"):
        saliency(Conv2D(4, 3).build((1, 28, 28)), x)
    with pytest.raises(ShapeError, match=r'linear \(layer "dense1"\)'):
        saliency(model, rng.random((2, 1, 32, 32)))
    wrapped = Sequential({"flatten": Flatten(), "wrapped": _Wrapped(Dense(3))}).build((1, 4, 4))
    with pytest.raises(ArgumentError, match="no gradient is known through wrapped, a _Wrapped with a forward"):
        saliency(wrapped, rng.random((1, 1, 4, 4)))
