"""Settings of optimizers: refusals, look-up by name, repr."""

import pytest

from xpnet import optim
from xpnet.errors import StateError
from xpnet.layers import Dense


@pytest.mark.parametrize(
    "make, text",
    [
        (
            lambda: optim.Adam(Dense(2)),
            "Adam: lr must be a number, got Dense; the model is given to update",
        ),
        (lambda: optim.SGD(clip_norm="a"), r"SGD: clip_norm must be a number, above 0\.0; got 'a'$"),
        (lambda: optim.EMA(None), r"EMA: model must be a layer, built, got None"),
        (lambda: optim.EMA(Dense(2).build((3,)), "a"), r"EMA: decay must be at least 0 and below 1, got 'a'"),
        (lambda: optim.SGD(0.0), r"SGD: lr must be finite, above 0\.0; got 0\.0"),
        (lambda: optim.Adam(-1.0), r"Adam: lr must be finite, above 0\.0; got -1\.0"),
        (lambda: optim.Adam(float("nan")), r"Adam: lr must be finite, .*got nan"),
        (lambda: optim.RMSprop(float("inf")), r"RMSprop: lr must be finite, .*got inf"),
        (lambda: optim.SGD(weight_decay=-0.1), r"SGD: weight_decay must be finite, at least 0\.0; got -0\.1"),
        (lambda: optim.Momentum(momentum=1.0), r"Momentum: momentum must be finite, at least 0\.0 and below 1\.0"),
        (lambda: optim.Nesterov(momentum=-0.1), r"Nesterov: momentum must be .*got -0\.1"),
        (lambda: optim.RMSprop(decay=1.5), r"RMSprop: decay must be .*got 1\.5"),
        (lambda: optim.AdaGrad(eps=0.0), r"AdaGrad: eps must be finite, above 0\.0; got 0\.0"),
        (lambda: optim.Adam(betas=(0.9, 1.0)), r"Adam: betas must be .*below 1\.0; got 1\.0"),
        (lambda: optim.Lion(betas=(1.0, 0.9)), r"Lion: betas must be .*below 1\.0; got 1\.0"),
        (lambda: optim.AdamW(betas=0.9), r"AdamW: betas must be two numbers, such as \(0\.9, 0\.999\); got 0\.9$"),
        (lambda: optim.LAMB(betas=(0.9, 0.9, 0.9)), r"LAMB: betas must be two numbers, .*got \(0\.9, 0\.9, 0\.9\)"),
        (lambda: optim.LAMB(eps=0.0), r"LAMB: eps must be .*got 0\.0"),
        (lambda: optim.AdaDelta(decay=1.0), r"AdaDelta: decay must be .*got 1\.0"),
        (lambda: optim.SGD(l1=-1.0), r"SGD: l1 must be finite, at least 0\.0; got -1\.0"),
        (lambda: optim.SGD(max_norm=0.0), r"SGD: max_norm must be finite, above 0\.0; got 0\.0"),
        (lambda: optim.SGD(clip_norm=-1.0), r"SGD: clip_norm must be finite, above 0\.0; got -1\.0"),
        (lambda: optim.SGD(clip_value=float("nan")), r"SGD: clip_value must be finite, .*got nan"),
        (lambda: optim.by_name("tiger"), r"optim: no optimizer 'tiger'; there are sgd, momentum, .*adamw"),
        (lambda: optim.by_name(None), r"optim: no optimizer None"),
        (lambda: optim.by_name(optim.SGD(), lr=0.1), r"SGD\(lr=0\.01, .*\) exists already; set lr on it"),
    ],
)
def test_bad_settings(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize("name, value", [("groups", [{"match": "*", "lr": 0.5}]), ("amsgrad", True)])
def test_what_the_state_is_made_by_holds_from_the_first_update_on(name, value):
    optimizer, model = optim.Adam(), Dense(1).build((1,))
    setattr(optimizer, name, value)
    optimizer.update(model)
    with pytest.raises(StateError, match=f"Adam: {name} cannot be changed after the first update; make a new opt"):
        setattr(optimizer, name, getattr(optim.Adam(), name))
    optimizer.lr, optimizer.clip_norm = 0.25, 1.0
    optimizer.update(model)


def test_by_name():
    names = "SGD Momentum Nesterov AdaGrad AdaDelta RMSprop Adam AdamW Lion LAMB"
    for name in names.split():
        got = optim.by_name(name, lr=0.125)
        assert type(got).__name__ == name
        assert got.lr == 0.125
        assert type(optim.by_name(name.lower())) is type(got)
    optimizer = optim.SGD()
    assert optim.by_name(optimizer) is optimizer
    assert repr(optim.Adam(0.5)) == "Adam(lr=0.5, weight_decay=0.0, betas=(0.9, 0.999), eps=1e-08)"
    assert repr(optim.SGD(0.5, clip_norm=1.0, l1=0.25)) == "SGD(lr=0.5, weight_decay=0.0, l1=0.25, clip_norm=1.0)"
