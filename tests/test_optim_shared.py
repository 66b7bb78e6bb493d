"""What every optimizer can do: clip, L1, limits of norms, groups; on every library and without waiting for it."""

import copy

import numpy as np
import pytest

from xpnet import backend, optim
from xpnet.layers import BatchNorm, Conv2D, Dense, Flatten, LayerNorm, Sequential
from xpnet.testing import assert_close


def _model(dtype="float32"):
    with backend.using(backend.get().name, dtype=dtype):
        layers = Conv2D(3, 2, bias_init="normal"), BatchNorm(), LayerNorm(), Flatten(), Dense(2, bias_init="normal")
        return Sequential(*layers).build((2, 3, 3), rng=3)


def _host(model):
    return {p.name: np.array(backend.to_numpy(p.data), np.float64) for p in model.parameters()}


def _set_grads(model, rng, scale=1.0):
    gradients = {}
    for p in model.parameters():
        g = (scale * rng.normal(size=p.shape)).astype(np.float32)
        p.grad[...] = backend.asarray_like(g, p.grad)
        gradients[p.name] = g.astype(np.float64)
    return gradients


# --- clipping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.5, 1e3])
def test_clip_norm(xp, rng, limit):
    model, optimizer = _model(), optim.SGD(0.5, clip_norm=limit, weight_decay=0.25)
    before, gradients = _host(model), _set_grads(model, rng)
    norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    optimizer.update(model)
    assert tuple(optimizer.grad_norm.shape) == ()
    assert_close(optimizer.grad_norm, norm, terms=50)
    for p in model.parameters():
        g = gradients[p.name] * min(1.0, limit / (norm + 1e-6)) + 0.25 * before[p.name] * p.decay
        assert_close(p.data, before[p.name] - 0.5 * g, terms=10)
        assert np.array_equal(backend.to_numpy(p.grad), gradients[p.name])  # the gradient itself is not changed


@pytest.mark.parametrize("limit", [0.1, 2.0, 1e3])
def test_clipping_against_torch(rng, limit):
    torch = pytest.importorskip("torch")
    for own, theirs in (("clip_norm", torch.nn.utils.clip_grad_norm_), ("clip_value", torch.nn.utils.clip_grad_value_)):
        with backend.using("numpy", dtype="float64"):
            model = _model("float64")
        before, gradients = _host(model), _set_grads(model, rng)
        optim.SGD(1.0, **{own: limit}).update(model)
        tensors = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in gradients.values()]
        for t, g in zip(tensors, gradients.values(), strict=True):
            t.grad = torch.tensor(g)
        theirs(tensors, limit)
        for p, t in zip(model.parameters(), tensors, strict=True):
            assert_close(p.data, before[p.name] - t.grad.numpy())


def test_clip_value_comes_before_clip_norm(xp, rng):
    model, optimizer = _model(), optim.SGD(1.0, clip_value=0.5, clip_norm=1.0)
    before, gradients = _host(model), _set_grads(model, rng)
    clipped = {name: np.clip(g, -0.5, 0.5) for name, g in gradients.items()}
    norm = np.sqrt(sum((g**2).sum() for g in clipped.values()))
    optimizer.update(model)
    for p in model.parameters():
        assert_close(p.data, before[p.name] - clipped[p.name] / (norm + 1e-6), terms=10)


def test_half_floats_are_clipped_by_a_norm_in_float32(rng):
    """The squares of gradients of 1000 exceed what float16 can hold."""
    with backend.using("numpy"):
        model = _model("float16")
    gradients = _set_grads(model, rng, scale=1000.0)
    optimizer = optim.SGD(1.0, clip_norm=1.0)
    before = _host(model)
    optimizer.update(model)
    assert optimizer.grad_norm.dtype == np.float32
    norm = np.sqrt(sum((np.float16(g).astype(float) ** 2).sum() for g in gradients.values()))
    for p in model.parameters():
        assert p.data.dtype == np.float16
        assert_close(p.data, before[p.name] - gradients[p.name] / norm)


# --- L1 and limits of norms ----------------------------------------------------------------------


