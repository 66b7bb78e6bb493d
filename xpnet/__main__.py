"""The command ``xpnet``, and ``python -m xpnet`` where it is not on the path.

Nothing is imported before Ctrl-C is taken care of: to load NumPy and the rest takes most of a second.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

__all__ = ["main"]


def main() -> int:
    """Load the command line and run it; see `xpnet.cli.main`."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not so where Ctrl-C is to be ignored
    if usual:
        signal.signal(signal.SIGINT, _end)
    from xpnet.cli import main as command

    if usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return command()


def _end(number: int, frame: FrameType | None) -> None:
    """End as `xpnet.cli.guard` does, at once: an exception in the middle of an import may be taken for another."""
    os.write(2, b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
