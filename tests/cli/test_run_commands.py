"""evaluate, predict and show, as a user calls them, on a run of digits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnet.cli import main
from xpnet.cli.show import PICTURES
from xpnet.run import open_run

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
pytest.importorskip("safetensors", reason="checkpoints are safetensors files")
pytest.importorskip("tomli_w", reason="settings are saved as TOML")
pillow = pytest.importorskip("PIL.Image", reason="reads the pictures to predict")
pytestmark = pytest.mark.usefixtures("own_folder")


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


def test_show_without_a_picture_names_them(capsys) -> None:
    assert main(["show"]) == 1
    assert capsys.readouterr().err == f"error: show: name the picture to draw: {', '.join(PICTURES)}\n"


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
