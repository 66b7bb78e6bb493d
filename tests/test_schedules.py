"""Schedules against torch's and against their formulas; the one with a state; in the trainer."""

import json
import math

import numpy as np
import pytest

from xpnet import schedules
from xpnet.errors import WeightsError
from xpnet.layers import Dense
from xpnet.losses import MeanSquaredError
from xpnet.optim import SGD
from xpnet.schedules import (
    Cosine,
    Exponential,
    Function,
    MultiStep,
    OneCycle,
    Plateau,
    Polynomial,
    Step,
    Warmup,
    as_schedule,
)
from xpnet.training import Trainer

PAIRS = {
    "step": (Step(0.3, period=3, factor=0.5), "StepLR", {"step_size": 3, "gamma": 0.5}),
    "multi-step": (
        MultiStep(0.3, milestones=[2, 5, 5, 9], factor=0.2),
        "MultiStepLR",
        {"milestones": [2, 5, 5, 9], "gamma": 0.2},
    ),
    "exponential": (Exponential(0.3, factor=0.9), "ExponentialLR", {"gamma": 0.9}),
    "linear": (Polynomial(0.3, length=7), "PolynomialLR", {"total_iters": 7, "power": 1.0}),
    "polynomial": (Polynomial(0.3, length=12, power=2.5), "PolynomialLR", {"total_iters": 12, "power": 2.5}),
    "restarts": (
        Cosine(0.3, period=4, minimum=0.01, restarts=True),
        "CosineAnnealingWarmRestarts",
        {"T_0": 4, "eta_min": 0.01},
    ),
    "restarts, growing": (
        Cosine(0.3, period=3, restarts=True, growth=2),
        "CosineAnnealingWarmRestarts",
        {"T_0": 3, "T_mult": 2},
    ),
    "one cycle": (OneCycle(0.3, length=20), "OneCycleLR", {"max_lr": 0.3, "total_steps": 20}),
    "one cycle, linear": (
        OneCycle(0.3, length=20, rise=0.4, start=10, final=100, shape="linear"),
        "OneCycleLR",
        {
            "max_lr": 0.3,
            "total_steps": 20,
            "pct_start": 0.4,
            "div_factor": 10,
            "final_div_factor": 100,
            "anneal_strategy": "linear",
        },
    ),
}


def _rates(make, count):
    """The rates of a torch schedule, made by make(optimizer, torch.optim.lr_scheduler)."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    theirs, rates = make(optimizer, torch.optim.lr_scheduler), []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    return rates


@pytest.mark.parametrize("name", PAIRS)
def test_against_torch(name):
    schedule, kind, settings = PAIRS[name]
    expected = _rates(lambda optimizer, lib: getattr(lib, kind)(optimizer, **settings), 19)
    assert [schedule(position) for position in range(19)] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_cosine_without_restarts_against_torch():
    """torch's goes up again after its period; ours stays."""
    expected = _rates(lambda o, lib: lib.CosineAnnealingLR(o, 12, eta_min=0.02), 13)
    schedule = Cosine(0.3, period=12, minimum=0.02)
    assert [schedule(position) for position in range(13)] == pytest.approx(expected)
    assert schedule(50) == pytest.approx(0.02)


def test_warmup_against_torch():
    def make(o, lib):
        parts = [lib.LinearLR(o, start_factor=0.1, total_iters=4), lib.ExponentialLR(o, 0.9)]
        return lib.SequentialLR(o, parts, milestones=[4])

    schedule = Warmup(Exponential(0.3, factor=0.9), length=4, start=0.1)
    assert [schedule(position) for position in range(12)] == pytest.approx(_rates(make, 12))


