"""Optimizers: each updates the flat weights of a model in one pass (see `xpnet.layers.parameter`).

``optimizer.update(model)`` after ``model.backward(...)``. The state (velocities, means) is made at the
first update and belongs to that model. ``lr`` is an attribute that may be set at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from xpnet import backend
from xpnet.backend import Array
from xpnet.errors import StateError, WeightsError
from xpnet.kernels import find
from xpnet.layers.base import Layer
from xpnet.layers.parameter import ParameterStore

__all__ = ["SGD", "AdaGrad", "Adam", "AdamW", "Momentum", "Nesterov", "Optimizer", "RMSprop", "by_name"]


class Optimizer:
    """Base of the optimizers.

    Parameters
    ----------
    lr : float
        Learning rate, above 0.
    weight_decay : float, default 0
        L2: adds ``weight_decay * w`` to the gradient of every parameter whose `decay` is true (the
        weights of convolution and dense layers; not biases, nor scales and shifts of normalisation).

    Raises
    ------
    ValueError
        If a setting is out of range.
    """

    kernel: ClassVar[str]
    state_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, lr: float, *, weight_decay: float = 0.0) -> None:
        self._check("lr", lr, above=0.0)
        self._check("weight_decay", weight_decay, at_least=0.0)
        self.lr = float(lr)
        self.weight_decay = float(weight_decay)
        self.step = 0
        self._store: ParameterStore | None = None
        self._state: list[dict[str, Array]] = []  # one mapping for each segment of the store

    def _check(
        self,
        name: str,
        value: float,
        *,
        above: float | None = None,
        at_least: float | None = None,
        below: float | None = None,
    ) -> None:
        wanted = [f"above {above}"] * (above is not None) + [f"at least {at_least}"] * (at_least is not None)
        wanted += [f"below {below}"] * (below is not None)
        fits = (above is None or value > above) and (at_least is None or value >= at_least)
        if not (fits and (below is None or value < below) and value < float("inf")):
            raise ValueError(f"{type(self).__name__}: {name} must be finite, {' and '.join(wanted)}; got {value!r}")

    def _settings(self) -> dict[str, Any]:
        """Return the keyword arguments of the kernel for this step."""
        return {"lr": self.lr}

    def update(self, model: Layer) -> None:
        """Change the weights of the model by its gradients.

        Parameters
        ----------
        model : Layer
            The same one at every call.

        Raises
        ------
        StateError
            If the model has not been built, or is another than at the first update.
        """
        store = model.store
        if store is not self._store:
            self._bind(store)
        self.step += 1
        settings = self._settings()
        for segment, state in zip(store.segments, self._state, strict=True):
            w, g = segment.data, segment.grad
            if self.weight_decay:
                g = self._decay(w, g, segment.decay_mask)
            find(self.kernel, backend.array_namespace(w))(w, g, **state, **settings)

    def _decay(self, w: Array, g: Array, mask: Array) -> Array:
        return g + self.weight_decay * (mask * w)

    def _bind(self, store: ParameterStore) -> None:
        if self._store is None:
            self._state = [{name: _zeros_like(segment.data) for name in self.state_names} for segment in store.segments]
        elif _layout(store) != _layout(self._store):
            raise StateError(
                type(self).__name__,
                "this optimizer's state belongs to another model, or to this one before it was moved; "
                "make a new optimizer for each model",
            )
        self._store = store

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the state: ``step``, ``lr`` and, once there was an update, arrays by name.

        Arrays are named ``"<state>.<segment>"``, segments being the model's flat buffers.
        """
        state: dict[str, Any] = {"step": self.step, "lr": self.lr}
        for i, arrays in enumerate(self._state):
            for name, a in arrays.items():
                state[f"{name}.{i}"] = backend.array_namespace(a).asarray(a, copy=True)
        return state

    def load_state_dict(self, state: Mapping[str, Any], model: Layer) -> None:
        """Take over a state for a built model, from any backend.

        Raises
        ------
        WeightsError
            If names or shapes do not fit; the optimizer is not changed.
        StateError
            If the model has not been built.
        """
        store = model.store
        missing = {"step", "lr"} - set(state)
        if missing:
            raise WeightsError(
                f"{type(self).__name__}: the state has no {', '.join(map(repr, sorted(missing)))}; "
                "give what state_dict() of an optimizer returned"
            )
        arrays = []
        if int(state["step"]) > 0:
            names = {f"{name}.{i}" for i in range(len(store.segments)) for name in self.state_names}
            given = set(state) - {"step", "lr"}
            if names != given:
                raise WeightsError(
                    f"{type(self).__name__}: the state holds {sorted(given)} but {sorted(names)} is expected; "
                    "it was saved by another kind of optimizer or for another model"
                )
            for i, segment in enumerate(store.segments):
                arrays.append({n: self._take(n, i, state[f"{n}.{i}"], segment.data) for n in self.state_names})
        self._store = store if arrays else None
        self._state, self.step, self.lr = arrays, int(state["step"]), float(state["lr"])

    def _take(self, name: str, i: int, value: Any, like: Array) -> Array:
        if tuple(value.shape) != tuple(like.shape):
            raise WeightsError(
                f"{type(self).__name__}: {name}.{i} has {tuple(value.shape)} values but the model {tuple(like.shape)}"
            )
        return backend.asarray_like(value, like)

    def __repr__(self) -> str:
        settings = {k: v for k, v in vars(self).items() if not k.startswith("_") and k != "step"}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in settings.items())})"


