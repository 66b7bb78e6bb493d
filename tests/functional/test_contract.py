"""What every operation owes its user, checked over the one table of tests/operations.py."""

from __future__ import annotations

import functools
import re

import numpy as np
import pytest

import xpnet.functional as F
from tests.operations import BATCHED, CASES, ELEMENTWISE, Case
from tests.reference import DIFFERENCE_RTOL, numerical_gradient
from xpnet import backend, config
from xpnet.backend.namespaces import named_dtype
from xpnet.errors import ArrayMismatchError, DTypeError, ShapeError
from xpnet.testing import assert_close

every_case = pytest.mark.parametrize("case", CASES, ids=str)
first_case_of_each = pytest.mark.parametrize(
    "case", [c for i, c in enumerate(CASES) if c.op not in {d.op for d in CASES[:i]}], ids=lambda c: c.op
)


def on(xp, host):
    return [None if a is None else xp.asarray(a) for a in host]


def run(case, arrays, dy):
    """Return the output, whatever else forward returns, and the gradients."""
    y, ctx, *more = case.forward(*arrays)
    return [y, *more, *(g for g in case.backward(dy, ctx) if g is not None)]


def draw_dy(case, host, rng):
    return rng.standard_normal(np.shape(case.forward(*host)[0]))


def test_table_is_complete():
    forwards = {name.removesuffix("_forward") for name in F.__all__ if name.endswith("_forward")}
    backwards = {name.removesuffix("_backward") for name in F.__all__ if name.endswith("_backward")}
    assert forwards == backwards
    assert forwards == {case.op for case in CASES}, "add the new operation to tests/operations.py"


@functools.cache
def numerical_gradients(case: Case, batch: int | None):
    """Arguments, a dy, and the gradients of sum(y * dy) by central differences, worked out on NumPy once."""
    rng = np.random.default_rng(sum(map(ord, str(case))))
    host = case.make(rng, batch=batch)
    dy = draw_dy(case, host, rng)
    gradients = {}
    for k, name in enumerate(case.arrays):
        if name in case.gradients and host[k] is not None:
            f = lambda a, k=k: np.sum(case.forward(*host[:k], a, *host[k + 1 :])[0] * dy)
            gradients[name] = numerical_gradient(f, host[k])
    return host, dy, gradients


@every_case
def test_gradients_against_central_differences(xp, case: Case):
    for batch in (None, 1):
        check_gradients(xp, case, batch)


def check_gradients(xp, case: Case, batch: int | None) -> None:
    if batch == 1 and case.op == "batch_norm" and case.options["train"] and len(case.arrays["x"]) == 2:
        with pytest.raises(ShapeError, match=r"^batch_norm: one value per channel has no variance"):
            case.forward(*on(xp, case.make(np.random.default_rng(0), batch=1)))
        return
    host, dy, expected = numerical_gradients(case, batch)
    _, ctx, *_ = case.forward(*on(xp, host))
    for name, got in zip(case.gradients, case.backward(xp.asarray(dy), ctx), strict=True):
        if got is not None:
            xp.to_numpy(got)
            assert_close(got, expected[name], rtol=DIFFERENCE_RTOL, terms=max(dy.size, 1))


@every_case
def test_arguments_and_context_unchanged(xp, case: Case, rng):
    host = case.make(rng)
    arrays = on(xp, host)
    dy = xp.asarray(draw_dy(case, host, rng))
    given = [a for a in arrays if a is not None] + [dy]
    before = [xp.to_numpy(a) for a in given]
    _, ctx, *_ = case.forward(*arrays)
    once, twice = case.backward(dy, ctx), case.backward(dy, ctx)
    for a, b in zip(given, before, strict=True):
        np.testing.assert_array_equal(xp.to_numpy(a), b, strict=True)
    for a, b in zip(once, twice, strict=True):
        if a is not None:
            np.testing.assert_array_equal(xp.to_numpy(a), xp.to_numpy(b), strict=True)


def transposed(xp, a):
    axes = tuple(range(a.ndim))[::-1]
    return xp.xp.permute_dims(xp.asarray(np.ascontiguousarray(a.transpose(axes))), axes)


def strided(xp, a):
    padded = np.full((*a.shape[:-1], 2 * a.shape[-1] + 1), -77, a.dtype)
    padded[..., 1::2] = a
    return xp.asarray(padded)[..., 1::2]


def reversed_(xp, a):
    return xp.asarray(a[..., ::-1].copy())[..., ::-1]


@every_case
def test_any_strides(xp, case: Case, rng):
    host = case.make(rng)
    dy = draw_dy(case, host, rng)
    plain = run(case, on(xp, host), xp.asarray(dy))
    for lie in (transposed, strided, reversed_)[: 2 if xp.backend_name == "torch" else 3]:  # it has no negative strides
        odd = [None if a is None else lie(xp, a) for a in host]
        odd_dy = lie(xp, dy) if dy.ndim else xp.asarray(dy)
        for got, expected in zip(run(case, odd, odd_dy), plain, strict=True):
            assert_close(got, xp.to_numpy(expected), terms=case.terms)


