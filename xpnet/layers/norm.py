"""The batch normalisation layer."""

from __future__ import annotations

from typing import Any

from xpnet import init as initializers
from xpnet.backend import Array
from xpnet.errors import ShapeError
from xpnet.functional import batch_norm_backward, batch_norm_forward
from xpnet.functional.norm import batch_norm_backward_of_new, check_batch_norm_settings
from xpnet.init import Fans
from xpnet.layers.base import Layer, Shape
from xpnet.layers.data_format import check_data_format, from_nchw, image_shape, to_nchw
from xpnet.layers.parameter import BufferSpec, Parameter, ParameterSpec
from xpnet.layers.summary import Keeps

__all__ = ["BatchNorm", "scale_and_shift"]


def scale_and_shift(shape: Shape) -> dict[str, ParameterSpec]:
    """Return what a normalisation learns."""
    return {
        "gamma": ParameterSpec(shape, initializers.ones(), Fans(1, 1), decay=False),
        "beta": ParameterSpec(shape, initializers.zeros(), Fans(1, 1), decay=False),
    }


class BatchNorm(Layer):
    """Batch normalisation per channel of images, or per feature.

    Parameters
    ----------
    momentum : float or None, default 0.1
        Weight of a new batch in the running statistics: ``running = (1 - momentum) * running +
        momentum * batch``. (The book's momentum 0.9 is 0.1 here.) None is the plain average over all
        batches so far, whose number is then a buffer, `batches`.
    eps : float, default 1e-5
    affine : bool, default True
        Whether to learn a scale gamma and a shift beta.
    data_format : {"NCHW", "NHWC"}, default "NCHW"
        For images; features are (N, C) in both.

    Attributes
    ----------
    gamma, beta : Parameter (C,)
        Only if affine; no weight decay.
    running_mean, running_var : array (C,)
        Used for inference; in at least float32.
    batches : array (1,)
        Only with ``momentum=None``: how many batches the running statistics average, as a float, on the
        device, so that the weight of the next is known without waiting for it.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    References
    ----------
    Ioffe and Szegedy, arXiv:1502.03167.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import BatchNorm
    >>> y = BatchNorm().forward(np.array([[1.0], [3.0]]), train=True)
    >>> np.round(y, 3)
    array([[-1.],
           [ 1.]])
    """

    gamma: Parameter
    beta: Parameter
    running_mean: Array
    running_var: Array
    batches: Array

    def __init__(
        self, *, momentum: float | None = 0.1, eps: float = 1e-5, affine: bool = True, data_format: str = "NCHW"
    ) -> None:
        super().__init__()
        self.momentum = None if momentum is None else float(momentum)
        self.eps, self.affine = float(eps), affine
        check_batch_norm_settings(self.operation, 0.0 if self.momentum is None else self.momentum, self.eps)
        self.data_format = check_data_format("BatchNorm", data_format)

    def _channels(self, input_shape: Shape) -> int:
        if len(input_shape) == 1:
            return input_shape[0]
        if len(input_shape) != 3:
            raise ShapeError(
                "BatchNorm",
                f"the input must be images or features without the batch, got shape {tuple(input_shape)}",
            )
        return image_shape("BatchNorm", input_shape, self.data_format)[0]

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the input."""
        self._channels(input_shape)
        return tuple(input_shape)

    def _parameter_specs(self, input_shape: Shape) -> dict[str, ParameterSpec]:
        return scale_and_shift((self._channels(input_shape),)) if self.affine else {}

    def _buffer_specs(self, input_shape: Shape) -> dict[str, BufferSpec]:
        shape = (self._channels(input_shape),)
        specs = {"running_mean": BufferSpec(shape, 0.0), "running_var": BufferSpec(shape, 1.0)}
        return specs if self.momentum is not None else specs | {"batches": BufferSpec((1,), 0.0)}

    def _ends_in_relu(self) -> bool:
        return type(self) is BatchNorm

    def _forward(self, x: Array, train: bool, activation: str | None = None) -> tuple[Array, Any]:
        gamma, beta = (self.gamma.data, self.beta.data) if self.affine else (None, None)
        y, ctx, mean, var = batch_norm_forward(
            to_nchw(x, self.data_format),
            gamma,
            beta,
            self.running_mean,
            self.running_var,
            train=train,
            momentum=1.0 if self.momentum is None else self.momentum,
            eps=self.eps,
            activation=activation,
        )
        if train:
            self._remember(mean, var)
        return from_nchw(y, self.data_format), ctx

    def _remember(self, mean: Array, var: Array) -> None:
        """Take over new running statistics."""
        if self.momentum is None:  # mean and var are those of the batch
            self.batches = self.batches + 1.0
            weight = 1.0 / self.batches
            mean = (1.0 - weight) * self.running_mean + weight * mean
            var = (1.0 - weight) * self.running_var + weight * var
        self.running_mean, self.running_var = mean, var

    def _backward(self, dy: Array, ctx: Any, need_dx: bool, overwrite: bool = False) -> Array | None:
        backward = batch_norm_backward_of_new if overwrite else batch_norm_backward
        dx, dgamma, dbeta = backward(to_nchw(dy, self.data_format), ctx)
        if self.affine:
            self.gamma.accumulate(dgamma)
            self.beta.accumulate(dbeta)
        return from_nchw(dx, self.data_format) if need_dx else None

    def _keeps(self, input_shape: Shape, output_shape: Shape, itemsize: int) -> Keeps:
        return Keeps(input=True)

    def _settings(self) -> dict[str, Any]:
        defaults = {"momentum": 0.1, "eps": 1e-5, "affine": True, "data_format": "NCHW"}
        return {k: getattr(self, k) for k, v in defaults.items() if getattr(self, k) != v}
