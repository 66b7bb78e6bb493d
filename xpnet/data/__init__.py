"""Data sets and batches: everything that lies between files and a model's input.

data = xpnet.data.load("auto")                     # MNIST if it is here, else digits
for x, t in Loader(*data.train, scale=data.scale): # arrays of the selected backend
    ...
"""

from __future__ import annotations

from xpnet.data import augment
from xpnet.data.datasets import Dataset, Split, digits, fashion_mnist, load, mnist, stratified_split
from xpnet.data.idx import read_idx, write_idx
from xpnet.data.loader import Loader

__all__ = [
    "Dataset",
    "Loader",
    "Split",
    "augment",
    "digits",
    "fashion_mnist",
    "load",
    "mnist",
    "read_idx",
    "stratified_split",
    "write_idx",
]
