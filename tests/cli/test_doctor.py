"""``xpnet doctor`` on this machine, with the two core dependencies alone, and with a driver but no CuPy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet import backend, config
from xpnet.backend import cuda
from xpnet.cli import doctor, guard, main

ROOT = Path(__file__).parent.parent.parent


def report(capsys, code: int = 0) -> dict:
    assert main(["doctor", "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_the_report_tells_what_is_here(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XPNET_DATA", str(tmp_path))
    monkeypatch.setenv("XPNET_BACKEND", "numpy")
    monkeypatch.setenv("XPNET_DTYPE", "float64")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    found = report(capsys)
    assert found["versions"]["xpnet"] == xpnet.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["selected"] == {"name": "numpy", "dtype": "float64", "error": None}
    assert {s["name"]: s["usable"] for s in found["backends"]} == {s.name: s.usable for s in backend.available()}
    assert found["environment"]["OPENBLAS_NUM_THREADS"] == "1"
    assert found["environment"]["XPNET_DTYPE"] == "float64"
    assert found["data"][0]["path"] == str(tmp_path)
    assert found["processor"]["cores"] == os.cpu_count()
    assert found["memory"]["total"] is None or found["memory"]["total"] > 1 << 28
    assert any(library["user_api"] == "blas" for library in found["blas"])


def test_the_text_has_the_same(capsys) -> None:
    found = report(capsys)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"xpnet {xpnet.__version__}" in text
    for status in found["backends"]:
        assert status["reason"] in text
    for line in found["advice"]:
        assert line in text


@pytest.mark.parametrize(("driver", "extra"), [(13000, "cuda13"), (12080, "cuda12"), (14010, "cuda13")])
def test_a_driver_without_cupy_gets_the_extra_for_it(capsys, monkeypatch, driver, extra) -> None:
    monkeypatch.setattr(doctor, "driver_version", lambda: driver)
    monkeypatch.setattr(backend, "available", lambda: [backend.BackendStatus("cupy", False, "not installed")])
    advice = [line for line in report(capsys)["advice"] if "NVIDIA" in line]
    assert advice == [f"there is an NVIDIA driver: pip install 'xpnet[{extra}]' to use the GPU"]


def test_an_old_driver_and_a_usable_cupy(capsys, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "driver_version", lambda: 11040)
    monkeypatch.setattr(cuda, "driver_version", lambda: 11040)
    monkeypatch.setattr(backend, "available", lambda: [backend.BackendStatus("cupy", False, "not installed")])
    assert any("driver is of CUDA 11.4" in line for line in report(capsys)["advice"])
    monkeypatch.setattr(backend, "available", lambda: [backend.BackendStatus("cupy", True, "14 on GPU")])
    assert not any("NVIDIA" in line for line in report(capsys)["advice"])


IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CIFAR10 = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).touch()


def test_data_are_those_that_load_by_name(capsys, monkeypatch, tmp_path) -> None:
    own, cache = tmp_path / "own", tmp_path / "cache"
    monkeypatch.setenv("XPNET_DATA", str(own))
    monkeypatch.setenv("XPNET_CACHE", str(cache))
    touch(own / "mnist")  # a folder alone is no data set
    touch(own / "cifar10", "cifar10.npz")
    places = report(capsys)["data"]
    usual = {"name": "XPNET_DATA", "path": str(own), "there": True, "data_sets": [], "incomplete": {}}
    assert places == [usual, usual | {"name": "cache", "path": str(cache), "there": False}]
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"  XPNET_DATA  {own}: no data set that loads by name\n  cache  {cache}: not there\n" in text

    touch(own / "kmnist", *(f"{name}.gz" for name in IDX))
    touch(own / "fashion_mnist", *IDX[:3])
    touch(own / "cifar-10" / "cifar-10-batches-bin", *CIFAR10)
    touch(cache / "mnist", *IDX)
    touch(cache / "cifar100" / "cifar-100-binary", "test.bin")
    found = report(capsys)
    first, second = found["data"]
    assert (first["data_sets"], first["incomplete"]) == (["cifar10", "kmnist"], {"fashion_mnist": [IDX[3]]})
    assert (second["data_sets"], second["incomplete"]) == (["mnist"], {"cifar100": ["train.bin"]})
    assert f"fashion_mnist in {own} lacks {IDX[3]}; put what is missing there" in found["advice"]
    assert f"cifar100 in {cache} lacks train.bin; put what is missing there" in found["advice"]
    (cache / "cifar100" / "cifar-100-binary" / "test.bin").unlink()
    (cache / "cifar100" / "cifar-100-binary.tar.gz").touch()
    assert main(["doctor"]) == 0
    assert f"  cache  {cache}: cifar100, mnist\n" in capsys.readouterr().out


def test_a_cache_within_the_data_is_told_apart(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XPNET_DATA", str(tmp_path))
    monkeypatch.setenv("XPNET_CACHE", str(tmp_path / "cache"))
    touch(tmp_path / "cache" / "mnist", *IDX)
    assert [place["data_sets"] for place in report(capsys)["data"]] == [[], ["mnist"]]
    monkeypatch.setenv("XPNET_CACHE", str(tmp_path))
    assert [place["name"] for place in report(capsys)["data"]] == ["XPNET_DATA"]


def test_a_wrong_environment_is_told_and_fails_after_the_report(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XPNET_BACKEND", "nympy")
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "missing"))
    found = report(capsys, guard.UNUSABLE)
    assert "no backend 'nympy'" in found["selected"]["error"]
    assert any("XPNET_BACKEND" in line for line in found["advice"])
    assert any(f"XPNET_DATA={tmp_path / 'missing'} is no folder" in line for line in found["advice"])
    assert main(["doctor"]) == guard.UNUSABLE
    text = capsys.readouterr().out
    assert "selected: no backend 'nympy'" in text
    assert "what to do\n  XPNET_BACKEND or XPNET_DTYPE selects what cannot be used here; change or unset it" in text
    monkeypatch.setenv("XPNET_BACKEND", "numpy")
    monkeypatch.setenv("XPNET_DTYPE", "float8")
    assert "no float type 'float8'" in report(capsys, guard.UNUSABLE)["selected"]["error"]


def test_values_that_cannot_be_are_told_in_the_report() -> None:
    wrong = {
        "XPNET_CONV_WORKSPACE": ("lots", "expected a size such as '4MB' or 4194304, got 'lots'"),  # which nothing reads
        "XPNET_CUDNN": ("on", "expected 'auto' or 'off', got 'on'"),  # which the lines on CUDA read
        "XPNET_KERNELS": ("fast", "expected 'auto' or 'agnostic', got 'fast'"),  # which choosing a backend reads
    }
    ended = subprocess.run(
        [sys.executable, "-m", "xpnet", "doctor"],
        env=os.environ | {variable: value for variable, (value, _) in wrong.items()},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (guard.UNUSABLE, "")
    told = "".join(f"  {variable}: {error}; change or unset it\n" for variable, (_, error) in wrong.items())
    assert told in ended.stdout


def test_variables_that_mean_nothing_are_told_in_the_report(capsys, monkeypatch) -> None:
    monkeypatch.setenv("XPNET_CONV_WORKSPCE", "1MB")
    monkeypatch.setenv("XPNET_TEST_BACKENDS", "numpy")
    found = report(capsys, guard.UNUSABLE)
    assert list(found["wrong"]) == ["XPNET_CONV_WORKSPCE"]
    assert (
        "XPNET_CONV_WORKSPCE means nothing to xpnet; did you mean 'XPNET_CONV_WORKSPACE'? Change or unset it"
        in found["advice"]
    )


def test_too_many_blas_threads(capsys, monkeypatch) -> None:
    monkeypatch.setattr(doctor._machine, "blas", lambda: [{"user_api": "blas", "num_threads": 64}])
    monkeypatch.setattr(
        doctor._machine, "processor", lambda: {"name": "a", "cores": 64, "usable": 64, "container_limit": 2.0}
    )
    assert any(line.startswith("64 BLAS threads on 2 cores") for line in report(capsys)["advice"])


def test_a_gpu_is_described_by_cupy(monkeypatch) -> None:
    class Device:
        def __init__(self, index: int) -> None:
            self.index = index

        def __enter__(self) -> None: ...

        def __exit__(self, *args: object) -> None: ...

    class Runtime:
        runtimeGetVersion = staticmethod(lambda: 13010)
        getDeviceCount = staticmethod(lambda: 1)
        getDeviceProperties = staticmethod(lambda i: {"name": b"NVIDIA X", "major": 9, "minor": 0})
        memGetInfo = staticmethod(lambda: (5 << 30, 8 << 30))

    fake = type(sys)("cupy")
    fake.is_available = lambda: True
    fake.cuda = type("cuda", (), {"runtime": Runtime, "Device": Device})
    monkeypatch.setitem(sys.modules, "cupy", fake)
    found = cuda.cuda_report()
    assert found["runtime"] == "13.1"
    assert found["gpus"] == [{"name": "NVIDIA X", "memory": 8 << 30, "free": 5 << 30, "compute_capability": "9.0"}]
    lines = doctor._cuda_lines(found)
    assert "GPU 0: NVIDIA X, 8.0 GiB, 5.0 GiB free, compute capability 9.0" in lines
    fake.is_available = lambda: 1 / 0
    assert cuda.cuda_report()["error"] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("settings", "library", "front_end", "expected"),
    [
        ({}, "9.28.1", "1.28.0", "cuDNN 9.28.1"),
        ({"cudnn": "off"}, "9.28.1", "1.28.0", "matrix products (XPNET_CUDNN=off)"),
        ({"kernels": "agnostic"}, "9.28.1", "1.28.0", "matrix products (XPNET_KERNELS=agnostic)"),
        ({}, "9.28.1", None, "front end is not installed"),
        ({}, None, "1.28.0", "library of cuDNN 9 was not found"),
    ],
)
def test_what_does_the_convolutions(monkeypatch, settings, library, front_end, expected) -> None:
    monkeypatch.setattr(cuda, "cudnn_version", lambda: library)
    monkeypatch.setattr(cuda, "cudnn_front_end", lambda: front_end)
    with config.using(**settings):
        found = cuda.cuda_report()
    assert expected in found["convolutions"]
    assert f"convolutions on CuPy: {found['convolutions']}" in doctor._cuda_lines(found)


BARE = """
import importlib.metadata, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "cupy", "matplotlib", "sklearn", "tqdm", "safetensors", "scipy", "PIL",
                                      "array_api_strict", "threadpoolctl", "nvidia"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

real = importlib.metadata.version
def version(name):
    if name not in ("numpy", "array-api-compat"):
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)

sys.meta_path.insert(0, Block())
importlib.metadata.version = version
from xpnet.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("arguments", [["doctor", "--json"], ["doctor"], ["summary", "--model", "lenet"]])
def test_the_core_dependencies_are_enough(arguments) -> None:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XPNET_")}
    result = subprocess.run(
        [sys.executable, "-c", BARE, *arguments], env=kept | {"PYTHONPATH": path},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    if arguments == ["doctor", "--json"]:
        found = json.loads(result.stdout)
        assert {s["name"]: s["usable"] for s in found["backends"]} == {
            "numpy": True, "cupy": False, "torch": False, "array_api_strict": False,
        }  # fmt: skip
        assert found["versions"]["torch"] is None
        assert found["versions"]["numpy"] == metadata.version("numpy")
        advice = " ".join(found["advice"])
        assert "pip install 'xpnet[train]' for safetensors (weights files), matplotlib (plots)" in advice
        assert "pip install 'xpnet[torch]'" in advice
        assert found["blas"]  # from NumPy itself
