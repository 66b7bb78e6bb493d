"""Splitting samples, so that every class keeps its share or at random."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
import numpy.typing as npt

from xpnet.errors import DataError
from xpnet.random import generator

__all__ = ["split_test", "split_validation", "stratified_split"]

Indices = npt.NDArray[np.int64]


def stratified_split(t: npt.ArrayLike, fraction: float, seed: int = 0) -> tuple[Indices, Indices]:
    """Choose a share of the samples at random, the same share of every class.

    Of a class with n samples ``floor(n * fraction)`` are chosen, or one more: the ones left over
    go to the classes with the largest remainder, so that ``round(N * fraction)`` are chosen in all.

    Parameters
    ----------
    t : array_like of int, shape (N,)
        Class of each sample.
    fraction : float
        Share to choose, between 0 and 1.
    seed : int, default 0
        The same seed chooses the same samples.

    Returns
    -------
    rest, chosen : ndarray of int64
        Indices into `t`, each in ascending order; together they are ``0 .. N-1``.

    Raises
    ------
    ValueError
        If `t` is not a vector of integers, `fraction` is not between 0 and 1, or `seed` is no whole number from 0 on.

    Examples
    --------
    >>> from xpnet.data import stratified_split
    >>> rest, chosen = stratified_split([0, 0, 0, 0, 1, 1, 1, 1], 0.25, seed=3)
    >>> len(rest), len(chosen)
    (6, 2)
    """
    t = np.asarray(t)
    if t.ndim != 1 or t.dtype.kind not in "iu":
        raise ValueError(
            f"stratified_split: expected labels as a vector of integers, got shape {t.shape} of {t.dtype}; "
            "pass class numbers, as in one_hot.argmax(axis=1)"
        )
    if not (isinstance(fraction, Real) and 0.0 < fraction < 1.0):
        raise ValueError(f"stratified_split: fraction is {fraction}; give one between 0 and 1, such as 0.2")
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise ValueError(f"stratified_split: seed is {seed!r}; give a whole number from 0 on")
    rng = np.random.Generator(np.random.Philox(seed))
    _, position, sizes = np.unique(t, return_inverse=True, return_counts=True)
    exact = sizes * fraction
    take = np.floor(exact).astype(np.int64)
    left_over = round(t.size * fraction) - int(take.sum())
    take[np.argsort(take - exact, kind="stable")[: max(left_over, 0)]] += 1
    members = (rng.permutation(np.flatnonzero(position == i)) for i in range(sizes.size))
    chosen = np.zeros(t.size, dtype=bool)
    for indices, count in zip(members, take, strict=True):
        chosen[indices[:count]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def split_test(t: Indices, fraction: float, seed: int, name: str) -> tuple[Indices, Indices]:
    """Choose what is kept for testing, as `stratified_split` does, and refuse to leave a part empty.

    Parameters
    ----------
    t : ndarray of int64, shape (N,)
    fraction : float
    seed : int
    name : str
        Of the data set, for messages.

    Returns
    -------
    rest, chosen : ndarray of int64
        Indices into `t`, each in ascending order.

    Raises
    ------
    ValueError
        If `fraction` or `seed` makes no sense.
    DataError
        If a part would be empty.

    Examples
    --------
    >>> rest, chosen = split_test(np.array([0, 0, 0, 1, 1, 1]), 0.3, 0, "pets")
    >>> len(rest), len(chosen)
    (4, 2)
    """
    rest, chosen = stratified_split(t, fraction, seed)
    if not (rest.size and chosen.size):
        raise DataError(
            f"{name}: test_fraction={fraction} of {t.size} image(s) leaves one of the parts empty; change it"
        )
    return rest, chosen


def split_validation(
    t: Indices, validation: float, stratified: bool, seed: int, name: str, classes: Sequence[str]
) -> tuple[Indices, Indices]:
    """Choose what `Dataset.split` keeps for validation, and refuse to leave a part, or a class of one, empty.

    Parameters
    ----------
    t : ndarray of int64, shape (N,)
    validation : float or int
        Share of the samples, or their number.
    stratified : bool
    seed : int
    name : str
        Of the data set, for messages.
    classes : sequence of str

    Returns
    -------
    rest, chosen : ndarray of int64
        Indices into `t`, each in ascending order.

    Raises
    ------
    ValueError
        If `validation` or `seed` makes no sense.
    DataError
        If a part, or with `stratified` a class in one of the parts, would be empty.

    Examples
    --------
    >>> rest, chosen = split_validation(np.array([0, 0, 0, 1, 1, 1]), 2, True, 0, "pets", ("cat", "dog"))
    >>> len(rest), len(chosen)
    (4, 2)
    """
    where = f"{name}.split"
    fraction = _checked_share(validation, len(t), where)
    rng = generator(seed)
    if not 0 < round(fraction * len(t)) < len(t):
        raise DataError(f"{where}: validation={validation} of {len(t)} images leaves one of the parts empty; change it")
    if not stratified:
        order = rng.permutation(len(t))
        count = round(fraction * len(t))
        return np.sort(order[count:]), np.sort(order[:count])
    rest, chosen = stratified_split(t, fraction, seed)
    kept, taken, whole = (np.bincount(part, minlength=len(classes)) for part in (t[rest], t[chosen], t))
    torn = np.flatnonzero((whole > 0) & ((kept == 0) | (taken == 0)))
    if torn.size:
        k = torn[0]
        raise DataError(
            f"{where}: class {classes[k]!r} has {whole[k]} image(s), of which {kept[k]} would be for training and "
            f"{taken[k]} for validation; change validation={validation}, add images of that class, or use "
            "stratified=False"
        )
    return rest, chosen


def _checked_share(validation: float, size: int, where: str) -> float:
    """Return `validation` as a fraction of `size`."""
    fraction = float("nan")
    if not isinstance(validation, (bool, np.bool_)):
        try:
            fraction = operator.index(validation) / size  # type: ignore[arg-type]
        except TypeError:
            fraction = float(validation) if isinstance(validation, (float, np.floating)) else fraction
    if not 0.0 < fraction < 1.0:
        raise ValueError(
            f"{where}: validation is {validation!r}; give a share between 0 and 1, such as 0.1, "
            f"or a number of images from 1 to {size - 1}"
        )
    return fraction
