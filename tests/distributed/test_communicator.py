"""What ranks say to each other: on real ranks, and what is said where MPI or NCCL is missing."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tests.distributed.launch import environment, needs_mpi, reports, run_ranks
from xpnet import backend
from xpnet.backend import pinned
from xpnet.distributed import NcclCommunicator, SingleCommunicator, connect
from xpnet.distributed.mpi import MpiCommunicator
from xpnet.errors import BackendUnavailableError, MissingDependencyError


class TestRanks:
    pytestmark = needs_mpi

    def test_every_call_on_every_rank(self):
        n = 3
        found = reports(run_ranks(n, Path(__file__).with_name("talking_ranks.py")))
        assert sorted(report["rank"] for report in found) == list(range(n))
        assert sorted(report["local"] for report in found) == [[r, n] for r in range(n)]
        assert all({"float16", "float32", "float64", "int64"} <= set(report["done"]) for report in found)


class TestSingle:
    def test_it_leaves_everything_as_it_is(self, xp):
        comm, a = SingleCommunicator(), xp.asarray([1.0, 2.0])
        comm.sum_(a)
        assert xp.to_numpy(a).tolist() == [1.0, 2.0]
        assert xp.to_numpy(comm.stack(a)).tolist() == [[1.0, 2.0]]
        assert comm.gather_objects(3) == [3]
        assert comm.from_root(lambda: 4) == 4
        assert not comm.any(False)
        with pytest.raises(ZeroDivisionError):
            comm.from_root(lambda: 1 // 0)


class TestMissing:
    def test_without_mpi4py(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "mpi4py.MPI", None)
        monkeypatch.setitem(sys.modules, "mpi4py", None)
        with pytest.raises(MissingDependencyError, match=r"needs mpi4py; pip install 'xpnet\[mpi\]'"):
            MpiCommunicator()

    def test_mpi4py_without_a_library(self, monkeypatch):
        class Broken:
            """Stands for the package whose module MPI raises at its import."""

            @staticmethod
            def find_spec(name, path=None, target=None):
                if name == "mpi4py.MPI":
                    raise RuntimeError("cannot load MPI library\nlibmpi.so.40: cannot open shared object file")

        monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
        monkeypatch.setitem(sys.modules, "mpi4py", types.ModuleType("mpi4py"))
        sys.modules["mpi4py"].__path__ = []
        monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
        with pytest.raises(MissingDependencyError, match=r"finds no MPI library .*libmpi.so.40.*xpnet\[mpi\]"):
            MpiCommunicator()

    @pytest.mark.skipif(needs_mpi[0].args[0], reason="mpi4py is not installed")
    def test_mpi4py_really_without_a_library(self, tmp_path):
        """The error of mpi4py itself; an absolute path that is not there leaves it nothing else to try."""
        code = "from xpnet.distributed import MpiCommunicator; MpiCommunicator()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment() | {"MPI4PY_LIBMPI": str(tmp_path / "libmpi.so")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "MissingDependencyError: mpi4py is installed, but it finds no MPI library" in done.stderr

    def test_unknown_kind(self):
        with pytest.raises(ValueError, match="kind must be one of auto, mpi, nccl, got 'gloo'"):
            connect("gloo")

    def test_nccl_without_a_gpu(self):
        if any(status.usable for status in backend.available() if status.name == "cupy"):
            pytest.skip("there is a GPU")
        with pytest.raises(BackendUnavailableError, match="NCCL cannot be used"):
            NcclCommunicator(SingleCommunicator())


class FakeArray(np.ndarray):
    """NumPy's array with the ways of CuPy's that the staging uses; copies to the host arrive when waited for."""

    device = types.SimpleNamespace(id=0)
    waiting: list = []  # noqa: RUF012 - all copies that are on their way

    def get(self, stream, out, blocking):
        assert not blocking
        FakeArray.waiting.append((out, np.array(self)))

    def set(self, host, stream):
        self[...] = host


class FakeEvent:
    def __init__(self):
        self.copies, FakeArray.waiting = FakeArray.waiting, []

    def synchronize(self):
        for out, values in self.copies:
            out[...] = values
        self.copies = []


@pytest.fixture
def fake_cupy(monkeypatch):
    cupy, cupyx = types.ModuleType("cupy"), types.ModuleType("cupyx")
    stream = types.SimpleNamespace(record=FakeEvent)
    cupy.cuda = types.SimpleNamespace(Device=lambda index: contextlib.nullcontext(), get_current_stream=lambda: stream)
    cupyx.empty_pinned = np.empty
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupyx", cupyx)


def test_staging_changes_every_bucket_after_it_has_arrived(fake_cupy):
    stage = pinned.PinnedStage()
    for size in (10, 7, 1000):  # the memory is used again where it is large enough
        a = np.arange(size, dtype=np.float32).view(FakeArray)
        sizes = []

        def change(part, sizes=sizes):
            sizes.append(part.size)
            part *= 2

        stage.through(a, change, bucket_bytes=16)
        np.testing.assert_array_equal(np.asarray(a), 2 * np.arange(size))
        assert sum(sizes) == size
        assert max(sizes) == 4
