"""Arguments that several commands take, and what they stand for: a backend, a model, a batch."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from xpnet import backend, io, models
from xpnet.config import parse_bytes
from xpnet.layers import Layer
from xpnet.models.resnet import SMALL
from xpnet.random import generator
from xpnet.text import near, parse_spec

__all__ = [
    "add_backend_argument",
    "add_backend_arguments",
    "add_dtype_argument",
    "add_loss_argument",
    "add_model_arguments",
    "add_seed_argument",
    "braces",
    "build_model",
    "choice",
    "command_line",
    "fitting_loss",
    "input_shape",
    "make_model",
    "memory_size",
    "positive",
    "random_batch",
    "seed",
    "shape",
    "use_backend",
]

CLASSES, NUMBERS = "softmax_cross_entropy", "mean_squared_error"
IMAGENET = (3, 224, 224)
SMALL_INPUTS = {
    **dict.fromkeys(("deep_convnet", "lenet", "lenet_1998", "simple_convnet"), (1, 28, 28)),
    **dict.fromkeys((f"resnet{depth}" for depth in SMALL), (3, 32, 32)),
    "tiny_convnet": (1, 8, 8),
}


def command_line(argv: Sequence[str] | None) -> list[str]:
    """Return the arguments of a command, by default those of the process.

    A process of its own also imports models from the folder that it is called in, as ``python -m`` has it and an
    installed command has not; a program that calls the command line keeps its path.

    >>> command_line(["train", "--pixels", "-1..1"])
    ['train', '--pixels=-1..1']
    """
    if argv is not None:
        return _joined(argv)
    with contextlib.suppress(OSError):  # the folder is gone
        if not sys.flags.safe_path and os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
    return _joined(sys.argv[1:])


def _joined(words: Sequence[str]) -> list[str]:
    """Put a value such as ``-1..1`` to its flag, since argparse takes it for a flag that there is not."""
    joined: list[str] = []
    for word in words:
        if re.match(r"-\.?\d", word) and joined and joined[-1].startswith("--") and "=" not in joined[-1]:
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def choice(words: Iterable[str]) -> Callable[[str], str]:
    """Return what parses one of some words; unlike ``choices=`` of argparse, it says which may have been meant."""
    words = tuple(words)

    def parse(text: str) -> str:
        if text not in words:
            raise argparse.ArgumentTypeError(
                f"invalid choice: {text!r} (choose from {', '.join(words)}){near(text, words)}"
            )
        return text

    return parse


def braces(words: Iterable[str]) -> str:
    """Return words as argparse shows those that there are to choose from."""
    return f"{{{','.join(words)}}}"


def positive(text: str) -> int:
    """Parse a whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def seed(text: str) -> int:
    """Parse a whole number of 64 bits."""
    value = int(text)
    if not 0 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(f"must be from 0 to 2**64 - 1, got {value}")
    return value


def new_file(text: str) -> Path:
    """Parse the path of a file to be written, so that a wrong one is told before the work and not after it."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder, expected a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    return path


def shape(text: str) -> tuple[int, ...]:
    """Parse ``3,224,224`` or ``3x224x224``: positive sizes without the batch."""
    try:
        sizes = tuple(int(part) for part in text.lower().replace("x", ",").split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"expected sizes without the batch, such as 3,224,224, got {text!r}")
    return sizes


def memory_size(text: str) -> int:
    """Parse ``4GB`` or a number of bytes."""
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_backend_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--backend`` and ``--dtype``; see `use_backend`."""
    add_backend_argument(parser)
    add_dtype_argument(parser)


def add_backend_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--backend``."""
    parser.add_argument(
        "--backend",
        help="auto, numpy, cupy[:device], torch[:device] or array_api_strict[:device]; "
        "by default the environment variable XPNET_BACKEND, else auto: CuPy where there is a GPU, else NumPy",
    )


def add_dtype_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--dtype``."""
    parser.add_argument(
        "--dtype",
        type=choice(backend.DTYPES),
        metavar=braces(backend.DTYPES),
        help="float type (by default XPNET_DTYPE, else float32)",
    )


