"""``xpnet train --weights``: a run that begins with the weights of a file, and can be had again."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from xpnet import backend, models
from xpnet.cli import main
from xpnet.io import save_weights
from xpnet.io.weights import read_arrays
from xpnet.run import Settings

for module in ("safetensors", "sklearn", "tomli_w", "matplotlib"):
    pytest.importorskip(module, reason="runs need xpnet[train]")

NAMES = ("conv.W", "conv.b", "output.W", "output.b")
RUN = ["--model", "tiny_convnet", "--data", "digits", "--limit", "200", "--backend", "numpy", "--epochs", "1"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with backend.using("numpy"):
        model = models.TinyConvNet().build((1, 8, 8), rng=99)
    save_weights(model, "w.safetensors")
    Path("params.pkl").write_bytes(
        pickle.dumps({k: p.data for k, p in zip(("W1", "b1", "W2", "b2"), model.parameters(), strict=True)})
    )


def train(*more: str) -> int:
    return main(["train", *RUN, *more])


def weights(folder: str | Path) -> dict[str, np.ndarray]:
    arrays = read_arrays(Path(folder, "last.safetensors"))[0]
    return {name: arrays[f"model.{name}"] for name in NAMES}


def same(a: str | Path, b: str | Path) -> bool:
    first, second = weights(a), weights(b)
    return all(np.allclose(first[name], second[name], rtol=0, atol=1e-20) for name in NAMES)


def test_a_run_begins_with_them_and_can_be_had_again(capsys) -> None:
    still = ["--lr", "1e-30"]
    assert train(*still, "--weights", "w.safetensors", "--out", "a") == 0
    assert "\nweights of w.safetensors\n" in capsys.readouterr().out
    start = read_arrays("w.safetensors")[0]
    assert all(np.allclose(start[name], w, rtol=0, atol=1e-20) for name, w in weights("a").items())
    assert train(*still, "--weights", "params.pkl", "--out", "book") == 0
    assert same("a", "book")
    assert train(*still, "--weights", "a/last.safetensors", "--out", "from_a_run") == 0
    assert same("a", "from_a_run")
    assert main(["train", "--config", "a/settings.toml", "--out", "again"]) == 0
    assert same("a", "again")
    assert "w.safetensors:sha256=" in str(Settings.read("a/settings.toml")["weights"])


def test_a_file_that_has_changed_is_told_where_it_matters(capsys) -> None:
    assert train("--weights", "w.safetensors", "--out", "a") == 0
    assert main(["show", "filters", "--run", "a", "--backend", "numpy"]) == 0
    assert "without the filters before" not in capsys.readouterr().out
    assert train("--weights", "w.safetensors", "--out", "whole", "--epochs", "2") == 0
    Path("w.safetensors").write_bytes(Path("a/last.safetensors").read_bytes())
    assert main(["train", "--config", "a/settings.toml", "--out", "b"]) == 1
    error = capsys.readouterr().err
    assert "w.safetensors: not the weights that the settings note: expected sha256" in error
    assert "or start from what it holds now: --weights w.safetensors\n" in error
    assert error.count("\n") == 1
    assert not Path("b").exists()
    assert main(["show", "filters", "--run", "a", "--backend", "numpy"]) == 0
    assert "without the filters before training: w.safetensors: not the weights" in capsys.readouterr().out
    # a run that goes on has no need of them
    Path("w.safetensors").unlink()
    assert main(["train", "--resume", "a", "--epochs", "2"]) == 0
    assert same("a", "whole")
    assert main(["evaluate", "--run", "a", "--backend", "numpy"]) == 0


def test_a_run_that_had_no_checkpoint_yet_begins_with_them_again() -> None:
    assert train("--weights", "w.safetensors", "--out", "a") == 0
    Path("b").mkdir()
    Path("b/settings.toml").write_bytes(Path("a/settings.toml").read_bytes())
    assert main(["train", "--resume", "b"]) == 0
    assert same("a", "b")


def test_weights_that_cannot_be_are_refused_before_anything_is_written(capsys) -> None:
    np.savez("five.npz", x_train=np.zeros((20, 1, 8, 8), np.uint8), t_train=np.arange(20) % 5,
             x_test=np.zeros((5, 1, 8, 8), np.uint8), t_test=np.arange(5))  # fmt: skip
    Path("run").mkdir()
    Path("run/last.safetensors").touch()
    Path("text.safetensors").write_text("no weights")
    other = ["--data", "five.npz", "--weights"]
    cases = [
        (["--weights", "none.safetensors"], "none.safetensors: the weights to start from cannot be read (No such file"),
        (["--weights", "."], ".: the weights to start from cannot be read (Is a directory); expected a file, by its"),
        (["--weights", "run"], "expected a file, such as run/last.safetensors, by its path from the folder that xpnet"),
        (["--weights", ""], "error: '': the weights to start from cannot be read"),
        (["--weights", "text.safetensors"], "text.safetensors: no safetensors file, or a damaged one"),
        (
            [*other, "w.safetensors"],
            "w.safetensors: output.W has shape (128, 10) but the model's has (128, 5), output.b has shape (10,) but "
            "the model's has (5,); 2 of 4 arrays fit. Build the same model, for the same input shape and classes",
        ),
        (
            [*other, "params.pkl"],
            "params.pkl: the weights do not fit the model: W2 has shape (128, 10) but the model's",
        ),
    ]
    for more, message in cases:
        assert train(*more, "--out", "new") == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not Path("new").exists()
