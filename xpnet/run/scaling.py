"""A larger batch on more ranks, and the learning rate that goes with it."""

from __future__ import annotations

import dataclasses
import math

from xpnet.run.settings import Settings

__all__ = ["RULES", "WARMUP", "scaled"]

RULES = ("linear", "sqrt")
WARMUP = 5  # epochs, as in the paper


def scaled(settings: Settings, ranks: int, rule: str) -> Settings:
    """Take batch size, micro-batch and learning rate for those of one rank; return the settings for several.

    The batch is so many times as large. The rate is as many times ("linear") or the square root of it times ("sqrt") as
    high, and rises to that over 5 epochs (as far as there are so many), unless `warmup` says otherwise.

    Parameters
    ----------
    settings : Settings
    ranks : int
    rule : {"linear", "sqrt"}
        Linear was found for SGD with momentum; sqrt is in use for Adam and its kin.

    Raises
    ------
    ValueError
        If the rule is unknown.

    References
    ----------
    Goyal et al., arXiv:1706.02677, section 2.1; Krizhevsky, arXiv:1404.5997, section 5.

    Examples
    --------
    >>> from xpnet.run import Settings
    >>> from xpnet.run.scaling import scaled
    >>> found = scaled(Settings(batch_size=32, lr=0.1, epochs=30), 8, "linear")
    >>> found.batch_size, found.lr, found.warmup
    (256, 0.8, 5)
    """
    if rule not in RULES:
        raise ValueError(f"scaled: rule must be one of {', '.join(RULES)}, got {rule!r}")
    if ranks == 1:
        return settings
    return dataclasses.replace(
        settings,
        batch_size=settings.batch_size * ranks,
        micro_batch=None if settings.micro_batch is None else settings.micro_batch * ranks,
        lr=settings.lr * (ranks if rule == "linear" else math.sqrt(ranks)),
        warmup=settings.warmup or min(WARMUP, settings.epochs - 1),
    )
