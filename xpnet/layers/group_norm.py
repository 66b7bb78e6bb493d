"""Layers that normalise each sample by itself, and local response normalisation."""

from __future__ import annotations

import math
from typing import Any

from xpnet.backend import Array
from xpnet.errors import ArgumentError, ShapeError
from xpnet.functional import (
    group_norm_backward,
    group_norm_forward,
    instance_norm_backward,
    instance_norm_forward,
    layer_norm_backward,
    layer_norm_forward,
    local_response_norm_backward,
    local_response_norm_forward,
)
from xpnet.layers.base import Layer, Shape
from xpnet.layers.data_format import check_data_format, from_nchw, image_shape, to_nchw
from xpnet.layers.norm import scale_and_shift
from xpnet.layers.parameter import Parameter, ParameterSpec
from xpnet.layers.summary import Keeps

__all__ = ["GroupNorm", "InstanceNorm", "LayerNorm", "LocalResponseNorm"]


class _SampleNorm(Layer):
    """What the three layers share: scale and shift, formats, backward."""

    gamma: Parameter
    beta: Parameter

    def __init__(self, eps: float, affine: bool, data_format: str) -> None:
        super().__init__()
        if not eps > 0.0:
            raise ArgumentError(self.operation, f"eps must be above 0, got {eps!r}")
        self.eps, self.affine = float(eps), affine
        self.data_format = check_data_format(self.operation, data_format)

    def _scales(self, input_shape: Shape) -> Shape:
        """Return the shape of gamma and beta."""
        return (_channels(self.operation, input_shape, self.data_format),)

    def _statistics(self, input_shape: Shape) -> int:
        """Return how many means a sample has."""
        return 1

    def _run(self, x: Array, gamma: Array | None, beta: Array | None) -> tuple[Array, Any]:
        raise NotImplementedError(f"{self.operation} must define _run(x, gamma, beta) -> (y, ctx)")

    def _gradients(self, dy: Array, ctx: Any) -> tuple[Array, Array | None, Array | None]:
        raise NotImplementedError(f"{self.operation} must define _gradients(dy, ctx) -> (dx, dgamma, dbeta)")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the input."""
        self._scales(input_shape)
        if math.prod(input_shape) <= self._statistics(input_shape):
            raise ShapeError(
                self.operation,
                f"one value to normalise has no variance (input shape {tuple(input_shape)}); "
                "take fewer groups or larger images",
            )
        return tuple(input_shape)

    def _parameter_specs(self, input_shape: Shape) -> dict[str, ParameterSpec]:
        return scale_and_shift(self._scales(input_shape)) if self.affine else {}

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        gamma, beta = (self.gamma.data, self.beta.data) if self.affine else (None, None)
        y, ctx = self._run(to_nchw(x, self.data_format), gamma, beta)
        return from_nchw(y, self.data_format), ctx

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        dx, dgamma, dbeta = self._gradients(to_nchw(dy, self.data_format), ctx)
        if dgamma is not None and dbeta is not None:
            self.gamma.accumulate(dgamma)
            self.beta.accumulate(dbeta)
        return from_nchw(dx, self.data_format) if need_dx else None

    def _keeps(self, input_shape: Shape, output_shape: Shape, itemsize: int) -> Keeps:
        return Keeps(input=True, extra_bytes=2 * max(itemsize, 4) * self._statistics(input_shape))

    def _settings(self) -> dict[str, Any]:
        defaults = {"eps": 1e-5, "affine": not isinstance(self, InstanceNorm), "data_format": "NCHW"}
        return {k: getattr(self, k) for k, v in defaults.items() if getattr(self, k) != v}


class LayerNorm(_SampleNorm):
    """Layer normalisation: each sample, over all its axes, to mean 0 and variance 1.

    Parameters
    ----------
    eps : float, default 1e-5
    affine : bool, default True
        Whether to learn a scale gamma and a shift beta for each value of a sample.
    data_format : {"NCHW", "NHWC"}, default "NCHW"
        For images; gamma and beta are (C, H, W) in both.

    Attributes
    ----------
    gamma, beta : Parameter (...), shape of a sample
        Only if affine; no weight decay.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    References
    ----------
    Ba, Kiros and Hinton, arXiv:1607.06450.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import LayerNorm
    >>> np.round(LayerNorm().forward(np.array([[1.0, 3.0]])), 3)
    array([[-1.,  1.]])
    """

    def __init__(self, *, eps: float = 1e-5, affine: bool = True, data_format: str = "NCHW") -> None:
        super().__init__(eps, affine, data_format)

    def _scales(self, input_shape: Shape) -> Shape:
        if len(input_shape) == 3:
            return image_shape(self.operation, input_shape, self.data_format)
        return tuple(input_shape)

    def _run(self, x: Array, gamma: Array | None, beta: Array | None) -> tuple[Array, Any]:
        return layer_norm_forward(x, gamma, beta, eps=self.eps)

    def _gradients(self, dy: Array, ctx: Any) -> tuple[Array, Array | None, Array | None]:
        return layer_norm_backward(dy, ctx)


class GroupNorm(_SampleNorm):
    """Group normalisation: each group of channels of each sample to mean 0 and variance 1.

    Parameters
    ----------
    groups : int
        Divides the channels.
    eps : float, default 1e-5
    affine : bool, default True
        Whether to learn a scale gamma and a shift beta for each channel.
    data_format : {"NCHW", "NHWC"}, default "NCHW"
        For images; features are (N, C) in both.

    Attributes
    ----------
    gamma, beta : Parameter (C,)
        Only if affine; no weight decay.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    References
    ----------
    Wu and He, arXiv:1803.08494.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import GroupNorm
    >>> np.round(GroupNorm(2).forward(np.array([[1.0, 3.0, 10.0, 30.0]])), 3)
    array([[-1.,  1., -1.,  1.]])
    """

    def __init__(self, groups: int, *, eps: float = 1e-5, affine: bool = True, data_format: str = "NCHW") -> None:
        super().__init__(eps, affine, data_format)
        if not isinstance(groups, int) or groups < 1:
            raise ArgumentError("GroupNorm", f"groups must be a number of groups, at least 1, got {groups!r}")
        self.groups = groups

    def _statistics(self, input_shape: Shape) -> int:
        return self.groups

    def _scales(self, input_shape: Shape) -> Shape:
        (C,) = super()._scales(input_shape)
        if C % self.groups:
            raise ArgumentError("GroupNorm", f"groups must divide the {C} channels of the input, got {self.groups}")
        return (C,)

    def _run(self, x: Array, gamma: Array | None, beta: Array | None) -> tuple[Array, Any]:
        return group_norm_forward(x, gamma, beta, groups=self.groups, eps=self.eps)

    def _gradients(self, dy: Array, ctx: Any) -> tuple[Array, Array | None, Array | None]:
        return group_norm_backward(dy, ctx)

    def _settings(self) -> dict[str, Any]:
        return {"groups": self.groups} | super()._settings()


class InstanceNorm(_SampleNorm):
    """Instance normalisation: each channel of each image to mean 0 and variance 1.

    Parameters
    ----------
    eps : float, default 1e-5
    affine : bool, default False
        Whether to learn a scale gamma and a shift beta for each channel.
    data_format : {"NCHW", "NHWC"}, default "NCHW"

    Attributes
    ----------
    gamma, beta : Parameter (C,)
        Only if affine; no weight decay.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used.

    References
    ----------
    Ulyanov, Vedaldi and Lempitsky, arXiv:1607.08022.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import InstanceNorm
    >>> np.round(InstanceNorm().forward(np.array([[[[1.0, 3.0]]]])), 3)
    array([[[[-1.,  1.]]]])
    """

    def __init__(self, *, eps: float = 1e-5, affine: bool = False, data_format: str = "NCHW") -> None:
        super().__init__(eps, affine, data_format)

    def _statistics(self, input_shape: Shape) -> int:
        return self._scales(input_shape)[0]

    def _run(self, x: Array, gamma: Array | None, beta: Array | None) -> tuple[Array, Any]:
        return instance_norm_forward(x, gamma, beta, eps=self.eps)

    def _gradients(self, dy: Array, ctx: Any) -> tuple[Array, Array | None, Array | None]:
        return instance_norm_backward(dy, ctx)


class LocalResponseNorm(Layer):
    """Local response normalisation: ``x / (k + alpha/size * sum of squares over size channels)**beta``.

    Parameters
    ----------
    size : int, default 5
        Channels in a window; with an even one, one more before a channel than after it.
    alpha : float, default 1e-4
    beta : float, default 0.75
    k : float, default 1
        AlexNet's is 2.
    data_format : {"NCHW", "NHWC"}, default "NCHW"
        For images; features are (N, C) in both.

    Raises
    ------
    ArgumentError
        If a setting has a value that cannot be used (the others at the first forward).

    References
    ----------
    Krizhevsky, Sutskever and Hinton (2012), section 3.3.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import LocalResponseNorm
    >>> LocalResponseNorm(1, alpha=1.0, beta=1.0)(np.array([[1.0, 3.0]]))
    array([[0.5, 0.3]])
    """

    def __init__(
        self, size: int = 5, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, data_format: str = "NCHW"
    ) -> None:
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, float(alpha), float(beta), float(k)
        self.data_format = check_data_format("LocalResponseNorm", data_format)

    def output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the input."""
        _channels("LocalResponseNorm", input_shape, self.data_format)
        return tuple(input_shape)

    def _forward(self, x: Array, train: bool) -> tuple[Array, Any]:
        x = to_nchw(x, self.data_format)
        y, ctx = local_response_norm_forward(x, size=self.size, alpha=self.alpha, beta=self.beta, k=self.k)
        return from_nchw(y, self.data_format), ctx

    def _backward(self, dy: Array, ctx: Any, need_dx: bool) -> Array | None:
        if not need_dx:
            return None
        return from_nchw(local_response_norm_backward(to_nchw(dy, self.data_format), ctx), self.data_format)

    def _keeps(self, input_shape: Shape, output_shape: Shape, itemsize: int) -> Keeps:
        return Keeps(input=True, extra_bytes=max(itemsize, 4) * math.prod(input_shape))

    def _settings(self) -> dict[str, Any]:
        defaults = {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0, "data_format": "NCHW"}
        return {k: getattr(self, k) for k, v in defaults.items() if getattr(self, k) != v}


def _channels(operation: str, input_shape: Shape, data_format: str) -> int:
    if len(input_shape) == 1:
        return input_shape[0]
    if len(input_shape) != 3:
        raise ShapeError(
            operation, f"the input must be images or features without the batch, got shape {tuple(input_shape)}"
        )
    return image_shape(operation, input_shape, data_format)[0]