def _zeros_like(x: Array) -> Array:
    xp = backend.array_namespace(x)
    return xp.zeros(tuple(x.shape), dtype=x.dtype, device=backend.device_of(x))


def _layout(store: ParameterStore) -> list[tuple[Any, ...]]:
    return [(type(s.data), s.data.dtype, backend.device_of(s.data), *map(id, s.parameters)) for s in store.segments]


class SGD(Optimizer):
    """Stochastic gradient descent: ``w -= lr * g``.

    Parameters
    ----------
    lr : float, default 0.01
    weight_decay : float, default 0

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

    def __init__(self, lr: float = 0.01, *, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay=weight_decay)


class Momentum(Optimizer):
    """SGD with momentum: ``v = momentum * v - lr * g;  w += v`` (Polyak, 1964; the book's form).

    Parameters
    ----------
    lr : float, default 0.01
    momentum : float, 0 <= momentum < 1, default 0.9
    weight_decay : float, default 0
    """

    kernel = "momentum_update"
    state_names = ("v",)

    def __init__(self, lr: float = 0.01, *, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        self._check("momentum", momentum, at_least=0.0, below=1.0)
        self.momentum = float(momentum)

    def _settings(self) -> dict[str, Any]:
        return {"lr": self.lr, "momentum": self.momentum}


class Nesterov(Momentum):
    """Momentum that looks ahead: ``v = momentum * v - lr * g;  w += momentum * v - lr * g``.

    Parameters are those of `Momentum`. Reference: Nesterov (1983), as in Sutskever et al. (2013).
    """

    kernel = "nesterov_update"


class AdaGrad(Optimizer):
    """Steps shrink with the squares seen so far: ``h += g**2;  w -= lr * g / (sqrt(h) + eps)``.

    Parameters
    ----------
    lr : float, default 0.01
    eps : float, default 1e-7
    weight_decay : float, default 0

    References
    ----------
    Duchi, Hazan and Singer (2011).
    """

    kernel = "adagrad_update"
    state_names = ("h",)

    def __init__(self, lr: float = 0.01, *, eps: float = 1e-7, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        self._check("eps", eps, above=0.0)
        self.eps = float(eps)

    def _settings(self) -> dict[str, Any]:
        return {"lr": self.lr, "eps": self.eps}


class RMSprop(Optimizer):
    """AdaGrad that forgets: ``h = decay * h + (1 - decay) * g**2;  w -= lr * g / (sqrt(h) + eps)``.

    Parameters
    ----------
    lr : float, default 0.01
    decay : float, 0 <= decay < 1, default 0.99
    eps : float, default 1e-7
    weight_decay : float, default 0

    References
    ----------
    Tieleman and Hinton, *Neural networks for machine learning*, lecture 6.5 (2012).
    """

    kernel = "rmsprop_update"
    state_names = ("h",)

    def __init__(self, lr: float = 0.01, *, decay: float = 0.99, eps: float = 1e-7, weight_decay: float = 0.0) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        self._check("decay", decay, at_least=0.0, below=1.0)
        self._check("eps", eps, above=0.0)
        self.decay, self.eps = float(decay), float(eps)

    def _settings(self) -> dict[str, Any]:
        return {"lr": self.lr, "decay": self.decay, "eps": self.eps}


class Adam(Optimizer):
    """Momentum and RMSprop with bias correction: ``w -= lr * m^ / (sqrt(v^) + eps)``.

    Parameters
    ----------
    lr : float, default 0.001
    betas : (float, float), default (0.9, 0.999)
        Decay of the means of g and of g**2.
    eps : float, default 1e-8
    weight_decay : float, default 0

    References
    ----------
    Kingma and Ba, arXiv:1412.6980.
    """

    kernel = "adam_update"
    state_names = ("m", "v")

    def __init__(
        self,
        lr: float = 0.001,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        for beta in betas:
            self._check("betas", beta, at_least=0.0, below=1.0)
        self._check("eps", eps, above=0.0)
        self.betas, self.eps = (float(betas[0]), float(betas[1])), float(eps)

    def _settings(self) -> dict[str, Any]:
        beta1, beta2 = self.betas
        return {"lr": self.lr, "beta1": beta1, "beta2": beta2, "eps": self.eps, "step": self.step}


class AdamW(Adam):
    """Adam whose weight decay is apart from the gradient: ``w *= 1 - lr * weight_decay`` before the step.

    Parameters
    ----------
    lr, betas, eps
        As for `Adam`.
    weight_decay : float, default 0.01

    References
    ----------
    Loshchilov and Hutter, arXiv:1711.05101.
    """

    def __init__(
        self,
        lr: float = 0.001,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _decay(self, w: Array, g: Array, mask: Array) -> Array:
        w -= (self.lr * self.weight_decay) * (mask * w)
        return g


_NAMES: dict[str, type[Optimizer]] = {
    cls.__name__.lower(): cls for cls in (SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam, AdamW)
}


def by_name(name: str | Optimizer, **settings: Any) -> Optimizer:
    """Return the optimizer of that name, such as ``by_name("adam", lr=0.001)``; an optimizer passes through.

    Raises
    ------
    ValueError
        If the name is unknown, or settings are given for an optimizer that exists already.
    """
    if isinstance(name, Optimizer):
        if settings:
            raise ValueError(f"optim: {name!r} exists already; set {', '.join(settings)} on it")
        return name
    cls = _NAMES.get(name.lower()) if isinstance(name, str) else None
    if cls is None:
        raise ValueError(f"optim: no optimizer {name!r}; there are {', '.join(_NAMES)}")
    return cls(**settings)
