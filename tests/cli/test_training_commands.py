"""train, as a user calls it, on the digits that come with scikit-learn."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnet.cli import main
from xpnet.run import Settings, open_run
from xpnet.run.data import resolved
from xpnet.training import Callback, Epoch, Trainer

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
pytest.importorskip("safetensors", reason="checkpoints are safetensors files")
pytest.importorskip("tomli_w", reason="settings are saved as TOML")
pytestmark = pytest.mark.usefixtures("own_folder")

TINY = ["--model", "tiny_convnet", "--data", "digits", "--limit", "200", "--backend", "numpy"]


def train(*more: str) -> int:
    return main(["train", *TINY, *more])


def weights(folder: str | Path) -> dict[str, np.ndarray]:
    from xpnet.io.weights import read_arrays

    return read_arrays(Path(folder, "last.safetensors"))[0]


def test_a_run_leaves_everything_in_a_new_folder(capsys) -> None:
    assert train("--epochs", "2") == 0
    assert train("--epochs", "2") == 0
    output = capsys.readouterr().out
    assert "epoch 2/2" in output
    assert "results in runs/tiny_convnet-digits-2: " in output
    first, second = Path("runs/tiny_convnet-digits"), Path("runs/tiny_convnet-digits-2")
    files = {"last.safetensors", "log.csv", "history.json", "curves.png", "settings.toml"}
    assert {p.name for p in first.iterdir()} == {p.name for p in second.iterdir()} == files
    a, b = weights(first), weights(second)
    assert all(np.array_equal(a[name], b[name]) for name in a)
    with open(first / "log.csv", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    about = json.loads((first / "history.json").read_text())["about"]
    assert about["settings"]["limit"] == 200
    assert about["parameters"] == 1370


@pytest.mark.parametrize("around", [False, True])
def test_runs_begun_at_the_same_time_have_folders_of_their_own(monkeypatch, around) -> None:
    folders: list[Path] = []

    def fails(settings: Settings, folder: Path, **more: Any) -> None:
        folders.append(folder)
        if len(folders) == 1:  # the first one has not written anything yet
            assert train() == 1
        raise ValueError("before anything is written")

    monkeypatch.setattr("xpnet.cli.train.train", fails)
    if around:
        Path("runs").mkdir()
    assert train() == 1
    assert folders == [Path("runs/tiny_convnet-digits"), Path("runs/tiny_convnet-digits-2")]
    assert list(Path().rglob("*")) == ([Path("runs")] if around else [])  # no empty folder is left


def test_settings_from_a_file_and_flags_before_it() -> None:
    assert train("--epochs", "1", "--augment", "shift:1", "--seed", "5", "--out", "a") == 0
    assert tomllib.loads(Path("a/settings.toml").read_text())["augment"] == "shift:1"
    assert main(["train", "--config", "a/settings.toml", "--out", "b"]) == 0
    assert all(np.array_equal(w, weights("b")[name]) for name, w in weights("a").items())
    assert main(["train", "--config", "a/settings.toml", "--seed", "6", "--out", "c"]) == 0
    assert Settings.from_dict(Settings.read("c/settings.toml")).seed == 6
    assert not np.array_equal(weights("a")["model.conv.W"], weights("c")["model.conv.W"])


def test_resuming_equals_an_uninterrupted_run(capsys) -> None:
    more = ["--schedule", "plateau", "--validation", "0.2", "--augment", "shift:1,brightness", "--top", "3"]
    assert train("--epochs", "3", *more, "--out", "whole") == 0
    assert train("--epochs", "1", *more, "--out", "half") == 0
    assert main(["train", "--resume", "half", "--epochs", "3"]) == 0
    assert "resumed after 1 epochs and 0 batches" in capsys.readouterr().out
    whole, half = weights("whole"), weights("half")
    assert all(np.array_equal(whole[name], half[name]) for name in whole)
    histories = [json.loads(Path(f, "history.json").read_text())["epochs"] for f in ("whole", "half")]
    assert [e["validation_metrics"] for e in histories[0]] == [e["validation_metrics"] for e in histories[1]]
    assert "top3" in histories[0][0]["validation_metrics"]
    # nothing is left to do, and a second call changes nothing
    assert main(["train", "--resume", "half"]) == 0
    assert all(np.array_equal(whole[name], w) for name, w in weights("half").items())
    assert main(["evaluate", "--run", "half", "--backend", "numpy"]) == 0  # on test images, with nothing held out


@pytest.mark.parametrize("kept", ["best.safetensors", "history.json", "log.csv"])
def test_a_run_whose_checkpoint_is_lost_is_not_begun_again(trained, capsys, kept) -> None:
    Path("lost").mkdir()
    for name in ("settings.toml", kept):
        shutil.copy(trained / name, "lost")
    assert main(["train", "--resume", "lost"]) == 1
    error = capsys.readouterr().err
    assert f"lost has {kept}, but no last.safetensors to go on from" in error
    assert error.count("\n") == 1
    assert Path("lost", kept).read_bytes() == (trained / kept).read_bytes()


def test_a_run_that_ended_before_its_first_checkpoint_begins_again() -> None:
    assert train("--epochs", "1", "--out", "a") == 0
    for path in Path("a").iterdir():
        if path.name != "settings.toml":
            path.unlink()
    Path("a/log.csv").write_text("epoch,loss\n")
    assert main(["train", "--resume", "a"]) == 0
    assert Path("a/last.safetensors").exists()


class Diverging(Callback):
    def on_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        if epoch.epoch == 2:
            trainer.optimizer.lr = 1e30


def test_a_run_that_diverges_ends_in_an_error_and_keeps_what_it_had(capsys, monkeypatch) -> None:
    real = sys.modules["xpnet.run.train"].train
    with monkeypatch.context() as patch:
        patch.setattr("xpnet.cli.train.train", lambda *args, **more: real(*args, **more | {"callbacks": [Diverging()]}))
        assert train("--epochs", "4", "--validation", "0.2", "--out", "a") == 1
    error = capsys.readouterr().err
    assert "lower the learning rate (in epoch 3, at a learning rate of 1e+30; the 2 before it are in a)\n" in error
    assert error.count("\n") == 1
    assert len(Path("a/log.csv").read_text().splitlines()) == 3
    assert all(np.isfinite(w).all() for w in weights("a").values())
    assert main(["evaluate", "--run", "a", "--backend", "numpy"]) == 0
    assert train("--epochs", "2", "--lr", "1e30", "--out", "b") == 1
    assert "lower the learning rate (in epoch 1, at a learning rate of 1e+30)\n" in capsys.readouterr().err


def test_a_run_without_a_place_to_report_to(monkeypatch) -> None:
    for name in ("stdout", "stderr"):  # as Python has them after >&- 2>&-
        monkeypatch.setattr(sys, name, None)
    assert train("--epochs", "1", "--out", "a") == 0
    assert Path("a/curves.png").exists()


def test_choosing_by_held_out_images(capsys) -> None:
    assert train("--epochs", "30", "--lr", "1e-9", "--validation", "0.2", "--early-stopping", "1", "--out", "a") == 0
    output = capsys.readouterr().out
    assert re.search(r"^best epoch: test accuracy", output, re.M)
    assert Path("a/best.safetensors").exists()
    assert train("--epochs", "9", "--class-weights", "balanced", "--micro-batch", "20", "--out", "b") == 0
    assert not Path("b/best.safetensors").exists()


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle", "step", "plateau"])
def test_schedules(schedule) -> None:
    held_out = ["--validation", "0.2"] if schedule == "plateau" else []
    assert train("--epochs", "4", "--warmup", "1", "--schedule", schedule, *held_out, "--out", "a") == 0
    rates = [e["lr"] for e in json.loads(Path("a/history.json").read_text())["epochs"]]
    assert rates[0] < 0.0011  # the warm-up ends with its epoch
    if schedule in ("cosine", "one_cycle", "step"):
        assert rates[-1] < 0.5 * max(rates)


def no_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpnet.data.datasets.mnist_is_local", lambda root: False)


def test_a_run_notes_which_data_auto_was(monkeypatch) -> None:
    no_mnist(monkeypatch)
    wanted = ["--data", "auto:upscale=2:seed=1", "--limit", "60", "--epochs", "1", "--backend", "numpy"]
    assert main(["train", "--model", "tiny_convnet", *wanted, "--out", "a"]) == 0
    assert Settings.read("a/settings.toml")["data"] == "digits:upscale=2:seed=1"
    assert open_run("a").settings.data == "digits:upscale=2:seed=1"
    monkeypatch.setattr("xpnet.data.datasets.mnist_is_local", lambda root: True)  # it has appeared
    assert main(["train", "--resume", "a", "--epochs", "2"]) == 0
    assert main(["evaluate", "--run", "a", "--backend", "numpy"]) == 0
    assert resolved("auto:root=here:upscale=2") == "mnist:root=here"
    assert [resolved(text) for text in ("auto", "kmnist:root=here", "auto.npz")] == [
        "mnist",
        "kmnist:root=here",
        "auto.npz",
    ]
    Path("auto").mkdir()
    assert resolved("auto") == "auto"  # a folder of images


def test_without_mnist_the_default_model_trains_on_larger_digits(capsys, monkeypatch) -> None:
    no_mnist(monkeypatch)
    assert main(["train", "--limit", "60", "--epochs", "1", "--backend", "numpy", "--out", "a"]) == 0
    assert open_run("a").input_shape == (1, 32, 32)
    capsys.readouterr()
    assert main(["train", "--data", "auto", "--backend", "numpy", "--out", "b"]) == 1
    error = capsys.readouterr().err
    assert "(the images are digits of 8x8 because MNIST was not found; --data digits:upscale=4 or" in error
    assert error.count("\n") == 1


def test_what_cannot_be_is_refused_before_anything_is_written(capsys) -> None:
    Path("full").mkdir()
    Path("full/file").touch()
    half = {"x": np.zeros((40, 3, 9, 16), np.uint8), "t": np.arange(40) % 4}
    np.savez("few.npz", **{f"{name}_{part}": half[name] for name in half for part in ("train", "test")})
    Path("bad.toml").write_text("epochs = 'many'")
    Path("near.toml").write_text("schedule = 'cosin'")
    cases: list[tuple[list[str], str]] = [
        (["train", *TINY, "--out", "full"], "full is not empty; --resume full goes on with a run"),
        (["train", *TINY, "--out", "full/file"], "--out full/file is a file, expected a folder"),
        (["train", "--resume", "nowhere"], "nowhere: no run of `xpnet train` here"),
        (["train", "--resume", "full/file"], "(settings.toml); give the folder it left"),
        (["train", "--resume", "full", "--out", "x"], "leave out --config and --out"),
        (["train", "--config", "bad.toml"], "epochs must be a whole number, got 'many'"),
        (["train", "--config", "none.toml"], "none.toml"),
        (["train", "--config", "near.toml"], "got 'cosin'; did you mean 'cosine'?"),
        (["train", "--model", "lenett"], "no model 'lenett'; did you mean 'lenet'?"),
        (["train", "--model", "lenet:depth=3"], "lenet has no option 'depth'; it has variant"),
        (["train", "--data", "digitz", "--out", "new"], "no data set 'digitz'; did you mean 'digits'?"),
        (
            ["train", "--data", "digits:upscal=3", "--out", "new"],
            "digits has no option 'upscal'; did you mean 'upscale'?",
        ),
        (
            ["train", "--data", "full/file"],
            "full/file: expected an .npz file, a folder of images or the name of a data",
        ),
        (["train", "--data", "no/where"], "no/where: there is no such folder or file; check the path"),
        (["train", "--data", ""], "no data set ''; there are auto, "),
        (["train", *TINY, "--top", "10"], "top must be below the number of classes, 10, got 10"),
        (
            ["train", "--model", "lenet:classes=3"],
            "model 'lenet:classes=3': classes is no option: it is that of the data",
        ),
        (["train", *TINY, "--model", "lenet:activation=up"], "softplus, softsign, step\n"),  # and no word of the images
        (["train", "--data", "digits:seed=-1"], "stratified_split: seed is -1; give a whole number from 0 on"),
        (["train", "--data", "digits:test_fraction=x"], "stratified_split: fraction is x; give one between 0 and 1"),
        (["train", "--data", "mnist:root=5"], "Looked in: 5/mnist"),
        (["train", "--model", "lenet", "--data", "digits"], "(the images are 8x8; --data digits:upscale=4 or --model"),
        (
            ["train", "--model", "alexnet", "--data", "digits", "--out", "new"],
            "(the images are 8x8; --data digits:upscale=8",
        ),
        (
            ["train", "--model", "vgg11", "--data", "few.npz"],
            "(the images are 9x16; models that take them: deep_convnet",
        ),
        (["train", "--data", "digits", "--augment", "spin", "--out", "new"], "no augmentation 'spin'"),
        (["train", *TINY, "--augment", "normalize:0.5:0.5"], "normalize would leave the test images as they are"),
        (["train", "--early-stopping", "2"], "early_stopping needs validation"),
        (["train", *TINY, "--cuda-graph", "always", "--out", "new"], "cuda_graph=True needs CuPy, but the model is of"),
        (["evaluate"], "no run below runs/ here; train one"),
        (["evaluate", "--run", "nowhere"], "nowhere: there is no such folder or file"),
        (["evaluate", "--run", "full"], "full: no checkpoint of a run here"),
        (["show", "filters", "--run", "nowhere"], "nowhere: there is no such folder or file"),
    ]
    for command, message in cases:
        assert main(command) == 1, command
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert sorted(p.name for p in Path().iterdir()) == ["bad.toml", "few.npz", "full", "near.toml"]
    Path("runs").touch()
    assert main(["train", *TINY]) == 1
    assert "train: runs is a file here, expected a folder for the results; name one by --out" in capsys.readouterr().err


def test_times_and_tensorboard(capsys) -> None:
    pytest.importorskip("tensorboardX", reason="writes TensorBoard's files")
    assert train("--epochs", "1", "--times", "--tensorboard", "--out", "a") == 0
    output = capsys.readouterr().out
    assert {line.split()[0] for line in output[output.index("phase") :].splitlines()} >= {
        "forward",
        "backward",
        "update",
    }
    assert len(list(Path("a/tensorboard").iterdir())) == 1


def test_a_run_keeps_its_settings(capsys) -> None:
    assert train("--epochs", "1", "--out", "a") == 0
    assert main(["train", "--resume", "a", "--lr", "0.5", "--epochs", "2"]) == 1
    said = capsys.readouterr().err
    assert "a run that is resumed keeps its settings (only epochs, backend, on-device" in said
    assert said.rstrip().endswith(": --lr")


def test_a_run_is_not_cut_short_and_keeps_its_command(capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["xpnet", "train", "--first"])
    assert train("--epochs", "2", "--out", "a") == 0
    settings = Path("a/settings.toml").read_bytes()
    monkeypatch.setattr("sys.argv", ["xpnet", "train", "--resume", "a"])
    assert main(["train", "--resume", "a", "--epochs", "1"]) == 1
    error = capsys.readouterr().err
    assert error == "error: train: the run in a has 2 epochs already; give --epochs more than that, got 1\n"
    assert Path("a/settings.toml").read_bytes() == settings
    for epochs in ("3", "4"):
        assert main(["train", "--resume", "a", "--epochs", epochs]) == 0
        assert json.loads(Path("a/history.json").read_text())["about"]["command"] == "xpnet train --first"
