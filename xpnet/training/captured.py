"""Forward, loss and backward of a training step as one CUDA graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from array_api_compat import is_cupy_namespace

from xpnet import backend, config
from xpnet.backend import Array, array_namespace, to_numpy
from xpnet.errors import OutOfMemoryError, StateError
from xpnet.layers.base import Layer
from xpnet.layers.observe import is_looked_into
from xpnet.losses import Loss
from xpnet.training.step import forward_backward

__all__ = ["CapturedGradients", "require_cupy"]

MOST_GRAPHS = 2  # batches of as many shapes: those of the data set, and the short last one
SETTINGS = ("allow_tf32", "conv_workspace_gpu", "cudnn", "deterministic", "kernels")  # that a step is launched by
# attributes of layers and losses that come and go
OF_ONE_STEP = {"_ctx", "_foldable", "_learning", "_moving", "_pending", "_seen_changes", "_store"}
PLAIN = (bool, int, float, str)  # types of attributes that are the same if they are equal


def require_cupy(model: Layer) -> None:
    """Refuse a model that is not, or will not be, of CuPy.

    Raises
    ------
    ValueError
    """
    parameters = model.parameters() if model.built else []
    _check_library(array_namespace(parameters[0].data) if parameters else backend.get().xp)


def _check_library(xp: Any) -> None:
    if not is_cupy_namespace(xp):
        library = xp.__name__.rpartition(".")[2]
        raise ValueError(
            f"cuda_graph=True needs CuPy, but the model is of {library}; select it with XPNET_BACKEND=cupy, "
            "or leave cuda_graph out"
        )


class CapturedGradients:
    """`forward_backward` by a CUDA graph: called as that is, it launches a whole step of a known shape at once.

    The first batch of a shape is learnt from as always, except that matrix products are those that can be recorded;
    the second is recorded, then launched, and so are all others of that shape. Batches of more than two shapes, and
    steps that somebody looks into (an `Observer`, the setting ``nan_guard``), are not recorded.

    What differs from step to step, a graph finds in memory: the batch, the numbers that random masks follow from, and
    the loss scale. Running statistics stay in one place. All else is as it was at the recording, so another
    graph is recorded when a setting, or an attribute of a layer or of the loss, has been given another value since.

    The results of a call are overwritten by the next one.

    Examples
    --------
    In place of `train_step`::

        gradients = CapturedGradients()
        for x, t in batches:
            loss_value, _ = gradients(model, loss, x, t)
            optimizer.update(model)
    """

    def __init__(self) -> None:
        self._graphs: dict[tuple[Any, ...], _Graph] = {}

    def __call__(
        self,
        model: Layer,
        loss: Loss,
        x: Array,
        t: Array,
        *,
        micro_batch: int | None = None,
        scale: float = 1.0,
        enter: Callable[[str], object] = lambda phase: None,
    ) -> tuple[Array, Array]:
        """Set the gradients of the model for one batch; return the loss and the model's output.

        Parameters
        ----------
        model, loss, x, t, micro_batch, scale
            As for `forward_backward`; on CuPy.
        enter : function of a str
            Called with "graph" at the launch of a step, and as `forward_backward` does for others.

        Raises
        ------
        ValueError
            If the model is not of CuPy.
        StateError
            If the step cannot be recorded; nothing has been changed.
        """
        graph = None
        if model.built and not is_looked_into():
            graph = self._find(model, loss, x, t, micro_batch, scale != 1.0)
        if graph is None:
            return forward_backward(model, loss, x, t, micro_batch=micro_batch, scale=scale, enter=enter)
        try:
            return graph.step(x, t, scale, enter)
        except BaseException:
            self.clear()
            raise

    def clear(self) -> None:
        """Drop all graphs, and their memory."""
        for graph in self._graphs.values():
            graph.results = None  # which lie in it
        self._graphs.clear()

    def _find(
        self, model: Layer, loss: Loss, x: Array, t: Array, micro_batch: int | None, scaled: bool
    ) -> _Graph | None:
        """Return the graph for a batch, to be recorded or not; None if there are too many."""
        key = (tuple(x.shape), x.dtype, tuple(t.shape), t.dtype, micro_batch, scaled)
        known = self._graphs.get(key)
        if known is not None and not known.fits(model, loss):
            self.clear()
        if key not in self._graphs and len(self._graphs) < MOST_GRAPHS:
            self._graphs[key] = _Graph(model, loss, x, t, micro_batch, scaled)
        return self._graphs.get(key)


class _Graph:
    """The step for batches of one shape, and all that must stay where it is for as long as the graph is launched."""

    def __init__(self, model: Layer, loss: Loss, x: Array, t: Array, micro_batch: int | None, scaled: bool) -> None:
        xp = array_namespace(x)
        _check_library(xp)
        from xpnet.kernels.cupy.graph import Numbers, Recording

        for path, layer in model.named_layers():
            if getattr(layer, "checkpoint_every", None) is not None and layer.random_state():
                raise StateError(
                    "cuda_graph",
                    f"{path or type(layer).__name__} draws random masks anew in backward (checkpoint_every), which "
                    "cannot be recorded; leave out checkpoint_every or cuda_graph",
                )
        self.model, self.loss, self.micro_batch, self.scaled = model, loss, micro_batch, scaled
        self.store, self.settings = model.store, _settings()
        self.buffers = [(layer, name, getattr(layer, name)) for _, layer, name in model.named_buffers()]
        self.counts = [(layer, name) for _, layer in model.named_layers() for name in layer.random_names]
        self.x, self.t = xp.empty_like(x), xp.empty_like(t)
        self.numbers = Numbers(len(self.counts) + scaled)
        self.recording = Recording()
        self.growth: list[int] | None = None  # of each count in a step; None before the first
        self.attributes: list[tuple[Any, str, Any]] = []
        self.results: Any = None

    def fits(self, model: Layer, loss: Loss) -> bool:
        """Tell whether the graph is that of a model and a loss as they are now."""
        same = model is self.model and loss is self.loss and model.store is self.store
        return same and _settings() == self.settings and self._changed() is None

    def step(self, x: Array, t: Array, scale: float, enter: Callable[[str], object]) -> tuple[Array, Array]:
        """Set the gradients by a batch; return the loss and the output."""
        before = [getattr(layer, name) for layer, name in self.counts]
        self._give(x, t, scale, before)
        if self.growth is None:
            results = self.recording.rehearse(lambda: self._work(enter))
            after = to_numpy(self.numbers.words).tolist()
            self.growth = [(new - old) % 2**64 for new, old in zip(after, before, strict=False)]
            self.attributes = self._attributes()
        else:
            if self.results is None:
                self.results = self._record()
            enter("graph")
            self.recording.launch()
            results = self.results
        for (layer, name), old, more in zip(self.counts, before, self.growth, strict=True):
            setattr(layer, name, old + more)
        return results

    def _give(self, x: Array, t: Array, scale: float, counts: list[int]) -> None:
        """Write what differs from step to step to where the graph reads it."""
        self.x[...], self.t[...] = x, t
        for layer, name, array in self.buffers:
            now = getattr(layer, name)
            if now is not array:  # loaded, or exchanged for averages and back
                array[...] = now
                setattr(layer, name, array)
        self.numbers.set([*counts, scale] if self.scaled else counts)

    def _work(self, enter: Callable[[str], object]) -> tuple[Array, Array]:
        """The step itself, on arrays that stay where they are."""
        scale = self.numbers.real(len(self.counts)) if self.scaled else 1.0
        with self._counts_in_memory():
            try:
                results = forward_backward(
                    self.model, self.loss, self.x, self.t, micro_batch=self.micro_batch, scale=scale, enter=enter
                )
                for layer, name, array in self.buffers:
                    _write(array, getattr(layer, name))
                return results
            finally:
                for layer, name, array in self.buffers:
                    setattr(layer, name, array)

    @contextlib.contextmanager
    def _counts_in_memory(self) -> Iterator[None]:
        """Let the numbers that random masks follow from be arrays: a layer that looks at one cannot be recorded."""
        before = [getattr(layer, name) for layer, name in self.counts]
        arrays = [self.numbers.whole(i) for i in range(len(before))]
        try:
            for (layer, name), array in zip(self.counts, arrays, strict=True):
                setattr(layer, name, array)
            yield
            for (layer, name), array in zip(self.counts, arrays, strict=True):
                _write(array, getattr(layer, name))
        finally:
            for (layer, name), count in zip(self.counts, before, strict=True):
                setattr(layer, name, count)

    def _record(self) -> tuple[Array, Array]:
        try:
            results = self.recording.record(lambda: self._work(lambda phase: None))
        except (MemoryError, OutOfMemoryError):
            raise
        except Exception as error:
            raise StateError(
                "cuda_graph",
                f"the step of {type(self.model).__name__} cannot be recorded: {error}; leave cuda_graph out",
            ) from error
        changed = self._changed()
        if changed is not None:
            raise StateError(
                "cuda_graph",
                f"{changed} changes in each step, which a recorded step would not see; name whole numbers in "
                "random_names and arrays in _buffer_specs of the layer, or leave cuda_graph out",
            )
        return results

    def _attributes(self) -> list[tuple[Any, str, Any]]:
        """Return owner, name and value of each attribute of the layers and the loss that a recording depends on."""
        moving = {(id(layer), name) for layer, name in self.counts}
        moving |= {(id(layer), name) for layer, name, _ in self.buffers}
        owners = [*(layer for _, layer in self.model.named_layers()), self.loss]
        return [
            (owner, name, value)
            for owner in owners
            for name, value in vars(owner).items()
            if name not in OF_ONE_STEP and (id(owner), name) not in moving
        ]

    def _changed(self) -> str | None:
        """Return the name of an attribute that is not what it was; None if there is none."""
        for owner, name, value in self.attributes:
            new = getattr(owner, name, None)
            if new is not value and not (type(new) is type(value) and isinstance(value, PLAIN) and new == value):
                return f"{type(owner).__name__}.{name}"
        return None


def _settings() -> list[Any]:
    return [config.get(name) for name in SETTINGS]


def _write(array: Array, made: Array) -> None:
    """Give an array the values of another one, where it is another one."""
    if made is not array:
        array[...] = made
