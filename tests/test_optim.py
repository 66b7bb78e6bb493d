"""Optimizers against a plain float64 loop and against torch, and the life of their state."""

import itertools

import numpy as np
import pytest

from xpnet import backend, optim
from xpnet.errors import StateError, WeightsError
from xpnet.layers import BatchNorm, Dense, Sequential
from xpnet.testing import assert_close

STEPS = 20


def _model(dtype="float32"):
    """A model whose buffer mixes parameters with decay and without."""
    name = backend.get().name
    with backend.using(name, dtype=dtype):
        return Sequential(Dense(3, bias_init="normal"), BatchNorm(), Dense(2, bias_init="normal")).build((4,), rng=3)


def _decay_mask(model):
    return np.concatenate([np.full(p.size, p.name.endswith(".W"), float) for p in model.parameters()])


def _flat(model):
    (segment,) = model.store.segments
    return np.array(backend.to_numpy(segment.data), dtype=np.float64)


# name -> (optimizer, one step in NumPy: w, g, state, t -> w)
def _sgd(w, g, s, t):
    return w - 0.05 * g


def _momentum(w, g, s, t):
    s["v"] = 0.8 * s.get("v", 0.0) - 0.05 * g
    return w + s["v"]


def _nesterov(w, g, s, t):
    # the textbook's form: the gradient belongs to the point ahead, w + momentum * v
    ahead = w
    w = ahead - 0.8 * s.get("v", 0.0)
    s["v"] = 0.8 * s.get("v", 0.0) - 0.05 * g
    return w + s["v"] + 0.8 * s["v"]


def _adagrad(w, g, s, t):
    s["h"] = s.get("h", 0.0) + g**2
    return w - 0.05 * g / (np.sqrt(s["h"]) + 1e-3)


def _rmsprop(w, g, s, t):
    s["h"] = 0.9 * s.get("h", 0.0) + 0.1 * g**2
    return w - 0.05 * g / (np.sqrt(s["h"]) + 1e-3)


def _adam(w, g, s, t):
    s["m"] = 0.8 * s.get("m", 0.0) + 0.2 * g
    s["v"] = 0.95 * s.get("v", 0.0) + 0.05 * g**2
    return w - 0.05 * (s["m"] / (1 - 0.8**t)) / (np.sqrt(s["v"] / (1 - 0.95**t)) + 1e-3)


def _amsgrad(w, g, s, t):
    s["m"] = 0.8 * s.get("m", 0.0) + 0.2 * g
    s["v"] = 0.95 * s.get("v", 0.0) + 0.05 * g**2
    s["top"] = np.maximum(s.get("top", 0.0), s["v"])
    return w - 0.05 * (s["m"] / (1 - 0.8**t)) / (np.sqrt(s["top"] / (1 - 0.95**t)) + 1e-3)


def _adadelta(w, g, s, t):
    s["h"] = 0.8 * s.get("h", 0.0) + 0.2 * g**2
    d = np.sqrt((s.get("u", 0.0) + 1e-3) / (s["h"] + 1e-3)) * g
    s["u"] = 0.8 * s.get("u", 0.0) + 0.2 * d**2
    return w - 0.5 * d


def _lion(w, g, s, t):
    w = w - 0.05 * np.sign(0.8 * s.get("m", 0.0) + 0.2 * g)
    s["m"] = 0.95 * s.get("m", 0.0) + 0.05 * g
    return w


def _lamb(w, g, s, t):
    """The trust ratio is over the parameters, whose places are in s["parts"]; the decay in s["decay"]."""
    s["m"] = 0.8 * s.get("m", 0.0) + 0.2 * g
    s["v"] = 0.95 * s.get("v", 0.0) + 0.05 * g**2
    u = (s["m"] / (1 - 0.8**t)) / (np.sqrt(s["v"] / (1 - 0.95**t)) + 1e-3) + s["decay"] * w
    after = np.array(w)
    for a, b in s["parts"]:
        of_w, of_u = np.sqrt((w[a:b] ** 2).sum()), np.sqrt((u[a:b] ** 2).sum())
        after[a:b] -= 0.05 * (of_w / of_u if of_w > 0 and of_u > 0 else 1.0) * u[a:b]
    return after