@pytest.mark.parametrize("make", [optim.SGD, optim.AdamW])
def test_l1(xp, rng, make):
    """The same as adding its gradient by hand; biases, scales and shifts are left alone."""
    ours, by_hand = _model(), _model()
    first, second = make(0.1, l1=0.3), make(0.1)
    for _ in range(3):
        before, gradients = _host(by_hand), _set_grads(ours, rng)
        for p in by_hand.parameters():
            g = gradients[p.name] + 0.3 * np.sign(before[p.name]) * p.decay
            p.grad[...] = backend.asarray_like(g, p.grad)
        first.update(ours)
        second.update(by_hand)
        for p in ours.parameters():
            assert_close(p.data, _host(by_hand)[p.name], rtol=1e-4)


def test_max_norm(xp, rng):
    model, optimizer = _model(), optim.Momentum(0.3, max_norm=0.75)
    plain, unlimited = _model(), optim.Momentum(0.3)
    gradients = _set_grads(model, rng)
    for p in plain.parameters():
        p.grad[...] = backend.asarray_like(gradients[p.name], p.grad)
    optimizer.update(model)
    unlimited.update(plain)
    free, limited = _host(plain), _host(model)
    axes = {"0.W": (1, 2, 3), "4.W": (0,)}  # a filter; a column
    for name, w in free.items():
        if name in axes:
            norms = np.sqrt((w**2).sum(axis=axes[name], keepdims=True))
            assert (norms > 0.75).any()
            w = w * np.minimum(1.0, 0.75 / norms)
        assert_close(next(p.data for p in model.parameters() if p.name == name), w, terms=20)
    small = {name: np.sqrt((free[name] ** 2).sum(axis=a)) < 0.75 for name, a in axes.items()}
    assert np.array_equal(limited["4.W"][:, small["4.W"]], free["4.W"][:, small["4.W"]])  # exactly
    (segment,) = model.store.segments
    assert np.array_equal(backend.to_numpy(segment.views()[0]), limited["0.W"])


def test_max_norm_of_a_filter_that_is_zero(xp):
    model = Dense(2, init="zeros").build((3,))
    optim.SGD(0.1, max_norm=1.0).update(model)
    assert np.array_equal(backend.to_numpy(model.W.data), np.zeros((3, 2)))


# --- groups --------------------------------------------------------------------------------------

GROUPS = {
    "patterns": [{"match": "*.b", "lr": 0.02, "weight_decay": 0.5}, {"match": "0.*", "lr": 0.3, "weight_decay": 0.0}],
    "predicates": [
        {"match": lambda p: p.name.endswith(".b"), "lr": 0.02, "weight_decay": 0.5},
        {"match": lambda p: p.name.startswith("0."), "lr": 0.3, "weight_decay": 0.0},
    ],
    "function": lambda p: (
        {"lr": 0.02, "weight_decay": 0.5}
        if p.name.endswith(".b")
        else {"lr": 0.3, "weight_decay": 0.0} if p.name.startswith("0.") else None
    ),
}  # fmt: skip


@pytest.mark.parametrize("groups", GROUPS)
def test_groups(xp, rng, groups):
    """The first that fits holds; the rest have the optimizer's settings; a new lr changes all in proportion."""
    model, optimizer = _model(), optim.SGD(0.1, weight_decay=0.25, groups=GROUPS[groups])
    for lr in (0.1, 0.05):
        optimizer.lr = lr
        before, gradients = _host(model), _set_grads(model, rng)
        optimizer.update(model)
        for p in model.parameters():
            own, decay = (0.1, 0.25 * p.decay)
            if p.name.endswith(".b"):
                own, decay = (0.02, 0.5)
            elif p.name.startswith("0."):
                own, decay = (0.3, 0.0)
            expected = before[p.name] - own * lr / 0.1 * (gradients[p.name] + decay * before[p.name])
            assert_close(p.data, expected)


def _one_group_each(kind, rng, steps=4):
    """Weights of a model with groups, and of the same with an optimizer for each group."""
    cls = getattr(optim, kind)
    joint, apart = _model(), {name: _model() for name in ("W", "rest")}
    optimizer = cls(0.05, weight_decay=0.1, groups=[{"match": "*.W", "lr": 0.01, "weight_decay": 0.3}])
    others = {"W": cls(0.01, weight_decay=0.3), "rest": cls(0.05, weight_decay=0.1)}
    for _ in range(steps):
        gradients = _set_grads(joint, rng)
        optimizer.update(joint)
        for name, model in apart.items():
            for p in model.parameters():
                p.grad[...] = backend.asarray_like(gradients[p.name], p.grad)
            others[name].update(model)
    return joint, apart


