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
    arrays = [a.view(-1) for a in (w, g, m, v)] if w.ndim != 1 else [w, g, m, v]
    count = w.numel()
    parts, rest = [arrays], count % LANES
    if rest:
        # what does not fill a vector would be rounded in another way, so that an element's bits depended on its place:
        # the last elements are worked out in copies that do, before the others are written over
        ends = [a[max(0, count - LANES) :] for a in arrays]
        lacking = max(0, LANES - count)
        copies = [torch.constant_pad_nd(a, [0, lacking]) if lacking else a.clone() for a in ends]
        parts = [[a[: count - rest] for a in arrays], copies]
    step_tensor = torch.full((), float(step), device=w.device)
    _fused_adam(
        *map(list, zip(*parts, strict=True)), [], [step_tensor] * len(parts),
        lr=lr, beta1=beta1, beta2=beta2, weight_decay=0.0, eps=eps, amsgrad=False, maximize=False,
    )  # fmt: skip
    if rest:
        for n in (0, 2, 3):  # not the gradient
            ends[n].copy_(parts[1][n][: ends[n].numel()])
