"""Shares of a batch: every row belongs to one rank, pieces are the same for any number of ranks."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet.data import Loader
from xpnet.data.share import PADDING, Share, bounds


@pytest.mark.parametrize("micro_batch", [None, 1, 3, 7, 50])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [1, 5, 13, 32])
def test_every_row_belongs_to_one_rank(n, size, micro_batch) -> None:
    rows = np.random.default_rng(n).permutation(100)[:n]
    pieces: dict[int, list[int]] = {}
    for rank in range(size):
        share = Share(rank, size, micro_batch)
        own, start = share.rows(rows), 0
        for number, count in enumerate(share.sizes(n)):
            pieces.setdefault(number, []).extend(own[start : start + count])
            start += count or PADDING
        assert start == len(own)
    step = micro_batch or n
    assert list(pieces.values()) == [rows[i : i + step].tolist() for i in range(0, n, step)]


def test_parts_differ_by_one_at_most() -> None:
    for n in range(20):
        for size in range(1, 9):
            parts = [bounds(n, rank, size) for rank in range(size)]
            assert [a for a, _ in parts] == [0, *(b for _, b in parts[:-1])]
            assert parts[-1][1] == n
            assert max(b - a for a, b in parts) - min(b - a for a, b in parts) <= 1


def test_a_loader_gives_a_share_of_each_batch_in_its_order() -> None:
    x, t = np.arange(20, dtype=np.float32).reshape(20, 1), np.arange(20)
    whole, part = (Loader(x, t, batch_size=6, seed=3) for _ in range(2))
    part.share = Share(1, 2)
    for (_, expected), (_, found) in zip(whole, part, strict=True):
        start, stop = bounds(len(expected), 1, 2)
        assert found.tolist() == expected.tolist()[start:stop]
    assert (len(part), part.samples) == (len(whole), whole.samples)
