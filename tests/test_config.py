"""Settings: sizes in words, environment variables, and what a wrong one says."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path

import pytest

from xpnet import backend, config


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    monkeypatch.setattr(config, "_values", {})
    for name in config._SETTINGS:
        monkeypatch.delenv(f"XPNET_{name.upper()}", raising=False)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("4MB", 4 << 20),
        ("4 MB", 4 << 20),
        (" 4mb ", 4 << 20),
        ("4M", 4 << 20),
        ("1.5KB", 1536),
        ("2gb", 2 << 30),
        ("512", 512),
        ("512B", 512),
        (512, 512),
        ("1", 1),
    ],
)
def test_sizes(text, expected):
    assert config.parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "MB", "4TB", "-1", -1, "0", 0, "0.2B", "1e6", "4MBB", "4 M B", None, True])
def test_what_is_no_size(text):
    message = re.escape(f"expected a size such as '4MB' or 4194304, got {text!r}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        config.parse_bytes(text)


def test_defaults():
    assert config.get("conv_workspace") == 4 << 20
    assert config.get("kernels") == "auto"


def test_environment(monkeypatch):
    monkeypatch.setenv("XPNET_CONV_WORKSPACE", "64KB")
    monkeypatch.setenv("XPNET_KERNELS", "agnostic")
    assert config.get("conv_workspace") == 65536
    assert config.get("kernels") == "agnostic"
    config.set(kernels="auto", conv_workspace=100)
    assert (config.get("kernels"), config.get("conv_workspace")) == ("auto", 100)


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("XPNET_CONV_WORKSPACE", "")
    assert config.get("conv_workspace") == 4 << 20


@pytest.mark.parametrize(
    "variable, value, message",
    [
        ("XPNET_CONV_WORKSPACE", "lots", "XPNET_CONV_WORKSPACE: expected a size such as '4MB' or 4194304, got 'lots'"),
        ("XPNET_KERNELS", "fast", "XPNET_KERNELS: expected 'auto' or 'agnostic', got 'fast'"),
    ],
)
def test_wrong_environment(monkeypatch, variable, value, message):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        config.get(variable.removeprefix("XPNET_").lower())


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"conv_workspace": 0}, "config.set: conv_workspace: expected a size such as '4MB' or 4194304, got 0"),
        ({"kernels": "Auto"}, "config.set: kernels: expected 'auto' or 'agnostic', got 'Auto'"),
        (
            {"workspace": 1},
            "config.set: no setting 'workspace'; did you mean 'conv_workspace'? There are allow_tf32, compiled, conv_w",
        ),
    ],
)
def test_wrong_settings_change_nothing(settings, message):
    for change in (config.set, lambda **s: config.using(**s).__enter__()):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            change(**{"conv_workspace": 77, "kernels": "agnostic", **settings})
        assert (config.get("conv_workspace"), config.get("kernels")) == (4 << 20, "auto")


def test_unknown_name():
    with pytest.raises(
        ValueError,
        match=r"^config\.get: no setting 'nope'; there are allow_tf32, compiled, conv_workspace, conv_workspace_gpu",
    ):
        config.get("nope")


def test_using_nests_and_restores():
    config.set(conv_workspace=1000)
    with config.using(conv_workspace="1KB", kernels="agnostic"):
        with config.using(conv_workspace=5):
            assert (config.get("conv_workspace"), config.get("kernels")) == (5, "agnostic")
        assert config.get("conv_workspace") == 1024
    assert (config.get("conv_workspace"), config.get("kernels")) == (1000, "auto")


def test_an_error_inside_using_restores():
    def fail():
        with config.using(kernels="agnostic"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert config.get("kernels") == "auto"


@pytest.mark.parametrize(
    "second", [{"kernels": "agnostic"}, {"nan_guard": True}, {"kernels": "auto", "nan_guard": True}]
)
def test_blocks_that_overlap_leave_nothing_on(second):
    """As those of two threads do; the first to begin is the first to end."""
    a, b = config.using(kernels="agnostic", conv_workspace=5), config.using(**second)
    before = {name: config.get(name) for name in ("kernels", "nan_guard", "conv_workspace")}
    a.__enter__()
    b.__enter__()
    a.__exit__(None, None, None)
    assert config.get("conv_workspace") == before["conv_workspace"]
    assert {name: config.get(name) for name in second} == second
    b.__exit__(None, None, None)
    assert {name: config.get(name) for name in before} == before


def test_using_restores_nothing_else():
    with config.using(kernels="agnostic"):
        config.set(conv_workspace=5, kernels="auto")
    assert (config.get("conv_workspace"), config.get("kernels")) == (5, "auto")
    config.set(kernels="agnostic")
    with config.using(kernels="auto"):
        pass
    assert config.get("kernels") == "agnostic"


def test_what_is_set_while_a_default_is_being_read_stays(monkeypatch):
    def parse(text):
        if text == "4MB":  # the default: now another thread comes in between
            config.set(conv_workspace=77)
        return config.parse_bytes(text)

    monkeypatch.setitem(config._SETTINGS, "conv_workspace", ("4MB", parse))
    assert config.get("conv_workspace") == 77
    assert config.get("conv_workspace") == 77


def test_settings_stay_while_others_are_changed():
    """Looked at between any two lines, where another thread may look."""
    config.set(conv_workspace=77)
    seen, before = set(), sys.gettrace()

    def look(frame, event, arg):
        seen.add(config.get("conv_workspace"))
        return look

    sys.settrace(look)
    try:
        with config.using(kernels="agnostic"):
            pass
    finally:
        sys.settrace(before)
    assert seen == {77}
    assert config.get("conv_workspace") == 77


def test_a_variable_that_means_nothing_is_warned_of_once(monkeypatch, caplog):
    monkeypatch.setattr(config, "_warned", False)
    monkeypatch.setenv("XPNET_BAKCEND", "cupy")
    monkeypatch.setenv("XPNET_TEST_SOMETHING", "1")
    with caplog.at_level(logging.WARNING, logger="xpnet"):
        for _ in range(2):
            with backend.using("numpy"):
                pass
    said = [record.getMessage() for record in caplog.records]
    assert said == ["XPNET_BAKCEND means nothing to xpnet; did you mean 'XPNET_BACKEND'?"]


def test_every_variable_that_is_read_means_something(monkeypatch):
    source = Path(config.__file__).parent
    named = {
        name for path in source.rglob("*.py") for name in re.findall(r'"(XPNET_[A-Z0-9_]*[A-Z0-9])"', path.read_text())
    }
    named |= set(re.findall(r"``(XPNET_[A-Z0-9_]*)``", config.__doc__))
    assert len(named) > 15
    for name in named:
        monkeypatch.setenv(name, "")
    assert not config.unknown_variables().keys() & named - {"XPNET_KERNEL"}  # of an example
