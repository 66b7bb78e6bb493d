"""The same training step on several backends, layer by layer: which is the first whose results part?"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from xpnet import backend, losses
from xpnet._recorder import Recorder, largest
from xpnet.backend import Array
from xpnet.errors import ArgumentError, OperationError
from xpnet.functional.checks import check_not_negative
from xpnet.layers.base import Layer
from xpnet.layers.observe import observing
from xpnet.losses import Loss
from xpnet.text import table

__all__ = ["Comparison", "Row", "compare_backends"]


class Row(NamedTuple):
    """One result of one layer, and how far each backend is from the reference.

    Errors are the largest distance of two elements over `scale`; one that is not within `allowed` has parted.
    """

    layer: str  # path in the model; "loss" for the loss
    kind: str
    when: str  # "forward" or "backward"
    what: str  # "y", "dx", the name of a running statistic, or that of a gradient: "dW"
    shape: tuple[int, ...]
    allowed: float
    errors: dict[str, float]  # by backend

    @property
    def parted(self) -> list[str]:
        """The backends whose results part from the reference."""
        return [name for name, error in self.errors.items() if not error <= self.allowed]

    def shown(self, name: str) -> str:
        """Return the error of a backend as the table shows it."""
        return f"{self.errors[name]:.1e}" + ("  PARTS" if name in self.parted else "")


@dataclass(frozen=True)
class Comparison:
    """What `compare_backends` found; ``print`` shows it as a table.

    Attributes
    ----------
    reference : str
        The backend that the others were compared with.
    backends : tuple of str
        The others.
    rows : list of Row
        In the order of computation: forward through the model, the loss, and back.
    isolated : bool
        Whether each layer was given the reference's input, so that its error is its own.
    """

    reference: str
    backends: tuple[str, ...]
    rows: list[Row]
    isolated: bool

    @property
    def first(self) -> Row | None:
        """The first result that parts on some backend, or None."""
        return next((row for row in self.rows if row.parted), None)

    @property
    def passed(self) -> bool:
        """Whether no result parts."""
        return self.first is None

    def __str__(self) -> str:
        header = ("layer", "kind", "pass", "result", "shape", "allowed", *self.backends)
        lines = [
            (r.layer, r.kind, r.when, r.what, str(r.shape), f"{r.allowed:.1e}", *map(r.shown, self.backends))
            for r in self.rows
        ]
        how = "each layer on the reference's input" if self.isolated else "errors travel on through the model"
        title = f"differences from {self.reference}, relative to the largest element; {how}"
        return "\n".join([title, table([header, *lines], left=range(len(header))), self._verdict()])

    def _verdict(self) -> str:
        row = self.first
        if row is None:
            return f"passed: {len(self.rows)} results agree on {', '.join((self.reference, *self.backends))}"
        name = row.parted[0]
        return (
            f"PARTED: first in {row.when} at {row.layer} ({row.kind}), {row.what}: {name} is {row.errors[name]:.1e} "
            f"from {self.reference}, {row.allowed:.1e} is allowed"
        )


def compare_backends(
    model: Layer | Callable[[], Layer],
    x: Array,
    t: Array,
    backends: Sequence[str],
    *,
    loss: str | Loss = "softmax_cross_entropy",
    dtype: str | None = None,
    tolerance: float | None = None,
    isolate: bool = True,
    seed: int = 0,
) -> Comparison:
    """Run one training step on several backends and compare what every layer returns.

    Compared are the output and the running statistics of every layer forward, the gradients of its input and of its
    parameters backward, and the loss. All results of the reference are kept on the host meanwhile.

    Parameters
    ----------
    model : Layer, or function without arguments that returns one
        Built or not, on any backend; it is copied and not changed.
    x : array (N, ...), float
    t : array (N,) or (N, K)
        Labels or targets.
    backends : sequence of str
        As for `xpnet.backend.use`; the first is the reference.
    loss : str or Loss, default "softmax_cross_entropy"
    dtype : str, optional
        Float type on all backends; by default the model's own, or ``XPNET_DTYPE`` if it has not been built.
    tolerance : float, optional
        Relative error of one operation, in place of the float type's in `xpnet.testing.TOLERANCES`. A sum of K terms
        is allowed sqrt(K) times as much.
    isolate : bool, default True
        True gives every layer the reference's input, forward and backward, so that each is judged alone: a layer after
        a wrong one does not part, and rounding does not add up. False lets the differences travel, as in real runs.
    seed : int, default 0
        Of the weights of a model that has not been built.

    Returns
    -------
    Comparison

    Raises
    ------
    BackendUnavailableError
        If a backend cannot be used.
    ArgumentError
        If there are fewer than two backends, one is named twice, or the tolerance is negative or not finite.
    OperationError
        If the model cannot run on a backend, which a note on the error names.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.compare import compare_backends
    >>> from xpnet.models import LeNet
    >>> x, t = np.random.default_rng(0).random((2, 1, 28, 28)), np.array([3, 5])
    >>> compare_backends(LeNet, x, t, ["numpy", "array_api_strict"]).passed      # doctest: +SKIP
    True
    """
    names = list(backends)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ArgumentError("compare_backends", f"give two backends or more, each once; got {names}")
    if tolerance is not None:
        check_not_negative("compare_backends", tolerance=tolerance)
    for name in names:
        with backend.using(name, dtype=dtype):  # refused now, not after the first has run
            pass
    original = model if isinstance(model, Layer) else model()
    host = backend.to_numpy(x), backend.to_numpy(t)
    if not original.built:
        original = copy.deepcopy(original)
        with backend.using(names[0], dtype=dtype):
            original.build(host[0].shape[1:], rng=seed)
    observers: list[Recorder] = []
    for name in names:
        observers.append(Recorder(tolerance, observers[0].results if observers else None, isolate))
        try:
            _step(observers[-1], copy.deepcopy(original), copy.deepcopy(losses.by_name(loss)), host, name, dtype)
        except Exception as error:
            if isinstance(error, OperationError) and observers[-1].parted:
                continue  # such as a loss of NaN: where that began is known, what was not reached has no results
            error.add_note(f"while running on backend {name!r}")
            raise
    reference, *others = observers
    rows = [
        Row(
            *key[:4],
            result.values.shape,
            result.allowed,
            {n: o.errors.get(key, math.inf) for n, o in zip(names[1:], others, strict=True)},
        )
        for key, result in reference.results.items()
    ]
    return Comparison(names[0], tuple(names[1:]), rows, isolate)


def _step(
    recorder: Recorder, model: Layer, loss: Loss, host: tuple[np.ndarray, np.ndarray], name: str, dtype: str | None
) -> None:
    """Run a training step of a copy of the model on a backend."""
    model.to(name, dtype=dtype)
    parameters = model.parameters()
    own = backend.dtype_name(parameters[0].data.dtype) if parameters else dtype
    with backend.using(name, dtype=own) as chosen, observing(recorder):
        recorder.start(model, chosen)
        x = backend.asarray(host[0], dtype=chosen.dtype)
        t = backend.asarray(host[1], dtype=chosen.dtype if host[1].dtype.kind == "f" else "int64")
        y = model.forward(x, train=True)
        kind, size = type(loss).__name__, largest(y)  # differences of outputs and targets may cancel
        recorder.note(("loss", kind, "forward", "y"), loss.forward(y, t), terms=y.shape[0], floor=size)
        model.zero_grad()
        dy = recorder.note(("loss", kind, "backward", "dx"), loss.backward(), floor=size / y.shape[0])
        model.backward(dy)
