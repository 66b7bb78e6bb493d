"""What all optimizers share: the one pass over a model's flat weights, decay, clipping, groups and state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

from xpnet import backend
from xpnet.backend import Array
from xpnet.errors import StateError, WeightsError
from xpnet.kernels import find
from xpnet.layers.base import Layer
from xpnet.layers.parameter import Parameter, ParameterStore, Segment
from xpnet.optim.constraints import clip_by_norm, clip_by_value, global_norm, limit_units
from xpnet.optim.groups import Groups, GroupSettings, settings_of
from xpnet.optim.loss_scale import LossScale
from xpnet.optim.master import all_finite, master_weights, narrow, to_update, zeros_like

__all__ = ["Optimizer", "Shared", "layout"]


class Shared(TypedDict, total=False):
    """The keyword arguments that every optimizer passes on to `Optimizer`."""

    weight_decay: float
    l1: float
    max_norm: float | None
    clip_norm: float | None
    clip_value: float | None
    groups: Groups


QUIET = {"l1": 0.0, "max_norm": None, "clip_norm": None, "clip_value": None, "groups": (), "amsgrad": False}


class Optimizer:
    """Base of the optimizers.

    An update is, in this order: clip the gradient by value, then by norm; add the decay terms; the
    optimizer's own step; limit the norms of the units. The gradients in the model are not changed.

    A model in float16 or bfloat16 is updated in float32: the optimizer keeps master weights of that type, and state
    too, and the model's weights are these, rounded.

    Parameters
    ----------
    lr : float
        Learning rate, above 0.
    weight_decay : float, default 0
        L2: adds ``weight_decay * w`` to the gradient of every parameter whose `decay` is true (the
        weights of convolution and dense layers; not biases, nor scales and shifts of normalisation).
        `AdamW`, `Lion` and `LAMB` keep it apart from the gradient.
    l1 : float, default 0
        Adds ``l1 * sign(w)`` to the gradient of the same parameters.
    max_norm : float, optional
        After the update, the weights that come into one output unit (a column of a dense W (in, out), a
        filter of a convolution's W (F, C, KH, KW)) are scaled back to this 2-norm where theirs is larger.
        Of the same parameters, if they have two axes or more; see `Parameter.unit_axis`.
    clip_norm : float, optional
        Scales the gradient of the whole model to this 2-norm where its own is larger (`grad_norm` has it).
    clip_value : float, optional
        Clips every element of the gradient to ``-clip_value .. clip_value``.
    groups : sequence of mappings, or function of a Parameter, optional
        Parameters with settings of their own: ``[{"match": "*.b", "lr": 0.1, "weight_decay": 0.0}, ...]``.
        ``"match"`` is a pattern for the parameter's name (``fnmatch``) or a function of the `Parameter`;
        the first that fits holds. A function in place of the sequence returns the settings, or None.
        Settings: ``lr``, ``weight_decay``, ``l1``, ``max_norm``; what is not there is the optimizer's. With ``lr`` 0
        the parameters are frozen: they stay as they are, to the bit.
        When the optimizer's `lr` changes, a group's changes in proportion. A group's decay applies to
        all that it matches, biases too.

    Attributes
    ----------
    lr : float
        May be set at any time; so may the others, but for `groups` (and `amsgrad` of `Adam`), by which the first
        update makes the state: from then on these cannot be changed.
    step : int
        Updates so far.

    Raises
    ------
    ValueError
        If a setting is out of range.
    StateError
        If `groups` or `amsgrad` is set after the first update.
    """

    kernel: ClassVar[str]
    state_names: ClassVar[tuple[str, ...]] = ()
    fixed: ClassVar[tuple[str, ...]] = ("groups",)  # settings that hold from the first update on
    decoupled: ClassVar[bool] = False  # whether weight decay is a step of its own, before the other

    def __init__(
        self,
        lr: float,
        *,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        max_norm: float | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        groups: Groups = (),
    ) -> None:
        self._check("lr", lr, above=0.0)
        self._check("weight_decay", weight_decay, at_least=0.0)
        self._check("l1", l1, at_least=0.0)
        for name, value in (("max_norm", max_norm), ("clip_norm", clip_norm), ("clip_value", clip_value)):
            if value is not None:
                self._check(name, value, above=0.0)
        self.lr, self.weight_decay, self.l1 = float(lr), float(weight_decay), float(l1)
        self.max_norm, self.clip_norm, self.clip_value = max_norm, clip_norm, clip_value
        self.groups = groups
        self.step = 0
        self._first_lr = self.lr  # what the lr of groups are in proportion to
        self._store: ParameterStore | None = None
        self._state: list[dict[str, Array]] = []  # one mapping for each segment of the store
        self._masters: list[Array | None] = []  # float32 weights for each segment that is narrower
        self._own: list[list[GroupSettings]] = []  # what groups say of each parameter of each segment
        self._factors: dict[tuple[str, int], tuple[float, Array | None]] = {}
        self._grad_norm: Array | None = None
        settings_of(self, [])  # refuse bad groups here and not at the first update

    if not TYPE_CHECKING:  # to a type checker it would say that an optimizer has attributes of any name

        def __setattr__(self, name: str, value: Any) -> None:
            if name in self.fixed and getattr(self, "_store", None) is not None:
                raise StateError(
                    type(self).__name__,
                    f"{name} cannot be changed after the first update; make a new optimizer with it",
                )
            super().__setattr__(name, value)

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
        if isinstance(value, Layer):
            raise ValueError(
                f"{type(self).__name__}: {name} must be a number, got {type(value).__name__}; "
                "the model is given to update(model)"
            )
        if not isinstance(value, Real):
            raise ValueError(f"{type(self).__name__}: {name} must be a number, {' and '.join(wanted)}; got {value!r}")
        fits = (above is None or value > above) and (at_least is None or value >= at_least)
        if not (fits and (below is None or value < below) and value < float("inf")):
            raise ValueError(f"{type(self).__name__}: {name} must be finite, {' and '.join(wanted)}; got {value!r}")

    def _checked_betas(self, betas: tuple[float, float]) -> tuple[float, float]:
        if not hasattr(betas, "__len__") or len(betas) != 2:
            raise ValueError(f"{type(self).__name__}: betas must be two numbers, such as (0.9, 0.999); got {betas!r}")
        for beta in betas:
            self._check("betas", beta, at_least=0.0, below=1.0)
        return float(betas[0]), float(betas[1])

    def _settings(self) -> dict[str, Any]:
        """Return the keyword arguments of the kernel for this step; `lr` is added to them."""
        return {}

    def _kernel(self) -> str:
        return self.kernel

    def _state_names(self) -> tuple[str, ...]:
        return self.state_names

    @property
    def grad_norm(self) -> Array | None:
        """2-norm of the whole gradient at the last update, before clipping by norm: a 0-d array, not waited for.

        None without `clip_norm`.
        """
        return self._grad_norm

    def update(self, model: Layer, *, loss_scale: LossScale | None = None) -> None:
        """Change the weights of the model by its gradients.

        Parameters
        ----------
        model : Layer
            The same one at every call.
        loss_scale : LossScale, optional
            The loss was multiplied by its value: the gradients are divided by it first. It is told whether they are
            finite; if not, nothing else is changed.

        Raises
        ------
        StateError
            If the model has not been built, or is another than at the first update.
        ValueError
            At the first update, if a group matches no parameter.
        """
        store = model.store
        if store is not self._store:
            self._bind(store)
        factor = 1.0 if loss_scale is None else 1.0 / loss_scale.value
        segments = [to_update(s, master, factor) for s, master in zip(store.segments, self._masters, strict=True)]
        if loss_scale is not None and not loss_scale.record(all_finite(segments)):
            return
        self.step += 1
        gradients = self._clip([segment.grad for segment in segments])
        for i, (segment, state, g) in enumerate(zip(segments, self._state, gradients, strict=True)):
            l1 = self._coefficient("l1", i, segment)
            if l1 is not None:
                g = g + l1 * backend.sign(backend.array_namespace(g), segment.data)
            self._update_segment(
                segment, state, g, self._rate(i, segment), self._coefficient("weight_decay", i, segment)
            )
        for updated, segment, groups in zip(segments, store.segments, self._own, strict=True):
            self._limit(updated, groups)
            narrow(updated, segment)

    def _update_segment(
        self, segment: Segment, state: dict[str, Array], g: Array, lr: float | Array, decay: Array | None
    ) -> None:
        """Take the step; `lr` is a number or one for each element, `decay` the L2 coefficients if there are any."""
        w = segment.data
        xp = backend.array_namespace(w)
        if decay is not None and self.decoupled:
            find("decay_weights", xp)(w, decay, lr=lr)
        elif decay is not None:
            g = find("decay_gradient", xp)(g, w, decay)
        self._run(w, g, state, lr)

    def _run(self, w: Array, g: Array, state: dict[str, Array], lr: float | Array, **more: Any) -> None:
        find(self._kernel(), backend.array_namespace(w))(w, g, **state, **self._settings(), lr=lr, **more)

    def _limit(self, segment: Segment, groups: list[GroupSettings]) -> None:
        limits = [own.get("max_norm", self.max_norm) if own.get("lr") != 0.0 else None for own in groups]
        if any(limit is not None for limit in limits):
            for p, w, limit in zip(segment.parameters, segment.views(), limits, strict=True):
                if limit is not None and p.decay and p.unit_axis is not None:
                    limit_units(w, p.unit_axis, limit)

    def _clip(self, gradients: list[Array]) -> list[Array]:
        if self.clip_value is not None:
            gradients = [clip_by_value(g, self.clip_value) for g in gradients]
        if self.clip_norm is not None and gradients:
            norm = global_norm(gradients)
            self._grad_norm = backend.array_namespace(norm).reshape(norm, ())
            gradients = [clip_by_norm(g, norm, self.clip_norm) for g in gradients]
        return gradients

    def _rate(self, i: int, segment: Segment) -> float | Array:
        """Return the learning rate: one number, or where groups have their own, one for each element."""
        if not any("lr" in own for own in self._own[i]):
            return self.lr
        ratios = self._per_element("lr", i, segment, 1.0, lambda p, own: own.get("lr", self._first_lr) / self._first_lr)
        return 0.0 if ratios is None else self.lr * ratios  # None: they are all 0

    def _coefficient(self, name: str, i: int, segment: Segment) -> Array | None:
        """Return the coefficients of weight decay or l1, one for each element; None if all are 0."""
        value = getattr(self, name)
        if not value and not any(name in own for own in self._own[i]):
            return None
        return self._per_element(name, i, segment, value, lambda p, own: own.get(name, value * p.decay))

    def _per_element(
        self, name: str, i: int, segment: Segment, key: float, value: Callable[[Parameter, GroupSettings], float]
    ) -> Array | None:
        """Return the value of each parameter, at each of its elements; made once, and again when `key` changes."""
        known = self._factors.get((name, i))
        if known is None or known[0] != key:
            values = [value(p, own) for p, own in zip(segment.parameters, self._own[i], strict=True)]
            known = (key, segment.per_element(values) if any(values) else None)
            self._factors[name, i] = known
        return known[1]

    def _find_groups(self, store: ParameterStore) -> list[list[GroupSettings]]:
        found = settings_of(self, store.parameters)
        return [[found.get(id(p), {}) for p in segment.parameters] for segment in store.segments]

    def _bind(self, store: ParameterStore) -> None:
        if self._store is None:
            self._own = self._find_groups(store)
            self._state = [{n: zeros_like(segment) for n in self._state_names()} for segment in store.segments]
            self._masters = [master_weights(segment) for segment in store.segments]
        elif layout(store) != layout(self._store):
            raise StateError(
                type(self).__name__,
                "this optimizer's state belongs to another model, or to this one before it was moved or got other "
                "layers; make a new optimizer for each model",
            )
        self._store = store
        self._factors = {}

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the state: ``step``, ``lr`` and, once there was an update, arrays by name.

        Arrays are named ``"<state>.<parameter>"``, such as ``"m.features.0.W"``, and shaped like the parameter. For
        weights of 16 bits there are the master weights too, as ``"master.features.0.W"``.
        """
        state: dict[str, Any] = {"step": self.step, "lr": self.lr}
        if self._store is not None:
            for segment, arrays, master in zip(self._store.segments, self._state, self._masters, strict=True):
                for name, a in (arrays | ({} if master is None else {"master": master})).items():
                    xp = backend.array_namespace(a)
                    for p, view in zip(segment.parameters, segment.views(a), strict=True):
                        state[f"{name}.{p.name}"] = xp.asarray(view, copy=True)
        return state

    def load_state_dict(self, state: Mapping[str, Any], model: Layer) -> None:
        """Take over a state for a built model, from any backend.

        Master weights in it are left out if the model's own weights are as wide; a narrower model whose state has none
        begins with its weights as they are.

        Raises
        ------
        WeightsError
            If names or shapes do not fit; the optimizer is not changed.
        StateError
            If the model has not been built.
        ValueError
            If a group matches no parameter.
        """
        store = model.store
        missing = {"step", "lr"} - set(state)
        if missing:
            raise WeightsError(
                f"{type(self).__name__}: the state has no {', '.join(map(repr, sorted(missing)))}; "
                "give what state_dict() of an optimizer returned"
            )
        own = self._find_groups(store)
        arrays: list[dict[str, Array]] = []
        masters: list[Array | None] = []
        if int(state["step"]) > 0:
            names = {f"{name}.{p.name}" for p in store.parameters for name in self._state_names()}
            of_masters = {f"master.{p.name}" for p in store.parameters}
            given = set(state) - {"step", "lr"} - of_masters
            if names != given:
                raise WeightsError(
                    f"{type(self).__name__}: the state lacks {_some(names - given)} and has {_some(given - names)} "
                    "too many; it was saved by another kind of optimizer or for another model"
                )
            arrays = [{n: self._take(n, segment, state) for n in self._state_names()} for segment in store.segments]
            masters = [master_weights(segment) for segment in store.segments]
            if of_masters <= set(state):
                masters = [
                    None if master is None else self._take("master", segment, state)
                    for master, segment in zip(masters, store.segments, strict=True)
                ]
        self._store = store if arrays else None
        self._own, self._factors = own, {}
        self._state, self._masters, self.step, self.lr = arrays, masters, int(state["step"]), float(state["lr"])

    def _take(self, name: str, segment: Segment, state: Mapping[str, Any]) -> Array:
        """Return one kind of state for a segment, gathered from the arrays of its parameters."""
        like, values = zeros_like(segment), []
        for p in segment.parameters:
            value = state[f"{name}.{p.name}"]
            if tuple(value.shape) != tuple(p.shape):
                raise WeightsError(
                    f"{type(self).__name__}: {name}.{p.name} has shape {tuple(value.shape)} but {p.name} "
                    f"has {tuple(p.shape)}; the state was saved for another model"
                )
            values.append(backend.asarray_like(value, like))
        return segment.gathered(values, like)

    def __repr__(self) -> str:
        settings = {k: v for k, v in vars(self).items() if not k.startswith("_") and k != "step"}
        shown = {k: v for k, v in settings.items() if k not in QUIET or v != QUIET[k]}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in shown.items())})"


def _some(names: set[str]) -> str:
    return (", ".join(sorted(names)[:4]) + (", ..." if len(names) > 4 else "")) or "nothing"


def layout(store: ParameterStore) -> list[tuple[Any, ...]]:
    """Return what tells the buffers of one model from those of another: types, places and parameters."""
    return [(type(s.data), s.data.dtype, backend.device_of(s.data), *map(id, s.parameters)) for s in store.segments]