CASES = {
    "sgd": (lambda wd: optim.SGD(0.05, weight_decay=wd), _sgd),
    "momentum": (lambda wd: optim.Momentum(0.05, momentum=0.8, weight_decay=wd), _momentum),
    "nesterov": (lambda wd: optim.Nesterov(0.05, momentum=0.8, weight_decay=wd), _nesterov),
    "adagrad": (lambda wd: optim.AdaGrad(0.05, eps=1e-3, weight_decay=wd), _adagrad),
    "rmsprop": (lambda wd: optim.RMSprop(0.05, decay=0.9, eps=1e-3, weight_decay=wd), _rmsprop),
    "adam": (lambda wd: optim.Adam(0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=wd), _adam),
    "adamw": (lambda wd: optim.AdamW(0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=wd), _adam),
    "amsgrad": (
        lambda wd: optim.Adam(0.05, betas=(0.8, 0.95), eps=1e-3, amsgrad=True, weight_decay=wd),
        _amsgrad,
    ),
    "adadelta": (lambda wd: optim.AdaDelta(0.5, decay=0.8, eps=1e-3, weight_decay=wd), _adadelta),
    "lion": (lambda wd: optim.Lion(0.05, betas=(0.8, 0.95), weight_decay=wd), _lion),
    "lamb": (lambda wd: optim.LAMB(0.05, betas=(0.8, 0.95), eps=1e-3, weight_decay=wd), _lamb),
}
APART = ("adamw", "lion")  # weight decay apart from the gradient


def _quadratic(rng, size):
    """Gradient of a random convex quadratic, rounded to float32 so that both sides see the same numbers."""
    A = rng.normal(size=(size, size))
    A = A @ A.T / size + 0.1 * np.eye(size)
    centre = rng.normal(size=size)
    return lambda w: (A @ (w - centre)).astype(np.float32).astype(np.float64)


def _set_grad(model, g):
    (segment,) = model.store.segments
    segment.grad[...] = backend.asarray_like(g, segment.grad)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("name", CASES)
