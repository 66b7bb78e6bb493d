"""summary, gradcheck and compare: on models by name and by import path, with weights, and where something is wrong."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from xpnet import backend, models
from xpnet.cli import main
from xpnet.io import save_weights
from xpnet.kernels import table

ROOT = Path(__file__).parents[2]

OWN = """
from xpnet import backend
from xpnet.layers import Dense, Flatten, Layer, ReLU, Residual, Sequential

class Odd(Layer):
    def _forward(self, x, train):
        return 2.0 * x, None
    def _backward(self, dy, ctx, need_dx):
        return 2.1 * dy if ODD(dy) else 2.0 * dy

ODD = lambda dy: True

def net(classes=3):
    block = Residual(Sequential({"odd": Odd(), "relu": ReLU()}))
    return Sequential({"in": Flatten(), "block": block, "out": Dense(classes)})

def there(classes=3):
    global ODD
    ODD = lambda dy: backend.array_namespace(dy).__name__ == "array_api_strict"
    return net(classes)

built = Sequential(Dense(4, activation="tanh"), Dense(2)).build((5,), rng=1)
regression = lambda: Sequential(Dense(1))
number = 3
def broken():
    raise KeyError("oh")
def exits():
    raise SystemExit("no")
class Head(Dense):
    def __init__(self, classes):
        super().__init__(classes)
class Holder:
    model = Dense(2)
"""


@pytest.fixture(autouse=True)
def _numpy(monkeypatch) -> None:
    monkeypatch.setenv("XPNET_BACKEND", "numpy")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's in the current folder."""
    (tmp_path / "own_models.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_models", raising=False)
    return "own_models"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("name", models.names())
def test_every_model_has_a_usual_input(capsys, name) -> None:
    code, out, _ = run(capsys, "summary", "--model", name)
    assert code == 0
    rows = out.splitlines()
    assert re.match(r"total +[\d,]+", next(line for line in rows if line.startswith("total")))
    parameters = int(next(line for line in rows if line.startswith("total")).split()[1].replace(",", ""))
    published = {"lenet": 44_426, "vgg16": 138_357_544, "resnet20": 269_722, "resnet50": 25_557_032}
    assert parameters == published.get(name, parameters)


def test_summary_tells_the_memory_of_a_step(capsys) -> None:
    arguments = ("summary", "--model", "lenet", "--input", "3x32x32", "--classes", "7", "--batch", "16")
    code, out, _ = run(capsys, *arguments, "--optimizer", "momentum", "--memory", "100MB")
    assert code == 0
    expected = models.LeNet(7).summary((3, 32, 32))
    assert str(expected) in out
    assert str(expected.training_memory(16, "momentum")) in out
    assert f"largest batch within 104,857,600 bytes: {expected.largest_batch('100MB', 'momentum')}" in out
    half = run(capsys, *arguments, "--dtype", "bfloat16")[1]
    assert f"activations     {expected.training_memory(16).activations // 2:>18,} bytes" in half
    assert "none, one sample takes more" in run(capsys, *arguments, "--memory", "1KB")[1]
    assert run(capsys, *arguments, "--memory", "much")[0] == 2
    code, _, err = run(capsys, *arguments, "--optimizer", "adan")
    assert code == 1
    assert "no optimizer 'adan'" in err


def test_summary_of_what_does_not_fit(capsys) -> None:
    code, _, err = run(capsys, "summary", "--model", "vgg16", "--input", "3,8,8")
    assert code == 1
    assert err.startswith('error: Pool2D (layer "pool4")')


def test_models_by_import_path(capsys, own) -> None:
    code, out, _ = run(capsys, "summary", "--model", f"{own}:net", "--input", "2,3", "--classes", "5")
    assert code == 0
    assert "Sequential on input (2, 3)" in out
    assert run(capsys, "summary", "--model", f"{own}:built")[1].startswith("Sequential on input (5,)")
    assert run(capsys, "summary", "--model", f"{own}:Holder.model", "--input", "3")[0] == 0


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        (":net", "has not been built, so give --input C,H,W"),
        (":nothing", "AttributeError: module 'own_models' has no attribute 'nothing'"),
        (":number", "expected a layer or a function that returns one, got int"),
        (":nett", "has no attribute 'nett'; did you mean 'net'?"),
        (":broken", "KeyError: 'oh'"),
        (":exits", "SystemExit: no"),
        (":Holder.model.classes", "AttributeError: 'Dense' object has no attribute 'classes'"),
        ("x:net", "ModuleNotFoundError: No module named 'own_modelsx'; it must be installed, on PYTHONPATH, or in"),
    ],
)
def test_import_paths_that_lead_nowhere(capsys, own, attribute, message) -> None:
    code, _, err = run(capsys, "summary", "--model", f"{own}{attribute}")
    assert code == 1
    assert err.startswith(f"error: {'--model' if attribute == ':net' else 'model'} {own}{attribute}")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["os:abort", "own_models:__import__('os').abort()", "own_models:net:classes=3"])
