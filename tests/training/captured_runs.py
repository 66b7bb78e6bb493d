"""Trainings to record: models, settings and data, and all that is learnt from them."""

from __future__ import annotations

import numpy as np

from xpnet import backend
from xpnet.data import Loader
from xpnet.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalPool2D,
    GroupNorm,
    InstanceNorm,
    Layer,
    LayerNorm,
    Pool2D,
    ReLU,
    Residual,
    Sequential,
)
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.optim import Adam, AdamW, DynamicLossScale, Momentum
from xpnet.schedules import Cosine
from xpnet.training import Trainer

IMAGES = (2, 6, 6)


def small(*more: Layer, classes: int = 3) -> Sequential:
    return Sequential(Conv2D(4, 3, activation="relu"), *more, Pool2D(2), Flatten(), Dense(classes))


def small_resnet() -> Sequential:
    def block(filters: int, stride: int) -> Residual:
        body = [Conv2D(filters, 3, stride=stride, padding=1, bias=False), BatchNorm(), ReLU()]
        body += [Conv2D(filters, 3, padding=1, bias=False), BatchNorm(momentum=None)]
        shortcut = None if stride == 1 else Conv2D(filters, 1, stride=stride, bias=False)
        return Residual(Sequential(*body), shortcut) if shortcut else Residual(Sequential(*body))

    return Sequential(block(2, 1), block(4, 2), GlobalPool2D(), Dense(3))


def train(trainer: Trainer, data, epochs: int = 3) -> dict[str, np.ndarray]:
    """Train and return everything that was learnt or counted."""
    x, t = data
    trainer.fit(Loader(x, t, batch_size=4, seed=1, prefetch=0), epochs=epochs, verbose=False)
    return state(trainer)


def state(trainer: Trainer) -> dict[str, np.ndarray]:
    arrays = {name: np.array(backend.to_numpy(a)) for name, a in trainer.model.state_dict().items()}
    numbers = trainer.model.random_state() | {"step": trainer.optimizer.step, "lr": trainer.optimizer.lr}
    return arrays | numbers | {f"loss {e.epoch}": e.loss for e in trainer.history.epochs}


def assert_equal(got, expected, rtol=1e-7, atol=1e-9):
    assert set(got) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=rtol, atol=atol, err_msg=name)


def on_numpy(make, data, **settings):
    with backend.using("numpy", dtype="float64"):
        return train(make(**settings), data)


CASES = {
    "relu": lambda **more: Trainer(small(), optimizer=Momentum(lr=0.05), seed=1, **more),
    "dropout, adam, a rate for each update": lambda **more: Trainer(
        small(Dropout(0.3), Dropout(0.5)), optimizer=Adam(lr=0.01), schedule=Cosine(0.01, period=12, every="update"),
        seed=1, **more,
    ),
    "residual, running statistics": lambda **more: Trainer(
        small_resnet(), optimizer=Momentum(lr=0.05, weight_decay=1e-3), seed=1, **more
    ),
    "class weights, clipping": lambda **more: Trainer(
        small(), loss=SoftmaxCrossEntropy(class_weights=[1.0, 2.0, 0.5], label_smoothing=0.1),
        optimizer=AdamW(lr=0.01, clip_norm=0.1), seed=1, **more,
    ),
    "groups, a stride": lambda **more: Trainer(
        Sequential(Conv2D(4, 3, groups=2, stride=2), Flatten(), Dense(3)), optimizer=Momentum(lr=0.05), seed=1, **more
    ),
    "depthwise": lambda **more: Trainer(
        Sequential(Conv2D(4, 3, groups=2, padding=1), Conv2D(4, 3, groups=4), Flatten(), Dense(3)),
        optimizer=Momentum(lr=0.05), seed=1, **more,
    ),
    "normalised samples": lambda **more: Trainer(
        Sequential(Conv2D(4, 3), GroupNorm(2), InstanceNorm(affine=True), Flatten(), LayerNorm(), Dense(3)),
        optimizer=Momentum(lr=0.05), seed=1, **more,
    ),
    "micro batches": lambda **more: Trainer(
        small(Dropout(0.3), BatchNorm()), optimizer=Momentum(lr=0.05), micro_batch=2, seed=1, **more
    ),
    "recomputed layers": lambda **more: Trainer(
        Sequential(Conv2D(4, 3), BatchNorm(), ReLU(), Flatten(), Dense(3), checkpoint_every=2),
        optimizer=Momentum(lr=0.05), seed=1, **more,
    ),
    "a loss scale": lambda **more: Trainer(
        small(), optimizer=Momentum(lr=0.05), loss_scale=DynamicLossScale(8.0, interval=2), seed=1, **more
    ),
}  # fmt: skip
