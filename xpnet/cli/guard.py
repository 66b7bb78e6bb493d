"""What becomes of an error on the command line: one line and an exit code, not a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from xpnet._interrupt import Termination
from xpnet.errors import BackendUnavailableError, MissingDependencyError, OperationError

__all__ = ["BROKEN_PIPE", "FAILED", "INTERRUPTED", "TERMINATED", "UNUSABLE", "guarded", "interrupted"]

FAILED = 1
UNUSABLE = 2  # what argparse returns for a command line that it cannot parse, too
INTERRUPTED = 130  # the shell's code for a process that Ctrl-C ended
TERMINATED = 143  # for one that SIGTERM ended
BROKEN_PIPE = 141  # and for one whose reader has gone

REMEDIES = {  # after what the system says of a file
    errno.ENOENT: "; check the path",
    errno.EACCES: "; check the permissions, or name another place",
    errno.EROFS: "; name another place",
    errno.ENOSPC: "; make room, or name another place",
}


def guarded(function: Callable[..., int], *args: Any, verbose: bool = False) -> int:
    """Call a function and return its exit code; what can go wrong ends in one line on stderr and a code of its own.

    Parameters
    ----------
    function : callable
        Returns an exit code.
    *args
        What it is called with.
    verbose : bool, default False
        Show the traceback too.

    Returns
    -------
    int
        That of the function; 2 if the backend cannot be used, 1 for errors of xpnet, of files, values and memory, 130
        after Ctrl-C, 143 after SIGTERM, which is a Ctrl-C while the function runs, 141 (and silence) where the reader
        of the output has gone, as in ``xpnet doctor | head -1``.

    Examples
    --------
    >>> from xpnet.cli.guard import guarded
    >>> guarded(lambda n: n, 0)
    0
    """
    _print_any_name()
    termination = Termination()
    try:
        with termination:
            code = function(*args)
        if sys.stdout is not None:  # as it is where the shell has closed it: >&-
            sys.stdout.flush()
    except KeyboardInterrupt:
        if termination.received:
            return _report("terminated", TERMINATED, verbose)
        return interrupted(verbose=verbose)
    except BackendUnavailableError as error:
        return _report(f"error: {_describe(error)}", UNUSABLE, verbose)
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):  # or Python complains again when it flushes at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (OperationError, MissingDependencyError, OSError, ValueError, MemoryError) as error:
        return _report(f"error: {_describe(error)}", FAILED, verbose)
    return TERMINATED if code == INTERRUPTED and termination.received else code


def interrupted(*, verbose: bool = False) -> int:
    """Say that Ctrl-C has come, and return its exit code."""
    return _report("interrupted", INTERRUPTED, verbose)


def _print_any_name() -> None:
    """Have characters that the output's encoding lacks, as in the name of a file, printed as escapes, not as an error.

    Python does so on stderr by itself. A way that it has on stdout, as in the locale C, stays.
    """
    if getattr(sys.stdout, "errors", None) == "strict" and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _describe(error: BaseException) -> str:
    notes = getattr(error, "__notes__", [])
    said = f"{error}"
    if isinstance(error, OSError) and error.strerror and error.filename2 is None:  # Python's own begins with a number
        said = f"{error.filename}: {error.strerror}" if isinstance(error.filename, str) else error.strerror
        said += REMEDIES.get(error.errno or 0, "")
    return " ".join(said.split()) + "".join(f" ({note})" for note in notes) or type(error).__name__


def _report(line: str, code: int, verbose: bool) -> int:
    if verbose:
        traceback.print_exc()
    print(line, file=sys.stderr)
    return code
