"""The result of a benchmark as tables in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["tables"]

TORCH = ("torch NCHW", "torch channels_last")
GRAPHS = ("xpnet graph", "torch graph")
UNITS = {"images": "µs per image, batch", "channels": "µs per channel², channels", "pixels": "µs per pixel, side"}


def tables(result: Mapping[str, Any]) -> str:
    """Return what `benchmark` measured as Markdown tables.

    Parameters
    ----------
    result : mapping
        As from `benchmark`, or read back from its JSON.
    """
    about, peaks = result["about"], result["peaks"]
    parts = [
        f"{about['cpu']}, {about['cores']} cores, {about['threads']} thread(s), backend {about['backend']}, "
        f"commit {about['commit']}; "
        + ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        + f".\nPeaks: {peaks['gflops']:.0f} GFLOP/s (product), {peaks['gigabytes']:.1f} GB/s (copy)."
    ]
    for mode in ("train", "inference"):
        found = {name: modes[mode] for name, modes in result["workloads"].items() if mode in modes}
        if found:
            parts.append(_steps(mode, found, peaks))
    if result["memory"]:
        parts.append(_memory(result["memory"]))
    if result["operations"]:
        parts.append(_operations(result["operations"], peaks))
    scaling = result.get("scaling", {})  # which older results do not have
    for over in UNITS:
        curves = {name: one["points"] for name, one in scaling.items() if one["over"] == over}
        if curves:
            parts.append(_scaling(over, curves))
    return "\n\n".join(parts) + "\n"


def _best_torch(times: Mapping[str, Any]) -> str | None:
    """Return the faster of PyTorch's memory formats, the one to beat."""
    return min((name for name in TORCH if name in times), key=lambda name: times[name]["median"], default=None)


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _width(times: Mapping[str, Any]) -> float:
    return (times["upper_quartile"] - times["lower_quartile"]) / times["median"]


def _spread(times: Mapping[str, Any]) -> str:
    return f"{100 * _width(times):.0f} %"


def _steps(mode: str, found: Mapping[str, Any], peaks: Mapping[str, float]) -> str:
    graphs = [name for name in GRAPHS if any(name in one["times"] for one in found.values())]
    header = [mode, "ms", "fastest", "quartiles", "GFLOP/s", "of peak", *(f"{name}, ms" for name in (*TORCH, *graphs)),
              "PyTorch / xpnet", "textbook / xpnet"]  # fmt: skip
    rows = []
    for name, one in found.items():
        times, own = one["times"], one["times"]["xpnet"]
        speed = one["flop"] / own["median"] / 1e9
        best = _best_torch(times)
        rivals = [_ms(times[name]["median"]) if name in times else "" for name in (*TORCH, *graphs)]
        rows.append([name, _ms(own["median"]), _ms(own["fastest"]), _spread(own), f"{speed:.0f}",
                     f"{100 * speed / peaks['gflops']:.0f} %", *rivals,
                     f"{times[best]['ratio']:.2f}" if best else "",
                     f"{times['textbook']['ratio']:.1f}" if "textbook" in times else ""])  # fmt: skip
    return _table(header, rows)


def _operations(operations: Mapping[str, Any], peaks: Mapping[str, float]) -> str:
    header = ["operation", "ms", "quartiles", "GFLOP/s or GB/s", "of peak", "PyTorch, ms", "PyTorch / xpnet"]
    rows = []
    for name, directions in operations.items():
        for direction, one in directions.items():
            own, best = one["times"]["xpnet"], _best_torch(one["times"])
            work, peak = (one["flop"], "gflops") if one["flop"] else (one["moved"], "gigabytes")
            speed = work / own["median"] / 1e9
            rows.append([f"{name}, {direction}", _ms(own["median"]), _spread(own), f"{speed:.1f}",
                         f"{100 * speed / peaks[peak]:.0f} %", _ms(one["times"][best]["median"]) if best else "",
                         f"{one['times'][best]['ratio']:.2f}" if best else ""])  # fmt: skip
    return _table(header, rows)


def _scaling(over: str, curves: Mapping[str, Any]) -> str:
    points = next(iter(curves.values()))
    rows = []
    for name, found in curves.items():
        cells = [f"{_number(1e6 * one['median'] / one['work'])} ({one['relative']:.2f})" for one in found]
        rows.append([name, *cells, f"{100 * max(_width(one) for one in found):.0f} %"])
    return _table([UNITS[over], *(str(one["point"]) for one in points), "quartiles, up to"], rows)


def _memory(memory: Mapping[str, Any]) -> str:
    subjects = [name for name in ("xpnet", *TORCH, "textbook") if any(name in one for one in memory.values())]
    rows = [
        [name, *(f"{one[subject]['added'] / 2**20:.0f}" if subject in one else "" for subject in subjects)]
        for name, one in memory.items()
    ]
    return _table(["peak memory of training steps, MiB above the imports", *subjects], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))
