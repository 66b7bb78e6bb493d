"""The benchmark: rivals that compute the same network, statistics by hand, and a tiny run of the script."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tests.processes import run_here
from xpnet import backend, config
from xpnet.bench import OPERATIONS, WORKLOADS, alternate, benchmark, ratio, tables, worker
from xpnet.bench.run import measure_apart
from xpnet.bench.subjects import GRAPHS, make_batch, step_subject
from xpnet.bench.textbook import Textbook
from xpnet.bench.timing import summarize
from xpnet.cli import main
from xpnet.layers import Dropout, LayerNorm, Sequential
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.models import LeNet
from xpnet.optim import Adam
from xpnet.testing import assert_close
from xpnet.training import train_step
from xpnet.training.step import forward_backward

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark.py"
TABLES = Path(__file__).parents[2] / "docs" / "make_tables.py"


def without_dropout(model: Sequential) -> Sequential:
    """The same layers but for dropout, whose masks nobody shares."""
    return Sequential({n: layer for n, layer in model.children().items() if not isinstance(layer, Dropout)})


def losses_of(model, x, t, steps: int = 3) -> list[float]:
    loss, optimizer = SoftmaxCrossEntropy(), Adam()
    return [float(train_step(model, loss, optimizer, x, t)) for _ in range(steps)]


@pytest.mark.parametrize("name", ["lenet-64", "simple-convnet", "deep-convnet"])
def test_the_textbook_trains_the_same_network(name):
    workload = WORKLOADS[name]
    x, t = make_batch(workload.input_shape, 4)
    with backend.using("numpy", dtype="float64"):
        model = without_dropout(workload.model()).build(workload.input_shape, rng=3)
        book = Textbook(model)
        x = x.astype(np.float64)
        assert_close(model.predict(x), book.predict(x), terms=1000)
        loss = SoftmaxCrossEntropy()
        expected, _ = forward_backward(model, loss, x, t)
        assert book.train_step(x, t) == pytest.approx(float(expected), rel=1e-3)  # the book adds 1e-7 in the logarithm
        gradients = [g for layer in book.layers for g in getattr(layer, "grads", ())]
        for p, g in zip(model.parameters(), gradients, strict=True):
            assert_close(p.grad, g, terms=10_000)
        before = book.predict(x)
        assert book.train_step(x, t) < expected, "an update by Adam lowers the loss"
        assert not np.array_equal(before, book.predict(x))


@pytest.mark.parametrize(
    "name, channels_last",
    [("lenet-64", False), ("simple-convnet", True), ("deep-convnet", True), ("resnet20", False), ("small-vgg", True)],
)
def test_torch_trains_the_same_network(name, channels_last):
    pytest.importorskip("torch")
    from xpnet.bench.torch_rival import TorchRival

    workload = WORKLOADS[name]
    x, t = make_batch(workload.input_shape, 3)
    with backend.using("numpy", dtype="float64"):
        model = without_dropout(workload.model()).build(workload.input_shape, rng=3)
        x = x.astype(np.float64)
        rival = TorchRival(model, np.ascontiguousarray(x), t, channels_last)
        expected = losses_of(model, x, t)
        np.testing.assert_allclose([float(rival.train_step().detach()) for _ in range(3)], expected, rtol=1e-6)
        assert_close(rival.predict().numpy(), model.predict(x), terms=10_000)


def test_what_the_textbook_and_torch_do_not_have_is_refused():
    model = WORKLOADS["resnet20"].model().build((3, 32, 32))
    with pytest.raises(ValueError, match="the textbook has no layer like"):
        Textbook(model)
    pytest.importorskip("torch")
    from xpnet.bench.torch_rival import translate

    norm = LayerNorm().build((3, 4, 4))
    with pytest.raises(ValueError, match="no PyTorch module for LayerNorm"):
        translate(norm)


def test_statistics_by_hand():
    times = summarize([[1.0, 2.0, 3.0], [10.0, 4.0]])
    assert (times.median, times.fastest, times.lower_quartile, times.upper_quartile, times.calls) == (3, 1, 2, 4, 5)
    assert times.spread == pytest.approx(2 / 3)
    # the machine is twice as slow in the second round, for both: the ratio does not see it
    assert ratio([[3.0, 3.0, 9.0], [6.0]], [[1.0], [2.0, 2.0, 50.0]]) == 3.0


def test_rivals_take_turns():
    order: list[str] = []
    times = alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=2, seconds=1e-9)
    changes = [x for i, x in enumerate(order) if i == 0 or x != order[i - 1]]
    assert changes == ["a", "b", "a", "b", "a"]  # once each before the rounds; then there and back
    assert [len(visits) for visits in times.values()] == [2, 2]


def test_names_are_checked_before_anything_is_measured():
    for arguments in (["lenet"], []), (["lenet-64"], ["conv"]):
        with pytest.raises(ValueError, match=r"benchmark: no (workload|operation) '(lenet|conv)'.* are "):
            benchmark(*arguments)
    with pytest.raises(ValueError, match="benchmark: no mode 'test'"):
        benchmark(["lenet-64"], modes=["test"])


def test_a_process_that_fails_says_why():
    with pytest.raises(ChildProcessError, match=r"ended with status 1: no backend 'nympy'"):
        benchmark(["lenet-64"], backend="nympy")


@pytest.mark.parametrize(
    ("arguments", "workloads"),
    [
        ([], list(WORKLOADS)),
        (["--train"], list(WORKLOADS)),
        (["--workloads"], []),
        (["--operations", "relu"], []),
        (["--operations"], []),
        (["--scaling", "lenet"], []),
        (["--memory-of", "vgg16"], []),
        (["--operations", "relu", "--workloads", "lenet-64"], ["lenet-64"]),
    ],
)
def test_networks_are_measured_if_nothing_else_is_asked_for(monkeypatch, arguments, workloads):
    asked = []
    monkeypatch.setattr("xpnet.bench.benchmark", lambda names, *rest, **how: asked.append(names))
    monkeypatch.setattr("xpnet.bench.tables", str)
    assert main(["bench", *arguments]) == 0
    assert asked == [workloads]


def test_a_backend_that_cannot_be_used_is_told_before_anything_is_measured(capsys):
    assert main(["bench", "--backend", "nympy"]) == 2
    assert capsys.readouterr().err.startswith("error: no backend 'nympy'; did you mean 'numpy'?")


@pytest.mark.parametrize(
    ("environment", "arguments", "measured"),
    [("array_api_strict", [], "array_api_strict"), ("array_api_strict", ["--backend", "numpy"], "numpy")],
)
def test_the_backend_is_that_of_the_argument_else_of_the_environment(monkeypatch, environment, arguments, measured):
    asked = []
    monkeypatch.setenv("XPNET_BACKEND", environment)
    monkeypatch.setattr("xpnet.bench.benchmark", lambda *names, backend, **how: asked.append(backend))
    monkeypatch.setattr("xpnet.bench.tables", str)
    assert main(["bench", *arguments]) == 0
    assert asked == [measured]


def test_a_tiny_run_of_the_script(tmp_path, monkeypatch):
    """What is fast is not looked at: a machine may be busy."""
    asked = []

    def shorter(*names, rounds, seconds, **how):
        asked.append((rounds, seconds))
        return benchmark(*names, rounds=1, seconds=0.001, **how)

    monkeypatch.setattr("xpnet.bench.benchmark", shorter)
    arguments = ["--workloads", "lenet-64", "--quick", "--train", "--backend", "numpy", "--json", "out.json"]
    done = run_here(SCRIPT, *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert asked == [(3, 0.1)]
    result = json.loads((tmp_path / "out.json").read_text())
    assert done.stdout.strip() == tables(result).strip()
    assert (result["about"]["threads"], result["about"]["backend"]) == (1, "numpy")
    times = result["workloads"]["lenet-64"]["train"]["times"]
    assert {"xpnet", "textbook"} <= set(times)
    assert times["textbook"]["ratio"] == pytest.approx(times["textbook"]["median"] / times["xpnet"]["median"])
    # multiply-adds of LeNet by hand, with no dx of the first convolution
    first, others = 24 * 24 * 6 * 25, 8 * 8 * 16 * 150 + 256 * 120 + 120 * 84 + 84 * 10
    assert result["workloads"]["lenet-64"]["train"]["flop"] == 2 * 64 * (2 * first + 3 * others)
    assert "| lenet-64 |" in done.stdout
    assert ("torch NCHW" in times) == ("torch" in result["about"]["versions"])


def test_an_operation_is_measured_in_both_directions():
    found = worker._operation({"name": "relu", "rounds": 1, "seconds": 0.001})
    assert list(found) == ["forward", "backward"]
    for direction in found.values():
        assert direction["moved"] == 2 * 4 * 32 * 64 * 32 * 32
        assert direction["times"]["xpnet"]["fastest"] <= direction["times"]["xpnet"]["median"]


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_selected_backend_is_what_is_measured(library):
    pytest.importorskip(library)
    with backend.using(library):
        loss = step_subject("xpnet", WORKLOADS["lenet-64"]._replace(batch=2), "train")()
        scores = step_subject("xpnet", WORKLOADS["lenet-64"]._replace(batch=2), "inference")()
    assert type(scores).__module__.partition(".")[0] == library
    assert backend.array_namespace(loss) is backend.array_namespace(scores)


class FakeGraphs:
    """torch.cuda's part in recording a step, on the CPU: says what it was asked."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def Stream(self):
        return types.SimpleNamespace(wait_stream=lambda other: self.said.append("the other waits"))

    def current_stream(self):
        return types.SimpleNamespace(wait_stream=lambda other: self.said.append("this one waits"))

    @contextlib.contextmanager
    def stream(self, stream):
        self.said.append("rehearse")
        yield

    def CUDAGraph(self):
        return types.SimpleNamespace(replay=lambda: self.said.append("replay"))

    @contextlib.contextmanager
    def graph(self, graph):
        self.said.append("record")
        yield


