"""``xpnet train --distributed``, as a user calls it: the run of one process, with the files of one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.distributed.launch import needs_mpi, run_ranks
from xpnet.cli import main
from xpnet.io.weights import read_arrays
from xpnet.run import Settings
from xpnet.run.scaling import scaled

for module in ("safetensors", "sklearn", "tomli_w", "matplotlib"):
    pytest.importorskip(module, reason="runs need xpnet[train]")

RUN = ["--model", "tiny_convnet", "--data", "digits", "--limit", "300", "--backend", "numpy", "--validation", "0.2"]


def weights(folder: Path) -> dict[str, np.ndarray]:
    return read_arrays(folder / "last.safetensors")[0]


def same(a: Path, b: Path) -> None:
    found, expected = weights(a), weights(b)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5)


class TestRanks:
    pytestmark = needs_mpi

    def test_a_scaled_run_and_on_with_one_rank(self, tmp_path, monkeypatch):
        folder, alone = tmp_path / "run", tmp_path / "alone"
        more = ["--epochs", "3", "--top", "2", "--times", "--out", str(folder)]
        done = run_ranks(
            2, "-m", "xpnet", "train", "--distributed", "--scale-lr", "sqrt", "--batch-size", "20", *RUN, *more
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said = "2 ranks: batch size 20 -> 40, learning rate 0.001 -> 0.00141421 (sqrt rule), rising over 2 epochs"
        assert done.stdout.count(said) == 1
        assert done.stdout.count("epoch 3/3") == 1
        assert done.stdout.count("results in") == 1
        assert "exchange" in done.stdout  # of --times
        scale = ["--batch-size", "40", "--lr", str(0.001 * 2**0.5), "--warmup", "2", "--epochs", "3", "--top", "2"]
        assert main(["train", *RUN, *scale, "--out", str(alone)]) == 0
        same(folder, alone)
        assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in alone.iterdir())
        found, expected = (json.loads((path / "history.json").read_text()) for path in (folder, alone))
        assert found["about"]["ranks"] == 2
        assert found["about"]["best_test_accuracy"] == expected["about"]["best_test_accuracy"]
        for a, b in zip(found["epochs"], expected["epochs"], strict=True):
            assert a["accuracy"] == b["accuracy"]
            assert a["validation_metrics"] == b["validation_metrics"]
            assert a["loss"] == pytest.approx(b["loss"], abs=1e-5)

        for path in (folder, alone):  # what two have saved, one goes on with
            assert main(["train", "--resume", str(path), "--epochs", "4"]) == 0
        same(folder, alone)

    def test_a_model_of_ones_own_that_begins_with_the_weights_of_a_file(self, tmp_path, monkeypatch):
        (tmp_path / "own_net.py").write_text(
            "from xpnet.layers import Dense, Flatten, Sequential\n"
            "def net(classes):\n"
            "    return Sequential({'flat': Flatten(), 'out': Dense(classes)})\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.chdir(tmp_path)
        run = ["train", *RUN, "--epochs", "1", "--model", "own_net:net"]
        assert main([*run, "--out", "first"]) == 0
        run += ["--weights", "first/last.safetensors"]
        done = run_ranks(2, "-m", "xpnet", *run, "--distributed", cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert main([*run, "--out", "alone"]) == 0
        same(Path("runs/own_net.net-digits"), Path("alone"))
        first, then = (weights(Path(name))["model.out.W"] for name in ("first", "alone"))
        assert np.abs(then - first).max() > 1e-3  # without the file it would be the same run again

    def test_a_wrong_argument_is_said_once(self, tmp_path):
        (tmp_path / "file").touch()
        done = run_ranks(2, "-m", "xpnet", "train", "--distributed", *RUN, "--out", tmp_path)
        assert done.returncode == 1
        assert done.stderr.count("is not empty") == 1
        assert "rank 0 of 2: ValueError: train: " in done.stderr


def test_scaling_needs_ranks(capsys) -> None:
    assert main(["train", *RUN, "--scale-lr", "linear"]) == 1
    assert "--scale-lr goes by the number of processes; it needs --distributed" in capsys.readouterr().err


def test_scaling() -> None:
    settings = Settings(batch_size=32, micro_batch=16, lr=0.1, epochs=30)
    assert scaled(settings, 1, "linear") == settings
    found = scaled(settings, 4, "linear")
    assert (found.batch_size, found.micro_batch, found.lr, found.warmup) == (128, 64, 0.4, 5)
    assert scaled(settings, 4, "sqrt").lr == 0.2
    assert scaled(Settings(epochs=2), 4, "linear").warmup == 1
    assert scaled(Settings(epochs=20, warmup=7), 4, "linear").warmup == 7
    with pytest.raises(ValueError, match="rule must be one of linear, sqrt"):
        scaled(settings, 2, "cubic")
