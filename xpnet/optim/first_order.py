"""Optimizers that follow the gradient, its running mean, or the sign of that."""

from __future__ import annotations

from typing import Any, Unpack

from xpnet.optim.base import Optimizer, Shared

__all__ = ["SGD", "Lion", "Momentum", "Nesterov"]


class SGD(Optimizer):
    """Stochastic gradient descent: ``w -= lr * g``.

    Parameters
    ----------
    lr : float, default 0.01
    **shared
        `weight_decay`, `l1`, `max_norm`, `clip_norm`, `clip_value`, `groups`: see `Optimizer`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.layers import Dense
    >>> from xpnet.optim import SGD
    >>> model = Dense(1, init="ones", bias=False).build((1,))
    >>> model.W.grad[...] = 1.0
    >>> SGD(lr=0.25).update(model)
    >>> float(model.W.data[0, 0])
    0.75
    """

    kernel = "sgd_update"

    def __init__(self, lr: float = 0.01, **shared: Unpack[Shared]) -> None:
        super().__init__(lr, **shared)


class Momentum(Optimizer):
    """SGD with momentum: ``v = momentum * v - lr * g;  w += v`` (Polyak, 1964; the book's form).

    Parameters
    ----------
    lr : float, default 0.01
    momentum : float, 0 <= momentum < 1, default 0.9
    **shared
        See `Optimizer`.
    """

    kernel = "momentum_update"
    state_names = ("v",)

    def __init__(self, lr: float = 0.01, *, momentum: float = 0.9, **shared: Unpack[Shared]) -> None:
        super().__init__(lr, **shared)
        self._check("momentum", momentum, at_least=0.0, below=1.0)
        self.momentum = float(momentum)

    def _settings(self) -> dict[str, Any]:
        return {"momentum": self.momentum}


class Nesterov(Momentum):
    """Momentum that looks ahead: ``v = momentum * v - lr * g;  w += momentum * v - lr * g``.

    Parameters are those of `Momentum`. Reference: Nesterov (1983), as in Sutskever et al. (2013).
    """

    kernel = "nesterov_update"


class Lion(Optimizer):
    """Steps of one size: ``w -= lr * sign(b1 * m + (1 - b1) * g);  m = b2 * m + (1 - b2) * g``.

    Half the state of `Adam`; the paper advises a tenth to a third of Adam's `lr` and as much more decay.

    Parameters
    ----------
    lr : float, default 0.0001
    betas : (float, float), default (0.9, 0.99)
        b1 and b2.
    **shared
        See `Optimizer`; weight decay is apart from the gradient, ``w *= 1 - lr * weight_decay`` before
        the step.

    References
    ----------
    Chen et al., arXiv:2302.06675.
    """

    kernel = "lion_update"
    state_names = ("m",)
    decoupled = True

    def __init__(
        self, lr: float = 0.0001, *, betas: tuple[float, float] = (0.9, 0.99), **shared: Unpack[Shared]
    ) -> None:
        super().__init__(lr, **shared)
        self.betas = self._checked_betas(betas)

    def _settings(self) -> dict[str, Any]:
        return {"beta1": self.betas[0], "beta2": self.betas[1]}
