"""What a data set is: training, validation and test images with their labels, and what they mean."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xpnet.data.split import split_validation
from xpnet.errors import DataError
from xpnet.functional.checks import check_positive_int

__all__ = ["Dataset", "Split"]

Images = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]


class Split(NamedTuple):
    """The images and labels of one part of a data set; unpacks as ``x, t``.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data import Split
    >>> x, t = Split(np.zeros((5, 1, 8, 8), dtype=np.uint8), np.zeros(5, dtype=np.int64))
    """

    x: Images
    t: Labels


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images with labels for training, for testing and perhaps for validation, as NumPy arrays.

    Parameters
    ----------
    x_train, x_test : ndarray of uint8 or float32, shape (N, C, H, W)
    t_train, t_test : ndarray of int64, shape (N,)
        Class of each image, an index into `classes`.
    classes : tuple of str
    name : str
    max_value : float
        The largest value a pixel can have: 255 for most images, 16 for `digits`. The smallest is 0.
    x_validation, t_validation : ndarray, optional
        Likewise; `split` makes them out of the training images.

    Raises
    ------
    DataError
        If shapes, types, numbers of samples or labels do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data import Dataset
    >>> x, t = np.zeros((4, 1, 8, 8), dtype=np.uint8), np.array([0, 1, 1, 0])
    >>> data = Dataset(x, t, x[:2], t[:2], ("cat", "dog"), "pets", 255.0)
    >>> data
    <Dataset pets: 4 train, 2 test, (1, 8, 8) uint8 0..255, 2 classes>
    >>> data.scaled().x_train.dtype
    dtype('float32')
    """

    x_train: Images
    t_train: Labels
    x_test: Images
    t_test: Labels
    classes: tuple[str, ...]
    name: str
    max_value: float
    x_validation: Images | None = None
    t_validation: Labels | None = None

    def __post_init__(self) -> None:
        if (self.x_validation is None) != (self.t_validation is None):
            raise DataError(f"{self.name}: x_validation and t_validation belong together; give both or neither")
        for part, (x, t) in self._parts().items():
            self._check(part, x, t)
            if x.shape[1:] != self.x_train.shape[1:] or x.dtype != self.x_train.dtype:
                raise DataError(
                    f"{self.name}: training images are {self.x_train.shape[1:]} of {self.x_train.dtype}, "
                    f"{part} images {x.shape[1:]} of {x.dtype}; make them alike"
                )

    def _parts(self) -> dict[str, Split]:
        """Return the parts that there are, by name, in the order in which they are used."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    def _check(self, part: str, x: Images, t: Labels) -> None:
        where = f"{self.name}: the {part} part"
        if x.ndim != 4 or x.dtype not in (np.uint8, np.float32):
            raise DataError(
                f"{where} has images of shape {x.shape} and type {x.dtype}; expected (N, C, H, W) of uint8 or float32"
            )
        if t.ndim != 1 or t.dtype != np.int64:
            raise DataError(f"{where} has labels of shape {t.shape} and type {t.dtype}; expected (N,) of int64")
        if not len(x) == len(t) > 0:
            raise DataError(
                f"{where} has {len(x)} images and {len(t)} labels; expected as many of both, "
                "and at least one: check that the files belong together"
            )
        if t.min() < 0 or t.max() >= len(self.classes):
            raise DataError(
                f"{where} has labels from {t.min()} to {t.max()}; expected 0 to {len(self.classes) - 1}: "
                "check that the label file belongs to this data set"
            )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W), as ``model.build`` wants it."""
        channels, height, width = self.x_train.shape[1:]
        return channels, height, width

    @property
    def train(self) -> Split:
        """What to learn from, as ``x, t``."""
        return Split(self.x_train, self.t_train)

    @property
    def validation(self) -> Split | None:
        """What to choose epochs and settings by, as ``x, t``; None if nothing was kept for that."""
        if self.x_validation is None or self.t_validation is None:
            return None
        return Split(self.x_validation, self.t_validation)

    @property
    def test(self) -> Split:
        """What to measure the final result on, as ``x, t``."""
        return Split(self.x_test, self.t_test)

    @property
    def scale(self) -> tuple[float, float]:
        """``(1 / max_value, 0)``: what `Loader` takes as `scale` to bring the pixels to 0..1."""
        return 1.0 / self.max_value, 0.0

    def split(self, validation: float = 0.1, *, stratified: bool = True, seed: int = 0) -> Dataset:
        """Return a data set that keeps a part of the training images for validation (copies, not views).

        Parameters
        ----------
        validation : float or int, default 0.1
            Share of the training images, between 0 and 1, or their number. The test images stay.
        stratified : bool, default True
            Take the same share of every class (to within one sample), as `stratified_split` does, and
            see to it that every class is in both parts.
        seed : int, default 0
            The same seed takes the same images.

        Raises
        ------
        ValueError
            If `validation` or `seed` makes no sense.
        DataError
            If there is a validation part already, if nothing would be in one of the parts, or if a class
            is too small to be in both.

        Examples
        --------
        >>> import numpy as np
        >>> from xpnet.data import Dataset
        >>> x, t = np.zeros((40, 1, 8, 8), dtype=np.uint8), np.arange(40) % 2
        >>> Dataset(x, t, x[:2], t[:2], ("cat", "dog"), "pets", 255.0).split(0.25, seed=1)
        <Dataset pets: 30 train, 10 validation, 2 test, (1, 8, 8) uint8 0..255, 2 classes>
        """
        if self.validation is not None:
            raise DataError(f"{self.name}.split: {len(self.validation.t)} images are kept for validation already")
        rest, chosen = split_validation(self.t_train, validation, stratified, seed, self.name, self.classes)
        x, t = self.train
        return dataclasses.replace(
            self, x_train=x[rest], t_train=t[rest], x_validation=x[chosen], t_validation=t[chosen]
        )

    def limit(self, n_train: int, n_test: int | None = None, n_validation: int | None = None) -> Dataset:
        """Return a data set of the first samples only (views, no copies).

        Parameters
        ----------
        n_train : int
            Training samples to keep, at least 1; all of them if there are fewer.
        n_test, n_validation : int, optional
            Test and validation samples to keep, likewise; by default all.

        Raises
        ------
        ValueError
            If a number is no whole one, from 1 on.

        Examples
        --------
        >>> from xpnet import data
        >>> small = data.load("digits").limit(100, 20)    # doctest: +SKIP
        """
        counts = {"train": n_train, "test": n_test, "validation": n_validation}
        for part, count in counts.items():
            if count is not None:
                check_positive_int(f"{self.name}.limit", f"n_{part}", count)
        return self._replaced({name: (x[: counts[name]], t[: counts[name]]) for name, (x, t) in self._parts().items()})

    def scaled(self, low: float = 0.0, high: float = 1.0) -> Dataset:
        """Return a data set whose pixels are float32, brought from 0..max_value to low..high.

        It takes four times the memory of uint8; `Loader` scales batch by batch instead. `max_value`
        of the result is `high`.

        Raises
        ------
        ValueError
            If `low` is not less than `high`.

        Examples
        --------
        >>> import numpy as np
        >>> from xpnet.data import Dataset
        >>> x, t = np.array([0, 8, 16], dtype=np.uint8).reshape(3, 1, 1, 1), np.zeros(3, dtype=np.int64)
        >>> Dataset(x, t, x, t, ("grey",), "dots", 16.0).scaled(-1, 1).x_train.ravel()
        array([-1.,  0.,  1.], dtype=float32)
        """
        if not low < high:
            raise ValueError(f"{self.name}.scaled: low is {low} and high is {high}; give low < high")

        def scale(x: Images) -> Images:
            y = np.divide(x, np.float32(self.max_value), dtype=np.float32)  # max_value becomes exactly 1
            y *= np.float32(high - low)
            y += np.float32(low)
            return y

        return self._replaced({name: (scale(x), t) for name, (x, t) in self._parts().items()}, max_value=float(high))

    def _replaced(self, parts: dict[str, tuple[Images, Labels]], **changes: Any) -> Dataset:
        arrays: dict[str, Any] = {
            f"{kind}_{name}": array for name, part in parts.items() for kind, array in zip("xt", part, strict=True)
        }
        return dataclasses.replace(self, **arrays, **changes)

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(part.t)} {name}" for name, part in self._parts().items())
        return (
            f"<Dataset {self.name}: {counts}, {self.input_shape} "
            f"{self.x_train.dtype} 0..{self.max_value:g}, {len(self.classes)} classes>"
        )
