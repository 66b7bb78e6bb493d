"""Training a model of one's own, named by its module, and what is done with the run afterwards."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from xpnet.cli import main
from xpnet.io.weights import read_arrays
from xpnet.run import Settings, open_run

for module in ("safetensors", "sklearn", "tomli_w", "matplotlib"):
    pytest.importorskip(module, reason="runs need xpnet[train]")
pillow = pytest.importorskip("PIL.Image", reason="reads the picture to predict")

OWN = """
from xpnet.layers import Conv2D, Dense, Dropout, Flatten, Sequential

def net(classes, units=8):
    return Sequential({"conv": Conv2D(4, 3, activation="relu"), "flat": Flatten(), "hidden": Dense(units),
                       "drop": Dropout(0.2), "out": Dense(classes)})

class Nets:
    ten = Sequential({"flat": Flatten(), "out": Dense(10)})

def five():
    return Sequential({"flat": Flatten(), "out": Dense(5)})

def built(classes):
    return net(classes).build((1, 8, 8))

def fails(classes):
    raise RuntimeError("no way")
"""
DATA = ["--data", "digits", "--limit", "200", "--backend", "numpy"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XPNET_OFFLINE", "1")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mine", "runs")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "mine.py").write_text(OWN)


def weights(folder: str) -> dict[str, np.ndarray]:
    return read_arrays(Path(folder, "last.safetensors"))[0]


def test_a_run_goes_through_all_commands(capsys) -> None:
    assert main(["train", "--model", "mine:net", *DATA, "--epochs", "2"]) == 0
    folder = "runs/mine.net-digits"
    assert Settings.read(f"{folder}/settings.toml")["model"] == "mine:net"
    assert weights(folder)["model.out.W"].shape == (8, 10)
    assert main(["train", "--config", f"{folder}/settings.toml", "--epochs", "1", "--out", "half"]) == 0
    assert main(["train", "--resume", "half", "--epochs", "2"]) == 0
    whole, half = weights(folder), weights("half")
    assert all(np.array_equal(whole[name], half[name]) for name in whole)
    pillow.fromarray(np.zeros((8, 8), np.uint8)).save("black.png")
    capsys.readouterr()
    for command in (["evaluate"], ["predict", "black.png"], ["show", "filters"], ["show", "confusion"]):
        assert main([*command, "--run", folder, "--backend", "numpy"]) == 0, capsys.readouterr().err
    assert open_run("half").model.output_shape((1, 8, 8)) == (10,)


def test_a_layer_of_a_module_begins_anew_in_each_run() -> None:
    for folder in ("a", "b"):
        assert main(["train", "--model", "mine:Nets.ten", *DATA, "--epochs", "1", "--out", folder]) == 0
    a, b = weights("a"), weights("b")
    assert all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("mime:net", "model mime:net: ModuleNotFoundError: No module named 'mime'; it must be installed"),
        ("lenett:relu", "No module named 'lenett'; it must be installed, on PYTHONPATH, or in the folder"),
        ("lenett:relu", "did you mean 'lenet'?"),
        ("mine.py:net", "a module is named without the .py of its file, and it must be installed"),
        ("./nets/more.py:net", "./nets/more.py is a path, expected a module: nets.more:net"),
        ("nets/more", "nets/more is a path, expected a module: nets.more:NAME"),
        ("lenet:net", "give options by name, such as lenet:activation=relu; lenet is a model of xpnet's (a module of"),
        ("nine:net", "or in the folder that xpnet is called in\n"),  # and not: did you mean 'mobilenet'
        ("mine:nett", "has no attribute 'nett'; did you mean 'net'?"),
        ("mine:OWN.x.", "no model 'mine'"),
        ("mine:Nets", "expected a layer or a function that returns one, got Nets"),
        ("mine:fails", "model mine:fails: RuntimeError: no way"),
        ("mine:built", "model mine:built: it is built already; a run builds it itself"),
        ("mine:five", "model mine:five: its output is (5,), expected (10,), a number for each class"),
    ],
)
def test_what_cannot_be_trained_leaves_nothing(capsys, model, message) -> None:
    assert main(["train", "--model", model, *DATA]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("runs").exists()


def test_the_folder_of_a_run_brings_no_code(capsys, monkeypatch) -> None:
    """A package of its own below the current folder, or the current folder itself."""
    assert main(["train", "--model", "mine:net", *DATA, "--epochs", "1", "--out", "runs/theirs"]) == 0
    theirs = Path("runs/theirs")
    (theirs / "code").mkdir()
    for path in (theirs / "code" / "__init__.py", theirs / "nets.py"):
        path.write_text(f"open('executed', 'w').close()\n{OWN}")
    settings = (theirs / "settings.toml").read_text()
    for name in ("runs.theirs.code.more:net", "runs.theirs.nets:net"):
        (theirs / "settings.toml").write_text(settings.replace("mine:net", name))
        capsys.readouterr()
        assert main(["train", "--resume", str(theirs), "--epochs", "2"]) == 1
        assert "which came with the run: files of a run's folder are not executed; if you trust" in (
            capsys.readouterr().err
        )
    (theirs / "mine.py").write_text(f"open('executed', 'w').close()\n{OWN}")
    monkeypatch.delitem(sys.modules, "mine")
    monkeypatch.chdir(theirs)
    monkeypatch.syspath_prepend(Path.cwd())
    for command in (["evaluate", "--run", "."], ["show", "model", "--run", "last.safetensors"]):
        assert main([*command, "--backend", "numpy"]) == 1
        assert "model mine:net: ImportError: it is " in capsys.readouterr().err
    assert not any(Path(folder, "executed").exists() for folder in (".", "../.."))
