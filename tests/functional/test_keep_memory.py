"""The setting keep_memory: steps without page faults, no more memory, and everything else left alone."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from xpnet import config
from xpnet.kernels.memory import keep_memory

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="about the allocator of glibc"
)

CODE = """
import json, resource
import numpy as np
from xpnet import backend, config
from xpnet.bench.subjects import step_subject
from xpnet.bench.workloads import WORKLOADS
from xpnet.kernels.memory import keep_memory
backend.use("numpy", dtype="float32")
train = step_subject("xpnet", WORKLOADS["simple-convnet"]._replace(batch=50), "train")
def step():
    train()
    np.ones(10 << 20, np.float32)  # more than glibc keeps of itself
def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(4)
result = {"faults": faults(5), "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
config.set(keep_memory="1KB")
faults(2)
print(json.dumps(result | {"given back": faults(5), "possible": keep_memory(1 << 20)}))
"""


def measured(**variables: str) -> dict[str, int]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    environment = clean | {"OPENBLAS_NUM_THREADS": "1"} | variables
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_steps_fault_in_no_pages_and_the_peak_is_the_same():
    kept, alone = measured(), measured(XPNET_KEEP_MEMORY="0")
    assert kept["faults"] < 100 < 1000 < alone["faults"]
    assert kept["given back"] > 1000  # a change of the setting is followed
    assert kept["peak"] < 1.1 * alone["peak"]


@pytest.mark.parametrize("name, value", [("MALLOC_TRIM_THRESHOLD_", "131072"),
                                         ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=131072")])  # fmt: skip
def test_settings_of_the_environment_have_precedence(name, value):
    found = measured(**{name: value})
    assert not found["possible"]
    assert found["faults"] > 1000


@pytest.mark.parametrize("size, taken, calls", [
    (1 << 30, True, [(-3, 1 << 30), (-1, 1 << 30)]),
    (1 << 30, False, [(-3, 1 << 30), (-3, 32 << 20), (-1, 1 << 30)]),  # a glibc that takes no more than its own rule
    (2 << 30, True, [(-3, 2**31 - 1), (-1, 2**31 - 1)]),
    (1 << 20, True, [(-3, 32 << 20), (-1, 1 << 20)]),
    (0, True, [(-3, 32 << 20), (-1, 64 << 20)]),
])  # fmt: skip
def test_what_is_asked_of_the_allocator(monkeypatch, size, taken, calls):
    asked = []

    class Library:
        gnu_get_libc_version = None

        @staticmethod
        def mallopt(what, value):
            asked.append((what, value))
            return int(taken or value <= 32 << 20 or what == -1)

    for name in [n for n in os.environ if n.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("ctypes.CDLL", lambda name: Library)
    assert keep_memory(size)
    assert asked == calls


def test_values(monkeypatch):
    monkeypatch.setattr(config, "_values", {})
    monkeypatch.delenv("XPNET_KEEP_MEMORY", raising=False)
    assert config.get("keep_memory") == 2 << 30
    monkeypatch.setattr(config, "_values", {})
    monkeypatch.setenv("XPNET_KEEP_MEMORY", "0")
    assert config.get("keep_memory") == 0
    with pytest.raises(ValueError, match=r"^config.set: keep_memory: expected a size such as '4MB'"):
        config.set(keep_memory="much")
