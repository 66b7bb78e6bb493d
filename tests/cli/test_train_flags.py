"""What a flag of ``xpnet train`` does to a setting of a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from xpnet import data, models, optim
from xpnet.cli import main
from xpnet.data import augment
from xpnet.run import Settings

for module in ("safetensors", "sklearn", "tomli_w", "matplotlib"):
    pytest.importorskip(module, reason="runs need xpnet[train]")


def test_none_takes_a_setting_away(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XPNET_BACKEND", "numpy")
    optional = [field for field in dataclasses.fields(Settings) if field.default is None]
    assert {"augment", "clip_norm", "early_stopping", "dtype"} <= {field.name for field in optional}
    Path("all.toml").write_text(
        "augment = 'shift:1'\nclip_norm = 1e-9\nclass_weights = 'balanced'\nearly_stopping = 1\ntop = 2\n"
        "micro_batch = 5\nweights = 'none.safetensors'\nlimit = 50\nvalidation = 0.2\nepochs = 1\n"
        "backend = 'nympy'\ndtype = 'float64'\nmodel = 'tiny_convnet'\ndata = 'digits'\n"
    )
    flags = [word for field in optional for word in (f"--{field.name.replace('_', '-')}", "none")]
    assert main(["train", "--config", "all.toml", *flags, "--out", "a"]) == 0
    plain = ["train", "--model", "tiny_convnet", "--data", "digits", "--validation", "0.2", "--epochs", "1"]
    assert main([*plain, "--out", "b"]) == 0
    assert Path("a/settings.toml").read_bytes() == Path("b/settings.toml").read_bytes()
    capsys.readouterr()
    for wrong, message in (
        (["--epochs", "none"], "invalid int value: 'none'"),
        (["--top", "x"], "invalid int value: 'x'"),
        (["--schedule", "Cosin"], "(choose from constant, cosine, one_cycle, step, plateau); did you mean 'cosine'?"),
        (["--distributed", "mpo"], "(choose from auto, mpi, nccl); did you mean 'mpi'?"),
        (["--class-weights", "x"], "argument --class-weights: invalid choice: 'x' (choose from balanced, none)"),
    ):
        assert main([*plain, *wrong]) == 2
        assert message in capsys.readouterr().err
    assert main([*plain, "--data", "none", "--out", "c"]) == 1
    assert "no data set 'none'" in capsys.readouterr().err


def test_a_value_that_begins_with_a_minus_is_one(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    plain = ["train", "--model", "tiny_convnet", "--data", "digits", "--limit", "20", "--epochs", "1"]
    assert main([*plain, "--pixels", "-1..1", "--out", "a"]) == 0
    assert 'pixels = "-1..1"' in Path("a/settings.toml").read_text()
    capsys.readouterr()
    for flag, message in (("--lr", "lr must be "), ("--epochs", "epochs must be ")):
        assert main([*plain, flag, "-1"]) in (1, 2)
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("columns", ["100", "1"])
def test_help_lists_what_there_is_to_name(capsys, monkeypatch, columns) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["train", "--help"]) == 0
    words = set(capsys.readouterr().out.replace(",", " ").split())
    optimizers = {
        n.lower() for n, made in vars(optim).items() if isinstance(made, type) and optim.Optimizer in made.__mro__[1:]
    }
    assert {*models.names(), *data.names(), *augment.names(), *optimizers} <= words
