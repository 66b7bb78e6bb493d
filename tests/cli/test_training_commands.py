"""train, evaluate, predict and show, as a user calls them, on the digits that come with scikit-learn."""

from __future__ import annotations

import csv
import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnet.cli import main
from xpnet.cli.show import PICTURES
from xpnet.run import Settings, open_run
from xpnet.run.data import resolved

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
pytest.importorskip("safetensors", reason="checkpoints are safetensors files")
pytest.importorskip("tomli_w", reason="settings are saved as TOML")
pillow = pytest.importorskip("PIL.Image", reason="reads the pictures to predict")

TINY = ["--model", "tiny_convnet", "--data", "digits", "--limit", "200", "--backend", "numpy"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XPNET_OFFLINE", "1")
    monkeypatch.delenv("XPNET_BACKEND", raising=False)


def train(*more: str) -> int:
    return main(["train", *TINY, *more])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    wanted = ["--model", "tiny_convnet", "--data", "digits", "--optimizer", "sgd", "--lr", "0.1", "--backend", "numpy"]
    assert main(["train", *wanted, "--epochs", "4", "--validation", "0.2", "--out", str(folder)]) == 0
    return folder


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
    Path("bad.toml").write_text("epochs = 'many'")
    cases: list[tuple[list[str], str]] = [
        (["train", *TINY, "--out", "full"], "full is not empty; --resume full goes on with a run"),
        (["train", *TINY, "--out", "full/file"], "--out full/file is a file, expected a folder"),
        (["train", "--resume", "nowhere"], "nowhere: no run of `xpnet train` here"),
        (["train", "--resume", "full/file"], "(settings.toml); give the folder it left"),
        (["train", "--resume", "full", "--out", "x"], "leave out --config and --out"),
        (["train", "--config", "bad.toml"], "epochs must be a whole number, got 'many'"),
        (["train", "--config", "none.toml"], "none.toml"),
        (["train", "--model", "lenett"], "no model 'lenett'; did you mean 'lenet'?"),
        (["train", "--model", "lenet:depth=3"], "lenet has no option 'depth'; it has variant"),
        (["train", "--data", "digitz", "--out", "new"], "unknown data set 'digitz'"),
        (["train", "--data", "digits:size=3", "--out", "new"], "size"),
        (["train", "--model", "alexnet", "--data", "digits", "--out", "new"], 'layer "'),
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
    assert sorted(p.name for p in Path().iterdir()) == ["bad.toml", "full"]
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


def test_evaluate(trained, capsys, tmp_path) -> None:
    assert main(["evaluate", "--run", str(trained), "--json", "e.json", "--backend", "numpy"]) == 0
    output = capsys.readouterr().out
    accuracy = re.search(r"^accuracy ([\d.]+), among the best five ([\d.]+), loss", output, re.M)
    assert accuracy is not None
    about = json.loads((trained / "history.json").read_text())["about"]
    assert float(accuracy[1]) == pytest.approx(about["best_test_accuracy"], abs=1e-4)
    numbers = json.loads(Path("e.json").read_text())
    matrix = np.array(numbers["confusion_matrix"])
    assert matrix.sum() == 359
    assert matrix.trace() / 359 == numbers["accuracy"]
    assert output.splitlines()[-1].split()[0] == "9"
    last = trained / "last.safetensors"
    assert main(["evaluate", "--run", str(last), "--backend", "numpy", "--limit", "50"]) == 0
    assert "on 50 test images" in capsys.readouterr().out


def test_evaluate_on_other_data_scales_them_by_their_own_range(trained, capsys) -> None:
    from xpnet import data

    digits = data.digits()
    for name, factor in (("floats", np.float32(1 / 16)), ("beyond", np.float32(255))):
        parts = {"t_train": digits.t_train, "t_test": digits.t_test}
        np.savez(f"{name}.npz", x_train=digits.x_train * factor, x_test=digits.x_test * factor, **parts)
    run = ["evaluate", "--run", str(trained), "--backend", "numpy"]
    measured = []
    for more in ([], ["--data", "floats.npz"]):
        assert main([*run, *more]) == 0
        measured.append(capsys.readouterr().out.splitlines()[1:])
    assert measured[0] == measured[1]
    assert main([*run, "--data", "beyond.npz"]) == 1
    assert "beyond: expected pixels from 0 to 1, got 0 to 4080, which" in capsys.readouterr().err


def test_evaluate_refuses_classes_of_other_names(capsys, rng) -> None:
    for folder, classes in (("pets", ("cat", "dog")), ("likewise", ("cat", "dog")), ("others", ("ant", "cat"))):
        for name in classes:
            Path(folder, name).mkdir(parents=True)
            for i in range(5):
                pillow.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(Path(folder, name, f"{i}.png"))
    wanted = ["--model", "tiny_convnet", "--data", "pets", "--epochs", "1", "--out", "run", "--backend", "numpy"]
    assert main(["train", *wanted]) == 0
    assert main(["evaluate", "--run", "run", "--backend", "numpy", "--data", "likewise"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--run", "run", "--backend", "numpy", "--data", "others"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(
        "error: others: the classes are ant, cat, but the model of run/last.safetensors tells cat, "
    )
    assert error.count("\n") == 1


def test_predict_pictures_of_any_size_and_range(trained, capsys, tmp_path) -> None:
    from xpnet import data

    digits = data.digits()
    names = []
    for i in range(12):
        pixels = (digits.x_test[i, 0] * (255 / 16)).round().astype(np.uint8)
        pillow.fromarray(pixels).save(f"{i}.png")
        pillow.fromarray(255 - pixels).save(f"dark{i}.png")
        names.append(f"{i}.png")
    assert main(["predict", *names, "--run", str(trained), "--json", "--backend", "numpy"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [a["image"] for a in answers] == names
    saved = open_run(trained)
    y = saved.model.predict(saved.prepared(digits.x_test[:12]))
    for answer, row in zip(answers, y, strict=True):
        p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        assert list(answer["classes"]) == [str(k) for k in np.argsort(-p)[:3]]
        assert list(answer["classes"].values()) == pytest.approx(np.sort(p)[::-1][:3], abs=0.02)
    dark = [f"dark{name}" for name in names]
    assert main(["predict", *dark, "--invert", "--run", str(trained), "--json", "--backend", "numpy"]) == 0
    inverted = [json.loads(line)["classes"] for line in capsys.readouterr().out.splitlines()]
    assert inverted == [a["classes"] for a in answers]
    pillow.fromarray(np.zeros((40, 30, 3), np.uint8)).save("colour.jpg")
    assert main(["predict", "colour.jpg", "--run", str(trained), "--top", "1", "--backend", "numpy"]) == 0
    assert re.fullmatch(r".*best\.safetensors \(\d+ epochs\)\ncolour\.jpg: \d [\d.]+%\n", capsys.readouterr().out)
    assert main(["predict", "0.png", "none.png", "--run", str(trained), "--backend", "numpy"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "none.png: cannot be read" in captured.err


@pytest.mark.parametrize("what", PICTURES)
def test_show(trained, capsys, what) -> None:
    pytest.importorskip("matplotlib", reason="draws")
    assert main(["show", what, "--run", str(trained), "--out", f"new/{what}.png", "--backend", "numpy"]) == 0
    assert capsys.readouterr().out == f"new/{what}.png\n"
    with pillow.open(f"new/{what}.png") as image:
        assert image.width > 200
        assert len(np.unique(np.asarray(image.convert("L")))) > 10


def test_show_what_is_asked_for(trained, capsys) -> None:
    pytest.importorskip("matplotlib", reason="draws")
    run = ["--run", str(trained), "--backend", "numpy"]
    assert main(["show", "augmentation", "--augment", "flip,crop:2", "--index", "7", "--out", "a.svg", *run]) == 0
    pillow.fromarray(np.eye(20, dtype=np.uint8) * 255).save("mine.png")
    assert main(["show", "saliency", "--image", "mine.png", "--out", "s.pdf", *run]) == 0
    capsys.readouterr()
    for command, message in (
        (["filters", "--out", "a.txt"], "a.txt: no kind of figure that can be written; its name may end in"),
        (["saliency", "--index", "999999"], "--index must be from 0 to 358, got 999999"),
        (["filters", "--layer", "nothing"], "nothing"),
        (
            ["confusion", "--image", "mine.png"],
            "show confusion: --image means nothing here (it takes none of the kind)",
        ),
        (["misclassified", "--image", "mine.png"], "show misclassified: --image means nothing here"),
        (["model", "--index", "0"], "show model: --index means nothing here"),
        (
            ["saliency", "--layer", "x"],
            "show saliency: --layer means nothing here (it takes --image, --index); leave it",
        ),
        (
            ["saliency", "--image", "mine.png", "--index", "0"],
            "--image and --index name two pictures; give one of them",
        ),
    ):
        assert main(["show", *command, *run]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_a_checkpoint_of_another_program_is_refused(trained, capsys) -> None:
    from xpnet.io.weights import read_arrays, write_arrays
    from xpnet.layers import Dense
    from xpnet.training import Trainer, save_checkpoint

    trainer = Trainer(Dense(2).build((3,)))
    save_checkpoint("plain.safetensors", trainer)
    assert main(["evaluate", "--run", "plain.safetensors", "--backend", "numpy"]) == 1
    assert "does not say how to build its model again" in capsys.readouterr().err
    arrays, content = read_arrays(trained / "last.safetensors")
    assert content is not None
    changes: list[dict[str, Any]] = [
        {"settings": {"model": "no_such"}},
        {"input_shape": [1, 2**40, 8]},
        {"classes": []},
        {"scale": "x"},
    ]
    from xpnet.training.checkpoint import _digest

    for change in changes:
        lying = content | {"about": content["about"] | change}
        lying.pop("digest", None)
        write_arrays("lying.safetensors", arrays, lying | {"digest": _digest(arrays, lying)})
        assert main(["predict", "x.png", "--run", "lying.safetensors", "--backend", "numpy"]) == 1
        error = capsys.readouterr().err
        assert "lying.safetensors: this checkpoint does not say how to build its model again" in error
