"""CIFAR: files made byte by byte, as a folder and as archives of the standard library, and the real images."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from xpnet import data
from xpnet.data import _download, read_cifar
from xpnet.data._sources import CIFAR10, CIFAR100
from xpnet.errors import DataError

pytestmark = pytest.mark.usefixtures("nothing_found")
REAL = Path(os.environ.get("XPNET_DATA", ""), "cifar10", "cifar10-jpeg.npz")  # read before a test changes it
TRAIN10 = [f"data_batch_{i}.bin" for i in range(1, 6)]
FOLDERS = {10: "cifar-10-batches-bin", 100: "cifar-100-binary"}


def records(rng, n, limits):
    """n records as bytes, with the labels and pixels that are in them."""
    labels = np.stack([rng.integers(0, limit, n) for limit in limits], axis=1)
    pixels = rng.integers(0, 256, (n, 3, 32, 32))
    content = b"".join(bytes(row.tolist()) + bytes(x.ravel().tolist()) for row, x in zip(labels, pixels, strict=True))
    return content, labels, pixels


def make(classes, sizes=(2, 1, 3, 1, 2, 2), seed=0):
    """The files of CIFAR-10 or CIFAR-100, and what a reader should find in them."""
    rng = np.random.default_rng(seed)
    names, limits = ([*TRAIN10, "test_batch.bin"], [10]) if classes == 10 else (["train.bin", "test.bin"], [20, 100])
    made = {name: records(rng, n, limits) for name, n in zip(names, sizes, strict=False)}
    files = {name: content for name, (content, _, _) in made.items()}
    train = [made[name] for name in names[:-1]]
    test = made[names[-1]]
    x = np.concatenate([pixels for _, _, pixels in train]).astype(np.uint8)
    t = np.concatenate([labels for _, labels, _ in train])
    return files, (x, t, test[2].astype(np.uint8), test[1])


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def pack(files, folder="some-folder", mode="w:gz", format=tarfile.GNU_FORMAT):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode, format=format) as archive:
        top = tarfile.TarInfo(folder)
        top.type = tarfile.DIRTYPE
        archive.addfile(top)
        for name, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def assert_found(found, expected, column=0):
    x_train, t_train, x_test, t_test = expected
    np.testing.assert_array_equal(found.x_train, x_train, strict=True)
    np.testing.assert_array_equal(found.t_train, t_train[:, column].astype(np.int64), strict=True)
    np.testing.assert_array_equal(found.x_test, x_test, strict=True)
    np.testing.assert_array_equal(found.t_test, t_test[:, column].astype(np.int64), strict=True)
    assert found.max_value == 255.0


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "labels", "column"), [(10, "fine", 0), (100, "fine", 1), (100, "coarse", 0)])
@pytest.mark.parametrize("form", ["folder", "w:gz", "w", "pax", "ustar"])
def test_published_forms(tmp_path, classes, labels, column, form):
    files, expected = make(classes)
    files |= {"readme.html": b"<html>", "._train.bin": b"resource fork"}
    if form == "folder":
        path = write(tmp_path / "anything", files)
    else:
        path = tmp_path / "archive"
        options = {
            "pax": {"format": tarfile.PAX_FORMAT, "folder": "ünïcode"},
            "ustar": {"format": tarfile.USTAR_FORMAT, "folder": "a" * 60 + "/" + "b" * 60},
        }
        path.write_bytes(pack(files, **options.get(form, {"mode": form})))
    found = read_cifar(path, labels=labels)
    assert_found(found, expected, column)
    assert found.name == f"cifar{classes}"
    assert len(found.classes) == {("fine", 10): 10, ("fine", 100): 100, ("coarse", 100): 20}[labels, classes]


def test_the_order_in_an_archive_does_not_matter(tmp_path):
    files, expected = make(10)
    (tmp_path / "a.tar.gz").write_bytes(pack(dict(sorted(files.items(), reverse=True))))
    assert_found(read_cifar(tmp_path / "a.tar.gz"), expected)


def test_classes(tmp_path):
    folder = write(tmp_path / "a", make(10)[0])
    assert read_cifar(folder).classes[::9] == ("airplane", "truck")
    (folder / "batches.meta.txt").write_bytes(b"a\nb\r\nc c\nd\ne\nf\ng\nh\ni\nj\xc3\xa4\n\n")
    assert read_cifar(folder).classes == ("a", "b", "c c", "d", "e", "f", "g", "h", "i", "jä")
    folder = write(tmp_path / "b", make(100)[0])
    assert read_cifar(folder).classes[::33] == ("apple", "forest", "raccoon", "worm")
    assert read_cifar(folder, labels="coarse").classes[::19] == ("aquatic_mammals", "vehicles_2")
    (folder / "coarse_label_names.txt").write_text("\n".join(f"group {i}" for i in range(20)))
    assert read_cifar(folder, labels="coarse").classes[3] == "group 3"
    assert read_cifar(folder).classes[3] == "bear"


@pytest.mark.parametrize(("classes", "labels"), [(10, "coarse"), (100, "medium"), (10, None)])
def test_no_such_labels(tmp_path, classes, labels):
    with pytest.raises(ValueError, match=rf"cifar{classes}: labels is {labels!r}; choose from 'fine'"):
        read_cifar(write(tmp_path, make(classes)[0]), labels=labels)


@pytest.mark.parametrize(
    ("classes", "change", "match"),
    [
        (10, {"data_batch_3.bin": None}, "data_batch_3.bin of cifar10 is missing"),
        (10, {"test_batch.bin": None}, "test_batch.bin of cifar10 is missing"),
        (100, {"test.bin": None}, "test.bin of cifar100 is missing"),
        (10, {"train.bin": b""}, "found both"),
        (100, {"train.bin": None, "test.bin": None}, "found neither"),
        (10, {"data_batch_2.bin": b""}, r"data_batch_2.bin: expected records of 3073 bytes .* has 0 bytes"),
        (10, {"test_batch.bin": bytes(3073 * 2 - 1)}, r"test_batch.bin: .* has 6145 bytes"),
        (100, {"train.bin": bytes(3073)}, r"train.bin: expected records of 3074 bytes"),
        (10, {"data_batch_5.bin": bytes(3073) + b"\n" + bytes(3072)}, "_5.bin: the label of record 1 is 10; .* 0 to 9"),
        (100, {"train.bin": b"\0\x64" + bytes(3072)}, "train.bin: the label of record 0 is 100; expected 0 to 99"),
        (10, {"batches.meta.txt": b"a\nb\n"}, "batches.meta.txt: expected the names of 10 classes, .* found 2"),
        (10, {"batches.meta.txt": b"\xff\xfe"}, "batches.meta.txt: expected .* UTF-8"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_files_that_do_not_fit(tmp_path, classes, change, match, packed):
    files = {name: content for name, content in (make(classes)[0] | change).items() if content is not None}
    path = tmp_path / "path"
    if packed:
        path.write_bytes(pack(files))
    else:
        write(path, files)
    with pytest.raises(DataError, match=f"path.*{match}"):
        read_cifar(path)


def test_what_is_no_file(tmp_path):
    with pytest.raises(DataError, match="nowhere: cannot be read"):
        read_cifar(tmp_path / "nowhere")
    folder = write(tmp_path / "a", make(100)[0])
    (folder / "test.bin").unlink()
    (folder / "test.bin").mkdir()
    with pytest.raises(DataError, match=r"test\.bin: expected a file of CIFAR, but this is no regular file"):
        read_cifar(folder)


# --- archives that lie ---------------------------------------------------------------------------


def refusal(path, match, peak=4 << 20, **options):
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=match):
            read_cifar(path, **options)
        assert tracemalloc.get_traced_memory()[1] < peak
    finally:
        tracemalloc.stop()


def header(name, size, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("wrap", [bytes, gzip.compress])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.GNUTYPE_SPARSE])
@pytest.mark.parametrize("size", [200 << 20, 8 << 30, 1 << 40])
def test_a_member_that_promises_what_is_not_there(tmp_path, wrap, kind, size):
    (tmp_path / "liar").write_bytes(wrap(header("train.bin", size, kind) + bytes(1024)))
    refusal(tmp_path / "liar", r"liar.*(promises|truncated|no octal)")


def test_a_bomb_is_not_unpacked(tmp_path):
    with gzip.open(tmp_path / "bomb", "wb", compresslevel=1) as file:
        file.write(header("other", 1 << 29))
    refusal(tmp_path / "bomb", "promises 536870912 bytes, more than the 268435456")
    with gzip.open(tmp_path / "bomb", "wb", compresslevel=1) as file:
        file.write(bytes(1024))
        for _ in range(20):
            file.write(bytes(1 << 20))
    refusal(tmp_path / "bomb", "more follows the end", max_bytes=8 << 20)


def test_max_bytes(tmp_path):
    files, expected = make(100)
    total = sum(map(len, files.values()))
    folder = write(tmp_path / "a", files)
    (tmp_path / "a.tar.gz").write_bytes(pack(files))
    for path in (folder, tmp_path / "a.tar.gz"):
        assert_found(read_cifar(path, max_bytes=total), expected, 1)
        with pytest.raises(DataError, match=f"max_bytes={total - 1}"):
            read_cifar(path, max_bytes=total - 1)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_links_and_devices_are_not_followed(tmp_path, kind):
    (tmp_path / "secret").write_bytes(make(100)[0]["test.bin"])
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        info = tarfile.TarInfo("train.bin")
        content = make(100)[0]["train.bin"]
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
        info = tarfile.TarInfo("test.bin")
        info.type, info.linkname = kind, str(tmp_path / "secret")
        archive.addfile(info)
    (tmp_path / "a.tar").write_bytes(target.getvalue())
    with pytest.raises(DataError, match=r"test\.bin of cifar100 is missing"):
        read_cifar(tmp_path / "a.tar")


def test_paths_in_an_archive_lead_nowhere(tmp_path):
    files, expected = make(100)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.tar").write_bytes(pack(files, folder="../../.."))
    assert_found(read_cifar(tmp_path / "a" / "a.tar"), expected, 1)
    assert [file.name for file in tmp_path.rglob("*")] == ["a", "a.tar"]


def test_a_name_that_comes_twice(tmp_path):
    files, _ = make(100)
    (tmp_path / "a.tar").write_bytes(pack({f"one/{k}": v for k, v in files.items()} | files, mode="w"))
    with pytest.raises(DataError, match=r"train\.bin is in the archive twice"):
        read_cifar(tmp_path / "a.tar")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", bytes(600), b"x" * 512, gzip.compress(b"x" * 2000, mtime=0)],
    ids=["empty", "zip", "zeros", "text", "gzip of text"],
)  # fmt: skip
def test_what_is_no_archive(tmp_path, content):
    (tmp_path / "bad-file").write_bytes(content)
    with pytest.raises(DataError, match="bad-file"):
        read_cifar(tmp_path / "bad-file")


# --- finding -------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("place", ["data/cifar{0}", "data", "data/cifar-{0}", "cache/cifar{0}"])
@pytest.mark.parametrize("form", ["folder", "tar.gz", "tar"])
def test_found_in_every_place(tmp_path, classes, place, form):
    files, expected = make(classes)
    base = tmp_path / place.format(classes)
    if form == "folder":
        write(base / FOLDERS[classes], files)
    else:
        base.mkdir(parents=True)
        (base / f"cifar-{classes}-binary.{form}").write_bytes(pack(files, mode="w:gz" if form == "tar.gz" else "w"))
    load = data.cifar10 if classes == 10 else data.cifar100
    assert_found(load(), expected, int(classes == 100))
    if place.startswith("data"):
        assert_found(load(root=tmp_path / "data"), expected, int(classes == 100))


def test_loose_files(tmp_path, monkeypatch):
    files, expected = make(100)
    write(tmp_path / "data", files)
    with pytest.raises(DataError, match="was not found"):
        data.cifar100()
    write(tmp_path / "data" / "cifar-100", files)
    assert_found(data.cifar100(), expected, 1)
    folder = write(tmp_path / "cifar-100-binary", files)
    monkeypatch.setenv("XPNET_DATA", str(folder))
    assert_found(data.cifar100(labels="coarse"), expected, 0)
    assert_found(data.cifar100(root=folder), expected, 1)


def test_not_found(tmp_path, monkeypatch):
    with pytest.raises(DataError) as caught:
        data.cifar100()
    message = str(caught.value)
    assert "cifar-100-binary.tar (or cifar-100-binary.tar.gz) was not found" in message
    assert message.count("no network in tests") == len(CIFAR100.mirrors) > 1
    assert (
        f"put this file, or the folder cifar-100-binary that is in it, into {tmp_path / 'data' / 'cifar100'}" in message
    )
    with pytest.raises(DataError, match="nothing is downloaded where root is given"):
        data.cifar10(root=tmp_path)
    monkeypatch.setenv("XPNET_OFFLINE", "1")
    with pytest.raises(DataError, match="XPNET_OFFLINE is set"):
        data.cifar10()
    with pytest.raises(ValueError, match="labels is 'corse'; choose from 'fine', 'coarse'"):
        data.cifar100(labels="corse")


def test_download(tmp_path, monkeypatch):
    files, expected = make(10)
    content, opened = pack(files, folder=FOLDERS[10]), []

    class Response(io.BytesIO):
        headers = {}  # noqa: RUF012

    def serve(url, timeout):
        opened.append(url)
        return Response(content if len(opened) > 1 else content[:-1])

    checksum = hashlib.md5(content, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(data.cifar10.__globals__, "CIFAR10", CIFAR10._replace(checksum=checksum))
    monkeypatch.setattr(_download, "_open", serve)
    assert_found(data.cifar10(), expected)
    assert opened == [f"{mirror}cifar-10-binary.tar.gz" for mirror in CIFAR10.mirrors[:2]]  # the first was cut short
    assert [file.name for file in (tmp_path / "cache").rglob("*.*")] == ["cifar-10-binary.tar.gz"]
    assert_found(data.cifar10(), expected)
    assert len(opened) == 2


# --- the real images -----------------------------------------------------------------------------


@pytest.mark.skipif(not REAL.is_file(), reason="XPNET_DATA names no folder with cifar10/cifar10-jpeg.npz in it")
def test_images_of_the_jpeg_copy(tmp_path):
    """A few of each file, in the binary form: as Pillow decodes them."""
    image = pytest.importorskip("PIL.Image")
    with np.load(REAL) as stored:
        parts = {
            part: [stored[f"{part}_{kind}"] for kind in ("bytes", "offsets", "labels")] for part in ("train", "test")
        }

    def record(part, i):
        content, offsets, labels = parts[part]
        with image.open(io.BytesIO(content[offsets[i] : offsets[i + 1]].tobytes())) as picture:
            return int(labels[i]), np.asarray(picture.convert("RGB"))

    for k, name in enumerate([*TRAIN10, "test_batch.bin"]):
        part, start = ("train", 10_000 * k) if k < 5 else ("test", 0)
        rows = [record(part, i) for i in range(start, start + 8)]
        (tmp_path / name).write_bytes(b"".join(bytes([t]) + x.transpose(2, 0, 1).tobytes() for t, x in rows))
    found = read_cifar(tmp_path)
    assert str(found) == "<Dataset cifar10: 40 train, 8 test, (3, 32, 32) uint8 0..255, 10 classes>"
    np.testing.assert_array_equal(found.t_test, parts["test"][2][:8])
    for i in (0, 7, 21, 39):
        np.testing.assert_array_equal(
            found.x_train[i].transpose(1, 2, 0), record("train", 10_000 * (i // 8) + i % 8)[1]
        )