def test_what_is_no_path_to_a_model_is_not_looked_for(capsys, own, name) -> None:
    code, _, err = run(capsys, "summary", "--model", name)
    assert code == 1
    assert "own_models" not in sys.modules
    assert ("os is of Python's own library" in err) == (name == "os:abort")
    assert ("takes no options, which are for xpnet's models" in err) == name.endswith("classes=3")


def test_options_of_a_model_have_names(capsys) -> None:
    for command in (["summary"], ["train", "--data", "digits"]):
        code, _, err = run(capsys, *command, "--model", "lenet:relu")
        assert code == 1
        assert "model 'lenet:relu': give options by name, such as lenet:activation=relu" in err


def test_classes_are_given_to_those_who_take_them(capsys, own) -> None:
    code, out, _ = run(capsys, "summary", "--model", f"{own}:Head", "--input", "4", "--classes", "7")
    assert code == 0
    assert "(7,)" in out
    code, _, err = run(capsys, "summary", "--model", f"{own}:Head", "--input", "4")
    assert code == 1
    assert f"model {own}:Head: TypeError: its parameter classes has no default; give their number (--classes)" in err
    for name in ("regression", "built"):
        code, _, err = run(capsys, "summary", "--model", f"{own}:{name}", "--input", "5", "--classes", "7")
        assert code == 1
        assert f"model {own}:{name}: TypeError: it has no parameter classes, so it cannot be given 7" in err


def test_a_model_that_is_a_layer_is_copied(own) -> None:
    first, second = (models.from_spec(f"{own}:built") for _ in range(2))
    first.parameters()[0].data[...] = 0
    assert second.parameters()[0].data.any()


