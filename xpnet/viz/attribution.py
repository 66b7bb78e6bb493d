"""Which parts of an image a class score depends on: saliency maps and Grad-CAM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet.backend import Array, array_namespace, asarray_like, to_numpy
from xpnet.errors import ArgumentError, ShapeError
from xpnet.functional import relu_forward
from xpnet.layers import Layer
from xpnet.layers.data_format import to_nchw
from xpnet.text import listed
from xpnet.viz._drawing import axes_for, picture, show
from xpnet.viz._recording import Recording, class_numbers, find_layer, image_format, on_model, one_image

__all__ = ["grad_cam", "plot_grad_cam", "plot_saliency", "saliency"]


def saliency(model: Layer, x: Array, t: Any = None) -> Array:
    r"""Return how much each pixel moves the score of a class: the largest gradient among its channels.

    .. math:: M_{ij} = \max_c \left| \frac{\partial S_t}{\partial x_{cij}} \right|

    with S_t the model's output for class t, which should be a score and not yet a probability.

    Parameters
    ----------
    model : Layer
        Built, giving scores (N, K); not changed. It runs in inference mode.
    x : array (N, C, H, W), float
        Images as the model takes them (scaled alike; NHWC if its layers are), on any backend.
    t : int, or array (N,) of int, or (N, K) one-hot, optional
        The classes; by default those that the model predicts.

    Returns
    -------
    array (N, H, W)
        At least 0, on the model's backend and in its type.

    Raises
    ------
    ArgumentError
        If `t` does not fit, or the model holds a layer whose children cannot be followed.
    ShapeError
        If `x` are no images or the model gives no scores (N, K).
    StateError
        If the model has not been built.
    DTypeError
        If `x` holds integers.

    References
    ----------
    Simonyan, Vedaldi and Zisserman, *Deep inside convolutional networks*, arXiv:1312.6034, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Dense, Flatten, Sequential
    >>> from xpnet.viz import saliency
    >>> model = Sequential(Flatten(), Dense(2)).build((1, 2, 2), rng=0)
    >>> M = saliency(model, np.ones((1, 1, 2, 2)), 1)  # of a linear model: the weights of the class
    >>> bool(np.all(M.ravel() == abs(model[1].W.data[:, 1])))
    True
    """
    x = on_model("saliency", model, x)
    if len(x.shape) != 4:
        raise ShapeError("saliency", f"x must be images with 4 axes, the batch first, got shape {tuple(x.shape)}")
    recording = Recording("saliency", model, x)
    dx = recording.backward(_one_hot(recording.y, class_numbers("saliency", t, recording.y)))
    xp = array_namespace(dx)
    return xp.max(xp.abs(to_nchw(dx, image_format(model))), axis=1)


def grad_cam(model: Layer, x: Array, t: Any, layer: str) -> Array:
    r"""Return where a layer sees what speaks for a class: its maps, weighted by the mean gradients of the score.

    .. math:: L = \mathrm{relu}\Big(\sum_k \alpha_k A_k\Big), \qquad
        \alpha_k = \frac{1}{hw} \sum_{ij} \frac{\partial S_t}{\partial A_{kij}}

    with A the output of the layer and S_t the score of class t.

    Parameters
    ----------
    model : Layer
        Built, giving scores (N, K); not changed. It runs in inference mode.
    x : array (N, ...), float
        Images as the model takes them, on any backend.
    t : int, or array (N,) of int, or (N, K) one-hot, or None
        The classes; None for those that the model predicts.
    layer : str
        Path of a layer whose output are images; the paper takes the last convolution (with its activation).

    Returns
    -------
    array (N, h, w)
        At least 0, of the size of the layer's maps, on the model's backend and in its type.

    Raises
    ------
    ArgumentError
        If there is no such layer (those that exist are listed), its output is no image, or `t` does not fit.
    ShapeError
        If the model gives no scores (N, K).
    StateError
        If the model has not been built.
    DTypeError
        If `x` holds integers.

    References
    ----------
    Selvaraju et al., *Grad-CAM*, arXiv:1610.02391, equations 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.models import LeNet
    >>> from xpnet.viz import grad_cam
    >>> x = np.random.default_rng(0).random((2, 1, 28, 28))
    >>> grad_cam(LeNet().build((1, 28, 28)), x, None, "conv2").shape
    (2, 8, 8)
    """
    recording = Recording("grad_cam", model, on_model("grad_cam", model, x))
    images = [path for path, y in recording.outputs.items() if path and len(y.shape) == 4]
    if layer not in images:
        find_layer("grad_cam", model, layer)
        there = f"layers that give images: {listed(images)}"
        raise ArgumentError("grad_cam", f"the output of {layer!r} is no image; {there}")
    recording.backward(_one_hot(recording.y, class_numbers("grad_cam", t, recording.y)))
    form = image_format(model)
    A, dA = to_nchw(recording.outputs[layer], form), to_nchw(recording.gradients[layer], form)
    xp = array_namespace(A)
    alpha = xp.mean(dA, axis=(2, 3), keepdims=True)
    return relu_forward(xp.sum(alpha * A, axis=1))[0]


def _one_hot(y: Array, classes: list[int]) -> Array:
    return asarray_like(np.eye(y.shape[1])[classes], y)


def plot_saliency(
    model: Layer, image: Array, t: int | None = None, *, classes: Sequence[str] | None = None, ax: Any = None
) -> Any:
    """Draw an image and, beside it, its `saliency` map: the brighter a pixel, the more it matters.

    Parameters
    ----------
    model : Layer
        Built, giving scores (N, K); not changed.
    image : array (C, H, W), float
        One image as the model takes it, on any backend.
    t : int, optional
        The class; by default the one that the model predicts.
    classes : sequence of str, optional
        Names for the titles.
    ax : sequence of two matplotlib axes, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    OperationError
        As `saliency`.
    ValueError
        If there are too few axes.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.models import LeNet
    >>> from xpnet.viz import plot_saliency
    >>> image = np.random.default_rng(0).random((1, 28, 28))
    >>> figure = plot_saliency(LeNet().build((1, 28, 28)), image, 3)
    >>> [ax.get_title() for ax in figure.axes]
    ['image', 'saliency of 3']
    """
    x = one_image("plot_saliency", model, image)
    number = class_numbers("plot_saliency", t, model.predict(x))[0]
    M = to_numpy(saliency(model, x, number))[0]
    axes = axes_for("plot_saliency", ax, 2, "one for the image and one for the map")
    show(axes[0], picture(to_numpy(to_nchw(x, image_format(model)))[0]), "image")
    show(axes[1], M, f"saliency of {_name(number, classes)}", cmap="hot")
    return axes[0].figure


def plot_grad_cam(
    model: Layer,
    image: Array,
    t: int | None,
    layer: str,
    *,
    classes: Sequence[str] | None = None,
    ax: Any = None,
) -> Any:
    """Draw an image and, beside it, its `grad_cam` map laid over it: the warmer, the more it speaks for the class.

    Parameters
    ----------
    model : Layer
        Built, giving scores (N, K); not changed.
    image : array (C, H, W), float
        One image as the model takes it, on any backend.
    t : int or None
        The class; None for the one that the model predicts.
    layer : str
        As for `grad_cam`.
    classes : sequence of str, optional
        Names for the titles.
    ax : sequence of two matplotlib axes, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    OperationError
        As `grad_cam`.
    ValueError
        If there are too few axes.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.models import LeNet
    >>> from xpnet.viz import plot_grad_cam
    >>> image = np.random.default_rng(0).random((1, 28, 28))
    >>> figure = plot_grad_cam(LeNet().build((1, 28, 28)), image, 3, "conv2")
    >>> [ax.get_title() for ax in figure.axes]
    ['image', 'Grad-CAM of 3 at conv2']
    """
    x = one_image("plot_grad_cam", model, image)
    number = class_numbers("plot_grad_cam", t, model.predict(x))[0]
    L = to_numpy(grad_cam(model, x, number, layer))[0]
    axes = axes_for("plot_grad_cam", ax, 2, "one for the image and one for the map")
    shown = picture(to_numpy(to_nchw(x, image_format(model)))[0])
    show(axes[0], shown, "image")
    show(axes[1], shown, f"Grad-CAM of {_name(number, classes)} at {layer}")
    H, W_ = shown.shape[:2]
    show(axes[1], L, cmap="jet", alpha=0.5, interpolation="bilinear", extent=(-0.5, W_ - 0.5, H - 0.5, -0.5))
    return axes[0].figure


def _name(number: int, classes: Sequence[str] | None) -> str:
    return str(number) if classes is None or number >= len(classes) else classes[number]