def add_seed_argument(parser: argparse.ArgumentParser, what: str, default: int = 0) -> None:
    """Add ``--seed``, of `what`."""
    parser.add_argument("--seed", type=seed, metavar="N", default=default, help=f"of {what} (%(default)s)")


def add_loss_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--loss``; see `fitting_loss`."""
    parser.add_argument(
        "--loss",
        type=choice((CLASSES, NUMBERS)),
        metavar=braces((CLASSES, NUMBERS)),
        help="by default the first for an output of classes, else the second",
    )


def fitting_loss(output_shape: tuple[int, ...]) -> str:
    """Return the loss for an output: of classes (K,), or of numbers in any other shape."""
    return CLASSES if len(output_shape) == 1 and output_shape[0] > 1 else NUMBERS


def use_backend(args: argparse.Namespace) -> backend.Backend:
    """Select the backend and float type that were given."""
    return backend.use(args.backend, dtype=args.dtype)


def add_model_arguments(parser: argparse.ArgumentParser, *, weights: bool = True) -> None:
    """Add ``--model``, ``--classes``, ``--input`` and ``--weights``; see `make_model` and `build_model`."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME",
        help=f"{', '.join(models.names())}, with options behind colons (lenet:activation=relu); or "
        "PACKAGE.MODULE:NAME, a layer of your own or a function that returns one",
    )
    parser.add_argument("--classes", type=positive, metavar="K", help="of the output; by default the paper's")
    parser.add_argument(
        "--input", type=shape, metavar="C,H,W", help="shape of one sample; by default what the model is known for"
    )
    if weights:
        parser.add_argument(
            "--weights",
            type=Path,
            metavar="FILE",
            help="safetensors, or the book's params.pkl; by default drawn by --seed",
        )


def make_model(args: argparse.Namespace, classes: int | None = None) -> Layer:
    """Return the model that was named, not built unless its own code has built it.

    Parameters
    ----------
    args : argparse.Namespace
    classes : int, optional
        Of the data, for where no ``--classes`` were given.

    Raises
    ------
    ValueError
        If there is no such model, or what was named is none.
    """
    wanted = args.classes or classes
    known = parse_spec(args.model)[0]
    if wanted is None and known in models.names():
        wanted = 10 if known in SMALL_INPUTS else 1000
    return models.from_spec(args.model, wanted, insist=args.classes is not None)


def input_shape(args: argparse.Namespace, model: Layer) -> tuple[int, ...]:
    """Return the shape of a sample: as given, else that the model was built for, else that of its paper.

    Raises
    ------
    ValueError
        If nothing says what it is.
    """
    if args.input is not None:
        return args.input
    if model.input_shape is not None:
        return model.input_shape
    known = parse_spec(args.model)[0]
    if known in models.names():
        return SMALL_INPUTS.get(known, IMAGENET)
    raise ValueError(f"--model {args.model} has not been built, so give --input C,H,W")


def build_model(args: argparse.Namespace, model: Layer, sample_shape: tuple[int, ...]) -> Layer:
    """Build the model on the selected backend, with the weights or the seed that were given.

    Raises
    ------
    WeightsError
        If the weights cannot be read or do not fit.
    OperationError
        If the model cannot take such samples.
    """
    if not model.built:
        model.build(sample_shape, rng=args.seed)
    if args.weights is not None:
        io.load_any(model, args.weights)
    return model


def random_batch(
    output_shape: tuple[int, ...], sample_shape: tuple[int, ...], samples: int, loss: str, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw samples and targets: classes for the loss ``"softmax_cross_entropy"``, else numbers.

    Returns
    -------
    x : numpy.ndarray (N, ...), float64
    t : numpy.ndarray, int64 (N,) or float64 of the output's shape
    """
    rng = generator(seed, 1)  # stream 0 draws the weights
    x = rng.standard_normal((samples, *sample_shape))
    if loss == CLASSES:
        return x, rng.integers(0, output_shape[-1], samples)
    return x, rng.standard_normal((samples, *output_shape))
