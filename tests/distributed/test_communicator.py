"""What ranks say to each other: on real ranks, and what is said where MPI or NCCL is missing."""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tests.distributed.launch import environment, needs_mpi, reports, run_ranks
from xpnet import backend
from xpnet.backend import pinned
from xpnet.backend.nccl import NcclGroup, nccl_id
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


class FakeNccl(types.ModuleType):
    """NCCL as CuPy gives it: sums and gathers memory by address, over ranks that all hold the same numbers."""

    available = True
    NCCL_FLOAT32, NCCL_FLOAT64, NCCL_INT64, NCCL_INT32, NCCL_SUM = 7, 8, 4, 2, 0
    NcclError = RuntimeError
    TYPES = {7: np.float32, 8: np.float64, 4: np.int64, 2: np.int32}  # noqa: RUF012 - of the numbers above

    class NcclCommunicator:
        def __init__(self, size, identifier, rank):
            if identifier == b"duplicate":
                raise RuntimeError("NCCL_ERROR_INVALID_USAGE: invalid usage")
            self.size = size

        def at(self, pointer, count, kind):
            kind = np.dtype(FakeNccl.TYPES[kind])
            memory = (ctypes.c_char * (count * kind.itemsize)).from_address(pointer)
            return np.frombuffer(memory, kind)

        def allReduce(self, source, target, count, kind, operation, stream):
            assert (operation, stream) == (0, 99)
            self.at(target, count, kind)[...] = self.at(source, count, kind) * self.size

        def allGather(self, source, target, count, kind, stream):
            assert stream == 99
            self.at(target, count * self.size, kind)[...] = np.tile(self.at(source, count, kind), self.size)


class FakeGpuArray(np.ndarray):
    @property
    def data(self):
        return types.SimpleNamespace(ptr=self.ctypes.data)


@pytest.fixture
def fake_nccl(monkeypatch):
    cupy, cuda, nccl = types.ModuleType("cupy"), types.ModuleType("cupy.cuda"), FakeNccl("cupy.cuda.nccl")
    cupy.cuda, cuda.nccl = cuda, nccl
    cupy.is_available = lambda: True
    cupy.float32 = np.float32
    cupy.ascontiguousarray = lambda a: np.ascontiguousarray(a).view(FakeGpuArray)
    cupy.empty = lambda shape, dtype: np.empty(shape, dtype).view(FakeGpuArray)
    cuda.get_current_stream = lambda: types.SimpleNamespace(ptr=99)
    nccl.get_unique_id = lambda: b"an identifier"
    for name, module in (("cupy", cupy), ("cupy.cuda", cuda), ("cupy.cuda.nccl", nccl)):
        monkeypatch.setitem(sys.modules, name, module)
    return nccl


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64"])
def test_nccl_is_given_the_right_memory(fake_nccl, dtype):
    group = NcclGroup(3, nccl_id(), 1)
    a = np.arange(6, dtype=dtype).reshape(2, 3).view(FakeGpuArray)
    for b in (a.copy(), a.copy()[:, ::2]):  # whole, and with gaps
        expected = 3 * np.array(b)
        group.sum_(b)
        np.testing.assert_array_equal(np.asarray(b), expected)
        assert b.dtype == dtype
    if dtype != "float16":
        np.testing.assert_array_equal(np.asarray(group.stack(a)), np.stack([a] * 3))


def test_ranks_that_share_a_gpu_are_told_what_to_do(fake_nccl):
    with pytest.raises(BackendUnavailableError, match=r"rank 1 of 2: .*a GPU of its own.*--distributed mpi"):
        NcclGroup(2, b"duplicate", 1)
