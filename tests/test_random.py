"""Random numbers: an independent Philox in plain Python, and that streams are reproducible and differ."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from xpnet.random import generator, keep_mask

MASK = 2**64 - 1


def philox(counter, key):
    """Philox4x64-10 as Salmon et al. (2011) publish it: ten rounds on four words under a key of two."""
    x, k = list(counter), list(key)
    for _ in range(10):
        a, b = x[0] * 0xD2E7470EE14C6C93, x[2] * 0xCA5A826395121157
        x = [(b >> 64) ^ x[1] ^ k[0], b & MASK, (a >> 64) ^ x[3] ^ k[1], a & MASK]
        k = [(k[0] + 0x9E3779B97F4A7C15) & MASK, (k[1] + 0xBB67AE8584CAA73B) & MASK]
    return x


def test_the_philox_of_this_file_gives_the_published_numbers():
    """Known answers of Random123: all zero, all one, and digits of pi."""
    assert philox([0] * 4, [0] * 2) == [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert philox([MASK] * 4, [MASK] * 2) == [
        0x87B092C3013FE90B,
        0x438C3C67BE8D0224,
        0x9CC7D7C69CD777B6,
        0xA09CAEBF594F0BA0,
    ]


def expected_mask(count, rate, seed, stream, step):
    """The formula of keep_mask's documentation, word by word."""
    words = []
    for k in range(-(-count // 8)):
        for output in philox([k + 1, 0, step, 0], [seed, stream]):
            words += [output & 0xFFFFFFFF, output >> 32]
    return [word >= round(rate * 2**32) for word in words[:count]]


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.999, 1 - 2**-40])
@pytest.mark.parametrize("seed, stream, step", [(0, 0, 0), (1, 2, 3), (2**64 - 1, 2**64 - 1, 2**64 - 1), (7, 0, 2**40)])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4, 5)])
def test_mask_by_an_independent_philox(shape, seed, stream, step, rate):
    mask = keep_mask(shape, rate, seed, stream, step)
    assert (mask.shape, mask.dtype) == (shape, np.bool_)
    assert mask.ravel().tolist() == expected_mask(math.prod(shape), rate, seed, stream, step)


def test_the_same_mask_for_the_same_arguments():
    np.testing.assert_array_equal(keep_mask((50, 3), 0.5, 1, 2, 3), keep_mask([50, 3], 0.5, 1, 2, 3))
    np.testing.assert_array_equal(keep_mask((150,), 0.5, 1, 2, 3), keep_mask((50, 3), 0.5, 1, 2, 3).ravel())
    np.testing.assert_array_equal(keep_mask((10,), 0.5, 1, 2, 3), keep_mask((150,), 0.5, 1, 2, 3)[:10])


def test_a_word_equal_to_the_threshold_is_kept():
    word = philox([1, 0, 3, 0], [1, 2])[0] & 0xFFFFFFFF
    assert keep_mask((1,), word / 2**32, 1, 2, 3).tolist() == [True]
    assert keep_mask((1,), (word + 1) / 2**32, 1, 2, 3).tolist() == [False]


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate(rate):
    n = 200_000
    dropped = n - int(keep_mask((n,), rate, 3, 1, 4).sum())
    assert abs(dropped - rate * n) < 5 * math.sqrt(n * rate * (1 - rate))


def test_masks_of_other_seeds_streams_and_steps_are_independent():
    masks = [keep_mask((4096,), 0.5, *a) for a in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1))]
    for a, b in itertools.combinations(masks, 2):
        assert abs(int((a == b).sum()) - 2048) < 5 * 32


# --- generator -----------------------------------------------------------------------------------


def test_generator_is_reproducible_and_streams_differ():
    draws = {
        arguments: generator(*arguments).integers(0, 2**63)
        for arguments in ((0,), (0, 1), (0, 2), (1,), (1, 1), (0, 0, 0), (0, 0, 1), (0, 1, 0))
    }
    assert len(set(draws.values())) == len(draws)
    for arguments, drawn in draws.items():
        assert generator(*arguments).integers(0, 2**63) == drawn
    assert generator(5).random() == generator(5, 0).random() == generator(np.uint8(5)).random()


def test_generator_is_philox_keyed_by_seed_and_stream():
    """The first raw output of NumPy's Philox is of counter 1."""
    assert generator(7, 9).bit_generator.random_raw(4).tolist() == philox([1, 0, 0, 0], [7, 9])
    assert generator(7, 9, 5).bit_generator.random_raw(4).tolist() == philox([1, 0, 5, 1], [7, 9])
    assert generator(7, 0, 2**64 - 1).bit_generator.random_raw(4).tolist() == philox([1, 0, 2**64 - 1, 1], [7, 0])


def test_a_generator_passes_through():
    given = np.random.default_rng(0)
    assert generator(given) is given
    assert generator(given, 3) is given


@pytest.mark.parametrize(
    "arguments",
    [(-1,), (2**64,), (1.5,), ("1",), (None,), (0, -1), (0, 1.0), (0, 1, -2), (0, 1, 2, -3), (0, 1, 2, 3, 4)],
)
def test_generator_refusals(arguments):
    with pytest.raises(
        ValueError,
        match=r"^seed and stream must be integers from 0 to 2\*\*64 - 1 .*, at most three numbers of a stream; got",
    ):
        generator(*arguments)