KINDS = "SGD Momentum Nesterov AdaGrad AdaDelta RMSprop Adam AdamW Lion LAMB".split()  # noqa: SIM905


@pytest.mark.parametrize("kind", KINDS)
def test_every_optimizer_takes_groups(xp, rng, kind):
    joint, apart = _one_group_each(kind, rng)
    for p in joint.parameters():
        expected = _host(apart["W" if p.name.endswith(".W") else "rest"])[p.name]
        assert_close(p.data, expected, terms=10)


@pytest.mark.parametrize("kind", KINDS)
def test_half_floats_stay_half(rng, kind):
    with backend.using("numpy"):
        model = _model("float16")
    settings = {"weight_decay": 0.1, "l1": 0.1, "max_norm": 1.0, "clip_norm": 1.0, "clip_value": 1.0}
    optimizer = getattr(optim, kind)(0.01, groups=[{"match": "*.W", "lr": 0.02}], **settings)
    for _ in range(2):
        _set_grads(model, rng)
        optimizer.update(model)
    assert {p.data.dtype for p in model.parameters()} == {np.dtype("float16")}
    assert all(a.dtype == np.float32 for k, a in optimizer.state_dict().items() if "." in k)


def test_a_group_without_limit(xp, rng):
    model = _model()
    optimizer = optim.SGD(
        0.5, max_norm=0.1, groups=[{"match": "4.W", "max_norm": None}, {"match": "0.W", "max_norm": 2}]
    )
    _set_grads(model, rng, scale=5.0)
    optimizer.update(model)
    host = _host(model)
    assert (np.sqrt((host["4.W"] ** 2).sum(axis=0)) > 1.0).all()
    norms = np.sqrt((host["0.W"] ** 2).sum(axis=(1, 2, 3)))
    assert norms.max() == pytest.approx(2.0, rel=1e-5)


def test_resume_with_everything_bit_for_bit(xp, rng):
    settings = {"weight_decay": 0.1, "l1": 0.01, "max_norm": 1.0, "clip_norm": 2.0, "groups": GROUPS["patterns"]}

    def make():
        return optim.Adam(0.1, amsgrad=True, **settings)

    whole, half, optimizer, first = _model(), _model(), make(), make()
    for seed in range(6):
        _set_grads(whole, np.random.default_rng(seed))
        optimizer.lr = 0.1 / (1 + seed)
        optimizer.update(whole)
        if seed < 3:
            _set_grads(half, np.random.default_rng(seed))
            first.lr = 0.1 / (1 + seed)
            first.update(half)
    resumed, second = _model(), make()
    resumed.load_state_dict(half.state_dict())
    second.load_state_dict(first.state_dict(), resumed)
    for seed in range(3, 6):
        _set_grads(resumed, np.random.default_rng(seed))
        second.lr = 0.1 / (1 + seed)
        second.update(resumed)
    for name, w in _host(whole).items():
        assert np.array_equal(_host(resumed)[name], w), name


@pytest.mark.parametrize("kind", [optim.Adam, optim.Momentum, optim.LAMB])
def test_state_goes_to_another_library_and_back(xp, rng, kind):
    """Weights may lie there in another order, and their state with them."""
    models, optimizers = {}, {}
    gradients = [{p.name: rng.normal(size=p.shape).astype("float32") for p in _model().parameters()} for _ in range(4)]

    def learn(name, i):
        for p in models[name].parameters():
            p.grad[...] = backend.asarray_like(gradients[i][p.name], p.grad)
        optimizers[name].update(models[name])

    for name, chosen in {"own": backend.get().name, "numpy": "numpy"}.items():
        with backend.using(chosen):
            models[name], optimizers[name] = _model(), kind(0.1)
        learn(name, 0)
    for i, (origin, name) in enumerate([("own", "numpy"), ("numpy", "own")], 1):
        models[name].load_state_dict(models[origin].state_dict())
        optimizers[name].load_state_dict(optimizers[origin].state_dict(), models[name])
        learn("own", i)
        learn("numpy", i)
    states = [
        {k: v for k, v in (optimizers[n].state_dict() | models[n].state_dict()).items() if "." in k} for n in models
    ]
    for name, a in states[0].items():
        assert_close(a, states[1][name], terms=100)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rate_of_0_freezes(xp, rng, kind):
    shared = {"weight_decay": 0.1, "l1": 0.01, "max_norm": 0.1}
    for pattern in ("0.*", "*"):
        model = _model()
        before = _host(model)
        optimizer = getattr(optim, kind)(0.05, groups=[{"match": pattern, "lr": 0}], **shared)
        for _ in range(3):
            _set_grads(model, rng)
            optimizer.update(model)
        for name, now in _host(model).items():
            frozen = pattern == "*" or name.startswith("0.")
            assert np.array_equal(now, before[name]) == frozen, name


