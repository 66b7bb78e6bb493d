"""``xpnet doctor``: what xpnet finds on this machine, why a backend cannot be used, and what to install."""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import xpnet
from xpnet import backend, config
from xpnet.backend.cuda import cuda_report, driver_version
from xpnet.backend.memory import machine_memory
from xpnet.cli import _machine
from xpnet.cli.guard import UNUSABLE
from xpnet.data.fetch import cache_folder
from xpnet.data.local import local_files

__all__ = ["add_parser"]

PACKAGES = ("numpy", "array-api-compat", "array-api-strict", "cupy-cuda13x", "cupy-cuda12x", "cupy", "torch",
            "numba", "safetensors", "matplotlib", "tqdm", "Pillow", "scikit-learn", "threadpoolctl")  # fmt: skip
TRAIN = {"safetensors": "weights files", "matplotlib": "plots", "tqdm": "progress bars", "scikit-learn": "the digits"}

CUDA = {"driver": "driver", "runtime of CuPy": "runtime", "cuDNN": "cudnn", "cuDNN's front end": "cudnn_front_end"}


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("doctor", help="backends, GPU and libraries found, and what to install")
    parser.add_argument("--json", action="store_true", help="the same as JSON")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Print the report; fail if the environment selects a backend that cannot be used, or has a wrong name or value."""
    with config.tolerating() as wrong:
        report = _report(wrong)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print("\n".join(_lines(report)))
    return UNUSABLE if report["selected"]["error"] or wrong else 0


def _report(wrong: dict[str, str]) -> dict[str, Any]:
    report: dict[str, Any] = {
        "versions": {"xpnet": xpnet.__version__, "python": platform.python_version(), **_versions()},
        "system": platform.platform(),
        "backends": [status._asdict() for status in backend.available()],
        "selected": _selected(),
        "processor": _machine.processor(),
        "memory": machine_memory(),
        "blas": _machine.blas(),
        "cuda": cuda_report(),
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith("XPNET_") or name.endswith("_NUM_THREADS") or name == "CUDA_VISIBLE_DEVICES"
        },
        "wrong": wrong,
        "data": _data_places(),
    }
    return report | {"advice": _advice(report)}


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _selected() -> dict[str, Any]:
    """Return the backend that the environment selects, or why it cannot be used."""
    try:
        with backend.using() as chosen:
            return {"name": chosen.name, "dtype": backend.dtype_name(chosen.dtype), "error": None}
    except backend.BackendUnavailableError as error:
        return {"name": None, "dtype": None, "error": str(error)}


def _data_places() -> list[dict[str, Any]]:
    """Return the folders that data sets are looked for in, with those whose files are there, and what others lack."""
    places = [("XPNET_DATA", os.environ.get("XPNET_DATA")), ("cache", str(cache_folder()))]
    found: dict[Path, dict[str, Any]] = {}
    for name, given in places:
        if given:
            path = Path(given).expanduser()
            there = os.access(path, os.R_OK | os.X_OK) and path.is_dir()
            found.setdefault(path, {"name": name, "path": str(path), "there": there, "data_sets": [], "incomplete": {}})
    for name, files in local_files().items():
        first = next((path for path in files.values() if path is not None), None)
        if first is not None:
            place = found[max((p for p in found if first.is_relative_to(p)), key=lambda p: len(p.parts))]
            missing = [file for file, path in files.items() if path is None]
            if missing:
                place["incomplete"][name] = missing
            else:
                place["data_sets"].append(name)
    return list(found.values())


def _advice(report: dict[str, Any]) -> list[str]:
    advice = []
    versions, usable = report["versions"], {status["name"] for status in report["backends"] if status["usable"]}
    driver = driver_version()
    if driver is not None and "cupy" not in usable:
        advice.append(_driver_advice(driver, report["cuda"]["driver"]))
    if report["selected"]["error"]:
        advice.append("XPNET_BACKEND or XPNET_DTYPE selects what cannot be used here; change or unset it")
    advice += [
        f"{error}{' Change' if error.endswith('?') else '; change'} or unset it" for error in report["wrong"].values()
    ]
    missing = [f"{name} ({purpose})" for name, purpose in TRAIN.items() if versions[name] is None]
    if missing:
        advice.append(f"pip install 'xpnet[train]' for {', '.join(missing)}")
    if versions["torch"] is None:
        advice.append("pip install 'xpnet[torch]' for the torch backend, if you want it")
    if versions["numba"] is None:
        advice.append("pip install 'xpnet[fast]' for compiled kernels on NumPy, which most networks train faster with")
    cores = report["processor"]["container_limit"] or report["processor"]["usable"]
    threads = max((int(library.get("num_threads") or 0) for library in report["blas"]), default=0)
    if cores and threads > max(1, cores):
        advice.append(f"{threads} BLAS threads on {cores:g} cores wait for each other: set OPENBLAS_NUM_THREADS")
    return advice + _data_advice(report["data"])


def _driver_advice(driver: int, shown: str) -> str:
    if driver >= 12000:
        return f"there is an NVIDIA driver: pip install 'xpnet[cuda{min(13, driver // 1000)}]' to use the GPU"
    return f"the NVIDIA driver is of CUDA {shown}; CuPy needs one of CUDA 12 or later"


def _data_advice(places: list[dict[str, Any]]) -> list[str]:
    advice = [
        f"{place['name']}={place['path']} is no folder that can be read"
        for place in places
        if not place["there"] and place["name"] != "cache"  # which appears with the first download
    ]
    advice += [
        f"{name} in {place['path']} lacks {', '.join(files)}; put what is missing there"
        for place in places
        for name, files in place["incomplete"].items()
    ]
    return advice


def _lines(report: dict[str, Any]) -> list[str]:
    variables = [f"{name}={value}" for name, value in report["environment"].items()]
    sections = {
        "versions": _version_lines(report["versions"]),
        "machine": _machine_lines(report),
        "backends": _backend_lines(report),
        "CUDA": _cuda_lines(report["cuda"]),
        "environment": variables or ["nothing that concerns xpnet"],
        "data": [
            f"{place['name']}  {place['path']}: "
            + (", ".join(place["data_sets"]) or ("no data set that loads by name" if place["there"] else "not there"))
            for place in report["data"]
        ],
        "what to do": report["advice"] or ["nothing: all is there"],
    }
    return [line for title, lines in sections.items() for line in (title, *(f"  {line}" for line in lines))]


def _version_lines(versions: dict[str, str | None]) -> list[str]:
    shown = {name: version for name, version in versions.items() if version or not name.startswith("cupy")}
    if not any(name.startswith("cupy") for name in shown):  # it goes by several names, of which one is enough
        shown["cupy"] = None
    return [f"{name} {version or 'not installed'}" for name, version in shown.items()]


def _machine_lines(report: dict[str, Any]) -> list[str]:
    processor, memory = report["processor"], report["memory"]
    cores = f"{processor['cores']} cores, {processor['usable']} for this process"
    if processor["container_limit"]:
        cores += f", {processor['container_limit']:g} by the container's limit"
    size = f"{_gibibytes(memory['total'])}, {_gibibytes(memory['available'])} available"
    if memory["container_limit"]:
        size += f", container's limit {_gibibytes(memory['container_limit'])}"
    libraries = [" ".join(f"{key}={value}" for key, value in library.items()) for library in report["blas"]]
    return [report["system"], f"{processor['name']}: {cores}", f"memory: {size}", *libraries]


def _backend_lines(report: dict[str, Any]) -> list[str]:
    lines = [f"{s['name']:<18}{'usable' if s['usable'] else 'NOT usable'}: {s['reason']}" for s in report["backends"]]
    selected = report["selected"]
    return [*lines, f"selected: {selected['error'] or '{name}, {dtype}'.format(**selected)}"]


def _cuda_lines(cuda: dict[str, Any]) -> list[str]:
    lines = [f"{name} {cuda[key] or 'not found'}" for name, key in CUDA.items()]
    lines.append(f"convolutions on CuPy: {cuda['convolutions']}")
    lines += [
        f"GPU {i}: {gpu['name']}, {_gibibytes(gpu['memory'])}, {_gibibytes(gpu['free'])} free, "
        f"compute capability {gpu['compute_capability']}"
        for i, gpu in enumerate(cuda["gpus"])
    ]
    return [*lines, *([cuda["error"]] if cuda["error"] else [])]


def _gibibytes(count: int | None) -> str:
    return "unknown" if count is None else f"{count / (1 << 30):.1f} GiB"
