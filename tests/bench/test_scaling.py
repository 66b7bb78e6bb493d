"""How time grows: the statistics by hand, the work that is counted, and what each point computes."""

from __future__ import annotations

import pytest

from xpnet.bench import CURVES, LARGE, Operation, benchmark, scaling, tables, worker
from xpnet.bench.scaling import Curve, compare
from xpnet.cli import main

HAND = Curve("pixels", (2, 4), lambda side: lambda: None, lambda side: side**2)


def test_statistics_by_hand():
    small = [[3.0, 5.0], [8.0]]  # means 4 and 8: 1 and 2 a pixel
    large = [[48.0], [16.0, 48.0]]  # 48 and 32: 3 and 2 a pixel
    points = compare(HAND, [small, large])
    assert [(p["point"], p["work"], p["calls"]) for p in points] == [(2, 4, 2), (4, 16, 2)]
    assert [(p["median"], p["fastest"]) for p in points] == [(6.0, 4.0), (40.0, 32.0)]
    # the middle of the first round is 2 a pixel, that of the second 2 as well
    assert [p["relative"] for p in points] == [(0.5 + 1.0) / 2, (1.5 + 1.0) / 2]


def test_what_is_linear_is_flat():
    """Also where the machine is three times as slow in every second round."""
    visits = [[[0.1 * side**2 * slow] * 2 for slow in (1, 3, 1, 3)] for side in HAND.points]
    assert [p["relative"] for p in compare(HAND, visits)] == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("name", [name for name in CURVES if " over " in name])
def test_the_work_of_a_convolution_grows_as_its_multiplications_do(name, monkeypatch):
    built: list[Operation] = []
    monkeypatch.setattr(scaling, "layer_subject", built.append)
    curve = CURVES[name]
    for point in curve.points:
        curve.subject(point)
    # as the layer's own summary counts them; at the border of an image kernels reach into the padding
    counted = [o.batch * o.layer().summary(o.input_shape).rows[0].multiply_adds for o in built]
    work = [curve.work(point) for point in curve.points]
    assert [a * work[0] for a in counted] == [counted[0] * w for w in work]


@pytest.mark.parametrize("name", [name for name in CURVES if " over " not in name])
def test_the_work_of_a_step_is_its_batch(name, monkeypatch):
    batches: list[int] = []
    monkeypatch.setattr(scaling, "step_subject", lambda subject, workload, mode: batches.append(workload.batch) or list)
    curve = CURVES[name]
    for point in curve.points:
        curve.subject(point)
    assert batches == [curve.work(point) for point in curve.points] == [16, 32, 64, 128, 256, 512, 1024]


def test_each_kind_of_curve_is_measured_and_shown(monkeypatch):
    for name in ("lenet", "conv 3x3 32->32 over pixels", "conv 3x3 over channels"):
        curve = CURVES[name]._replace(points=CURVES[name].points[:2])
        monkeypatch.setitem(CURVES, name, curve)
        settings = {"name": name, "rounds": 2, "seconds": 0.001}
        result = worker._scaling(settings)
        assert result["over"] == curve.over
        assert [p["point"] for p in result["points"]] == list(curve.points)
        assert all(p["median"] > 0 and p["relative"] > 0 for p in result["points"])


def test_the_table():
    point = {"work": 16, "median": 32e-6, "lower_quartile": 32e-6, "upper_quartile": 48e-6, "relative": 1.25}
    about = {"cpu": "C", "cores": 2, "threads": 1, "backend": "numpy", "commit": "c", "versions": {}}
    result = {"about": about, "peaks": {"gflops": 1.0, "gigabytes": 1.0}, "workloads": {}, "operations": {}}
    result |= {"memory": {}, "scaling": {"lenet": {"over": "images", "points": [{"point": 16, **point}]}}}
    shown = tables(result).splitlines()
    assert shown[-3] == "| µs per image, batch | 16 | quartiles, up to |"
    assert shown[-1] == "| lenet | 2 (1.25) | 50 % |"
    result["scaling"]["lenet"]["points"][0] |= {"median": 32e-3, "lower_quartile": 0.0, "upper_quartile": 32e-3}
    assert tables(result).splitlines()[-1] == "| lenet | 2000 (1.25) | 100 % |"


def test_names_are_checked_before_anything_is_measured():
    with pytest.raises(ValueError, match="benchmark: no curve 'vgg16'; there are lenet"):
        benchmark([], scaling=["vgg16"])
    with pytest.raises(ValueError, match=r"benchmark: no network 'vgg19'; did you mean 'vgg16'\? There are .*vgg16"):
        benchmark([], memory_of=["vgg19"])


@pytest.mark.parametrize("platform, backend", [("linux", "cupy"), ("darwin", "numpy")])
def test_memory_that_cannot_be_measured_is_refused(monkeypatch, platform, backend):
    monkeypatch.setattr("sys.platform", platform)
    with pytest.raises(ValueError, match=f"that of the host, on Linux; not on {platform} with {backend}"):
        benchmark([], memory_of=list(LARGE), backend=backend)


def test_wrong_names_on_the_command_line(capsys):
    for arguments in (["--scaling", "vgg16"], ["--memory-of", "lenet"], ["--memory-of"]):
        assert main(["bench", *arguments]) == 2
    errors = capsys.readouterr().err
    assert "argument --scaling: invalid choice: 'vgg16'" in errors
    assert "argument --memory-of: invalid choice: 'lenet'" in errors
    assert "argument --memory-of: expected at least one argument" in errors
