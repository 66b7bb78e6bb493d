"""What happens to the other ranks when one of them fails: they end too, within seconds, and it is said which it was."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from xpnet.distributed import _watch
from xpnet.distributed.communicator import Communicator

__all__ = ["ending_together", "install"]

READY_WITHIN = 5.0  # seconds that the ranks wait for their watch at most
LET_ROOT_SPEAK = 1.5  # seconds: an error that all ranks have is said once; rank 0 has ended them by then
LET_LAUNCHER_READ = 0.5  # seconds: it ends with the ranks, and passes on only what it has read by then


def install(comm: Communicator) -> None:
    """From now on an exception that nobody catches ends all ranks, and the death of a rank is reported by number.

    `connect` calls it.

    Parameters
    ----------
    comm : Communicator
    """
    if comm.size == 1:
        return
    _start_watch(comm)
    comm.barrier()  # from here on every death is seen
    former = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not comm.is_root:
            time.sleep(LET_ROOT_SPEAK)
        print(f"rank {comm.rank} of {comm.size}:", file=sys.stderr)
        former(kind, error, trace)
        _abort(comm, 1)

    sys.excepthook = hook


@contextlib.contextmanager
def ending_together(comm: Communicator, *, code: int = 1, verbose: bool = False) -> Iterator[None]:
    """Within this block an exception of one rank, or its `sys.exit`, ends all ranks.

    The others would wait for it forever. Its error is printed, on one line, and the exit code of all is `code`.

    Parameters
    ----------
    comm : Communicator
    code : int, default 1
    verbose : bool, default False
        Print the traceback too.

    Examples
    --------
    >>> from xpnet.distributed import SingleCommunicator, ending_together
    >>> with ending_together(SingleCommunicator()):
    ...     pass
    """
    try:
        yield
    except BaseException as error:
        if comm.size == 1:
            raise
        if not comm.is_root:
            time.sleep(LET_ROOT_SPEAK)
        if verbose:
            traceback.print_exc()
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", []))
        text = " ".join(str(error).split())
        print(f"rank {comm.rank} of {comm.size}: {type(error).__name__}: {text}{notes}", file=sys.stderr)
        _abort(comm, code)
        raise


def _abort(comm: Communicator, code: int) -> None:
    if _folder is not None:
        with contextlib.suppress(OSError):
            (_folder / "aborted").touch()
    sys.stderr.flush()
    time.sleep(LET_LAUNCHER_READ)
    comm.abort(code)


_folder: Path | None = None  # of this machine's watch


def _start_watch(comm: Communicator) -> None:
    """Let one process for each machine wait for its ranks, where the system can wait for processes of others."""
    global _folder
    own: Any = (socket.gethostname(), os.getpid(), None)
    if hasattr(os, "pidfd_open") and comm.local_rank == 0 and _folder is None:
        own = (*own[:2], tempfile.mkdtemp(prefix="xpnet-ranks-"))
    everyone = comm.gather_objects(own)
    here = {rank: pid for rank, (host, pid, _) in enumerate(everyone) if host == own[0]}
    folder = next((f for host, _, f in everyone if host == own[0] and f is not None), None)
    if folder is None or _folder is not None:
        return
    _folder = Path(folder)
    if own[2] is not None:
        pairs = [f"{rank}:{pid}" for rank, pid in here.items()]
        command = [sys.executable, "-S", "-E", str(_watch.__file__), folder, own[0], *pairs]
        try:
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
            deadline = time.monotonic() + READY_WITHIN
            while not (_folder / "ready").exists() and time.monotonic() < deadline:
                time.sleep(0.005)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
    atexit.register(_leave, comm.rank)


def _leave(rank: int) -> None:
    """Tell the watch that this rank ends as it should."""
    if _folder is not None:
        with contextlib.suppress(OSError):
            (_folder / f"left-{rank}").touch()
