"""Parameters with settings of their own, such as no weight decay for some or a smaller rate for others."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xpnet.errors import ArgumentError
from xpnet.layers.parameter import Parameter

if TYPE_CHECKING:
    from xpnet.optim.base import Optimizer

__all__ = ["GroupSettings", "Groups", "settings_of"]

GroupSettings = Mapping[str, Any]
Groups = Sequence[GroupSettings] | Callable[[Parameter], GroupSettings | None]

_REMEDY = "give a list, such as [{'match': '*.b', 'lr': 0.1}]"

LIMITS: dict[str, dict[str, float]] = {
    "lr": {"at_least": 0.0},  # at 0 the parameters are frozen
    "weight_decay": {"at_least": 0.0},
    "l1": {"at_least": 0.0},
    "max_norm": {"above": 0.0},
}


def settings_of(optimizer: Optimizer, parameters: Sequence[Parameter]) -> dict[int, GroupSettings]:
    """Return the settings of the parameters in groups, by the id of the parameter.

    Raises
    ------
    ValueError
        If a group has an unknown or unusable setting or, with parameters given, matches none of them.
    """
    kind = type(optimizer).__name__
    groups = optimizer.groups
    if callable(groups):
        own: dict[int, GroupSettings] = {}
        for p in parameters:
            settings = groups(p)
            if settings is not None and not isinstance(settings, Mapping):
                raise ArgumentError(
                    kind, f"groups must return a mapping of settings or None, got {settings!r} for {p.name}"
                )
            if settings:
                _check(optimizer, settings)
                own[id(p)] = settings
        return own
    if isinstance(groups, str) or not isinstance(groups, Sequence):
        raise ArgumentError(
            kind, f"groups must be a sequence of mappings or a function of the parameter, got {groups!r}; {_REMEDY}"
        )
    found: dict[int, GroupSettings] = {}
    for group in groups:
        if not isinstance(group, Mapping):
            raise ArgumentError(kind, f"a group must be a mapping, got {group!r}; {_REMEDY}")
        if "match" not in group:
            raise ValueError(f"{kind}: the group {dict(group)!r} has no 'match' that says which parameters it holds")
        if not isinstance(group["match"], str) and not callable(group["match"]):
            raise ArgumentError(
                kind, f"'match' of a group must be a pattern or a function of the parameter, got {group['match']!r}"
            )
        settings = {name: value for name, value in group.items() if name != "match"}
        _check(optimizer, settings)
        members = [p for p in parameters if _matches(group["match"], p)]
        if parameters and not members:
            names = ", ".join(p.name for p in parameters[:6]) + (", ..." if len(parameters) > 6 else "")
            raise ValueError(f"{kind}: the group {group['match']!r} matches no parameter; there are {names}")
        for p in members:
            found.setdefault(id(p), settings)
    return found


def _matches(match: str | Callable[[Parameter], bool], p: Parameter) -> bool:
    return match(p) if callable(match) else fnmatch.fnmatchcase(p.name, match)


def _check(optimizer: Optimizer, settings: GroupSettings) -> None:
    unknown = sorted(set(settings) - set(LIMITS))
    if unknown:
        raise ValueError(
            f"{type(optimizer).__name__}: a group cannot have {', '.join(map(repr, unknown))}; "
            f"it can have {', '.join(LIMITS)}"
        )
    for name, value in settings.items():
        if value is None and name == "max_norm":  # lifts the limit
            continue
        if value is None:
            raise ArgumentError(
                type(optimizer).__name__,
                f"{name} of a group must be a number, got None; leave it out of the group to have the optimizer's own",
            )
        optimizer._check(name, value, **LIMITS[name])
