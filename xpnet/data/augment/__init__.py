"""Augmentation: random changes to the training images, on batches and on the device that holds them.

An augmentation is called as ``x, t = augment(x, t, rng)``, with images x (N, C, H, W) of any backend,
labels t and a NumPy generator. `Augmentation.draw` draws a few numbers per sample on the host and
`Augmentation.apply` computes with them, so the same seed gives the same pictures on every backend.

>>> import numpy as np
>>> from xpnet.data import augment
>>> change = augment.Compose(augment.RandomCrop(padding=4), augment.HorizontalFlip(), augment.Cutout(8))
>>> x, t = change(np.ones((2, 3, 32, 32), np.float32), np.array([0, 1]), np.random.default_rng(0))
>>> x.shape
(2, 3, 32, 32)
"""

from __future__ import annotations

from xpnet.data.augment.affine import AffineParams, RandomAffine, Rotation, Scaling, affine_matrices
from xpnet.data.augment.base import Augmentation, Compose
from xpnet.data.augment.gallery import plot_gallery
from xpnet.data.augment.mixing import Cutout, MixUp, MixUpParams
from xpnet.data.augment.normalize import Normalize
from xpnet.data.augment.shifts import HorizontalFlip, RandomCrop, RandomShift, VerticalFlip
from xpnet.data.augment.spec import names, parse
from xpnet.data.augment.values import Brightness, Contrast

__all__ = [
    "AffineParams",
    "Augmentation",
    "Brightness",
    "Compose",
    "Contrast",
    "Cutout",
    "HorizontalFlip",
    "MixUp",
    "MixUpParams",
    "Normalize",
    "RandomAffine",
    "RandomCrop",
    "RandomShift",
    "Rotation",
    "Scaling",
    "VerticalFlip",
    "affine_matrices",
    "names",
    "parse",
    "plot_gallery",
]
