"""Data sets and batches: everything that lies between files and a model's input.

==========================================  ===========================================================
`mnist`, `fashion_mnist`, `kmnist`          published, downloaded where they are not on this machine
`cifar10`, `cifar100`
`digits`                                    8 x 8 digits that come with scikit-learn
`image_folder`, `npz`, `from_arrays`        your own: a folder for each class, one file, arrays
`load`, `names`                             any of them by name
`Dataset`                                   what they return: parts for training, validation and test
`augment`                                   random changes to training images, on their device
`Loader`                                    batches on the selected backend, augmented and made ahead
`read_idx`, `write_idx`, `read_cifar`,      the file formats alone
`read_image`
==========================================  ===========================================================

::

    data = xpnet.data.load("auto").split(0.1)           # MNIST if it is here, else digits
    for x, t in Loader(*data.train, scale=data.scale):  # arrays of the selected backend
        ...
"""

from __future__ import annotations

from xpnet.data import augment
from xpnet.data.arrays import from_arrays
from xpnet.data.cifar import cifar10, cifar100
from xpnet.data.cifar_binary import read_cifar
from xpnet.data.dataset import Dataset, Split
from xpnet.data.datasets import digits, load, names
from xpnet.data.folders import image_folder
from xpnet.data.idx import read_idx, write_idx
from xpnet.data.images import read_image
from xpnet.data.loader import Augment, Loader
from xpnet.data.mnist_like import fashion_mnist, kmnist, mnist
from xpnet.data.npz_file import npz
from xpnet.data.split import stratified_split

__all__ = [
    "Augment",
    "Dataset",
    "Loader",
    "Split",
    "augment",
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "from_arrays",
    "image_folder",
    "kmnist",
    "load",
    "mnist",
    "names",
    "npz",
    "read_cifar",
    "read_idx",
    "read_image",
    "stratified_split",
    "write_idx",
]
