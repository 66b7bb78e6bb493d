"""The command line itself: help, unknown commands, exit codes, errors in one line, quick to start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import xpnet
from tests.processes import interrupt, started
from xpnet._interrupt import InterruptGuard
from xpnet.cli import COMMANDS, guard, main
from xpnet.cli.guard import guarded
from xpnet.errors import (
    BackendUnavailableError,
    DataError,
    MissingDependencyError,
    OperationError,
    ShapeError,
    WeightsError,
)

ROOT = Path(__file__).parent.parent.parent
NAMES = ("doctor", "summary", "gradcheck", "compare")


def run(*args: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=os.environ | {"PYTHONPATH": path} | variables,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_version(capsys) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"xpnet {xpnet.__version__}\n"


def test_help_lists_every_command_in_one_line(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(COMMANDS) >= len(NAMES)
    for name in NAMES:
        assert len([line for line in lines if line.split()[:1] == [name] and len(line.split()) > 3]) == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help(capsys, name) -> None:
    assert main([name, "--help"]) == 0
    assert f"usage: xpnet {name}" in capsys.readouterr().out


def test_no_command_shows_the_help_and_is_an_error(capsys) -> None:
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("sumary", "did you mean 'summary'?"),
        ("gradchek", "did you mean 'gradcheck'?"),
        ("qqq", "there are train, evaluate,"),
    ],
)
def test_an_unknown_command_suggests_near_ones(capsys, word, hint) -> None:
    assert main(["--verbose", word, "--model", "lenet"]) == 2
    assert f"no command '{word}'; {hint}" in capsys.readouterr().err


def test_an_unknown_flag_suggests_a_near_one_of_the_command(capsys) -> None:
    assert main(["train", "--weigths", "a", "--epochs", "2"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: xpnet train")
    assert error.endswith("error: unrecognized arguments: --weigths a; did you mean '--weights'?\n")
    assert main(["summary", "--model", "lenet", "--fits", "4GB"]) == 2  # like --input by its dashes alone
    assert capsys.readouterr().err.endswith("error: unrecognized arguments: --fits 4GB\n")
    assert main(["doctor", "all"]) == 2
    assert capsys.readouterr().err.endswith("error: unrecognized arguments: all\n")


def test_wrong_arguments_are_code_2(capsys) -> None:
    assert main(["summary"]) == 2
    assert main(["summary", "--model", "lenet", "--nonsense"]) == 2
    assert main(["summary", "--model", "lenet", "--input", "3,x"]) == 2
    assert "expected sizes without the batch, such as 3,224,224, got '3,x'" in capsys.readouterr().err
    assert main(["gradcheck", "--model", "lenet", "--seed", "-1"]) == 2
    assert "argument --seed: must be from 0 to 2**64 - 1, got -1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BackendUnavailableError("no GPU"), 2),
        (ShapeError("conv2d", "too small"), 1),
        (OperationError("conv2d", "wrong").add_layer("features"), 1),
        (WeightsError("w.safetensors: damaged"), 1),
        (DataError("no data"), 1),
        (MissingDependencyError("plots need matplotlib"), 1),
        (FileNotFoundError(2, "No such file", "x"), 1),
        (PermissionError(13, "Permission denied", "runs"), 1),
        (OSError(28, "No space left"), 1),
        (ValueError("several\n  lines"), 1),
        (MemoryError(), 1),
    ],
)
@pytest.mark.parametrize("verbose", [False, True])
def test_errors_end_in_one_line_and_a_code(capsys, error, code, verbose) -> None:
    def fail(text: str) -> int:
        assert text == "given"
        error.add_note("while testing")
        raise error

    assert guarded(fail, "given", verbose=verbose) == code
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ")
    assert lines[-1].endswith(" (while testing)")
    said = {
        FileNotFoundError: "x: No such file; check the path",
        PermissionError: "runs: Permission denied; check the permissions, or name another place",
        OSError: "No space left; make room, or name another place",
    }.get(type(error), " ".join(f"{error}".split()))
    assert lines[-1].startswith(f"error: {said}")
    assert (lines[0] == "Traceback (most recent call last):") == verbose
    assert len(lines) == 1 or verbose


def test_other_exceptions_are_bugs_and_show_as_such() -> None:
    def bug() -> int:
        raise AttributeError("oh")

    with pytest.raises(AttributeError, match="oh"):
        guarded(bug)


def test_a_result_is_passed_on_and_ctrl_c_is_130(capsys) -> None:
    assert guarded(lambda: 7) == 7

    def interrupted() -> int:
        raise KeyboardInterrupt

    assert guarded(interrupted) == guard.INTERRUPTED == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_sigterm_is_143_and_handled_during_the_function_only(capsys) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def at_once() -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    def after_a_step() -> int:
        with InterruptGuard() as interrupt:
            signal.raise_signal(signal.SIGTERM)
        return guard.INTERRUPTED if interrupt.requested else 0

    assert guarded(at_once) == guard.TERMINATED == 143
    assert capsys.readouterr().err == "terminated\n"
    assert guarded(after_a_step) == guard.TERMINATED
    assert guarded(lambda: guard.INTERRUPTED) == guard.INTERRUPTED
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("where", ["before", "after"])
def test_verbose_shows_the_traceback_on_either_side_of_the_command(capsys, where) -> None:
    command = ["summary", "--model", "no_such"]
    assert main(command) == 1
    quiet = capsys.readouterr().err
    assert quiet.startswith("error: models: no model 'no_such'; there are ")
    assert quiet.count("\n") == 1
    assert main(["--verbose", *command] if where == "before" else [*command, "--verbose"]) == 1
    loud = capsys.readouterr().err
    assert "Traceback" in loud
    assert loud.splitlines()[-1] == quiet.strip()


def test_verbose_shows_log_lines() -> None:
    arguments = ("-m", "xpnet", "gradcheck", "--model", "lenet", "--samples", "1")
    settings = {"XPNET_BACKEND": "auto", "XPNET_COMPILED": "off"}
    assert "backend auto: " not in run(*arguments, **settings).stderr
    assert "backend auto: " in run(*arguments, "--verbose", **settings).stderr


def test_a_closed_stdout_leaves_the_result_as_it_is(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # as Python has it after >&-
    assert guarded(lambda: print("unheard") or 0) == 0
    assert guarded(lambda: 1) == 1


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_name_that_the_output_cannot_show_is_no_error(encoding) -> None:
    code = (
        "import sys; from xpnet.cli.guard import guarded\n"
        "sys.exit(guarded(lambda: print('gr\\xf6\\udcff') or 0))\n"  # the last as Python has a byte that is no UTF-8
    )
    shown = "gr\\xf6\\udcff" if encoding == "ascii" else "grö\\udcff"
    process = run("-c", code, PYTHONIOENCODING=encoding)
    assert (process.returncode, process.stdout, process.stderr) == (0, f"{shown}\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGPIPE there")
def test_a_reader_that_goes_is_no_error() -> None:
    code = (
        "import sys; from xpnet.cli.guard import guarded\n"
        "def talk():\n"
        "    for i in range(100000): print(i)\n"
        "    return 0\n"
        "sys.exit(guarded(talk))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == guard.BROKEN_PIPE
    assert errors == ""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child on Windows")
def test_ctrl_c_ends_a_long_command_without_a_traceback() -> None:
    command = [sys.executable, "-u", "-m", "xpnet", "gradcheck", "--model", "resnet20", "--samples", "1000"]
    with started(command, cwd=ROOT) as process:
        assert process.stdout is not None
        assert "resnet20" in process.stdout.readline()
        time.sleep(0.2)
        _, errors = interrupt(process)
    # CPython ends by the signal, whoever handled it, if it came during exec of a text, as Numba's import does;
    # to a shell that is 130 too
    assert process.returncode in (130, -signal.SIGINT), errors
    assert errors == "interrupted\n"


SLOW_TO_LOAD = """
try:
    print("loading", flush=True)
    import time; time.sleep(60)
except BaseException as error:
    raise ImportError("taken for something else") from error
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child on Windows")
@pytest.mark.parametrize(
    "how",
    [("-m", "xpnet"), ("-c", "import sys; from xpnet.__main__ import main; sys.exit(main())")],
    ids=["module", "installed"],
)
def test_ctrl_c_while_modules_are_loaded(tmp_path, how) -> None:
    (tmp_path / "numpy.py").write_text(SLOW_TO_LOAD)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    with started([sys.executable, *how, "doctor"], cwd=tmp_path, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        _, errors = interrupt(process)
    assert process.returncode == guard.INTERRUPTED
    assert errors == "interrupted\n"


def test_ctrl_c_while_the_command_line_is_parsed(monkeypatch, capsys) -> None:
    def parser() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("xpnet.cli._parser", parser)
    assert main(["doctor"]) == guard.INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from xpnet.cli import main\n"
        "assert main(['--help']) == 0\n"
        "heavy = {'torch', 'cupy', 'matplotlib', 'sklearn', 'tqdm', 'safetensors', 'PIL'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    result = run("-c", script)
    assert result.returncode == 0, result.stderr


def test_the_installed_command_is_this_one() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"xpnet": "xpnet.__main__:main"}