@pytest.mark.parametrize("compiled", ["auto", "off"])
@every_case
def test_any_byte_order(case: Case, compiled, rng):
    """Arrays of NumPy may come as they lie in a file of another machine."""
    host = case.make(rng)
    dy = draw_dy(case, host, rng)
    swapped = [None if a is None else a.astype(a.dtype.newbyteorder()) for a in host]
    with config.using(compiled=compiled):
        for got, expected in zip(
            run(case, swapped, dy.astype(dy.dtype.newbyteorder())), run(case, host, dy), strict=True
        ):
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@every_case
def test_broadcast_dy(xp, case: Case, rng):
    """The gradient of a sum is one number seen as an array, all strides zero."""
    host = case.make(rng)
    y, ctx, *_ = case.forward(*on(xp, host))
    ones = xp.asarray(np.ones(tuple(y.shape)))
    seen = xp.xp.broadcast_to(xp.asarray(np.ones(())), tuple(y.shape))
    for got, expected in zip(case.backward(seen, ctx), case.backward(ones, ctx), strict=True):
        if got is not None:
            assert_close(got, xp.to_numpy(expected), terms=case.terms)


@every_case
def test_two_forwards_before_the_first_backward(xp, case: Case, rng):
    first, second = case.make(rng), case.make(rng)
    dy = xp.asarray(draw_dy(case, first, rng))
    expected = run(case, on(xp, first), dy)
    y, ctx, *more = case.forward(*on(xp, first))
    case.forward(*on(xp, second))
    again = [y, *more, *(g for g in case.backward(dy, ctx) if g is not None)]
    for a, b in zip(again, expected, strict=True):
        np.testing.assert_array_equal(xp.to_numpy(a), xp.to_numpy(b), strict=True)


@every_case
def test_backward_is_linear_in_dy(xp, case: Case, rng):
    host = case.make(rng)
    _, ctx, *_ = case.forward(*on(xp, host))
    a, b = draw_dy(case, host, rng), draw_dy(case, host, rng)
    parts = [case.backward(xp.asarray(d), ctx) for d in (a, b, 2.0 * a - b)]
    for of_a, of_b, of_both in zip(*parts, strict=True):
        if of_a is not None:
            assert_close(of_both, 2.0 * xp.to_numpy(of_a) - xp.to_numpy(of_b), terms=3 * case.terms)


def cast(host, dtype, wide):
    """The arguments in a float type; running statistics in `wide`, labels as they are."""
    made = []
    for k, a in enumerate(host):
        floats = a is not None and a.dtype.kind == "f"
        made.append(backend.asarray(a, dtype=(wide if k > 2 else dtype), copy=True) if floats else a)
    return [backend.asarray(a, copy=True) if isinstance(a, np.ndarray) else a for a in made]


@every_case
def test_float_type_device_and_library_kept(xp, case: Case, rng):
    for dtype in ("float64", "float32", "float16", "bfloat16"):
        if named_dtype(xp.xp, dtype) is not None:
            check_float_type(xp, case, dtype, rng)


def check_float_type(xp, case: Case, dtype: str, rng) -> None:
    wide = "float32" if dtype in ("float16", "bfloat16") else dtype
    host = case.make(rng)
    arrays = cast(host, dtype, wide)
    y, ctx, *more = case.forward(*arrays)
    expected_type = wide if case.is_loss else dtype
    assert backend.dtype_name(y.dtype) == expected_type
    assert [backend.dtype_name(a.dtype) for a in more] == [wide] * len(more)
    dy = cast([draw_dy(case, host, rng)], expected_type, wide)[0]
    gradients = case.backward(dy, ctx)
    assert {backend.dtype_name(g.dtype) for g in gradients if g is not None} == {dtype}

    # the values, against the same arguments (rounded as they are) in float64, which other tests hold to oracles
    rounded = [None if a is None else np.array(xp.to_numpy(a)) for a in arrays]
    rounded = [a.astype(np.float64) if a is not None and a.dtype.kind == "f" else a for a in rounded]
    exact = run(case, rounded, xp.to_numpy(dy).astype(np.float64))
    got = [y, *more, *(g for g in gradients if g is not None)]
    for a, b in zip(got, exact, strict=True):
        xp.to_numpy(a)
        rtol = None if dtype == backend.dtype_name(a.dtype) else 4e-3 if dtype == "float16" else 2e-2
        assert_close(a, b, terms=case.terms, rtol=rtol)


# --- refusals ------------------------------------------------------------------------------------


@every_case
def test_wrong_shape_of_dy(xp, case: Case, rng):
    y, ctx, *_ = case.forward(*on(xp, case.make(rng)))
    shape = tuple(y.shape)
    wrong = (
        [(1,), (2, 2)] if case.is_loss else [(), shape[1:], (*shape, 1), (shape[0] + 1, *shape[1:]), (1,) * len(shape)]
    )
    for bad in wrong:
        with pytest.raises(ShapeError, match=rf"^{case.op}_backward: dy has shape {re.escape(str(bad))} but"):
            case.backward(xp.asarray(np.ones(bad)), ctx)


