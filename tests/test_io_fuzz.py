"""Damaged and hostile safetensors files: nothing but WeightsError, the model untouched, no memory beyond the file's."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnet import backend
from xpnet.errors import WeightsError
from xpnet.io import load_weights
from xpnet.layers import BatchNorm, Dense, Sequential

safetensors = pytest.importorskip("safetensors.numpy")


def small_model(seed: int) -> Sequential:
    with backend.using("numpy"):
        return Sequential(Dense(2), BatchNorm(), Dense(2)).build((3,), rng=seed)


GOOD = safetensors.save(small_model(1).state_dict(), metadata={"xpnet": "{}"})
DTYPES = ["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F4", "C64", "I64", "I32", "U64", "U8", "BOOL", "F33", 7]


def split(content: bytes) -> tuple[dict, bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: object, data: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(**changes: object) -> bytes:
    """The good file with the header's entry of one array changed."""
    header, data = split(GOOD)
    header["0.W"] |= changes
    return joined(header, data)


def load(path: Path, content: bytes) -> bool:
    """Load into a model; tell whether it took the weights, which must then be those of the file."""
    path.write_bytes(content)
    model = small_model(2)
    before = model.state_dict()
    try:
        load_weights(model, path)
    except WeightsError as error:
        assert str(error).startswith(f"{path}: ")  # noqa: PT017 (not every file is refused)
        assert all(np.array_equal(a, before[name]) for name, a in model.state_dict().items())
        return False
    return True


def test_the_good_file_loads(tmp_path) -> None:
    assert load(tmp_path / "w.safetensors", GOOD)


LIES = {
    **{f"type {dtype}": entry(dtype=dtype) for dtype in DTYPES if dtype not in ("F32", "I32")},
    "huge shape": entry(shape=[2**40, 2**40]),
    "huge shape of nothing": entry(shape=[2**62, 0]),
    "negative shape": entry(shape=[-3, -2]),
    "shape of floats": entry(shape=[3.0, 2.0]),
    "shape as text": entry(shape="3, 2"),
    "shape of many axes": entry(shape=[3, 2, *[1] * 100]),
    "another shape": entry(shape=[2, 3]),
    "offsets beyond the end": entry(data_offsets=[0, 2**62]),
    "offsets backwards": entry(data_offsets=[24, 0]),
    "one offset": entry(data_offsets=[0]),
    "negative offsets": entry(data_offsets=[-24, 0]),
    "a list": joined([], b""),
    "nothing": joined({}, b""),
    "null": joined(None, b""),
    "deep lists": joined(b"[" * 100_000, b""),
    "deep dictionaries": joined(b'{"a":' * 100_000, b""),
    "header of 2^63 bytes": joined(b"{}", b"", length=2**63),
    "header of 2^64 bytes": joined(b"{}", b"", length=2**64 - 1),
    "metadata of another kind": joined({"__metadata__": 3}, b""),
    "a long name": joined({"x" * 100_000: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}, b""),
    "many empty arrays": joined(
        {str(i): {"dtype": "F32", "shape": [2**30, 0], "data_offsets": [0, 0]} for i in range(1000)}, b""
    ),
}


@pytest.mark.parametrize("case", LIES)
def test_lies_in_the_header_are_refused_with_little_memory(tmp_path, case) -> None:
    content = LIES[case]
    tracemalloc.start()
    try:
        assert not load(tmp_path / "w.safetensors", content)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(content) + 1e6
    finally:
        tracemalloc.stop()


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good file with bytes of header or data changed, parts taken out, doubled or cut off."""
    content = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        how = draw(st.sampled_from(["byte", "digit", "cut", "double", "drop"]))
        if how in ("byte", "digit"):
            content[at : at + 1] = bytes([draw(st.integers(48, 57) if how == "digit" else st.integers(0, 255))])
        elif how == "cut":
            del content[at:]
        elif how == "double":
            content[at:at] = content[at : at + draw(st.integers(1, 20))]
        else:
            del content[at : at + draw(st.integers(1, 20))]
    return bytes(content)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(DTYPES),
        "shape": st.lists(st.integers(-1, 4) | st.integers(), max_size=4),
        "data_offsets": st.lists(st.integers(0, 64) | st.integers(), min_size=2, max_size=2),
    }
)


@settings(max_examples=150)
@given(content=mutated())
def test_mutated_files_are_loaded_or_refused(tmp_path, content) -> None:
    load(tmp_path / "w.safetensors", content)


@settings(max_examples=100)
@given(changes=st.dictionaries(st.sampled_from(sorted(split(GOOD)[0])), ENTRY | JSON, max_size=3), data=st.data())
def test_headers_of_any_content_are_loaded_or_refused(tmp_path, changes, data) -> None:
    header, arrays = split(GOOD)
    load(tmp_path / "w.safetensors", joined(header | changes, arrays[: data.draw(st.integers(0, len(arrays)))]))