def test_against_numpy(xp, rng, name, weight_decay):
    make, step = CASES[name]
    model, optimizer = _model(), make(weight_decay)
    (segment,) = model.store.segments
    data, views = segment.data, [p.data for p in model.parameters()]
    w = _flat(model)
    mask, gradient = _decay_mask(model), _quadratic(rng, w.size)
    ends = np.cumsum([0] + [p.size for p in model.parameters()])
    state = {"parts": list(itertools.pairwise(ends)), "decay": weight_decay * mask}
    for t in range(1, STEPS + 1):
        g = gradient(w)
        _set_grad(model, g)
        optimizer.update(model)
        assert np.array_equal(backend.to_numpy(segment.grad), g)  # not changed, decay included
        if name in APART:
            w = w * (1 - 0.05 * weight_decay * mask)
        elif name != "lamb":
            g = g + weight_decay * mask * w
        w = step(w, g, state, t)
    (after,) = model.store.segments
    assert after.data is data
    assert all(p.data is view for p, view in zip(model.parameters(), views, strict=True))
    assert backend.dtype_name(data.dtype) == "float32"
    assert optimizer.step == STEPS
    assert_close(data, w, terms=STEPS)
    start = 0
    for p in model.parameters():
        assert_close(p.data, w[start : start + p.size].reshape(p.shape), terms=STEPS)
        start += p.size


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("name", [name for name in CASES if name not in ("lion", "lamb")])
def test_against_torch(rng, name, weight_decay):
    torch = pytest.importorskip("torch")
    cls, settings = {
        "sgd": (torch.optim.SGD, {}),
        "momentum": (torch.optim.SGD, {"momentum": 0.8}),
        "nesterov": (torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
        "adagrad": (torch.optim.Adagrad, {"eps": 1e-3}),
        "rmsprop": (torch.optim.RMSprop, {"alpha": 0.9, "eps": 1e-3}),
        "adam": (torch.optim.Adam, {"betas": (0.8, 0.95), "eps": 1e-3}),
        "adamw": (torch.optim.AdamW, {"betas": (0.8, 0.95), "eps": 1e-3}),
        "amsgrad": (torch.optim.Adam, {"betas": (0.8, 0.95), "eps": 1e-3, "amsgrad": True}),
        "adadelta": (torch.optim.Adadelta, {"rho": 0.8, "eps": 1e-3}),
    }[name]
    with backend.using("numpy"):
        model, optimizer = _model("float64"), CASES[name][0](weight_decay)
    tensors = {p.name: torch.tensor(p.data.copy(), requires_grad=True) for p in model.parameters()}
    weights = [a for n, a in tensors.items() if n.endswith("W")]
    others = [a for n, a in tensors.items() if not n.endswith("W")]
    groups = [{"params": weights, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    theirs = cls(groups, lr=optimizer.lr, **settings)
    gradient = _quadratic(rng, _flat(model).size)
    for _ in range(STEPS):
        g = gradient(_flat(model))
        _set_grad(model, g)
        start = 0
        for p in model.parameters():
            tensors[p.name].grad = torch.tensor(g[start : start + p.size].reshape(p.shape))
            start += p.size
        optimizer.update(model)
        theirs.step()
    for p in model.parameters():
        assert_close(p.data, tensors[p.name].detach().numpy(), terms=STEPS)


def _train(model, optimizer, gradients):
    for g in gradients:
        _set_grad(model, g)
        optimizer.update(model)


@pytest.mark.parametrize("name", CASES)
def test_resume_bit_for_bit(xp, rng, name):
    make = CASES[name][0]
    whole, half = _model(), _model()
    gradients = rng.normal(size=(6, _flat(whole).size)).astype(np.float32)
    _train(whole, make(0.1), gradients)
    first = make(0.1)
    _train(half, first, gradients[:3])
    saved, weights = first.state_dict(), half.state_dict()
    frozen = {k: np.array(backend.to_numpy(v)) for k, v in saved.items()}
    _train(half, first, gradients[3:])  # must not reach into the saved state

    assert all(np.array_equal(backend.to_numpy(saved[k]), v) for k, v in frozen.items())
    resumed, second = _model(), make(0.1)
    resumed.load_state_dict(weights)
    second.load_state_dict(saved, resumed)
    assert second.step == 3
    _train(resumed, second, gradients[3:])
    assert np.array_equal(_flat(resumed), _flat(whole))
    assert np.array_equal(_flat(half), _flat(whole))


def test_state_from_another_backend(xp, rng):
    gradients = rng.normal(size=(4, _flat(_model()).size)).astype(np.float32)
    with backend.using("numpy"):
        model, optimizer = _model(), optim.Adam(0.02)
        _train(model, optimizer, gradients[:2])
        weights, saved = model.state_dict(), optimizer.state_dict()
        _train(model, optimizer, gradients[2:])
    mine, again = _model(), optim.Adam(0.5)
    mine.load_state_dict(weights)
    again.load_state_dict(saved, mine)
    assert again.lr == 0.02
    assert all(backend.array_namespace(a) is xp.xp for k, a in again.state_dict().items() if "." in k)
    _train(mine, again, gradients[2:])
    assert_close(mine.store.segments[0].data, _flat(model), terms=2)


def _without(state, key):
    return {k: v for k, v in state.items() if k != key}


@pytest.mark.parametrize(
    "spoil, text",
    [
        (lambda s: _without(s, "m.0.W"), r"Adam: the state lacks m\.0\.W and has nothing too many"),
        (lambda s: s | {"m.9.W": s["m.0.W"]}, r"the state lacks nothing and has m\.9\.W too many"),
        (
            lambda s: s | {"v.0.W": s["v.0.W"][:-1, ...]},
            r"Adam: v\.0\.W has shape \(3, 3\) but 0\.W has \(4, 3\); the state was",
        ),
        (lambda s: _without(s, "step"), r"Adam: the state has no 'step'"),
        (lambda s: _without(s, "lr"), r"Adam: the state has no 'lr'"),
        (lambda s: {}, r"Adam: the state has no 'lr', 'step'"),
    ],
)
def test_wrong_state_changes_nothing(xp, rng, spoil, text):
    model, optimizer = _model(), optim.Adam(0.1)
    g = rng.normal(size=_flat(model).size)
    _train(model, optimizer, [g, g])
    before = {k: np.array(backend.to_numpy(v)) for k, v in optimizer.state_dict().items()}
    with pytest.raises(WeightsError, match=text):
        optimizer.load_state_dict(spoil(optimizer.state_dict()), model)
    after = optimizer.state_dict()
    assert set(after) == set(before)
    assert all(np.array_equal(backend.to_numpy(after[k]), v) for k, v in before.items())
    _train(model, optimizer, [g])  # and it goes on


def test_state_of_an_optimizer_that_never_ran(rng):
    model, optimizer = _model(), optim.Adam(0.1)
    assert optimizer.state_dict() == {"step": 0, "lr": 0.1}
    fresh = optim.Adam(0.7)
    fresh.load_state_dict(optimizer.state_dict(), model)
    g = rng.normal(size=_flat(model).size)
    other = _model()
    _train(model, fresh, [g])
    _train(other, optim.Adam(0.1), [g])
    assert np.array_equal(_flat(model), _flat(other))


def test_unbuilt_model():
    for act in (optim.SGD().update, lambda m: optim.SGD().load_state_dict({"step": 0, "lr": 0.1}, m)):
        with pytest.raises(StateError, match=r"Sequential: the model has not been built.*call model\.build"):
            act(Sequential(Dense(2)))


def test_foreign_model(xp):
    first, second = _model(), _model()
    optimizer = optim.Momentum()
    optimizer.update(first)
    with pytest.raises(StateError, match="Momentum: this optimizer's state belongs to another model"):
        optimizer.update(second)
    assert optimizer.step == 1
    optimizer.update(first)


@pytest.mark.parametrize("target, dtype", [("numpy", "float64"), ("array_api_strict:device2", None)])
def test_moved_model(xp, target, dtype):
    model, optimizer = _model(), optim.Adam()
    optimizer.update(model)
    model.to(target, dtype=dtype)
    with pytest.raises(StateError, match="or got other layers; make a new optimizer"):
        optimizer.update(model)
    optim.Adam().update(model)


def test_one_optimizer_each_for_two_models(rng):
    """Steps of two models in turn, buffers gathered anew in between, give what each gives alone."""
    alone, turn = [_model(), _model()], [_model(), _model()]
    gradients = rng.normal(size=(2, 8, _flat(turn[0]).size))
    for model, gs in zip(alone, gradients, strict=True):
        _train(model, optim.Adam(0.1), gs)
    optimizers = [optim.Adam(0.1), optim.Adam(0.1)]
    done = [0, 0]
    for which in rng.permutation([0, 1] * 8):
        _train(turn[which], optimizers[which], gradients[which, done[which]][None])
        done[which] += 1
        if done[which] % 3 == 0:
            assert turn[which][0].store is not turn[which].store  # moves the child's parameters elsewhere
    for a, b in zip(alone, turn, strict=True):
        assert np.array_equal(_flat(a), _flat(b))


def test_lr_may_change_between_steps():
    model, optimizer = _model(), optim.SGD(1.0)
    w = _flat(model)
    for lr in (0.5, 0.25):
        optimizer.lr = lr
        _train(model, optimizer, [np.ones_like(w)])
    assert_close(model.store.segments[0].data, w - 0.75)