@first_case_of_each
def test_dy_that_is_no_float_array(xp, case: Case, rng):
    y, ctx, *_ = case.forward(*on(xp, case.make(rng)))
    with pytest.raises(DTypeError, match=rf"^{case.op}_backward: dy: expected an array, got list"):
        case.backward([1.0], ctx)
    if not case.is_loss:
        with pytest.raises(DTypeError, match=rf"^{case.op}_backward: dy must hold floating-point numbers, got .*int64"):
            case.backward(xp.asarray(np.ones(tuple(y.shape), np.int64)), ctx)


@first_case_of_each
def test_integers_and_lists_are_refused(xp, case: Case, rng):
    host = case.make(rng)
    first = next(iter(case.arrays))
    for kind in (np.int64, np.bool_):
        arrays = on(xp, [host[0].astype(kind), *host[1:]])
        with pytest.raises(
            DTypeError, match=rf"^{case.op}: {first} must hold floating-point numbers, got .*(int|bool)"
        ):
            case.forward(*arrays)
    for k, name in enumerate(case.arrays):
        arrays = on(xp, host)
        arrays[k] = host[k].tolist()
        with pytest.raises(DTypeError, match=rf"^{case.op}: {name}: expected an array, got list .*backend.asarray"):
            case.forward(*arrays)


with_several_arrays = pytest.mark.parametrize(
    "case", [c for c in CASES if len(c.arrays) > 1 and None not in c.arrays.values()], ids=str
)
STRANGERS = {
    "library": ("numpy", "array_api_strict", r"numpy .*array_api_strict|array_api_strict .*numpy", "backend.asarray"),
    "device": (
        "array_api_strict",
        "array_api_strict:device1",
        r"CPU_DEVICE.*device1|device1.*CPU_DEVICE",
        "backend.asarray",
    ),
}


@pytest.mark.parametrize("kind", STRANGERS)
@with_several_arrays
def test_arguments_of_two_libraries_or_devices(case: Case, kind, rng):
    pytest.importorskip("array_api_strict")
    home, away, both, remedy = STRANGERS[kind]
    host = case.make(rng)
    for k in range(1, len(host)):
        arrays = []
        for i, a in enumerate(host):
            with backend.using(away if i == k else home):
                arrays.append(backend.asarray(a))
        with pytest.raises(ArrayMismatchError, match=rf"^{case.op}: .*({both}).*{re.escape(remedy)}"):
            case.forward(*arrays)


@with_several_arrays
def test_arguments_of_two_float_types(xp, case: Case, rng):
    host = case.make(rng)
    for k, name in enumerate(case.arrays):
        if k and host[k].dtype.kind == "f":
            arrays = [xp.asarray(a, "float32" if i == k and a.dtype.kind == "f" else None) for i, a in enumerate(host)]
            message = rf"^{case.op}: \w+ is .*float64.* but {name} is .*float32.*convert one to the other's float type"
            with pytest.raises(ArrayMismatchError, match=message):
                case.forward(*arrays)


@pytest.mark.parametrize("kind", STRANGERS)
@pytest.mark.parametrize("case", [c for c in CASES if c.keeps_arrays], ids=str)
def test_dy_of_another_library_or_device(case: Case, kind, rng):
    pytest.importorskip("array_api_strict")
    home, away, both, remedy = STRANGERS[kind]
    host = case.make(rng)
    with backend.using(home):
        y, ctx, *_ = case.forward(*(None if a is None else backend.asarray(a) for a in host))
    with backend.using(away):
        dy = backend.asarray(np.ones(tuple(y.shape)))
    with pytest.raises(ArrayMismatchError, match=rf"^{case.op}_backward: .*({both}).*{re.escape(remedy)}"):
        case.backward(dy, ctx)


@pytest.mark.parametrize("case", [c for c in CASES if c.keeps_arrays and not c.is_loss], ids=str)
def test_dy_of_another_float_type(xp, case: Case, rng):
    y, ctx, *_ = case.forward(*on(xp, case.make(rng)))
    with pytest.raises(ArrayMismatchError, match=rf"^{case.op}_backward: dy is .*float32.* but x is .*float64"):
        case.backward(xp.asarray(np.ones(tuple(y.shape)), "float32"), ctx)


@pytest.mark.parametrize("case", [c for c in CASES if c.op not in ELEMENTWISE], ids=str)
def test_empty_batch_is_refused(xp, case: Case, rng):
    host = case.make(rng)
    empty = [a[:0] if name in BATCHED and a is not None else a for name, a in zip(case.arrays, host, strict=True)]
    if case.op in ("softmax", "log_softmax") and case.options.get("axis") != 0:
        assert case.forward(*on(xp, empty))[0].shape[0] == 0
        return
    with pytest.raises(ShapeError, match=rf"^{case.op}: .*(empty)"):
        case.forward(*on(xp, empty))
