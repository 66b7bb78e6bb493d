"""Comparing the gradients of a model with central differences of its loss: is backward right?"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from xpnet import backend, losses
from xpnet.backend import Array
from xpnet.errors import DTypeError
from xpnet.layers.base import Layer
from xpnet.losses import Loss

__all__ = ["GradientReport", "WorstElement", "check_gradients", "numerical_gradient", "require_precise"]

# how far a gradient of the model's float type may be off, relative to the largest of its array
TOLERANCES = {"float64": 1e-6, "float32": 1e-3}
ROUNDING = 1e-14  # relative error of a loss in float64; gradients below ROUNDING / eps cannot be told from zero


def numerical_gradient(f: Callable[[np.ndarray], float], x: np.ndarray, *, eps: float = 1e-4) -> np.ndarray:
    """Return the gradient of a scalar function by central differences, (f(x + eps) - f(x - eps)) / (2 eps).

    Parameters
    ----------
    f : callable
        From an array of the shape of `x` to a number.
    x : numpy.ndarray, float
        Not changed.
    eps : float, default 1e-4

    Returns
    -------
    numpy.ndarray, shape of `x`, float64

    References
    ----------
    Saito, *Deep Learning from Scratch* (2016), section 4.4.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.gradcheck import numerical_gradient
    >>> numerical_gradient(lambda x: float((x**2).sum()), np.array([3.0, 4.0])).round(6)
    array([6., 8.])
    """
    moved = np.array(x, dtype=np.float64)
    gradient = np.zeros(moved.shape)
    for index in np.ndindex(moved.shape):
        here = moved[index]
        moved[index] = here + eps
        above = float(f(moved))
        moved[index] = here - eps
        below = float(f(moved))
        moved[index] = here
        gradient[index] = (above - below) / (2 * eps)
    return gradient


class WorstElement(NamedTuple):
    """Where the gradient of one array is furthest off.

    `error` is relative to the largest gradient of that array, less what rounding of the loss explains.
    """

    name: str
    position: tuple[int, ...]
    backward: float
    numerical: float
    error: float


@dataclass(frozen=True)
class GradientReport:
    """What `check_gradients` found; ``print`` shows it as a table.

    Attributes
    ----------
    worst : list of WorstElement
        One for each parameter and, as ``"x"``, for the input; the worst first.
    tolerance : float
        The error allowed for the model's float type.
    skipped : int
        Elements at a kink (of relu, of a maximum), where there is no derivative to compare with.
    uncompared : tuple of str
        The parameters and, as ``"x"``, the input of which no element could be compared: all lie at kinks.
    """

    worst: list[WorstElement]
    tolerance: float
    skipped: int
    uncompared: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every error is within the tolerance, and something was compared at all."""
        return bool(self.worst) and all(w.error <= self.tolerance for w in self.worst)

    def __str__(self) -> str:
        width = max(map(len, ["parameter", *(w.name for w in self.worst), *self.uncompared]))
        lines = [f"{'parameter':{width}}  {'worst element':>18}  {'backward':>13}  {'numerical':>13}  {'error':>9}"]
        lines += [
            f"{w.name:{width}}  {w.position!s:>18}  {w.backward:13.6g}  {w.numerical:13.6g}  {w.error:9.2e}"
            + ("" if w.error <= self.tolerance else "  WRONG")
            for w in self.worst
        ]
        lines += [f"{name:{width}}  {'none compared':>18}" for name in self.uncompared]
        verdict = "passed" if self.passed else "FAILED"
        lines.append(f"{verdict}: tolerance {self.tolerance:g}, {self.skipped} elements at kinks skipped")
        if not self.worst:
            lines.append(
                "nothing could be compared: give x away from the kinks, and name in random_names of a layer "
                "what its random numbers follow from, so that the loss is the same each time"
            )
        return "\n".join(lines)


def check_gradients(
    model: Layer,
    x: Array,
    t: Array,
    *,
    loss: str | Loss = "softmax_cross_entropy",
    samples: int = 20,
    eps: float = 1e-5,
    seed: int = 0,
) -> GradientReport:
    """Compare the backward pass of a model with central differences of its loss.

    The model's own backward runs on its own backend and in its own float type; the differences are
    taken on a copy in float64 (on the same backend if it has that type, else NumPy). The model and its state are left
    as they are.

    Parameters
    ----------
    model : Layer
        Built, or to be built by `x`. What its layers draw at random (dropout's masks) is the same throughout,
        by their `random_names`.
    x : array (N, ...)
        On the model's backend and of its float type, float64 or float32; small batches do.
    t : array (N,) or (N, K)
    loss : str or Loss, default "softmax_cross_entropy"
    samples : int, default 20
        How many elements of each array to check, drawn at random; all of an array that has no more.
    eps : float, default 1e-5
        Step of the differences.
    seed : int, default 0
        Of the choice of elements.

    Returns
    -------
    GradientReport
        With `passed`, and the worst element of each parameter and of the input. Nothing compared is not passed.

    Raises
    ------
    DTypeError
        If `x` is of a half type: its rounding takes other maxima, and other sides of a kink, than float64 does.
    OperationError
        If model, samples and targets do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.gradcheck import check_gradients
    >>> from xpnet.layers import Dense
    >>> report = check_gradients(Dense(3), np.eye(4, dtype=np.float32), np.array([0, 1, 2, 0]))
    >>> report.passed
    True
    """
    measure = losses.by_name(loss)
    dtype = backend.dtype_name(x.dtype)
    require_precise(dtype)
    if not model.built:
        model.predict(x)
    own = copy.deepcopy(model)
    gradients = _backward(own, measure, x, t)

    twin = copy.deepcopy(model)
    _to_float64(twin, x)
    like = twin.parameters()[0].data if twin.parameters() else None
    reference = _Reference(twin, measure, x, t, like)
    rng = np.random.default_rng(seed)
    worst, uncompared, skipped = [], [], 0
    for name, gradient in gradients.items():
        element, kinks = _compare(name, gradient, reference, samples, eps, TOLERANCES[dtype], rng)
        skipped += kinks
        if element is None:
            uncompared.append(name)
        else:
            worst.append(element)
    worst.sort(key=lambda w: -w.error)
    return GradientReport(worst, TOLERANCES[dtype], skipped, tuple(uncompared))