def test_a_copy_of_optimizer_and_model_keeps_its_groups(xp, rng):
    model, optimizer = _model(), optim.Momentum(0.1, groups=[{"match": "*.b", "lr": 0.5}])
    _set_grads(model, rng)
    optimizer.update(model)
    twin, other = copy.deepcopy((model, optimizer))
    gradients = _set_grads(model, rng)
    for p in twin.parameters():
        p.grad[...] = backend.asarray_like(gradients[p.name], p.grad)
    optimizer.update(model)
    other.update(twin)
    assert all(np.array_equal(w, _host(twin)[name]) for name, w in _host(model).items())


def test_groups_hold_after_the_model_becomes_part_of_another(xp, rng):
    """Its parameters get longer names then; who belongs to a group was decided at the first update."""
    model, optimizer = Sequential(Dense(2)).build((3,)), optim.SGD(0.1, groups=[{"match": "0.W", "lr": 0.5}])
    optimizer.update(model)
    Sequential(model, Dense(1)).build((3,))
    before = _host(model)
    assert list(before) == ["1.0.W", "1.0.b"] or list(before) == ["0.0.W", "0.0.b"]
    for p in model.parameters():
        p.grad[...] = 1.0
    optimizer.update(model)
    for p, step in zip(model.parameters(), (0.5, 0.1), strict=True):
        assert_close(p.data, before[p.name] - step)


@pytest.mark.parametrize(
    "groups, text",
    [
        ([{"lr": 0.1}], r"SGD: the group \{'lr': 0\.1\} has no 'match'"),
        (
            [{"match": "*", "momentum": 0.1}],
            r"SGD: a group cannot have 'momentum'; it can have lr, weight_decay, l1, max",
        ),
        ({"match": "0.W"}, r"SGD: groups must be a sequence of mappings or .*, got \{'match': '0\.W'\}; give a list"),
        ("0.W", r"SGD: groups must be a sequence of mappings or .*, got '0\.W'; give a list, such as"),
        (["0.W"], r"SGD: a group must be a mapping, got '0\.W'; give a list, such as"),
        ([{"match": 3}], r"SGD: 'match' of a group must be a pattern or a function of the parameter, got 3"),
        ([{"match": "*", "lr": None}], r"SGD: lr of a group must be a number, got None; leave it out of the group"),
        ([{"match": "*", "l1": "a"}], r"SGD: l1 must be a number, at least 0\.0; got 'a'$"),
        ([{"match": "*", "lr": -0.5}], r"SGD: lr must be finite, at least 0\.0; got -0\.5"),
        ([{"match": "*", "weight_decay": -1.0}], r"SGD: weight_decay must be finite, at least 0\.0; got -1\.0"),
    ],
)
def test_bad_groups(groups, text):
    with pytest.raises(ValueError, match=text):
        optim.SGD(groups=groups)


def test_a_group_that_matches_nothing():
    model, optimizer = _model(), optim.SGD(groups=[{"match": "*.weight", "lr": 0.1}])
    with pytest.raises(
        ValueError, match=r"SGD: the group '\*\.weight' matches no parameter; there are 0\.W, 0\.b, 1\."
    ):
        optimizer.update(model)
    with pytest.raises(ValueError, match=r"matches no parameter"):
        optimizer.load_state_dict({"step": 0, "lr": 0.1}, model)
    assert optimizer.step == 0
    with pytest.raises(ValueError, match="a group cannot have 'rate'"):
        optim.SGD(groups=lambda p: {"rate": 1.0}).update(model)
    with pytest.raises(ValueError, match=r"SGD: groups must return a mapping of settings or None, got 3 for 0\.W"):
        optim.SGD(groups=lambda p: 3).update(model)