def test_torch_records_its_step(monkeypatch):
    torch = pytest.importorskip("torch")
    from xpnet.bench.torch_rival import TorchRival

    x, t = make_batch((1, 28, 28), 2)
    rival = TorchRival(LeNet().build((1, 28, 28)), np.ascontiguousarray(x), t, False)
    fake = FakeGraphs()
    for name in ("Stream", "current_stream", "stream", "CUDAGraph", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
    rival.captured_step()()
    assert fake.said == ["the other waits", "rehearse", "this one waits", "record", "replay"]
    assert {int(s["step"]) for s in rival.optimizer.state.values()} == {4}


def test_graphs_are_measured_on_a_gpu_alone():
    workload = WORKLOADS["lenet-64"]._replace(batch=2)
    with backend.using("numpy"):
        assert [step_subject(name, workload, mode) for name in GRAPHS for mode in ("train", "inference")] == [None] * 4
    times = {"median": 0.002, "fastest": 0.001, "lower_quartile": 0.001, "upper_quartile": 0.003, "ratio": 2.0}
    about = {"cpu": "x", "cores": 1, "threads": 1, "backend": "cupy", "commit": "y", "versions": {}}
    one = {"flop": 1, "times": {"xpnet": times, "torch graph": times | {"median": 0.007}}}
    result = {"about": about, "peaks": {"gflops": 1.0, "gigabytes": 1.0}, "workloads": {"lenet-64": {"train": one}}}
    text = tables(result | {"memory": {}, "operations": {}})
    assert re.search(r"\| torch channels_last, ms \| torch graph, ms \|", text)
    assert re.search(r"\| lenet-64 .*\| 7 \|", text)


@pytest.mark.skipif(sys.platform != "linux", reason="the high-water mark of memory is read from /proc")
def test_memory_is_that_of_the_steps():
    """At batch 100 SimpleConvNet keeps 30 maps of 24x24, and more; a tenth of a GiB it does not need."""
    settings = {"backend": "numpy", "threads": 1, "task": "memory", "name": "simple-convnet"}
    added = {subject: measure_apart(settings, subject=subject)["added"] for subject in ("xpnet", "textbook")}
    assert 100 * 30 * 24 * 24 * 4 < added["xpnet"] < 100 * 2**20
    assert added["xpnet"] < added["textbook"]


@pytest.mark.parametrize(
    "arguments, message",
    [(["--threads", "0"], "must be at least 1"), (["--json", "no/out.json"], "there is no folder no"),
     (["--json", "."], "argument --json: . is a folder, expected a file"),
     (["--workloads", "lenet"], "invalid choice: 'lenet'"), (["--train", "--inference"], "not allowed with")],
)  # fmt: skip
def test_bad_arguments_are_refused(arguments, message, tmp_path):
    done = run_here(SCRIPT, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_tables_of_the_documentation_are_those_of_the_results():
    root = Path(__file__).parents[2]
    text = (root / "docs" / "performance.md").read_text()
    shown = re.findall(r"<!-- results: (\S+) -->\n(.*?)\n<!-- /results -->", text, re.S)
    assert shown
    for path, table in shown:
        assert table == tables(json.loads((root / path).read_text())).strip()


def test_results_are_put_into_a_page(tmp_path):
    root, page = Path(__file__).parents[2], tmp_path / "page.md"
    names = sorted((root / "benchmarks" / "results").glob("*-benchmark-*.json"))[:2]
    form = "# Page\n\n<!-- results: {} -->\n{}<!-- /results -->\n\nmore\n"
    page.write_text("".join(form.format(n, old) for n, old in zip(names, ["", "old\n\nlines\n"], strict=True)))
    done = run_here(TABLES, "--page", str(page), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = [tables(json.loads(name.read_text())).strip() + "\n" for name in names]
    assert page.read_text() == "".join(form.format(n, table) for n, table in zip(names, expected, strict=True))


@pytest.mark.parametrize(
    "text, message",
    [("no marks", "has no lines <!-- results: FILE -->"),
     ("<!-- results: none.json -->\n\n<!-- /results -->", "none.json"),
     ("<!-- results: odd.json -->\n\n<!-- /results -->", "odd.json: no result of benchmark.py")],
)  # fmt: skip
def test_a_page_without_results_is_left_as_it_is(text, message, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(text)
    (tmp_path / "odd.json").write_text("[]")
    done = run_here(TABLES, "--page", "page.md", "--root", ".", cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert page.read_text() == text


def test_every_operation_has_a_work_to_count():
    for name, operation in OPERATIONS.items():
        rows = operation.layer().summary(operation.input_shape).rows
        assert (sum(row.multiply_adds for row in rows) > 0) == ("conv" in name or "dense" in name)


def test_a_device_is_waited_for_before_the_clock_is_read():
    said = []
    alternate({"a": lambda: said.append("call")}, rounds=2, seconds=0.001, wait=lambda: said.append("wait"))
    assert said == ["call", "wait"] * (len(said) // 2)


def test_another_batch_is_that_many_times_the_work():
    settings = {"name": "lenet-64", "mode": "inference", "rounds": 1, "seconds": 0.001}
    two, six = (worker._workload(settings | {"batch": batch})["flop"] for batch in (2, 6))
    assert six == 3 * two


def test_a_graph_that_fails_leaves_the_others_measured(monkeypatch):
    def subject(name, workload, mode):
        if name == "torch graph":
            raise ValueError("no")
        return (lambda: int("x")) if name == "xpnet graph" else (lambda: None) if name == "xpnet" else None

    monkeypatch.setattr(worker, "step_subject", subject)
    found = worker._workload({"name": "lenet-64", "mode": "train", "rounds": 1, "seconds": 0.001})
    assert list(found["times"]) == ["xpnet"]
    assert found["failed"]["torch graph"] == "ValueError: no"
    assert found["failed"]["xpnet graph"].startswith("ValueError: invalid literal")


def test_torch_has_tf32_where_xpnet_has_it():
    torch = pytest.importorskip("torch")

    def flags() -> tuple[bool, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    torch.backends.cudnn.allow_tf32 = True  # as torch has it by default
    for on in (False, True, False):
        with config.using(allow_tf32=on):
            step_subject("torch NCHW", WORKLOADS["lenet-64"]._replace(batch=2), "train")
            assert flags() == (on, on)


def test_a_process_that_measures_has_the_settings_of_this_one(monkeypatch):
    """What it is told, a process of Python's that imports xpnet reads as meant."""
    started = []

    def run(command, env=None, **how):
        if env is None:  # git
            return run_process(command, **how)
        started.append(json.loads(command[-1]))
        ask = "from xpnet import config; print([config.get('allow_tf32'), config.get('compiled') == 'off'])"
        done = run_process([sys.executable, "-c", ask], env=env, **how)
        return types.SimpleNamespace(returncode=done.returncode, stderr=done.stderr, stdout=done.stdout.lower())

    run_process = subprocess.run
    monkeypatch.setattr("xpnet.bench.run.subprocess.run", run)
    with config.using(allow_tf32=True, compiled="off"):
        result = benchmark([], operations=["relu"], batch=2)
    assert result["about"]["allow_tf32"] is True
    assert "numba" not in result["about"]["versions"]
    assert result["peaks"] == result["operations"]["relu"] == [True, True]
    assert [(s["task"], s["batch"]) for s in started] == [("peaks", 2), ("operation", 2)]
