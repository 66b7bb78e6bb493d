"""Convolutional networks with hand-written gradients on NumPy, CuPy, torch or any array API library.

>>> import xpnet
>>> model = xpnet.models.LeNet().build((1, 28, 28), rng=0)
>>> trainer = xpnet.training.Trainer(model, optimizer="adam")

Importing xpnet imports no GPU library; `xpnet.backend` selects one by ``XPNET_BACKEND`` or one call.
"""

__version__ = "0.1.0"

from xpnet import (
    backend,
    compare,
    config,
    data,
    distributed,
    errors,
    filters,
    functional,
    gradcheck,
    init,
    io,
    kernels,
    layers,
    losses,
    models,
    optim,
    random,
    run,
    schedules,
    testing,
    training,
    viz,
)

__all__ = [
    "backend",
    "compare",
    "config",
    "data",
    "distributed",
    "errors",
    "filters",
    "functional",
    "gradcheck",
    "init",
    "io",
    "kernels",
    "layers",
    "losses",
    "models",
    "optim",
    "random",
    "run",
    "schedules",
    "testing",
    "training",
    "viz",
]
