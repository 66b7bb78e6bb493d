"""IDX files: what is written comes back, and no file, however hostile, does anything but raise DataError."""

from __future__ import annotations

import gzip
import os
import stat
import struct
import tracemalloc

import numpy as np
import pytest

from xpnet.data import read_idx, write_idx
from xpnet.errors import DataError

DTYPES = ["uint8", "int8", "int16", "int32", "float32", "float64"]
CODES = dict(zip(DTYPES, [0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E], strict=True))


def random_array(rng, dtype, shape):
    raw = rng.integers(-100, 100, shape) if dtype != "uint8" else rng.integers(0, 256, shape)
    return (raw * (300 if dtype in ("int16", "int32") else 1) + (0.25 if dtype[0] == "f" else 0)).astype(dtype)


def header(code, *shape):
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


@pytest.mark.parametrize("name", ["a-idx", "a-idx.gz"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip(tmp_path, dtype, name):
    rng = np.random.default_rng(DTYPES.index(dtype))
    for ndim in range(1, 9):
        shape = tuple(int(n) for n in rng.integers(1, 4, ndim))
        array = random_array(rng, dtype, shape)
        write_idx(tmp_path / name, array)
        back = read_idx(tmp_path / name, ndim=ndim)
        assert back.dtype == np.dtype(dtype)
        assert back.dtype.isnative
        assert back.flags.writeable
        np.testing.assert_array_equal(back, array, strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bytes_are_those_of_the_format(tmp_path, dtype):
    """Against struct, not against write_idx: a swapped byte order on both sides would cancel out."""
    values = [1, 2, 100, 7, 0, 3]
    letter = {"uint8": "B", "int8": "b", "int16": "h", "int32": "i", "float32": "f", "float64": "d"}[dtype]
    content = header(CODES[dtype], 2, 3) + struct.pack(f">6{letter}", *values)
    (tmp_path / "by-hand").write_bytes(content)
    expected = np.array(values, dtype=dtype).reshape(2, 3)
    np.testing.assert_array_equal(read_idx(tmp_path / "by-hand"), expected, strict=True)
    write_idx(tmp_path / "by-us", expected)
    assert (tmp_path / "by-us").read_bytes() == content


def test_gzip_is_told_by_content_not_by_name(tmp_path):
    content = header(8, 3) + b"abc"
    (tmp_path / "packed-without-suffix").write_bytes(gzip.compress(content, mtime=0))
    (tmp_path / "plain.gz").write_bytes(content)
    for name in ("packed-without-suffix", "plain.gz"):
        assert read_idx(tmp_path / name).tobytes() == b"abc"


def test_several_gzip_members_are_one_stream(tmp_path):
    content = header(8, 6) + b"abcdef"
    (tmp_path / "two.gz").write_bytes(gzip.compress(content[:9], mtime=0) + gzip.compress(content[9:]))
    assert read_idx(tmp_path / "two.gz").tobytes() == b"abcdef"


def test_longer_than_one_chunk(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (3, 1000, 1000), dtype=np.uint8)
    for name in ("large", "large.gz"):
        write_idx(tmp_path / name, array)
        np.testing.assert_array_equal(read_idx(tmp_path / name), array)


def test_write_takes_any_order_of_memory_and_bytes(tmp_path):
    array = np.arange(24, dtype=">i4").reshape(4, 6).T[::-1, ::2]
    write_idx(tmp_path / "a", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), array)


def test_empty_arrays(tmp_path):
    for shape in [(0,), (0, 28, 28), (3, 0)]:
        write_idx(tmp_path / "a", np.zeros(shape, np.uint8))
        assert read_idx(tmp_path / "a").shape == shape


def test_gzip_output_is_the_same_every_time(tmp_path):
    array = np.arange(100, dtype=np.int16)
    write_idx(tmp_path / "a.gz", array)
    write_idx(tmp_path / "another-name.gz", array)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "another-name.gz").read_bytes()
    assert (tmp_path / "a.gz").read_bytes()[4:8] == bytes(4)  # where gzip keeps the time


def test_write_that_fails_leaves_the_former_file_and_nothing_else(tmp_path, monkeypatch):
    write_idx(tmp_path / "a", np.arange(3, dtype=np.int32))
    before = (tmp_path / "a").read_bytes()

    def interrupted(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_idx(tmp_path / "a", np.arange(9, dtype=np.int32))
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="permission bits are a matter of POSIX systems")
def test_written_file_has_the_usual_permissions(tmp_path):
    write_idx(tmp_path / "a", np.arange(3, dtype=np.int32))
    (tmp_path / "b").touch()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


@pytest.mark.parametrize("array", [np.arange(3), np.ones(3, bool), np.ones(3, np.complex64), ["a"]])
def test_write_refuses_types_that_idx_lacks(tmp_path, array):
    with pytest.raises(DataError, match="IDX holds"):
        write_idx(tmp_path / "a", array)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("shape", [(), (1,) * 9])
def test_write_refuses_shapes_that_idx_lacks(tmp_path, shape):
    with pytest.raises(DataError, match="1 to 8 dimensions"):
        write_idx(tmp_path / "a", np.zeros(shape, np.uint8))


def test_write_into_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        write_idx(tmp_path / "no" / "a", np.zeros(3, np.uint8))


# --- hostile files -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_every_truncation(tmp_path, dtype):
    rng = np.random.default_rng(1)
    array = random_array(rng, dtype, (2, 3, 4))
    for name in ("a", "a.gz"):
        write_idx(tmp_path / name, array)
        content = (tmp_path / name).read_bytes()
        for length in range(len(content)):
            (tmp_path / "cut").write_bytes(content[:length])
            with pytest.raises(DataError, match="cut"):
                read_idx(tmp_path / "cut")


def test_every_truncation_of_the_content_inside_a_whole_gzip(tmp_path):
    content = header(8, 2, 3) + b"abcdef"
    for length in range(len(content)):
        (tmp_path / "cut").write_bytes(gzip.compress(content[:length], mtime=0))
        with pytest.raises(DataError, match="cut"):
            read_idx(tmp_path / "cut")


@pytest.mark.parametrize(("pack", "match"), [(bytes, "the file has .* too long"), (gzip.compress, "more follow")])
@pytest.mark.parametrize("extra", [b"\0", b"xyz", b"\0" * 5000])
def test_too_long(tmp_path, pack, match, extra):
    (tmp_path / "long").write_bytes(pack(header(8, 3) + b"abc" + extra))
    with pytest.raises(DataError, match=f"long: expected .*{match}"):
        read_idx(tmp_path / "long")


def test_random_headers_raise_nothing_else(tmp_path):
    rng = np.random.default_rng(2)
    path, read, refusals = tmp_path / "fuzz", 0, []
    for case in range(1500):
        content = bytearray(header(int(rng.choice([8, 9, 0x0B])), 2, 2) + b"abcdefgh")
        for _ in range(rng.integers(1, 4)):  # most stay near a good header, where the traps are
            content[rng.integers(0, 12)] = rng.choice([0, 1, 2, 3, 4, 8, 0x0E, 255, rng.integers(256)])
        content = bytes(content[: rng.integers(1, 21)]) if case % 3 else bytes(content)
        path.write_bytes(gzip.compress(content, 1, mtime=0) if case % 2 else content)
        try:
            array = read_idx(path)
        except DataError as error:
            refusals.append(str(error))
        else:
            read += 1
            assert array.nbytes <= 8
    assert 0 < read < 1500
    assert all("fuzz" in message for message in refusals)


def test_random_damage_to_gzip_raises_nothing_else(tmp_path):
    rng = np.random.default_rng(3)
    array = rng.integers(0, 256, (5, 7), dtype=np.uint8)
    write_idx(tmp_path / "good.gz", array)
    good = (tmp_path / "good.gz").read_bytes()
    refused = 0
    for _ in range(1000):
        content = bytearray(good)
        content[rng.integers(2, len(good))] ^= 1 << rng.integers(8)
        (tmp_path / "fuzz").write_bytes(content)
        try:
            back = read_idx(tmp_path / "fuzz")
        except DataError:
            refused += 1
        else:  # a flag or the time in gzip's own header; never the content, which the CRC guards
            np.testing.assert_array_equal(back, array)
    assert refused > 500


def peak_of_refusal(path, match):
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=match):
            read_idx(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_gzip_bomb_is_not_unpacked(tmp_path):
    with gzip.open(tmp_path / "bomb", "wb", compresslevel=1) as file:
        file.write(header(8, 10))
        for _ in range(100):
            file.write(bytes(1 << 20))
    assert peak_of_refusal(tmp_path / "bomb", "more follow") < 2 << 20


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(1 << 30, 1 << 30), (0xFFFFFFFF,) * 8, (1 << 30, 2)])
def test_a_promise_beyond_the_limit(tmp_path, pack, shape):
    (tmp_path / "big").write_bytes(pack(header(8, *shape) + b"abc"))
    assert peak_of_refusal(tmp_path / "big", "limit of 1073741824 bytes; raise max_bytes") < 2 << 20


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_promise_within_the_limit_that_the_file_contradicts(tmp_path, pack):
    (tmp_path / "big").write_bytes(pack(header(8, 1 << 29) + b"abc"))
    assert peak_of_refusal(tmp_path / "big", "truncated") < 2 << 20