@pytest.mark.parametrize("cooldown", [0, 2])
@pytest.mark.parametrize("watch", ["loss", "accuracy"])
def test_plateau_against_torch(rng, watch, cooldown):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="min" if watch == "loss" else "max",
        factor=0.5,
        patience=2,
        threshold=0.01,
        cooldown=cooldown,
        min_lr=0.02,
    )
    schedule = Plateau(0.3, factor=0.5, patience=2, threshold=0.01, cooldown=cooldown, minimum=0.02, watch=watch)
    values = 1.0 + 0.05 * rng.normal(size=60) + np.linspace(0.3, 0.0, 60)
    values[7] = math.nan
    seen = set()
    for epoch, value in enumerate(values):
        schedule.observe(value)
        theirs.step(value)
        assert schedule(epoch) == pytest.approx(optimizer.param_groups[0]["lr"])
        seen.add(schedule(epoch))
    assert len(seen) > 2


def test_functions_of_the_position_have_no_memory():
    for schedule, *_ in PAIRS.values():
        forwards = [schedule(position) for position in range(19)]
        assert [schedule(position) for position in reversed(range(19))] == forwards[::-1]
        schedule.observe(1.0)
        assert schedule.state_dict() == {}
        schedule.load_state_dict({})
        assert all(isinstance(rate, float) for rate in forwards)


def test_after_the_end():
    assert OneCycle(0.3, length=20)(19) == OneCycle(0.3, length=20)(1000) == pytest.approx(0.3 / 25 / 1e4)
    assert Polynomial(0.3, length=5, minimum=0.1)(1000) == pytest.approx(0.1)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: Warmup(s, length=2)])
def test_plateau_goes_on_from_its_state(rng, wrap):
    values = rng.random(30)
    whole, first, second = (wrap(Plateau(1.0, factor=0.5, patience=1, cooldown=1)) for _ in range(3))
    assert json.loads(json.dumps(first.state_dict())) == first.state_dict()
    second.load_state_dict(first.state_dict())  # before anything was observed
    for value in values[:13]:
        whole.observe(value)
        first.observe(value)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for epoch, value in enumerate(values[13:], start=13):
        whole.observe(value)
        second.observe(value)
        assert whole(epoch) == second(epoch)


