"""Threads of the kernels: every part is done once, BLAS gets its threads back, and no one disturbs another."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tests.operations import CASES, Case
from xpnet import backend, config, kernels
from xpnet.functional import conv2d_backward, conv2d_forward
from xpnet.kernels import blas, table, team
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.models import SimpleConvNet
from xpnet.optim import Adam
from xpnet.testing import assert_close
from xpnet.training import train_step


@pytest.fixture
def threads(monkeypatch):
    """Return a function that sets how many threads the kernels use, for work of any size."""
    table.load("numpy")

    def use(count: int) -> None:
        for name, module in list(sys.modules.items()):
            if name.startswith("xpnet.kernels"):
                for function in ("threads_allowed", "threads_beside_blas"):
                    if hasattr(module, function):
                        monkeypatch.setattr(module, function, lambda: count)
        monkeypatch.setattr(team, "PART", 1)
        monkeypatch.setattr(kernels.numpy.product, "WORK", 1)

    return use


@pytest.mark.parametrize("case", CASES, ids=str)
def test_operations_by_three_threads(case: Case, threads, rng):
    host = case.make(rng)
    dy = rng.standard_normal(np.shape(case.forward(*host)[0]))
    results = []
    for count in (1, 3):
        threads(count)
        with config.using(compiled="off"):
            y, ctx, *more = case.forward(*host)
            results.append([y, *more, *case.backward(dy, ctx)])
    for got, expected in zip(*results, strict=True):
        assert (got is None) == (expected is None)
        if got is not None:
            assert_close(got, expected, terms=case.terms)


@pytest.mark.parametrize("workspace", [40_000, 100_000, 1_000_000])
@pytest.mark.parametrize(
    "algorithm, compiled", [("gemm", "off"), ("winograd", "off"), ("gemm", "auto"), ("winograd", "auto")]
)
def test_all_threads_together_keep_to_the_workspace(threads, workspace, algorithm, compiled, monkeypatch, rng):
    if compiled == "auto":
        pytest.importorskip("numba")
        table.load("compiled")
        monkeypatch.setattr(kernels.compiled.winograd, "CHANNELS", 1)
    threads(3)
    most: dict[int, int] = {}  # bytes of scratch memory by thread
    real = kernels.numpy.conv.scratch

    def scratch(shape, dtype):
        array = real(shape, dtype)
        most[threading.get_ident()] = max(most.get(threading.get_ident(), 0), array.nbytes)
        time.sleep(0.002)  # for the other threads to come
        return array

    for name, module in list(sys.modules.items()):
        if name.startswith("xpnet.kernels") and hasattr(module, "scratch"):
            monkeypatch.setattr(module, "scratch", scratch)
    x = np.moveaxis(rng.standard_normal((6, 30, 30, 16), dtype=np.float32), -1, 0)
    W = rng.standard_normal((8, 6, 3, 3), dtype=np.float32)
    with config.using(conv_workspace=workspace, compiled=compiled):
        y, ctx = conv2d_forward(x, W, algorithm=algorithm)
        forward = dict(most)
        most.clear()
        conv2d_backward(y, ctx, need_dx=False)  # dx is a convolution of its own, as forward is
    for taken in (forward, most):
        assert 0 < sum(taken.values()) <= workspace + 8192  # a ring of rows ends with a few vectors of its own


def train(seed: int, steps: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    model, loss, optimizer = SimpleConvNet(filters=8), SoftmaxCrossEntropy(), Adam()
    with backend.using("numpy"):
        model.build((1, 20, 20), rng=seed)
        for _ in range(steps):
            train_step(model, loss, optimizer, rng.random((33, 1, 20, 20), dtype=np.float32), rng.integers(0, 10, 33))
    return model.state_dict()


@pytest.mark.parametrize("compiled", ["auto", "off"])
def test_threads_that_train_at_once_do_not_disturb_each_other(threads, compiled):
    threads(2)
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    with limits(2, user_api="blas"), config.using(compiled=compiled):
        alone = [train(seed) for seed in range(3)]
        together: dict[int, dict[str, np.ndarray]] = {}
        team_of_three = [threading.Thread(target=lambda s=s: together.update({s: train(s)})) for s in range(3)]
        for thread in team_of_three:
            thread.start()
        for thread in team_of_three:
            thread.join()
    for seed, state in enumerate(alone):
        for name, array in state.items():
            np.testing.assert_array_equal(together[seed][name], array, err_msg=name)


def test_processes_that_train_at_once_do_not_disturb_each_other():
    code = (
        "import numpy as np\n"
        "from tests.kernels.test_team import train\n"
        "state = train(1, 20)\n"
        "print(sum(float(np.abs(a).sum()) for a in state.values()).hex())\n"
    )
    commands = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate(timeout=120)[0] for process in commands}
    assert len(said) == 1
    assert all(process.returncode == 0 for process in commands)


def test_blas_gets_its_threads_back():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    if blas.single_threaded_blas.threads() is None:
        pytest.skip("a BLAS whose threads cannot be set")
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        if blas.single_threaded_blas.threads() != 2:
            pytest.skip("BLAS was built for one thread")
        inside = []
        with blas.single_threaded_blas:
            with blas.single_threaded_blas:
                pass
            inside = [library.threads() for library in blas._libraries()]
            assert blas.single_threaded_blas.threads() == 2  # outside
        assert set(inside) == {1}
        assert all(library.threads() == 2 for library in blas._libraries())
        with pytest.raises(ZeroDivisionError), blas.single_threaded_blas:
            raise ZeroDivisionError
        assert all(library.threads() == 2 for library in blas._libraries())


def test_blas_can_be_told_by_any_thread():
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    inside, before = [], blas.single_threaded_blas.threads()

    def look():
        with blas.single_threaded_blas:
            inside.extend(library.threads() for library in blas._libraries())

    with limits(2, user_api="blas"):  # which puts this thread in charge of them
        if blas.single_threaded_blas.threads() != 2:
            pytest.skip("a BLAS whose threads cannot be set, or of one thread")
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        assert set(inside) == {1}
        assert blas.single_threaded_blas.threads() == 2
    assert blas.single_threaded_blas.threads() == before


def test_limits_set_at_run_time_are_kept_to(monkeypatch):
    threadpoolctl = pytest.importorskip("threadpoolctl")
    monkeypatch.setattr(team, "threads_allowed", lambda: 4)
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        assert team.threads_beside_blas() == 1


def test_without_threadpoolctl_products_are_left_to_blas(monkeypatch):
    monkeypatch.setattr(blas, "_libraries", lambda: ())
    monkeypatch.setattr(team, "threads_allowed", lambda: 4)
    monkeypatch.setattr(team, "_start", lambda wanted: pytest.fail("a thread was started"))
    assert team.threads_beside_blas() == 1
    made = []
    team.run_all([lambda i=i: made.append(i) for i in range(5)], products=True)
    assert made == list(range(5))
    x, W = np.ones((100, 16, 20, 20), np.float32), np.ones((16, 16, 3, 3), np.float32)
    with config.using(compiled="off"):
        assert conv2d_forward(x, W)[0][0, 0, 0, 0] == 16 * 9


@pytest.mark.parametrize("count", [0, 1, 5, 12])
@pytest.mark.parametrize("parts", [1, 3, 5])
def test_slices_cover_all_once(count, parts):
    assert [i for part in team.cut(count, parts) for i in range(count)[part]] == list(range(count))


@pytest.mark.parametrize(
    "threads, worth, parts", [(1, 9, 2), (2, 1, 1), (2, 3, 2), (2, 9, 4), (8, 5, 5), (8, 13, 8), (8, 99, 16)]
)
def test_work_is_cut_so_that_no_thread_has_more_than_another(threads, worth, parts, monkeypatch):
    monkeypatch.setattr(team, "threads_allowed", lambda: threads)
    assert team.shares(worth) == parts


def test_the_team_makes_every_call_and_reports_a_failure(monkeypatch):
    monkeypatch.setattr(team, "threads_allowed", lambda: 3)
    made = []
    team.run_all([lambda i=i: made.append(i) for i in range(50)])
    assert sorted(made) == list(range(50))

    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        team.run_all([fail, *[lambda: None] * 20])
    team.run_all([lambda: made.append(50)])
    assert 50 in made


@pytest.mark.parametrize("state", ["ignore", "raise"])
def test_all_threads_have_the_error_state_of_the_caller(monkeypatch, state):
    monkeypatch.setattr(team, "threads_allowed", lambda: 3)
    together = threading.Barrier(3)  # so that each thread makes one call
    found = []

    def call() -> None:
        together.wait(timeout=60)
        found.append((threading.get_ident(), np.geterr()["over"]))

    with np.errstate(over=state):
        team.run_all([call] * 3)
    assert len({thread for thread, _ in found}) == 3
    assert [over for _, over in found] == [state] * 3


def test_whoever_waits_awake_is_given_every_sign(threads, monkeypatch):
    """One who wakes by the signs alone: if a sign were missing, this would not end."""
    threads(3)
    watched = []

    def until_it_changes(flag, seen):
        watched.append(flag)
        while flag[0] == seen:
            time.sleep(0)

    monkeypatch.setattr(team, "_watch", until_it_changes)
    made = []
    for i in range(300):
        team.run_all([functools.partial(made.append, 3 * i + j) for j in range(3)])
    assert sorted(made) == list(range(900))
    assert {id(flag) for flag in watched} == {id(team._given), id(team._made)}
    monkeypatch.setattr(team, "_watch", None)
    team._given[0] += 1.0  # for those who still watch


@pytest.fixture
def awake(monkeypatch):
    pytest.importorskip("numba")
    table.load("compiled")
    if kernels.compiled.awake._tries() == (0, 0):
        pytest.fail("the watch cannot be compiled")
    return kernels.compiled.awake


def test_a_watch_ends_by_itself(awake):
    flag = np.zeros(1)
    awake.watch(flag, 0.0)
    awake.watch(flag, 1.0)
    assert flag[0] == 0.0


def test_a_watch_ends_when_another_thread_changes_the_flag(awake, monkeypatch):
    """It would last for years, and if it held the interpreter's lock, this test too."""
    monkeypatch.setattr(awake, "_tries", lambda: (2**60, 1))
    flag = np.zeros(1)
    watching = threading.Thread(target=awake.watch, args=(flag, 0.0), daemon=True)
    watching.start()
    watching.join(0.05)
    assert watching.is_alive()
    flag[0] = 1.0
    watching.join(60)
    assert not watching.is_alive()


def test_threads_wait_awake_where_loops_are_compiled(awake):
    assert team._watch is awake.watch


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_the_team_works_in_a_forked_process():
    code = (
        "import os, warnings\n"
        "warnings.simplefilter('ignore')\n"  # Python 3.12 warns of forks beside threads
        "from xpnet.kernels import team\n"
        "team.threads_allowed = lambda: 2\n"
        "team.run_all([lambda: None] * 4)\n"
        "child = os.fork()\n"
        "made = []\n"
        "team.run_all([lambda: made.append(1)] * 4)\n"
        "if child == 0:\n"
        "    os._exit(len(made))\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
