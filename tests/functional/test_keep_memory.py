"""The setting keep_memory: steps without page faults, no more memory, and everything else left alone."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

from xpnet import config

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="about the allocator of glibc"
)

CODE = """
import json, resource
from xpnet import backend, config
from xpnet.bench.subjects import step_subject
from xpnet.bench.workloads import WORKLOADS
from xpnet.kernels.memory import keep_memory
backend.use("numpy", dtype="float32")
step = step_subject("xpnet", WORKLOADS["simple-convnet"]._replace(batch=50), "train")
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


def test_values(monkeypatch):
    monkeypatch.setattr(config, "_values", {})
    monkeypatch.delenv("XPNET_KEEP_MEMORY", raising=False)
    assert config.get("keep_memory") == 512 << 20
    monkeypatch.setattr(config, "_values", {})
    monkeypatch.setenv("XPNET_KEEP_MEMORY", "0")
    assert config.get("keep_memory") == 0
    with pytest.raises(ValueError, match=r"^config.set: keep_memory: expected a size such as '4MB'"):
        config.set(keep_memory="much")
