"""Which of the published data sets are on this machine, by the names of their files: nothing is read."""

from __future__ import annotations

from pathlib import Path

from xpnet.data import cifar, mnist_like
from xpnet.data._sources import CIFAR10, CIFAR100, FASHION_MNIST, KMNIST, MNIST

__all__ = ["local_files"]


def local_files() -> dict[str, dict[str, Path | None]]:
    """Return for each data set by name where its files lie, as its loader finds them; None for one that is nowhere.

    Examples
    --------
    >>> from xpnet.data.local import local_files
    >>> list(local_files())
    ['cifar10', 'cifar100', 'fashion_mnist', 'kmnist', 'mnist']
    """
    archives = {source.name: cifar.local_files(source) for source in (CIFAR10, CIFAR100)}
    return archives | {source.name: mnist_like.local_files(source) for source in (FASHION_MNIST, KMNIST, MNIST)}
