"""Reading picture files."""

from __future__ import annotations

import os
import warnings

import numpy as np
import numpy.typing as npt

from xpnet.errors import DataError
from xpnet.optional import require


def read(path: str | os.PathLike[str], *, grey: bool = False, max_pixels: int = 25_000_000) -> npt.NDArray[np.uint8]:
    """Read a picture of any format that Pillow knows, turned upright as its camera noted.

    Parameters
    ----------
    path : str or path
    grey : bool, default False
        Turn colours into grey.
    max_pixels : int, default 25 million
        Larger pictures are refused before they are decoded.

    Returns
    -------
    ndarray of uint8, (H, W) or (H, W, 3)
        Transparency is left out.

    Raises
    ------
    DataError
        If the file is missing, no picture, damaged, too large, or has more than 8 bits to a channel.
    MissingDependencyError
        If Pillow is not installed.

    Examples
    --------
    >>> from xpnet import filters
    >>> filters.read("photo.jpg").shape    # doctest: +SKIP
    (427, 640, 3)
    """
    name = os.fspath(path)
    pillow = require("PIL.Image", "reading pictures")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)  # max_pixels is stricter
            file = pillow.open(name)
    except FileNotFoundError as error:
        raise DataError(f"{name}: there is no such file") from error
    except pillow.DecompressionBombError as error:
        raise DataError(f"{name}: {error}") from error
    except OSError as error:
        raise DataError(f"{name}: not a picture that Pillow can read ({error})") from error
    with file:
        width, height = file.size
        if width * height > max_pixels:
            raise DataError(
                f"{name}: {width}x{height} pixels are more than {max_pixels:,}; make it smaller, or raise max_pixels"
            )
        if file.mode.startswith(("I", "F")):
            raise DataError(f"{name}: more than 8 bits to a channel; save it with 8")
        plain = "L" if grey or file.mode in ("1", "L", "LA", "La") else "RGB"
        try:
            upright = require("PIL.ImageOps", "reading pictures").exif_transpose(file)
            return np.array(upright.convert(plain))
        except Exception as error:  # decoders raise whatever they stumble over
            raise DataError(f"{name}: the picture is damaged ({error})") from error
