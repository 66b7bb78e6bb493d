"""Run on several ranks by test_communicator.py: everything that a communicator does, checked on every rank."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from xpnet import backend
from xpnet.backend import asarray
from xpnet.distributed import connect
from xpnet.distributed.mpi import MpiCommunicator
from xpnet.errors import DistributedError


def main() -> None:
    comm = connect("mpi", backend_name="numpy")
    n, rank = comm.size, comm.rank
    total = sum(range(1, n + 1))
    done = []
    for dtype in ("float32", "float64", "float16", "int64"):
        a = np.arange(10, dtype=dtype) * (rank + 1)
        address = a.ctypes.data
        comm.sum_(a)
        assert a.dtype == dtype
        assert a.ctypes.data == address
        np.testing.assert_array_equal(a, np.arange(10) * total)
        done.append(dtype)
    gaps = np.arange(20.0)[::2] * (rank + 1)
    comm.sum_(gaps)
    np.testing.assert_array_equal(gaps, np.arange(0, 20, 2) * total)
    buckets = MpiCommunicator(bucket_bytes=1000)
    a = np.random.default_rng(rank).standard_normal(999)
    expected = sum(np.random.default_rng(r).standard_normal(999) for r in range(n))
    buckets.sum_(a)
    np.testing.assert_allclose(a, expected, rtol=0, atol=1e-13)
    everyones = comm.stack(a)
    assert (everyones == everyones[0]).all(), "ranks hold different sums"
    with backend.using("array_api_strict:device1"):  # by way of the host, as any library that is not NumPy or CuPy
        b = asarray(np.full(5, rank + 1.0), dtype="float64")
        comm.sum_(b)
        np.testing.assert_array_equal(backend.to_numpy(b), np.full(5, total))
        stacked = comm.stack(b)
        assert type(stacked) is type(b)
        assert tuple(stacked.shape) == (n, 5)
    np.testing.assert_array_equal(comm.stack(np.array([rank, -rank])), [[r, -r] for r in range(n)])
    assert comm.gather_objects({"rank": rank}) == [{"rank": r} for r in range(n)]
    assert comm.broadcast_object(f"of {rank}") == "of 0"
    assert [comm.any(rank == r) for r in (0, n - 1, n)] == [True, True, False]
    assert comm.from_root(lambda: rank + 7) == 7
    said = "division" if rank == 0 else "^rank 0 raised ZeroDivisionError: .*division"
    with pytest.raises(ZeroDivisionError if rank == 0 else DistributedError, match=said):
        comm.from_root(lambda: 1 // 0)
    comm.barrier()
    report = {"rank": rank, "size": n, "local": [comm.local_rank, comm.local_size], "done": done}
    sys.stdout.write(json.dumps(report) + "\n")  # in one piece
    sys.stdout.flush()


if __name__ == "__main__":
    main()
