"""Commands under test: child processes that do not outlive their test, and scripts that need none."""

import contextlib
import io
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

SCRIPTS = Path(__file__).parent.parent / "scripts"


def alone(folder: Path, **variables: str) -> dict[str, str]:
    """Return an environment without settings of xpnet's but these: no network, and a cache below a folder."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("XPNET_")}
    return kept | {"XPNET_CACHE": str(folder / "cache"), "XPNET_OFFLINE": "1", "PYTHONUNBUFFERED": "1"} | variables


@contextlib.contextmanager
def started(*args, **kwargs) -> Iterator[subprocess.Popen]:
    """Run a command with pipes in text mode; killed at the end of the block if it still runs."""
    process = subprocess.Popen(*args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def interrupt(process: subprocess.Popen, timeout: float = 60) -> tuple[str, str]:
    """Send what Ctrl-C does, and return the rest of what the process says."""
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=timeout)


def run_script(folder: Path, name: str, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one of the scripts in a folder as a user does."""
    return subprocess.run(
        [sys.executable, str(SCRIPTS / name), *args],
        cwd=folder,
        env=alone(folder, **variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run_script_here(folder: Path, name: str, *args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """As `run_script`, by `run_here`."""
    return run_here(SCRIPTS / name, *args, cwd=folder, env=alone(folder, **variables))


def run_here(
    script: Path, *args: str, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a script in this process, which has imported what it takes a second or two to import.

    Warnings are errors here. Signals, and what comes on standard error from elsewhere, need a process of their own.
    """
    out, errors, status = io.StringIO(), io.StringIO(), 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(cwd))
        stack.enter_context(mock.patch.dict(os.environ, os.environ if env is None else env, clear=True))
        stack.enter_context(mock.patch.object(sys, "argv", [str(script), *args]))
        stack.enter_context(mock.patch.object(sys, "path", [str(script.parent), *sys.path]))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(errors))
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(bool(end.code))
    return subprocess.CompletedProcess([str(script), *args], status, out.getvalue(), errors.getvalue())
