"""A data set of image files: a folder for each class."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from xpnet.data._reading import REMEDY
from xpnet.data.arrays import assemble, from_arrays
from xpnet.data.dataset import Dataset
from xpnet.data.images import MODES, SUFFIXES, read_image
from xpnet.data.split import split_test
from xpnet.errors import DataError

__all__ = ["image_folder"]

_PARTS = {"train": ("train",), "test": ("test",), "validation": ("validation", "val")}

Files = list[tuple[Path, int]]


def image_folder(
    path: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    channels: int = 3,
    *,
    test_fraction: float = 0.2,
    seed: int = 0,
    max_pixels: int = 1 << 26,
    max_bytes: int = 4 << 30,
) -> Dataset:
    """Read image files, in a folder for each class, into memory.

    The folders may lie in `path` itself (``path/cat/1.png``), and a share of every class is then taken for
    testing; or in ``path/train`` and ``path/test``, and perhaps ``path/validation`` or ``path/val``, with the
    same classes in each. Classes are numbered in the order of their names. Folders in a class are searched
    too. Files are read whose names end as BMP, GIF, JPEG, PGM, PNG, PPM, TIFF and WebP do; names that begin
    with a dot are passed over.

    Parameters
    ----------
    path : str or path
    size : int or (H, W), optional
        What all images are brought to: turned upright as EXIF says, scaled (bicubic) until they just cover it,
        and cut on both sides alike; an int is a square. By default images must be of one size.
    channels : {1, 3, 4}
        Grey, RGB, or RGB with opacity.
    test_fraction : float, default 0.2
        Without ``path/train``, the share of every class that is taken for testing (to within one image).
    seed : int, default 0
        Decides which images those are.
    max_pixels : int, default 2**26
        An image that says it has more pixels is refused before it is unpacked.
    max_bytes : int, default 4 GiB
        Most memory that all images together may take.

    Returns
    -------
    Dataset
        ``x`` uint8 (N, C, H, W) from 0 to 255; `classes` are the names of the folders.

    Raises
    ------
    MissingDependencyError
        If Pillow is not installed.
    DataError
        If there is no image, or one cannot be read; if classes differ between parts; if images differ
        in size and `size` is not given; if they take more than `max_bytes`; if `test_fraction` leaves one of the
        parts empty.
    ValueError
        If `size`, `channels` or `test_fraction` makes no sense.

    Examples
    --------
    >>> from xpnet import data
    >>> data.image_folder("pets", size=(64, 64)).scaled()   # doctest: +SKIP
    <Dataset pets: 160 train, 40 test, (3, 64, 64) float32 0..1, 2 classes>
    """
    path = Path(os.path.expanduser(path))
    wanted = _checked_size(size)
    if channels not in MODES:
        raise ValueError(f"image_folder: channels is {channels!r}; choose from {', '.join(map(str, MODES))}")
    folders = _parts(path)
    classes = _class_names(folders["train"])
    listed = {part: _files(folder, classes) for part, folder in folders.items()}
    if wanted is None:
        wanted = read_image(listed["train"][0][0], channels=channels, max_pixels=max_pixels).shape[1:]
    name = path.resolve().name
    if "test" not in listed:  # refused before all images are read
        split_test(np.array([k for _, k in listed["train"]]), test_fraction, seed, name)
    total = sum(map(len, listed.values())) * channels * math.prod(wanted)
    if total > max_bytes:
        raise DataError(
            f"{path}: {sum(map(len, listed.values()))} images of {channels} x {wanted[0]} x {wanted[1]} take {total} "
            f"bytes, more than max_bytes={max_bytes}; take a smaller size, or raise it"
        )
    parts = {part: _read(files, size is None, wanted, channels, max_pixels) for part, files in listed.items()}
    if "test" in parts:
        return assemble(parts, classes=classes, name=name, max_value=255.0, layout="NCHW")
    x, t = parts["train"]
    return from_arrays(
        x, t, test_fraction=test_fraction, seed=seed, classes=classes, name=name, max_value=255.0, layout="NCHW"
    )


def _checked_size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    pair = (size, size) if isinstance(size, int) else size
    if pair is None:
        return None
    if isinstance(pair, tuple | list) and len(pair) == 2:
        height, width = pair
        if all(isinstance(n, int) and not isinstance(n, bool) and 0 < n < 1 << 15 for n in pair):
            return height, width
    raise ValueError(f"image_folder: size is {size!r}; give a whole number of pixels from 1 on, or two, (H, W)")


def _subfolders(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"{path}: expected a folder of images, it cannot be read ({error.strerror or error}); check the path"
        ) from error


def _parts(path: Path) -> dict[str, Path]:
    """Return the folder of each part; ``"train"`` alone if there is no division."""
    present = {folder.name: folder for folder in _subfolders(path)}
    if "train" not in present:
        return {"train": path}
    parts = {}
    for part, names in _PARTS.items():
        here = [name for name in names if name in present]
        if len(here) > 1:
            raise DataError(f"{path}: the folders {' and '.join(here)} mean the same; keep one of them")
        if here:
            parts[part] = present[here[0]]
    if "test" not in parts:
        raise DataError(
            f"{path}: there is a folder train but none called test; add it, or give {path / 'train'} itself to have a "
            "share of it taken for testing"
        )
    return parts


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(entry.name for entry in _subfolders(folder))
    if not names:
        raise DataError(f"{folder}: expected a folder for each class, found none; put cat/1.png and the like there")
    return names


def _files(folder: Path, classes: Sequence[str]) -> Files:
    """List the images of a part with their classes, in the order of their names."""
    found: Files = []
    unknown = {entry.name for entry in _subfolders(folder)} - set(classes)
    if unknown:
        raise DataError(
            f"{folder}: there are no training images of {', '.join(sorted(unknown))}; make the classes alike"
        )
    for k, name in enumerate(classes):
        inside = sorted(
            file
            for file in (folder / name).rglob("*")
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()
        )
        if not inside:
            raise DataError(
                f"{folder / name}: expected images ({', '.join(sorted(SUFFIXES))}), found none; add some, or remove it"
            )
        found += [(file, k) for file in inside]
    return found


def _read(
    files: Files, same: bool, size: tuple[int, int], channels: int, max_pixels: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    x = np.empty((len(files), channels, *size), dtype=np.uint8)
    for i, (file, _) in enumerate(files):
        image = read_image(file, size=None if same else size, channels=channels, max_pixels=max_pixels)
        if image.shape != x.shape[1:]:
            raise DataError(
                f"{file}: {image.shape[1]} x {image.shape[2]} pixels, but others have {size[0]} x {size[1]}; give "
                f"size=(H, W) to bring all images to one, or {REMEDY}"
            )
        x[i] = image
    return x, np.array([k for _, k in files], dtype=np.int64)