def test_state_of_another_kind():
    with pytest.raises(WeightsError, match=r"Step: the state holds \['bad', 'best', 'rate', 'waiting'\] but \[\] is"):
        Step(0.1, period=2).load_state_dict(Plateau(0.1).state_dict())
    with pytest.raises(WeightsError, match=r"Plateau: the state holds \[\] but \['bad', 'best', 'rate', 'waiting'\]"):
        Plateau(0.1).load_state_dict({})


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: Step(0.0, period=2), "Step: lr must be finite and above 0, got 0.0"),
        (lambda: Step(0.1, period=0), "Step: period must be a whole number, at least 1, got 0"),
        (lambda: Step(0.1, period=2, every="batch"), "Step: every must be 'epoch' or 'update', got 'batch'"),
        (lambda: MultiStep(0.1, milestones=[3, 2]), r"MultiStep: milestones must be ascending, got \[3, 2\]"),
        (lambda: MultiStep(0.1, milestones=["a"]), r"milestones must be a list of whole numbers, got \['a'\]"),
        (lambda: MultiStep(0.1, milestones="30"), "milestones must be a list of whole numbers, got '30'"),
        (lambda: MultiStep(0.1, milestones=30), "milestones must be a list of whole numbers, got 30"),
        (lambda: Exponential(0.1, factor=0.0), "Exponential: factor must be finite and above 0, got 0.0"),
        (lambda: Polynomial(0.1, length=5, power=0.0), "Polynomial: power must be above 0, got 0.0"),
        (lambda: Polynomial(0.1, length=5, minimum=0.2), r"minimum must be between 0 and lr \(0.1\), got 0.2"),
        (lambda: Cosine(0.1, period=1.5), "Cosine: period must be a whole number, at least 1, got 1.5"),
        (lambda: Cosine(0.1, period=2, growth=0), "Cosine: growth must be a whole number"),
        (lambda: OneCycle(0.1, length=10, rise=1.0), "OneCycle: rise must be between 0 and 1, got 1.0"),
        (lambda: OneCycle(0.1, length=3), "OneCycle: length must be above 1/rise"),
        (lambda: OneCycle(0.1, length=10, start=0.5), "OneCycle: start must be at least 1"),
        (lambda: OneCycle(0.1, length=10, shape="square"), "shape must be 'cosine' or 'linear', got 'square'"),
        (lambda: Warmup(0.1, length=3), "Warmup: expected a schedule to go before, got 0.1"),
        (lambda: Warmup(Plateau(0.1), length=3, start=0.0), "Warmup: start must be above 0 and at most 1, got 0.0"),
        (lambda: Plateau(0.1, factor=1.0), "Plateau: factor must be above 0 and below 1, got 1.0"),
        (lambda: Plateau(0.1, patience=-1), "Plateau: patience must be a whole number, at least 0, got -1"),
        (lambda: Plateau(0.1, watch="error"), "Plateau: watch must be 'loss' or 'accuracy', got 'error'"),
        (lambda: as_schedule(0.1), "schedules: expected a schedule or a function of the epoch, got 0.1"),
    ],
)
def test_errors(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_repr():
    assert repr(Step(0.1, period=2)) == "Step(lr=0.1, every='epoch', period=2, factor=0.1)"
    assert repr(Warmup(Exponential(0.1, factor=0.5), length=3)).startswith(
        "Warmup(every='epoch', schedule=Exponential("
    )


# --- in the trainer ------------------------------------------------------------------------------


class Spy(SGD):
    """Remembers the rate of every update."""

    def update(self, model, **settings):
        self.rates = [*getattr(self, "rates", []), self.lr]
        super().update(model, **settings)


@pytest.fixture
def data(rng):
    return rng.standard_normal((30, 3)).astype(np.float32), rng.integers(0, 2, 30)


def _trainer(schedule, **settings):
    return Trainer(Dense(2), optimizer=Spy(9.0), batch_size=10, schedule=schedule, **settings)


@pytest.mark.parametrize("schedule", [Exponential(0.1, factor=0.5), lambda epoch: 0.1 * 0.5**epoch])
def test_every_epoch(data, schedule):
    trainer = _trainer(schedule)
    trainer.fit(data, epochs=2, verbose=False)
    history = trainer.fit(data, epochs=1, verbose=False)  # and it goes on
    assert trainer.optimizer.rates == pytest.approx([0.1] * 3 + [0.05] * 3 + [0.025] * 3)
    assert history["lr"] == pytest.approx([0.1, 0.05, 0.025])


@pytest.mark.parametrize("kind", [lambda **o: Step(0.1, period=2, factor=0.5, **o), lambda **o: Function(float, **o)])
def test_every_update(data, kind):
    schedule = kind(every="update")
    trainer = _trainer(schedule)
    trainer.fit(data, epochs=2, verbose=False)
    history = trainer.fit(data, epochs=1, verbose=False)
    assert trainer.optimizer.rates == [schedule(update) for update in range(9)]
    assert history["lr"] == [schedule(2), schedule(5), schedule(8)]  # of the last update of each epoch


def test_plateau_watches_the_validation(data, monkeypatch):
    seen = []
    for watch in ("loss", "accuracy"):
        schedule = Plateau(0.1, watch=watch)
        monkeypatch.setattr(schedule, "observe", seen.append)
        history = _trainer(schedule).fit(data, data, epochs=2, verbose=False)
        assert seen[-2:] == history[f"validation_{watch}"]
        history = _trainer(schedule).fit(data, epochs=2, verbose=False)
        assert seen[-2:] == history[watch]


def test_plateau_lowers_the_rate_in_training(data):
    history = _trainer(Plateau(1e-9, factor=0.5, patience=0)).fit(data, epochs=4, verbose=False)  # nothing improves
    assert history["lr"] == pytest.approx([1e-9, 1e-9, 0.5e-9, 0.25e-9])


def test_an_accuracy_that_is_not_there(data):
    trainer = _trainer(schedules.Warmup(Plateau(0.1, watch="accuracy"), length=1), loss=MeanSquaredError())
    with pytest.raises(ValueError, match="the schedule watches the accuracy, but this loss has none; watch 'loss'"):
        trainer.fit((data[0], data[0][:, :2]), epochs=1, verbose=False)
