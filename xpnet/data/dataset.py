"""What a data set is: training and test images with their labels, and what they mean."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xpnet.errors import DataError

__all__ = ["Dataset", "Split"]

Images = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]


class Split(NamedTuple):
    """The images and labels of one half of a data set; unpacks as ``x, t``.

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
    """Images with labels, in a training and a test half, as NumPy arrays.

    Parameters
    ----------
    x_train, x_test : ndarray of uint8 or float32, shape (N, C, H, W)
    t_train, t_test : ndarray of int64, shape (N,)
        Class of each image, an index into `classes`.
    classes : tuple of str
    name : str
    max_value : float
        The largest value a pixel can have: 255 for most images, 16 for `digits`. The smallest is 0.

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

    def __post_init__(self) -> None:
        for half in ("train", "test"):
            self._check(half, getattr(self, f"x_{half}"), getattr(self, f"t_{half}"))
        if self.x_train.shape[1:] != self.x_test.shape[1:] or self.x_train.dtype != self.x_test.dtype:
            raise DataError(
                f"{self.name}: training images are {self.x_train.shape[1:]} of {self.x_train.dtype}, "
                f"test images {self.x_test.shape[1:]} of {self.x_test.dtype}; make them alike"
            )

    def _check(self, half: str, x: Images, t: Labels) -> None:
        where = f"{self.name}: the {half} half"
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
        """The training half, as ``x, t``."""
        return Split(self.x_train, self.t_train)

    @property
    def test(self) -> Split:
        """The test half, as ``x, t``."""
        return Split(self.x_test, self.t_test)

    @property
    def scale(self) -> tuple[float, float]:
        """``(1 / max_value, 0)``: what `Loader` takes as `scale` to bring the pixels to 0..1."""
        return 1.0 / self.max_value, 0.0

    def limit(self, n_train: int, n_test: int | None = None) -> Dataset:
        """Return a data set of the first samples only (views, no copies).

        Parameters
        ----------
        n_train : int
            Training samples to keep, at least 1; all of them if there are fewer.
        n_test : int, optional
            Test samples to keep, likewise; by default all.

        Raises
        ------
        ValueError
            If a number is less than 1.

        Examples
        --------
        >>> from xpnet import data
        >>> small = data.load("digits").limit(100, 20)    # doctest: +SKIP
        """
        for argument, count in (("n_train", n_train), ("n_test", n_test)):
            if count is not None and count < 1:
                raise ValueError(f"{self.name}.limit: {argument} is {count}; keep at least 1 sample")
        return dataclasses.replace(
            self,
            x_train=self.x_train[:n_train],
            t_train=self.t_train[:n_train],
            x_test=self.x_test[:n_test],
            t_test=self.t_test[:n_test],
        )

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

        return dataclasses.replace(self, x_train=scale(self.x_train), x_test=scale(self.x_test), max_value=float(high))

    def __repr__(self) -> str:
        return (
            f"<Dataset {self.name}: {len(self.x_train)} train, {len(self.x_test)} test, {self.input_shape} "
            f"{self.x_train.dtype} 0..{self.max_value:g}, {len(self.classes)} classes>"
        )
