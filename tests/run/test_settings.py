"""Settings of a run: what is accepted, what is refused and how, and the way through a TOML file."""

from __future__ import annotations

import dataclasses
import tomllib
from typing import Any

import pytest

from xpnet.run import Settings
from xpnet.text import near, parse_spec, table

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"epocs": 3}, r"settings: no setting 'epocs'; did you mean 'epochs'\? There are model"),
    "nothing near": ({"xyz": 3}, r"settings: no setting 'xyz'; there are model, data, limit"),
    "model": ({"model": "lennet"}, r"no model 'lennet'; did you mean 'lenet'\? There are alexnet"),
    "text for a number": ({"epochs": "3"}, "epochs must be a whole number, got '3'"),
    "bool for a number": ({"epochs": True}, "epochs must be a whole number, got True"),
    "fraction for a whole number": ({"epochs": 3.5}, "epochs must be a whole number, got 3.5"),
    "number for text": ({"data": 3}, "data must be text, got 3"),
    "zero": ({"epochs": 0}, "epochs must be above 0, got 0"),
    "negative": ({"lr": -0.1}, "lr must be above 0.0, got -0.1"),
    "infinite": ({"lr": float("inf")}, "lr must be finite, got inf"),
    "nan": ({"weight_decay": float("nan")}, "weight_decay must be at least 0.0, got nan"),
    "too large": ({"validation": 1.0}, "validation must be below 1.0, got 1.0"),
    "choice": ({"schedule": "cos"}, "schedule must be one of constant, cosine, one_cycle, step, plateau, got 'cos'"),
    "plateau": ({"schedule": "plateau"}, r"schedule plateau needs validation, such as 0\.1: the test images must not"),
    "stopping": ({"early_stopping": 3}, r"early_stopping needs validation, such as 0\.1: the test images must not"),
    "warmup": ({"warmup": 10}, r"warmup \(10\) must be less than epochs \(10\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_refused(name) -> None:
    values, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        Settings.from_dict(values)


def test_every_setting_goes_through_a_file_and_has_a_help_text(tmp_path) -> None:
    pytest.importorskip("tomli_w", reason="writes TOML")
    settings = Settings(
        model="vgg16:dropout=0.2",
        data="digits:upscale=4",
        weights="w.safetensors:sha256=00",
        limit=7,
        pixels="-1..1",
        augment="flip",
        validation=0.25,
        micro_batch=3,
        lr=1,  # a whole number will do
        clip_norm=0.5,
        class_weights="balanced",
        early_stopping=2,
        top=3,
        seed=2**40,
        backend="numpy",
        dtype="float64",
    )
    settings.save(tmp_path / "s.toml")
    assert Settings.from_dict(Settings.read(tmp_path / "s.toml")) == settings
    assert settings.lr == 1.0
    assert isinstance(settings.lr, float)
    Settings().save(tmp_path / "s.toml")  # None is left out
    assert Settings.from_dict(Settings.read(tmp_path / "s.toml")) == Settings()
    assert "limit" not in tomllib.loads((tmp_path / "s.toml").read_text())
    assert all(field.metadata["help"] for field in dataclasses.fields(Settings))


def test_files_that_are_no_toml(tmp_path) -> None:
    for content in (b"epochs = ", b"\xff\xfe", b"[[["):
        (tmp_path / "s.toml").write_bytes(content)
        with pytest.raises(ValueError, match=r"s\.toml: no TOML file"):
            Settings.read(tmp_path / "s.toml")


def test_specs() -> None:
    assert parse_spec("lenet") == ("lenet", [], {})
    assert parse_spec(" a : 1 : 2.5 : x=true : y = b ") == ("a", [1, 2.5], {"x": True, "y": "b"})
    assert near("lr", ["epochs"]) == ""
    assert table([["a", "b"], ["ccc", "10"]]) == "a     b\nccc  10"
