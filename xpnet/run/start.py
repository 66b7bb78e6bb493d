"""The weights that a run starts from: a file, noted with its checksum so that the run can be had again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from xpnet import io
from xpnet.errors import WeightsError
from xpnet.layers import Layer

__all__ = ["file_of", "load_start", "noted"]

SUM = ":sha256="


def file_of(weights: str) -> str:
    """Return the path that ``weights`` of the settings names."""
    return weights.partition(SUM)[0]


def noted(weights: str) -> str:
    """Return ``FILE:sha256=...`` for what ``weights`` of the settings says, with or without a checksum.

    Raises
    ------
    WeightsError
        If the file cannot be read, or is not the one whose checksum is given.
    """
    file, _, expected = weights.partition(SUM)
    try:
        with open(file, "rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        inside = (Path(file) / name for name in ("best.safetensors", "last.safetensors"))
        likely = next((f", such as {path}" for path in inside if path.exists()), "") if file else ""
        raise WeightsError(
            f"{file or repr(file)}: the weights to start from cannot be read ({error.strerror}); expected a file"
            f"{likely}, by its path from the folder that xpnet is called in: give it with --weights, where none draws "
            "them anew"
        ) from None
    if expected and found != expected:
        raise WeightsError(
            f"{file}: not the weights that the settings note: expected sha256 {expected}, got {found}; put the file "
            f"back, or start from what it holds now: --weights {file}"
        )
    return f"{file}{SUM}{found}"


def load_start(model: Layer, weights: str) -> None:
    """Put the weights that the settings say into a built model.

    Raises
    ------
    WeightsError
        If the file cannot be read, is another one, or does not fit; the model is not changed.
    """
    io.load_any(model, file_of(noted(weights)))