def require_precise(dtype: str) -> None:
    """Raise DTypeError if gradients of a type cannot be checked by differences of float64."""
    if dtype in TOLERANCES:
        return
    detail = f"expected {' or '.join(TOLERANCES)}, got {dtype}"
    if dtype in backend.DTYPES:
        detail += (
            ": where it rounds to another maximum, or to the other side of a kink, what is right would look wrong; "
            f"backward is the same code for all of them, and the layers in {dtype} can be compared with those of "
            f"another library: xpnet compare --dtype {dtype}, or compare_backends"
        )
    raise DTypeError("check_gradients", detail)


def _backward(model: Layer, loss: Loss, x: Array, t: Array) -> dict[str, np.ndarray]:
    """Return the gradients of one training step by name, ``"x"`` for the input's."""
    value = model.forward(x, train=True)
    loss.forward(value, t)
    model.zero_grad()
    dx = model.backward(loss.backward())
    gradients = {name: backend.to_numpy(p.grad).astype(np.float64) for name, p in model.named_parameters()}
    return gradients | {"x": backend.to_numpy(dx).astype(np.float64)}


def _to_float64(model: Layer, x: Array) -> None:
    xp = backend.array_namespace(x)
    try:
        here = xp.zeros((1,), dtype=xp.float64, device=backend.device_of(x))
    except Exception:  # a device without float64
        model.to("numpy", dtype="float64")
        return
    for p in model.parameters():
        p.place(backend.asarray_like(p.data, here))
    for _, layer, name in model.named_buffers():
        setattr(layer, name, backend.asarray_like(getattr(layer, name), here))


class _Reference:
    """The loss in float64 as a function of one element of the input or of a parameter."""

    def __init__(self, model: Layer, loss: Loss, x: Array, t: Array, like: Array | None) -> None:
        if like is None:
            xp = backend.array_namespace(x)
            like = xp.zeros((1,), dtype=xp.float64, device=backend.device_of(x))
        self.model, self.loss = model, loss
        self.x = backend.asarray_like(x, like)
        is_float = np.asarray(backend.to_numpy(t)).dtype.kind == "f"
        xp = backend.array_namespace(like)
        labels = xp.zeros((1,), dtype=xp.int64, device=backend.device_of(like))
        self.t = backend.asarray_like(t, like if is_float else labels)
        self.arrays = {name: p.data for name, p in model.named_parameters()} | {"x": self.x}
        self._random = model.random_state()

    def __call__(self) -> float:
        self.model.load_random_state(self._random)
        value = float(self.loss(self.model.forward(self.x, train=True), self.t))
        self.model.forget()
        return value

    def around(self, name: str, index: tuple[int, ...], steps: tuple[float, ...]) -> list[float]:
        """Return the loss with an element moved by each of the steps."""
        array = self.arrays[name]
        here = float(array[index])
        values = []
        for step in steps:
            array[index] = here + step
            values.append(self())
        array[index] = here
        return values

    def slope(self, name: str, index: tuple[int, ...], eps: float, tolerance: float) -> tuple[float | None, float]:
        """Return the slope of the loss, or None at a kink, and how far off it may be by rounding alone.

        The slope jumps at a kink: seen from both sides, or from further off, it is another.
        """
        far_below, below, here, above, far_above = self.around(name, index, (-eps, -eps / 4, 0.0, eps / 4, eps))
        noise = 4.0 * ROUNDING * max(1.0, abs(here)) / eps
        near, far = (above - below) / (eps / 2), (far_above - far_below) / (2 * eps)
        jump = abs((far_above - here) - (here - far_below)) / eps
        if jump > 1e-3 * abs(far) + 1e3 * noise or abs(near - far) > 0.3 * tolerance * abs(far) + 4.0 * noise:
            return None, noise
        return far, noise


def _compare(
    name: str,
    gradient: np.ndarray,
    reference: _Reference,
    samples: int,
    eps: float,
    tolerance: float,
    rng: np.random.Generator,
) -> tuple[WorstElement | None, int]:
    count = min(samples, gradient.size)
    chosen: Any = rng.choice(gradient.size, size=count, replace=False)
    scale = float(np.abs(gradient).max())
    worst, skipped = None, 0
    for flat in chosen:
        index = tuple(int(i) for i in np.unravel_index(int(flat), gradient.shape))
        numerical, noise = reference.slope(name, index, eps, tolerance)
        if numerical is None:
            skipped += 1
            continue
        analytic = float(gradient[index])
        distance = max(0.0, abs(analytic - numerical) - noise)
        error = distance / max(scale, abs(numerical), noise) if np.isfinite(analytic) else float("inf")
        if worst is None or error > worst.error:
            worst = WorstElement(name, index, analytic, numerical, error)
    return worst, skipped
