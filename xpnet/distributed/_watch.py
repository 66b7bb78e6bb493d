"""A process beside the ranks of a machine that says which of them died; started by `xpnet.distributed.faults`.

A launcher that sees a rank die kills the others at once, and MPICH's names a process number only. This process is in a
session of its own and outlives them by the moment it takes to say more. Run as a script, without xpnet.

    python _watch.py FOLDER HOST RANK:PID ...

A rank that ends as it should has left a file ``left-RANK`` in the folder, one that ends all of them ``aborted``.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time

__all__ = ["watch"]

GRACE = 2.0  # seconds for the launcher to end the others before this process does


def watch(folder: str, host: str, pids: dict[int, int]) -> int | None:
    """Wait until a rank dies, and return it after saying so; None if all have ended as they should."""
    epoll = select.epoll()  # its events come in the order in which they happened
    ranks = {}
    for rank, pid in pids.items():
        with contextlib.suppress(ProcessLookupError):  # gone already: its end was no surprise, or it will be seen
            fd = os.pidfd_open(pid)
            ranks[fd] = rank
            epoll.register(fd, select.EPOLLIN)
    while ranks:
        for fd, _ in epoll.poll():
            rank = ranks.pop(fd)
            epoll.unregister(fd)
            if os.path.exists(os.path.join(folder, "aborted")):
                return None
            if not os.path.exists(os.path.join(folder, f"left-{rank}")):
                line = f"xpnet: rank {rank} (process {pids[rank]} on {host}) has died; all ranks are being ended\n"
                os.write(2, line.encode())
                return rank
    return None


def end(pids: dict[int, int]) -> None:
    """End the ranks that a launcher leaves alone."""
    deadline = time.monotonic() + GRACE
    left = [os.pidfd_open(pid) for pid in pids.values() if os.path.exists(f"/proc/{pid}")]
    for fd in left:
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)


if __name__ == "__main__":
    folder_, host_, *pairs = sys.argv[1:]
    pids_ = {int(rank): int(pid) for rank, pid in (pair.split(":") for pair in pairs)}
    try:
        if watch(folder_, host_, pids_) is not None:
            end(pids_)
    finally:
        shutil.rmtree(folder_, ignore_errors=True)
