"""What is to be said of images that a model cannot take: how they could be made to fit, and which models fit them."""

from __future__ import annotations

from xpnet import models
from xpnet.data import Dataset
from xpnet.errors import OperationError
from xpnet.models.spec import is_own
from xpnet.text import listed

__all__ = ["remedy"]

UPSCALES = (4, 8, 16)  # of the digits of 8x8: to the size of MNIST, and of what AlexNet and its like take


def remedy(model: str, dataset: Dataset, *, stand_in: bool = False) -> str:
    """Return what helps, for a note on the error; nothing if nothing is known to help.

    Parameters
    ----------
    model : str
        As in the settings.
    dataset : Dataset
        Whose images it does not take.
    stand_in : bool, default False
        Whether they are the digits because MNIST was not found.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnet.data import Dataset
    >>> from xpnet.run.fitting import remedy
    >>> x, t = np.zeros((4, 1, 8, 8), dtype=np.uint8), np.array([0, 1, 0, 1])
    >>> remedy("lenet", Dataset(x, t, x, t, ("cat", "dog"), "pets", 255.0))
    'the images are 8x8; models that take them: deep_convnet, mobilenet, ...'
    """
    classes = len(dataset.classes)
    channels, height, width = dataset.input_shape
    size = f"the images are {'digits of ' if stand_in else ''}{height}x{width}"
    size += " because MNIST was not found" if stand_in else ""
    small = dataset.name == "digits" and height == 8
    if is_own(model):  # not called a second time: what it does is for the user to say
        return f"{size}; --data digits:upscale=4 makes them 32x32" if small else ""
    enough = [f for f in UPSCALES if small and _takes(model, classes, (channels, f * height, f * width))]
    if enough:
        return f"{size}; --data digits:upscale={enough[0]} or --model tiny_convnet helps"
    fit = [name for name in models.names() if _takes(name, classes, dataset.input_shape)]
    return f"{size}; models that take them: {listed(fit)}" if fit else ""


def _takes(model: str, classes: int, shape: tuple[int, ...]) -> bool:
    try:
        models.from_spec(model, classes).output_shape(shape)
    except OperationError:
        return False
    return True
