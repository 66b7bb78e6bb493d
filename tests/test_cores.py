"""How many threads there are: by the system, a container's limit and the environment."""

import os

import pytest

from xpnet import config, cores


@pytest.fixture
def three_cores(monkeypatch):
    for name in cores.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    monkeypatch.setattr(cores, "read_system_file", lambda path: "")


@pytest.mark.usefixtures("three_cores")
@pytest.mark.parametrize(
    "variables, expected",
    [({}, 3), ({"OMP_NUM_THREADS": "1"}, 1), ({"OPENBLAS_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "9"}, 2),
     ({"OMP_NUM_THREADS": "many"}, 3), ({"MKL_NUM_THREADS": "0"}, 1)],
)  # fmt: skip
def test_threads_are_those_that_the_environment_allows(variables, expected, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cores.threads_allowed.__wrapped__() == expected


@pytest.mark.usefixtures("three_cores")
@pytest.mark.parametrize(
    "files, limit, threads",
    [
        ({"cpu.max": "150000 100000\n"}, 1.5, 2),
        ({"cpu.max": "50000 100000\n"}, 0.5, 1),
        ({"cpu.max": "800000 100000\n"}, 8.0, 3),
        ({"cpu.max": "max 100000\n"}, None, 3),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0, 2),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, 3),
        ({}, None, 3),
    ],
)
def test_a_containers_share_of_the_cores_bounds_the_threads(files, limit, threads, monkeypatch):
    monkeypatch.setattr(cores, "read_system_file", lambda path: files.get(path.removeprefix("/sys/fs/cgroup/"), ""))
    assert cores.container_limit() == limit
    assert cores.threads_allowed.__wrapped__() == threads


@pytest.mark.parametrize("threads, megabytes", [(1, 4), (2, 4), (8, 16)])
def test_the_workspace_grows_with_the_threads(threads, megabytes, monkeypatch):
    monkeypatch.setattr(config, "threads_allowed", lambda: threads)
    with config.using(conv_workspace="auto"):
        assert config.get("conv_workspace") == megabytes << 20
