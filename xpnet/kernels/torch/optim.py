"""Optimizer updates by torch, each one pass over the flat arrays."""

from __future__ import annotations

import torch

from xpnet.backend import Array
from xpnet.kernels.agnostic import optim
from xpnet.kernels.table import register

__all__ = ["adam_update"]

LANES = 64  # elements: as many as the widest vector holds of the narrowest type, or more

_fused_adam = torch.ops.aten._fused_adam_.default


@register("torch", "adam_update")
def adam_update(
    w: Array, g: Array, m: Array, v: Array, *, lr: float | Array, beta1: float, beta2: float, eps: float, step: int
) -> None:
    """m, v = running means of g, g^2;  w -= lr m^ / (sqrt(v^) + eps), ^ the bias-corrected means."""
    if not isinstance(lr, (int, float)) or not all(a.is_contiguous() for a in (w, g, m, v)):
        optim.adam_update(w, g, m, v, lr=lr, beta1=beta1, beta2=beta2, eps=eps, step=step)
        return
    arrays = [a.view(-1) for a in (w, g, m, v)]
    whole = w.numel() // LANES * LANES
    parts = [[a[:whole] for a in arrays]]
    if whole < w.numel():
        # what does not fill a vector would be rounded in another way, so that an element's bits depended on its place
        ends = [a[whole:] for a in arrays]
        parts.append([torch.nn.functional.pad(a, (0, LANES - a.numel())) for a in ends])
    steps = [torch.full((), float(step), device=w.device) for _ in parts]
    _fused_adam(
        *map(list, zip(*parts, strict=True)), [], steps,
        lr=lr, beta1=beta1, beta2=beta2, weight_decay=0.0, eps=eps, amsgrad=False, maximize=False,
    )  # fmt: skip
    if len(parts) > 1:
        for end, padded in zip(ends, parts[1], strict=True):
            end.copy_(padded[: end.numel()])
