"""Convolutional networks with hand-written gradients on NumPy, CuPy, torch or any array API library.

>>> import xpnet
>>> model = xpnet.models.LeNet().build((1, 28, 28), rng=0)
>>> trainer = xpnet.training.Trainer(model, optimizer="adam")

Importing xpnet imports no GPU library; `xpnet.backend` selects one by ``XPNET_BACKEND`` or one call. Its parts are
imported when they are first used.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # that of typing, whose import Ctrl-C would have to wait for: xpnet.__main__ comes after this
if TYPE_CHECKING:
    from typing import Any

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


def __getattr__(name: str) -> Any:
    if name in __all__:
        import importlib

        return importlib.import_module(f"xpnet.{name}")
    raise AttributeError(f"module 'xpnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