def test_modules_are_found_in_the_folder_of_the_call(own, tmp_path) -> None:
    """As with ``python -m``; the first folder of an installed command's path is its own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "command.py").write_text("import sys; from xpnet.cli import main; sys.exit(main())")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = ["bin/command.py", "summary", "--model", f"{own}:net", "--input", "3"]
    for flags, code in (([], 0), (["-P"], 1)):
        done = subprocess.run(
            [sys.executable, *flags, *command], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert ("No module named 'own_models'" in done.stderr) == bool(code)


@pytest.mark.parametrize("arguments", [[], ["--dtype", "float32"], ["--backend", "array_api_strict", "--samples", "1"]])
def test_gradcheck_of_a_right_model(capsys, arguments) -> None:
    code, out, err = run(capsys, "gradcheck", "--model", "lenet", "--samples", "3", *arguments)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("lenet on 2 samples of (1, 28, 28)")
    parameters = [p.name for p in models.LeNet().build((1, 28, 28)).parameters()]
    assert {line.split()[0] for line in lines[2:-1]} <= {*parameters, "x"}
    assert lines[-1].startswith("passed: ")


def test_gradcheck_names_a_wrong_layer_and_fails(capsys, own) -> None:
    code, out, _ = run(capsys, "gradcheck", "--model", f"{own}:net", "--input", "2,2")
    assert code == 1
    assert re.search(r"^x .* WRONG$", out, re.M)
    assert "FAILED: tolerance 1e-06" in out
    assert run(capsys, "gradcheck", "--model", f"{own}:built")[0] == 0
    for dtype in ("float64", "float32"):
        assert run(capsys, "gradcheck", "--model", f"{own}:regression", "--input", "4", "--dtype", dtype)[0] == 0
    assert run(capsys, "gradcheck", "--model", f"{own}:built", "--loss", "mean_squared_error")[0] == 0


def test_gradcheck_refuses_half_types(capsys) -> None:
    code, _, err = run(capsys, "gradcheck", "--model", "lenet", "--dtype", "float16")
    assert code == 2
    assert "argument --dtype: expected float64 or float32, got float16: where it rounds to another maximum" in err
    assert run(capsys, "gradcheck", "--model", "lenet", "--dtype", "flaot64")[2].endswith("did you mean 'float64'?\n")


def test_gradcheck_looks_at_fewer_elements_of_a_large_model(capsys, monkeypatch) -> None:
    seen = {}

    def check(model, x, t, *, loss, samples, seed):
        seen["samples"], seen["x"] = samples, x.shape
        raise ValueError("enough")

    monkeypatch.setattr("xpnet.gradcheck.check_gradients", check)
    run(capsys, "gradcheck", "--model", "resnet20")
    assert 1 <= seen["samples"] < 20
    run(capsys, "gradcheck", "--model", "squeezenet", "--batch", "3")
    assert seen == {"samples": 1, "x": (3, 3, 64, 64)}
    run(capsys, "gradcheck", "--model", "squeezenet", "--samples", "7", "--input", "3,96,96")
    assert seen == {"samples": 7, "x": (2, 3, 96, 96)}


def test_an_unusable_backend_is_code_2(capsys) -> None:
    for command in (["gradcheck", "--backend", "nympy"], ["compare", "--backends", "numpy,nympy"]):
        code, _, err = run(capsys, command[0], "--model", "lenet", *command[1:])
        assert code == 2
        assert err.startswith("error: no backend 'nympy'")


def test_weights_of_both_kinds_are_loaded(capsys, tmp_path, rng) -> None:
    pytest.importorskip("safetensors")
    with backend.using("numpy"):
        model = models.SimpleConvNet().build((1, 28, 28), rng=5)
    own = save_weights(model, tmp_path / "w.safetensors")
    keys = ["W1", "b1", "W2", "b2", "W3", "b3"]
    book = tmp_path / "params.pkl"
    book.write_bytes(pickle.dumps({k: p.data for k, p in zip(keys, model.parameters(), strict=True)}))
    outputs = [
        run(capsys, "gradcheck", "--model", "simple_convnet", "--samples", "1", "--weights", str(path))
        for path in (own, book)
    ]
    drawn = run(capsys, "gradcheck", "--model", "simple_convnet", "--samples", "1")
    assert [code for code, _, _ in outputs] == [0, 0]
    assert outputs[0][1] == outputs[1][1] != drawn[1]
    for wrong in (tmp_path / "missing.safetensors", tmp_path / "missing.pkl"):
        code, _, err = run(capsys, "compare", "--model", "lenet", "--backends", "numpy,torch", "--weights", str(wrong))
        assert code == 1
        assert err.startswith(f"error: {wrong}: no such file")


def test_compare_agrees_and_names_what_parts(capsys, own, monkeypatch) -> None:
    pytest.importorskip("array_api_strict")
    both = ("--backends", "numpy,array_api_strict")
    code, out, _ = run(capsys, "compare", "--model", "lenet", *both, "--batch", "2")
    assert code == 0
    assert out.splitlines()[-1] == "passed: 28 results agree on numpy, array_api_strict"
    for more in ([], ["--end-to-end"], ["--dtype", "float64"]):
        code, out, _ = run(capsys, "compare", "--model", f"{own}:there", "--input", "2,2", *both, *more)
        assert code == 1
        assert "PARTED: first in backward at block.body.odd (Odd), dx: array_api_strict is " in out
    right = table._TABLE["agnostic", "conv2d_forward"]
    monkeypatch.setitem(table._TABLE, ("array_api_strict", "conv2d_forward"), lambda *a, **k: 1.001 * right(*a, **k))
    arguments = ("compare", "--model", "lenet", *both, "--batch", "2")
    assert "PARTED: first in forward at conv1 (Conv2D), y" in run(capsys, *arguments)[1]
    assert run(capsys, *arguments, "--tolerance", "0.01")[0] == 0


def test_compare_on_images_of_a_data_set(capsys, monkeypatch) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    pytest.importorskip("array_api_strict")
    arguments = ("compare", "--model", "simple_convnet", "--backends", "numpy,array_api_strict", "--batch", "3")
    code, out, err = run(capsys, *arguments, "--data", "digits")
    assert code == 0, err
    assert "(3, 30, 4, 4)" in out  # 8x8 images
    code, _, err = run(capsys, *arguments, "--data", "digitz")
    assert code == 1
    assert "no data set 'digitz'" in err


def test_compare_needs_two(capsys) -> None:
    code, _, err = run(capsys, "compare", "--model", "lenet", "--backends", "numpy")
    assert code == 1
    assert "give two backends or more" in err
    assert err.count("\n") == 1