@pytest.mark.parametrize("shape", [(0, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0)])
def test_an_empty_shape_too_large_for_numpy(tmp_path, shape):
    (tmp_path / "odd").write_bytes(header(8, *shape))
    with pytest.raises(DataError, match="limit"):
        read_idx(tmp_path / "odd")


def test_max_bytes(tmp_path):
    write_idx(tmp_path / "a", np.zeros(25, np.int32))
    assert read_idx(tmp_path / "a", max_bytes=100).size == 25
    with pytest.raises(DataError, match="limit of 99 bytes"):
        read_idx(tmp_path / "a", max_bytes=99)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n", "89 50 4e 47"),
        (b"\0\0\x0a\x01\0\0\0\0", "00 00 0a 01"),
        (b"\0\x01\x08\x01\0\0\0\0", "00 01 08 01"),
        (b"\0\0\x08\x00", "the header says 0"),
        (b"\0\0\x08\x09" + bytes(36), "the header says 9"),
        (b"\0\0\x08\x02\0\0\0\1", "header of 12 bytes, the file ends after 8"),
        (b"\x1f\x8b", "gzip stream is truncated or corrupt"),
        (gzip.compress(b"", mtime=0), "the file is empty"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\1a", mtime=0) + b"junk", "gzip stream is truncated or corrupt"),
    ],
)
def test_messages(tmp_path, content, match):
    (tmp_path / "bad-file").write_bytes(content)
    with pytest.raises(DataError, match=rf"bad-file: .*{match}.*(replace|check)"):
        read_idx(tmp_path / "bad-file")


def test_wrong_number_of_dimensions(tmp_path):
    write_idx(tmp_path / "labels", np.zeros(3, np.uint8))
    with pytest.raises(DataError, match=r"labels: expected 3 dimension\(s\), the header says 1; .*swapped"):
        read_idx(tmp_path / "labels", ndim=3)


def test_what_is_no_file(tmp_path):
    with pytest.raises(DataError, match="nowhere: cannot be read"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no regular file"):
        read_idx(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="no regular file"):
        read_idx(tmp_path / "pipe")
