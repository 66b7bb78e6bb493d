"""Run on several ranks by test_faults.py: one of them raises in the middle of a run, or leaves."""

from __future__ import annotations

import sys

import numpy as np

from xpnet.distributed import Communicator, connect, ending_together
from xpnet.layers import Dense
from xpnet.training import Callback, Trainer


class Fail(Callback):
    """Fails on the last rank, where the others are about to wait for it."""

    def __init__(self, comm: Communicator) -> None:
        self.comm = comm

    def on_update(self, trainer: Trainer) -> None:
        if self.comm.rank == self.comm.size - 1 and trainer.optimizer.step == 5:
            if sys.argv[1] == "exit":
                sys.exit(3)
            raise ValueError("no good")


def main() -> None:
    comm = connect("mpi", backend_name="numpy")
    x, t = np.eye(16, dtype=np.float32), np.arange(16)
    run = Trainer(Dense(16), batch_size=4, communicator=comm, callbacks=[Fail(comm)])
    if sys.argv[1] == "uncaught":
        run.fit((x, t), epochs=1000, verbose=False)
    else:
        with ending_together(comm):
            run.fit((x, t), epochs=1000, verbose=False)


if __name__ == "__main__":
    main()
