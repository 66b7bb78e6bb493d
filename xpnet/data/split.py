"""Splitting samples so that every class keeps its share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["stratified_split"]

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
        If `t` is not a vector of integers, or `fraction` is not between 0 and 1.

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
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"stratified_split: fraction is {fraction}; give one between 0 and 1, such as 0.2")
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
