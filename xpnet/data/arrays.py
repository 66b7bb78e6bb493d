"""Data sets out of arrays of your own, brought to the one form that `Dataset` has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet import backend
from xpnet.backend import Array
from xpnet.data.dataset import Dataset, Images, Labels
from xpnet.data.split import split_test
from xpnet.errors import DataError

__all__ = ["LAYOUTS", "assemble", "from_arrays"]

LAYOUTS = ("auto", "NCHW", "NHWC")


def from_arrays(
    x: Array,
    t: Array,
    *,
    test: tuple[Array, Array] | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    name: str = "arrays",
    max_value: float | None = None,
    layout: str = "auto",
) -> Dataset:
    """Make a data set of arrays.

    Parameters
    ----------
    x : array, shape (N, H, W), (N, C, H, W) or (N, H, W, C)
        Images, of any library. uint8, and float32 in NCHW order, are used as they are, not copied; other floats
        become float32, and other integers and booleans uint8 if they are from 0 to 255.
    t : array of int, shape (N,) or (N, 1)
        Class numbers from 0 on.
    test : (x, t), optional
        The same for testing.
    test_fraction : float, default 0.2
        Without `test`, the share of every class that is taken for it (to within one sample).
    seed : int, default 0
        Decides which samples those are.
    classes : sequence of str, optional
        What the classes are called; by default their numbers.
    name : str, default "arrays"
    max_value : float, optional
        The largest value a pixel can have; by default 255 for integers, 1 for floats and booleans.
    layout : {"auto", "NCHW", "NHWC"}
        Where the channels of four axes are. ``"auto"`` takes NHWC where the last axis has 1, 3 or 4 entries and
        the second does not have 1 or 3.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If shapes, types, values or numbers of samples do not fit together, or `test_fraction` leaves one of the
        parts empty.
    ValueError
        If `test_fraction` or `layout` makes no sense.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet import data
    >>> x, t = np.zeros((20, 8, 8, 3), dtype=np.uint8), np.arange(20) % 2
    >>> data.from_arrays(x, t, classes=["cat", "dog"], name="pets")
    <Dataset pets: 16 train, 4 test, (3, 8, 8) uint8 0..255, 2 classes>
    """
    if test is not None:
        try:
            x_test, t_test = test
        except (TypeError, ValueError):
            raise DataError(f"{name}: test is {type(test).__name__}; give a pair (x, t)") from None
        parts = {"train": (x, t), "test": (x_test, t_test)}
        return assemble(parts, classes=classes, name=name, max_value=max_value, layout=layout)
    whole_x, whole_t = _as_images(x, f"{name}: x", layout), _as_labels(t, f"{name}: t")
    if len(whole_x) != len(whole_t):
        raise DataError(f"{name}: x holds {len(whole_x)} images and t {len(whole_t)} labels; give as many of both")
    rest, chosen = split_test(whole_t, test_fraction, seed, name)
    parts = {"train": (whole_x[rest], whole_t[rest]), "test": (whole_x[chosen], whole_t[chosen])}
    if max_value is None:
        max_value = _default_max_value(x)
    return assemble(parts, classes=classes, name=name, max_value=max_value, layout="NCHW")


def assemble(
    parts: dict[str, tuple[Array, Array]],
    *,
    classes: Sequence[str] | None,
    name: str,
    max_value: float | None,
    layout: str,
) -> Dataset:
    """Make a data set of its parts, called ``"train"``, ``"test"`` and perhaps ``"validation"``; else as `from_arrays`.

    Examples
    --------
    >>> x, t = np.zeros((2, 8, 8), dtype=bool), np.array([0, 1])
    >>> assemble({"train": (x, t), "test": (x, t)}, classes=None, name="dots", max_value=None, layout="auto")
    <Dataset dots: 2 train, 2 test, (1, 8, 8) uint8 0..1, 2 classes>
    """
    if max_value is None:
        max_value = _default_max_value(parts["train"][0])
    if not 0 < max_value < np.inf:
        raise DataError(f"{name}: max_value is {max_value}; give the largest value a pixel can have, such as 255")
    fields: dict[str, Any] = {}
    for part, (x, t) in parts.items():
        fields[f"x_{part}"] = _as_images(x, f"{name}: x_{part}", layout)
        fields[f"t_{part}"] = _as_labels(t, f"{name}: t_{part}")
    if classes is None:
        top = max((int(fields[f"t_{part}"].max(initial=0)) for part in parts), default=0)
        if top > 1 << 16:
            raise DataError(f"{name}: labels go up to {top}; number the classes from 0 on, without gaps")
        classes = [str(k) for k in range(top + 1)]
    return Dataset(classes=tuple(map(str, classes)), name=name, max_value=float(max_value), **fields)


def _default_max_value(x: Array) -> float:
    """Return 255 for integers, else 1."""
    return 255.0 if backend.to_numpy(x).dtype.kind in "iu" else 1.0


def _as_images(x: Array, where: str, layout: str) -> Images:
    """Return images as uint8 or float32 (N, C, H, W), as a view where possible."""
    if layout not in LAYOUTS:
        raise ValueError(f"{where}: layout is {layout!r}; choose from {', '.join(map(repr, LAYOUTS))}")
    images = backend.to_numpy(x)
    if images.ndim not in (3, 4) or images.size == 0:
        raise DataError(
            f"{where} has shape {images.shape}; expected at least one image, as (N, H, W), (N, C, H, W) or "
            "(N, H, W, C): x.reshape(-1, 28, 28) makes images of flat rows of 784"
        )
    images = _as_pixels(images, where)
    if images.ndim == 3:
        return images[:, np.newaxis]
    if layout == "auto":
        layout = "NHWC" if images.shape[3] in (1, 3, 4) and images.shape[1] not in (1, 3) else "NCHW"
    return images.transpose(0, 3, 1, 2) if layout == "NHWC" else images


def _as_pixels(images: Images, where: str) -> Images:
    kind = images.dtype.kind
    if kind not in "biuf":
        raise DataError(f"{where} is {images.dtype}; expected numbers, such as uint8 from 0 to 255")
    low, high = images.min(), images.max()
    if kind == "f":
        if not (np.isfinite(low) and np.isfinite(high) and max(-low, high) <= np.finfo(np.float32).max):
            raise DataError(f"{where} has values from {low} to {high}; expected finite numbers within float32")
        return images.astype(np.float32, copy=False)
    if not (low >= 0 and high <= 255):
        raise DataError(
            f"{where} is {images.dtype} from {low} to {high}; expected integers from 0 to 255: "
            "x.astype('float32') keeps larger ones, together with max_value"
        )
    return images.astype(np.uint8, copy=False)


def _as_labels(t: Array, where: str) -> Labels:
    """Return class numbers as int64 (N,)."""
    labels = backend.to_numpy(t)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.size == 0:
        raise DataError(
            f"{where} has shape {labels.shape} and type {labels.dtype}; expected at least one class number, as "
            "integers (N,): t.argmax(axis=1) makes them of one-hot rows"
        )
    if labels.min() < 0 or labels.max() > np.iinfo(np.int64).max:
        raise DataError(f"{where} has labels from {labels.min()} to {labels.max()}; number the classes from 0 on")
    return labels.astype(np.int64, copy=False)
