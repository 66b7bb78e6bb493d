"""Optimizers that give every weight a rate of its own, by the squares of its gradients."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from xpnet.backend import Array
from xpnet.layers.parameter import Segment
from xpnet.optim.base import Optimizer, Shared

__all__ = ["LAMB", "AdaDelta", "AdaGrad", "Adam", "AdamW", "RMSprop"]


class AdaGrad(Optimizer):
    """Steps shrink with the squares seen so far: ``h += g**2;  w -= lr * g / (sqrt(h) + eps)``.

    Parameters
    ----------
    lr : float, default 0.01
    eps : float, default 1e-7
    **shared
        `weight_decay`, `l1`, `max_norm`, `clip_norm`, `clip_value`, `groups`: see `Optimizer`.

    References
    ----------
    Duchi, Hazan and Singer (2011).
    """

    kernel = "adagrad_update"
    state_names = ("h",)

    def __init__(self, lr: float = 0.01, *, eps: float = 1e-7, **shared: Unpack[Shared]) -> None:
        super().__init__(lr, **shared)
        self._check("eps", eps, above=0.0)
        self.eps = float(eps)

    def _settings(self) -> dict[str, Any]:
        return {"eps": self.eps}


class RMSprop(Optimizer):
    """AdaGrad that forgets: ``h = decay * h + (1 - decay) * g**2;  w -= lr * g / (sqrt(h) + eps)``.

    Parameters
    ----------
    lr : float, default 0.01
    decay : float, 0 <= decay < 1, default 0.99
    eps : float, default 1e-7
    **shared
        See `Optimizer`.

    References
    ----------
    Tieleman and Hinton, *Neural networks for machine learning*, lecture 6.5 (2012).
    """

    kernel = "rmsprop_update"
    state_names: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(self, lr: float = 0.01, *, decay: float = 0.99, eps: float = 1e-7, **shared: Unpack[Shared]) -> None:
        super().__init__(lr, **shared)
        self._check("decay", decay, at_least=0.0, below=1.0)
        self._check("eps", eps, above=0.0)
        self.decay, self.eps = float(decay), float(eps)

    def _settings(self) -> dict[str, Any]:
        return {"decay": self.decay, "eps": self.eps}


class AdaDelta(RMSprop):
    """Steps in the units of the weights: ``w -= lr * d`` with ``d = sqrt(u + eps) / sqrt(h + eps) * g``.

    h and u are the running means of g**2 and of d**2: ``h = decay * h + (1 - decay) * g**2`` before the
    step and ``u = decay * u + (1 - decay) * d**2`` after it.

    Parameters
    ----------
    lr : float, default 1
    decay : float, 0 <= decay < 1, default 0.9
        The paper's rho.
    eps : float, default 1e-6
    **shared
        See `Optimizer`.

    References
    ----------
    Zeiler, arXiv:1212.5701.
    """

    kernel = "adadelta_update"
    state_names = ("h", "u")

    def __init__(self, lr: float = 1.0, *, decay: float = 0.9, eps: float = 1e-6, **shared: Unpack[Shared]) -> None:
        super().__init__(lr, decay=decay, eps=eps, **shared)


class Adam(Optimizer):
    """Momentum and RMSprop with bias correction: ``w -= lr * m^ / (sqrt(v^) + eps)``.

    Parameters
    ----------
    lr : float, default 0.001
    betas : (float, float), default (0.9, 0.999)
        Decay of the means of g and of g**2.
    eps : float, default 1e-8
    amsgrad : bool, default False
        Divide by the largest mean of g**2 so far, so that no weight's rate ever grows again. It cannot be changed
        after the first update.
    **shared
        See `Optimizer`.

    References
    ----------
    Kingma and Ba, arXiv:1412.6980; Reddi, Kale and Kumar, arXiv:1904.09237 (amsgrad).
    """

    kernel = "adam_update"
    state_names = ("m", "v")
    fixed = ("groups", "amsgrad")

    def __init__(
        self,
        lr: float = 0.001,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        amsgrad: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(lr, **shared)
        self.betas = self._checked_betas(betas)
        self._check("eps", eps, above=0.0)
        self.eps = float(eps)
        self.amsgrad = bool(amsgrad)

    def _settings(self) -> dict[str, Any]:
        beta1, beta2 = self.betas
        return {"beta1": beta1, "beta2": beta2, "eps": self.eps, "step": self.step}

    def _kernel(self) -> str:
        return "amsgrad_update" if self.amsgrad else self.kernel

    def _state_names(self) -> tuple[str, ...]:
        return (*self.state_names, "top") if self.amsgrad else self.state_names


class AdamW(Adam):
    """Adam whose weight decay is apart from the gradient: ``w *= 1 - lr * weight_decay`` before the step.

    Parameters
    ----------
    lr, betas, eps, amsgrad
        As for `Adam`.
    **shared
        See `Optimizer`; `weight_decay` is 0.01 by default.

    References
    ----------
    Loshchilov and Hutter, arXiv:1711.05101.
    """

    decoupled = True

    def __init__(
        self,
        lr: float = 0.001,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        amsgrad: bool = False,
        **shared: Unpack[Shared],
    ) -> None:
        shared.setdefault("weight_decay", 0.01)
        super().__init__(lr, betas=betas, eps=eps, amsgrad=amsgrad, **shared)


class LAMB(Optimizer):
    """Adam whose step for each parameter is as long, in proportion, as the parameter: for large batches.

    ``u = m^ / (sqrt(v^) + eps) + weight_decay * w;  w -= lr * r * u`` with ``r = |w| / |u|``, the 2-norms of
    one parameter (one weight array or bias), or 1 where either is 0.

    Parameters
    ----------
    lr : float, default 0.001
    betas : (float, float), default (0.9, 0.999)
    eps : float, default 1e-6
    **shared
        See `Optimizer`.

    References
    ----------
    You et al., arXiv:1904.00962.
    """

    kernel = "lamb_update"
    state_names = ("m", "v")

    def __init__(
        self,
        lr: float = 0.001,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(lr, **shared)
        self.betas = self._checked_betas(betas)
        self._check("eps", eps, above=0.0)
        self.eps = float(eps)

    def _settings(self) -> dict[str, Any]:
        beta1, beta2 = self.betas
        return {"beta1": beta1, "beta2": beta2, "eps": self.eps, "step": self.step}

    def _update_segment(
        self, segment: Segment, state: dict[str, Array], g: Array, lr: float | Array, decay: Array | None
    ) -> None:
        self._run(segment.data, g, state, lr, decay=decay, parts=segment.parts())
