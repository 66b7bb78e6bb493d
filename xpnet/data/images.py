"""Reading picture files."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xpnet.data._reading import REMEDY, opened
from xpnet.errors import DataError
from xpnet.optional import require

__all__ = ["MODES", "SUFFIXES", "read_image"]

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"},
)

_GREY = ("1", "L", "LA", "La")

_BYTES = 16  # of a pixel in a file, at most
_METADATA = 1 << 24
# Not all that Pillow knows: it hands EPS to Ghostscript, for one
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def read_image(
    path: str | os.PathLike[str],
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    max_pixels: int = 25_000_000,
) -> npt.NDArray[np.uint8]:
    """Read a picture file, turned upright as its camera noted.

    Parameters
    ----------
    path : str or path
        Of a BMP, GIF, JPEG, PNG, PPM, TIFF or WebP file.
    size : (int, int), optional
        Height and width to scale it to: until it just covers them; what protrudes is cut off on both sides alike.
        By default it stays as it is.
    channels : {1, 3, 4}, optional
        Grey, red-green-blue, or these with opacity; by default 1 for grey pictures and 3 for all others.
    max_pixels : int, default 25 million
        Larger pictures are refused before they are decoded.

    Returns
    -------
    ndarray of uint8, (C, H, W)
        16-bit grey is brought to 8 bits.

    Raises
    ------
    DataError
        If the file is missing, no picture, damaged, too large, or has pixels of 32 bits.
    MissingDependencyError
        If Pillow is not installed.

    Examples
    --------
    >>> from xpnet.data import read_image
    >>> read_image("photo.jpg", size=(32, 32)).shape    # doctest: +SKIP
    (3, 32, 32)
    """
    path = Path(path)
    pillow = require("PIL.Image", "reading images")
    operations = require("PIL.ImageOps", "reading images")
    with opened(path, "an image", gzipped=False) as (stream, size_on_disk), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, and of a size that is checked here
        limit = _BYTES * max_pixels + _METADATA
        if size_on_disk is None or size_on_disk > limit:
            raise DataError(
                f"{path}: {size_on_disk} bytes are more than {max_pixels} pixels take; raise max_pixels, else {REMEDY}"
            )
        # All at once: where a file has Pillow ask for 4 GB, a file object would take them before it looks
        content = io.BytesIO(stream.read(size_on_disk))
        try:
            with pillow.open(content, formats=_FORMATS) as image:
                if image.width * image.height > max_pixels:
                    raise DataError(
                        f"{path}: {image.width} x {image.height} pixels are more than the limit of {max_pixels}; "
                        f"raise max_pixels if the image is really that large, else {REMEDY}"
                    )
                deep_grey = _is_deep_grey(image)
                upright = _eight_bit(operations.exif_transpose(image), image.format, pillow)
                grey = deep_grey or upright.mode in _GREY
                wanted = MODES[channels] if channels else "L" if grey else "RGB"
                upright = upright.convert(wanted)
                if size is not None and upright.size != size[::-1]:
                    upright = operations.fit(upright, size[::-1], method=pillow.Resampling.BICUBIC)
                pixels = np.array(upright, dtype=np.uint8)
        except DataError:
            raise
        except Exception as error:  # Pillow raises all kinds for damaged files, SyntaxError among them
            unknown = isinstance(error, pillow.UnidentifiedImageError)  # whose text names an object in memory
            why = "of no kind that is known" if unknown else f"{type(error).__name__}: {error}"
            raise DataError(f"{path}: no image that can be read ({why}); {REMEDY}") from error
    return pixels[np.newaxis] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _is_deep_grey(image: Any) -> bool:
    """Tell whether a file that has not been decoded yet holds 16-bit grey with opacity: Pillow calls it RGBA."""
    return image.mode == "RGBA" and any(str(tile[3]).startswith("LA;16") for tile in image.tile)


def _eight_bit(image: Any, kind: str, pillow: Any) -> Any:
    """Bring 16-bit grey to 8 bits: Pillow would clip it."""
    if image.mode.startswith("I;16") or (image.mode, kind) == ("I", "PPM"):  # what Pillow makes of a PGM of 16 bits
        return pillow.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of 32 bits (mode {image.mode}); save it with 8 or 16")
    return image
