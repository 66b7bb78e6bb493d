"""Data sets by name, and scikit-learn's digits."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpnet.data._sources import DIGITS
from xpnet.data.cifar import cifar10, cifar100
from xpnet.data.dataset import Dataset
from xpnet.data.folders import image_folder
from xpnet.data.mnist_like import fashion_mnist, kmnist, mnist, mnist_is_local
from xpnet.data.npz_file import npz
from xpnet.data.split import split_test
from xpnet.optional import require
from xpnet.text import no_such

__all__ = ["digits", "load", "names"]


def digits(*, test_fraction: float = 0.2, seed: int = 0, upscale: int = 1) -> Dataset:
    """Load scikit-learn's 1,797 handwritten digits, 8 x 8, grey: small, and never a download.

    Parameters
    ----------
    test_fraction : float, default 0.2
        Share of every class that goes to the test half (to within one sample).
    seed : int, default 0
        Decides which samples those are.
    upscale : int, default 1
        Repeat every pixel so many times both ways: 4 gives 32 x 32, the input of LeNet.

    Returns
    -------
    Dataset
        ``x`` uint8 (N, 1, 8 * upscale, 8 * upscale) from 0 to **16**, ``t`` int64 (N,) from 0 to 9.
        Give `Loader` ``scale=data.scale``, or use ``data.scaled()``, to come to 0..1.

    Raises
    ------
    MissingDependencyError
        If scikit-learn is not installed.
    ValueError
        If `test_fraction` or `upscale` makes no sense.
    DataError
        If `test_fraction` leaves one of the halves empty.

    Examples
    --------
    >>> from xpnet import data
    >>> data.digits(upscale=4)                              # doctest: +SKIP
    <Dataset digits: 1438 train, 359 test, (1, 32, 32) uint8 0..16, 10 classes>
    """
    if isinstance(upscale, bool) or not isinstance(upscale, int) or upscale < 1:
        raise ValueError(f"digits: upscale is {upscale!r}; give a whole number from 1 on")
    source = require("sklearn.datasets", "the digits data set").load_digits()
    x = source.images.astype(np.uint8)[:, np.newaxis]
    x = x.repeat(upscale, axis=2).repeat(upscale, axis=3)
    t = source.target.astype(np.int64)
    rest, chosen = split_test(t, test_fraction, seed, "digits")
    return Dataset(x[rest], t[rest], x[chosen], t[chosen], DIGITS, "digits", 16.0)


_LOADERS: dict[str, Callable[..., Dataset]] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "image_folder": image_folder,
    "kmnist": kmnist,
    "mnist": mnist,
    "npz": npz,
}
_OF_YOUR_OWN = ("image_folder", "npz")  # where they are, only the caller knows


def names() -> list[str]:
    """Return the names that `load` knows, besides ``"auto"``.

    Examples
    --------
    >>> from xpnet import data
    >>> data.names()
    ['cifar10', 'cifar100', 'digits', 'fashion_mnist', 'image_folder', 'kmnist', 'mnist', 'npz']
    """
    return list(_LOADERS)


def load(name: str, **options: Any) -> Dataset:
    """Load a data set by name.

    Parameters
    ----------
    name : str
        One of `names`, in any case, with ``-``, ``_`` or nothing between the words; or ``"auto"``, which is
        MNIST where all its files are on this machine, else digits, and never downloads.
    **options
        Passed to the function of that name; ``"image_folder"`` and ``"npz"`` need `path`. For ``"auto"``,
        `root` says where to look for MNIST and all others are for digits.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        If there is no such name, it has no such option, or `path` is missing.
    DataError, MissingDependencyError
        As the function of that name does.

    Examples
    --------
    >>> from xpnet import data
    >>> data.load("cifar")
    Traceback (most recent call last):
    ...
    ValueError: data: no data set 'cifar'; did you mean 'cifar10'? There are auto, cifar10, cifar100, ...
    """
    name, options = resolve(name, options)
    key = _plain(name)
    found = next((known for known in _LOADERS if _plain(known) == key), None)
    if found is None:
        raise ValueError(f"data: {no_such('data set', name, ['auto', *_LOADERS])}")
    if found in _OF_YOUR_OWN and "path" not in options:
        raise ValueError(f"data set {name!r} is files of your own; say where they are by path=...")
    loader = _LOADERS[found]
    known = list(inspect.signature(loader).parameters)
    for option in options:
        if option not in known:
            raise ValueError(f"data: {no_such('option', option, known, of=found)}")
    return loader(**options)


def resolve(name: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return name and options of the data set that ``"auto"`` is on this machine; of any other, as they are."""
    if _plain(name) != "auto":
        return name, dict(options)
    root = options.get("root")
    if mnist_is_local(root):
        return "mnist", {} if root is None else {"root": root}
    return "digits", {key: value for key, value in options.items() if key != "root"}


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
