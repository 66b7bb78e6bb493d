"""What the tests of pictures share: a network with every kind of branching, and a watch over what must not change."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from xpnet.backend import to_numpy
from xpnet.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Multiply,
    Parallel,
    Pool2D,
    PReLU,
    Residual,
    Sequential,
)

pytest.importorskip("matplotlib")


@pytest.fixture
def branching():
    """A function that makes a network with branches, statistics and dropout, all smooth but for PReLU's kink."""

    def make(data_format="NCHW"):
        form = {"data_format": data_format}
        return Sequential(
            {
                "conv": Conv2D(4, 3, padding=1, activation="tanh", **form),
                "norm": BatchNorm(**form),
                "block": Residual(Sequential(Conv2D(4, 3, padding=1, **form), PReLU(**form), Dropout(0.5))),
                "join": Parallel(
                    Conv2D(2, 1, **form),
                    Multiply(Conv2D(3, 1, **form), Conv2D(3, 1, activation="sigmoid", **form)),
                    **form,
                ),
                "pool": Pool2D(2, mode="average", **form),
                "flatten": Flatten(),
                "drop": Dropout(0.3),
                "output": Dense(3),
            }
        )

    return make


def _state(model):
    arrays = {path: np.array(to_numpy(a)) for path, a in model.state_dict().items()}
    arrays |= {f"gradient of {p.name}": np.array(to_numpy(p.grad)) for p in model.parameters()}
    layers = list(model.named_layers())
    rest = {
        "pending": [len(layer._pending) for _, layer in layers],
        "dropout": [(path, layer.seed, layer.step) for path, layer in layers if isinstance(layer, Dropout)],
        "identities": [(id(p.data), id(p.grad)) for p in model.parameters()],
        "built for": [layer.input_shape for _, layer in layers],
    }
    return arrays, rest


@pytest.fixture
def untouched(rng):
    """A context in which a model must not change: weights, gradients, statistics, pending contexts, dropout."""

    @contextlib.contextmanager
    def watch(model, x):
        y = model.forward(x, train=True)  # statistics and gradients that are not those of a new model
        model.backward(y)
        model.forward(x, train=True)  # and a backward that is still to come
        arrays, rest = _state(model)
        yield
        arrays_after, rest_after = _state(model)
        assert rest_after == rest
        assert arrays.keys() == arrays_after.keys()
        for name, a in arrays.items():
            assert np.array_equal(a, arrays_after[name]), name
        model.backward(y)  # the pending one is still the same

    return watch
