"""Child processes that do not outlive their test."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator


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
