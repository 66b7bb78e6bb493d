"""Random numbers that are the same on every backend: Philox4x64-10, counted rather than remembered.

Weights and shuffles are drawn on the host. Masks are a function of (seed, stream, step, element), so a
device may compute the same ones by the same formula, and backward may draw them again instead of
keeping them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["generator", "keep_mask"]


def generator(seed: int | np.random.Generator, *stream: int) -> np.random.Generator:
    """Return a NumPy generator for a seed and, optionally, numbered streams of it.

    Parameters
    ----------
    seed : int, 0 <= seed < 2**64, or numpy.random.Generator
        A generator is returned as it is.
    *stream : int
        Up to three numbers, for instance an epoch, a batch and a rank; streams of a seed are independent, and
        any of them can be had without those before it.

    Returns
    -------
    numpy.random.Generator

    Raises
    ------
    ValueError
        If a number is negative or too large, or there are more than three stream numbers.

    Notes
    -----
    The key is ``(seed, first number)``, and zero stands for a first number that is not given. The counter
    starts at 0, with a second number at ``(0, 0, second number, 1 + third number)``.

    Examples
    --------
    >>> from xpnet.random import generator
    >>> bool(generator(1).random() == generator(1).random())
    True

    References
    ----------
    Salmon et al., *Parallel random numbers: as easy as 1, 2, 3* (2011).
    """
    if isinstance(seed, np.random.Generator):
        return seed
    words = (seed, *stream)
    whole = all(hasattr(word, "__index__") and 0 <= word < 2**64 for word in words)
    if len(words) > 4 or not whole or words[3:] == (2**64 - 1,):
        raise ValueError(
            "seed and stream must be integers from 0 to 2**64 - 1 (the third of a stream below that), at most three "
            f"numbers of a stream; got {words}"
        )
    key = np.array((*words, 0)[:2], dtype=np.uint64)
    # The last word keeps clear of the counters of `keep_mask` and of streams with one number
    later = [0, 0, words[2], 1 + sum(words[3:])] if len(words) > 2 else [0] * 4
    counter = np.array(later, dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def keep_mask(shape: Sequence[int], rate: float, seed: int, stream: int, step: int) -> np.ndarray:
    """Return a boolean mask that is False for a fraction `rate` of its elements.

    Element e (counted in C order) is kept if word e of the Philox output is at least
    ``round(rate * 2**32)``. Word e is the lower (e even) or upper half of 64-bit output e // 2; outputs
    come four to a block, and block k is Philox4x64-10 of the counter ``(k + 1, 0, step, 0)`` under the
    key ``(seed, stream)``.

    Parameters
    ----------
    shape : sequence of int
    rate : float, 0 <= rate < 1
        Probability of False, exact to 2**-32.
    seed, stream, step : int
        Of the run, the layer and the forward pass.

    Returns
    -------
    numpy.ndarray of bool
    """
    count = math.prod(shape)
    philox = np.random.Philox(
        key=np.array([seed, stream], dtype=np.uint64), counter=np.array([0, 0, step, 0], dtype=np.uint64)
    )
    words = philox.random_raw((count + 1) // 2).astype("<u8", copy=False).view("<u4")[:count]
    return (words >= round(rate * 2**32)).reshape(tuple(shape))  # 2**32 for a rate very near 1: all False
