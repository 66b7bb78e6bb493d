"""What holds of every augmentation: types, devices, memory order, seeds, labels, settings, and text."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import backend, errors
from xpnet.data import Loader, augment
from xpnet.data.augment import (
    AffineParams,
    Brightness,
    Compose,
    Contrast,
    Cutout,
    HorizontalFlip,
    MixUp,
    Normalize,
    RandomAffine,
    RandomCrop,
    RandomShift,
    Rotation,
    Scaling,
    VerticalFlip,
)

EACH = [
    RandomCrop(2),
    RandomCrop(2, size=(3, 4), mode="reflect"),
    RandomShift(0.3),
    HorizontalFlip(),
    VerticalFlip(0.3),
    RandomAffine(20, (0.7, 1.3), 0.1, fill=0.5),
    Rotation(45),
    Scaling((0.5, 1.5)),
    Brightness(0.3, clip=(0, 1)),
    Contrast(0.3),
    Cutout(3),
    MixUp(0.8, classes=4),
    Normalize((0.1, 0.2), (0.3, 0.4)),
    Compose(RandomCrop(1, size=5), HorizontalFlip(), MixUp(classes=4), Rotation(10)),
]
each = pytest.mark.parametrize("change", EACH, ids=[f"{i}-{type(a).__name__}" for i, a in enumerate(EACH)])


def batch(n=5, dtype=np.float32, shape=(2, 6, 8)):
    rng = np.random.default_rng(1)
    return rng.random((n, *shape)).astype(dtype), rng.integers(0, 4, n)


@each
@pytest.mark.parametrize("n", [1, 5])
def test_on_every_backend_as_on_numpy(xp, change, n):
    x, t = batch(n)
    given, labels = xp.asarray(x), xp.asarray(t)
    y, u = change(given, labels, np.random.default_rng(7))
    with backend.using("numpy"):
        expected, expected_t = change(x, t, np.random.default_rng(7))
    assert tuple(y.shape) == (n, *change.output_shape(x.shape[1:]))
    assert y.dtype == given.dtype
    np.testing.assert_allclose(xp.to_numpy(y), expected, atol=1e-5)
    np.testing.assert_allclose(xp.to_numpy(u), expected_t, atol=1e-6)
    np.testing.assert_array_equal(xp.to_numpy(given), x)
    np.testing.assert_array_equal(xp.to_numpy(labels), t)


@each
@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_types_are_kept(change, dtype):
    x, t = batch(dtype=dtype)
    y, u = change(x, t, np.random.default_rng(7))
    assert y.dtype == dtype
    assert u.dtype in (np.int64, np.dtype(dtype))
    single, _ = change(x.astype(np.float32), t, np.random.default_rng(7))
    np.testing.assert_allclose(y, single, atol=2e-3 if dtype == "float16" else 1e-5)


@each
def test_bfloat16(change):
    torch = pytest.importorskip("torch")
    x, t = batch()
    y, _ = change(torch.asarray(x).bfloat16(), torch.asarray(t), np.random.default_rng(7))
    assert y.dtype == torch.bfloat16
    single, _ = change(x, t, np.random.default_rng(7))
    np.testing.assert_allclose(y.float().numpy(), single, atol=0.05)


@each
def test_any_strides_and_the_batch_stays_innermost(change):
    x, t = batch()
    inner = np.ascontiguousarray(x.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
    odd = np.repeat(x, 2, axis=3)[:, ::-1, :, ::2][:, ::-1]
    expected, _ = change(x, t, np.random.default_rng(7))
    for given in (inner, odd):
        y, _ = change(given, t, np.random.default_rng(7))
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    y, _ = change(inner, t, np.random.default_rng(7))
    assert y.transpose(1, 2, 3, 0).flags.c_contiguous


@each
def test_labels_of_every_kind_pass(change):
    x, t = batch()
    soft = np.eye(4, dtype=np.float32)[t]
    same, u = change(x, soft, np.random.default_rng(7))
    y, v = change(x, t, np.random.default_rng(7))
    np.testing.assert_array_equal(same, y)
    if v.ndim == 2:
        np.testing.assert_allclose(u, v, atol=1e-6)
        np.testing.assert_allclose(v.sum(axis=1), 1.0, rtol=1e-6)
    else:
        assert u is soft
        assert v is t


@each
def test_the_seed_decides(change):
    x, t = batch()
    first, again = (change(x, t, np.random.default_rng(7))[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(change(x, t, 3)[0], change(x, t, 3)[0])
    if not isinstance(change, Normalize):
        rng = np.random.default_rng(7)
        change(x, t, rng)
        assert not np.array_equal(first, change(x, t, rng)[0]), "the next batch gets other numbers"


@each
def test_what_is_no_batch_of_float_images_is_refused(change):
    x, t = batch()
    rng = np.random.default_rng(0)
    with pytest.raises(errors.DTypeError, match="floating-point"):
        change(x.astype(np.uint8), t, rng)
    with pytest.raises(errors.DTypeError, match="expected an array, got list"):
        change([[1.0]], t, rng)
    with pytest.raises(errors.ShapeError, match=r"4 axes \(N, C, H, W\)"):
        change(x[0], t, rng)
    with pytest.raises(errors.ShapeError, match="t has shape"):
        change(x, t[:-1], rng)
    with pytest.raises(errors.DTypeError, match="t: expected an array"):
        change(x, list(t), rng)
    with pytest.raises(ValueError, match="seed"):
        change(x, t, "seven")
    for error in (errors.DTypeError, errors.ShapeError):
        name = type(change).__name__
        with pytest.raises(error, match=f"^{name}: "):
            change(x.astype(np.uint8) if error is errors.DTypeError else x[0], t, rng)


def test_parameters_of_another_batch_are_refused():
    x, _ = batch(3)
    for change in (a for a in EACH if not isinstance(a, (Compose, Normalize))):
        params = change.draw(4, x.shape[1:], np.random.default_rng(0))
        with pytest.raises(errors.ShapeError, match=r"x holds 3 images; expected \(3"):
            change.apply(x, params)


def test_compose_is_one_after_the_other():
    x, t = batch()
    parts = RandomCrop(1, size=5), Contrast(), MixUp(classes=4), Cutout(2)
    y, u = Compose(*parts)(x, t, np.random.default_rng(3))
    rng, shape = np.random.default_rng(3), x.shape[1:]
    params = []
    for part in parts:
        params.append(part.draw(5, shape, rng))
        shape = part.output_shape(shape)
    for part, own in zip(parts, params, strict=True):
        x, t = part.apply(x, own), part.targets(t, own, x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(u, t)
    nothing = Compose()
    assert nothing(x, t, np.random.default_rng(0))[0] is x


def test_a_new_kind_needs_draw_and_apply_alone():
    class Invert(augment.Augmentation):
        def draw(self, n, shape, rng):
            return rng.random(n) < 0.5

        def apply(self, x, params):
            return np.where(params[:, None, None, None], 1 - x, x)

    x, t = batch()
    y, u = Compose(HorizontalFlip(1.0), Invert())(x, t, np.random.default_rng(2))
    inverted = (y != x[..., ::-1]).any(axis=(1, 2, 3))
    assert 0 < inverted.sum() < 5
    assert u is t
    with pytest.raises(NotImplementedError, match=r"draw\(n, shape, rng\)"):
        augment.Augmentation()(x, t, 0)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: RandomCrop(-1), "RandomCrop: padding must be a whole number, at least 0; got -1"),
        (lambda: RandomCrop(True), "padding"),
        (lambda: RandomCrop(1.5), "padding"),
        (lambda: RandomCrop(size=0), "size must be a whole number, at least 1"),
        (lambda: RandomCrop(size=(1, 2, 3)), r"size must be one number or \(height, width\)"),
        (lambda: RandomCrop(mode="wrap"), "mode must be one of constant, edge, reflect; got 'wrap'"),
        (lambda: RandomCrop(fill=float("nan")), "fill must be a finite number; got nan"),
        (lambda: RandomShift(-2), "max_shift in pixels"),
        (lambda: RandomShift(1.5), "max_shift as a fraction must be a finite number from 0 to 1; got 1.5"),
        (lambda: RandomShift("2"), "max_shift"),
        (lambda: HorizontalFlip(1.1), "p must be a finite number from 0 to 1; got 1.1"),
        (lambda: HorizontalFlip(None), "p must be"),
        (lambda: RandomAffine(degrees=-3), "degrees must be a finite number, at least 0"),
        (lambda: RandomAffine(scale=(0.0, 1.0)), "low above 0"),
        (lambda: RandomAffine(shift=2), "shift must be"),
        (lambda: Rotation((3, 1)), "low <= high"),
        (lambda: Rotation((1, 2, 3)), r"degrees must be two numbers \(low, high\)"),
        (lambda: Scaling(1.5), r"scale must be two numbers \(low, high\), got 1.5"),
        (lambda: Brightness(-0.1), "max_delta"),
        (lambda: Brightness(clip=(1, 0)), "clip must be"),
        (lambda: Contrast(2.0), "max_change"),
        (lambda: Cutout(0), "size"),
        (lambda: MixUp(0, classes=3), "alpha must be above 0"),
        (lambda: MixUp(classes=1), "classes must be a whole number, at least 2"),
        (lambda: Normalize(0, 0), "std must be above 0"),
        (lambda: Normalize((), 1), "one for each channel"),
        (lambda: Normalize((1, 2), (1, 2, 3)), "2 means but 3 standard deviations"),
        (lambda: Normalize("0.5", 1), "mean must be a finite number"),
    ],
)
def test_bad_settings(make, match):
    with pytest.raises(errors.ArgumentError, match=match):
        make()


def test_compose_of_something_else_is_refused():
    with pytest.raises(errors.DTypeError, match=r"argument 1 is 'flip'.*augment\.parse"):
        Compose(HorizontalFlip(), "flip")


def test_windows_that_do_not_fit_are_refused():
    x, t = batch()
    with pytest.raises(errors.ShapeError, match=r"\(9, 9\) is larger than .* \(6 \+ 2\*1, 8 \+ 2\*1\)"):
        RandomCrop(1, size=9)(x, t, 0)
    with pytest.raises(errors.ShapeError, match="padding below 6 for images 6x8, got 6"):
        RandomCrop(6, mode="reflect")(x, t, 0)


def test_moves_that_leave_nothing_of_the_image_are_refused():
    x, t = batch()
    for make, match in (
        (RandomCrop(400), "RandomCrop: padding=400 around images 6x8 makes windows 6x8 that show nothing of the image"),
        (RandomCrop(4, size=(6, 4)), "padding=4 around images 6x8 makes windows 6x4 .*; take padding below 4"),
        (RandomCrop(6, mode="edge"), "take padding below 6"),
        (RandomShift(6), "RandomShift: max_shift=6 leaves nothing of images 6x8; take less than 6"),
        (RandomShift(1.0), "max_shift=1.0 leaves nothing of images 6x8; take less than 1.0"),
        (Compose(RandomCrop(0, size=3), RandomShift(3)), "max_shift=3 leaves nothing of images 3x3"),
    ):
        with pytest.raises(errors.ShapeError, match=match):
            make(x, t, 0)
        with pytest.raises(errors.ShapeError, match=match):
            Loader(x, t, augment=make)  # before the first batch
    for fits in (RandomCrop(5), RandomShift(5), RandomShift(0.99), RandomCrop(4, size=2, mode="reflect")):
        assert fits(x, t, 0)[0].shape[:2] == x.shape[:2]


# --- text ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("crop:4,flip,cutout:8", Compose(RandomCrop(4), HorizontalFlip(), Cutout(8))),
        (" crop : 4 : mode = reflect ", Compose(RandomCrop(4, mode="reflect"))),
        ("crop:2:24", Compose(RandomCrop(2, 24))),
        ("shift:2,shift:0.1", Compose(RandomShift(2), RandomShift(0.1))),
        ("rotate:10,scale:0.9:1.1", Compose(Rotation(10), Scaling((0.9, 1.1)))),
        ("affine:10:0.9:1.1:shift=0.1", Compose(RandomAffine(10, (0.9, 1.1), 0.1))),
        ("affine,scale", Compose(RandomAffine(), Scaling())),
        ("brightness:0.1,contrast:0.3", Compose(Brightness(0.1), Contrast(0.3))),
        ("mixup", Compose(MixUp(classes=10))),
        ("mixup:0.4:classes=3", Compose(MixUp(0.4, classes=3))),
        ("normalize:0.5:2e-1", Compose(Normalize(0.5, 0.2))),
    ],
)
def test_parse(text, expected):
    assert augment.parse(text, classes=10) == expected


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("crop:4,flop", rf"no augmentation 'flop'; did you mean 'flip'\? There are {', '.join(augment.names())}"),
        ("", "no augmentation ''; there are affine, "),
        ("flip,,crop", "no augmentation ''"),
        ("flip:0.5:3", "'flip:0.5:3': too many positional arguments; flip takes p"),
        ("crop:pad=3", "unexpected keyword argument 'pad'; crop takes padding, size, mode, fill"),
        ("cutout", "missing a required argument: 'size'; cutout takes size, fill"),
        ("crop:four", "padding must be a whole number, at least 0; got 'four'"),
        ("scale:wide", r"scale\[0\] must be a finite number; got 'wide'"),
        ("mixup", "mixup needs the number of classes"),
        ("flip,crop:size=6:size=7", "'crop:size=6:size=7': size is there twice; give it once"),
        ("crop:6:padding=7", "multiple values for argument 'padding'"),
        (7, "expected a text"),
    ],
)
def test_text_that_cannot_be_parsed(text, match):
    with pytest.raises(errors.ArgumentError, match=match):
        augment.parse(text)


# --- pictures ------------------------------------------------------------------------------------


def test_gallery_shows_one_picture_of_each_kind(tmp_path):
    pytest.importorskip("matplotlib")
    x = np.random.default_rng(0).random((40, 3, 12, 10)).astype(np.float32)
    before = x.copy()
    figure = augment.plot_gallery(x)
    figure.savefig(tmp_path / "gallery.png")
    titles = [axes.get_title() for axes in figure.axes]
    kinds = {c.__name__ for c in vars(augment).values() if isinstance(c, type) and issubclass(c, augment.Augmentation)}
    assert titles[0] == "original"
    assert {title.partition("(")[0] for title in titles[1:]} == kinds - {"Augmentation", "Compose", "Normalize"}
    shown = [axes.images[0].get_array() for axes in figure.axes]
    for title, picture in zip(titles[1:], shown[1:], strict=True):
        assert picture.shape == (12, 10, 3)
        assert not np.array_equal(picture, shown[0]), title
    np.testing.assert_array_equal(x, before)


def test_gallery_draws_on_axes_and_in_grey(xp):
    matplotlib = pytest.importorskip("matplotlib.figure")
    figure = matplotlib.Figure()
    axes = figure.subplots(1, 3)
    x = np.arange(16.0, dtype=np.float32).reshape(1, 1, 4, 4)
    changes = [HorizontalFlip(1.0), Compose(Rotation((90, 90)), Cutout(2))]
    assert augment.plot_gallery(xp.asarray(x), changes, ax=axes) is figure
    assert [a.get_title().replace("\n", " ") for a in axes[1:]] == [
        "HorizontalFlip(p=1)",
        "Rotation(degrees=(90, 90)), Cutout(size=(2, 2))",
    ]
    np.testing.assert_allclose(axes[1].images[0].get_array(), x[0, 0, :, ::-1] / 15.0, rtol=1e-6)
    with pytest.raises(errors.ArgumentError, match="3 axes needed"):
        augment.plot_gallery(xp.asarray(x), changes, ax=axes[:2])
    with pytest.raises(errors.ShapeError, match="2 channels"):
        augment.plot_gallery(xp.asarray(np.ones((1, 2, 4, 4), np.float32)))


def test_matrices_of_known_turns():
    params = AffineParams(np.array([0.0, 180.0, 30.0]), np.array([1.0, 0.5, 1.0]), np.zeros((3, 2)))
    matrices = augment.affine_matrices(params)[:, :, :2]
    np.testing.assert_array_equal(matrices[0], np.eye(2))
    np.testing.assert_array_equal(matrices[1], -2 * np.eye(2))
    np.testing.assert_allclose(matrices[2], [[np.sqrt(0.75), 0.5], [-0.5, np.sqrt(0.75)]])
