"""The script of the filters, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.processes import run_here

SCRIPT = Path(__file__).parent.parent / "scripts" / "image_filters.py"

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn", reason="the photo comes with scikit-learn")
pillow = pytest.importorskip("PIL.Image")


def run(tmp_path: Path, *args: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("XPNET_")}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *args],
        cwd=tmp_path,
        env=kept | {"XPNET_BACKEND": "numpy"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_names_arguments_and_filters(tmp_path: Path) -> None:
    result = run_here(SCRIPT, "--help", cwd=tmp_path)
    assert result.returncode == 0
    for word in ("--filters", "--grey", "--size", "--out", "--backend", "sobel_x", "gaussian_blur_5x5"):
        assert word in result.stdout


def test_a_picture_of_ones_own_comes_out_filtered(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    pillow.fromarray(picture).save(tmp_path / "in.png")
    args = ("--filters", "sobel_x, mean_3x3", "--grey", "--size", "30", "--out", "new/folder/out.PNG")
    result = run(tmp_path, "in.png", *args)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["2 filters on 30x20 pixels; backend numpy", "new/folder/out.PNG"]
    with pillow.open(tmp_path / "new" / "folder" / "out.PNG") as written:
        pixels = np.array(written.convert("RGB")).astype(int)
    assert pixels.min() < 30
    assert pixels.max() > 220
    assert (np.ptp(pixels, axis=2) == 0).all(), "a grey picture has no colours"


def test_without_a_picture_it_takes_one_of_scikit_learn(tmp_path: Path) -> None:
    result = run_here(SCRIPT, "--size", "64", "--backend", "numpy", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("10 filters on 64x43 pixels")
    assert (tmp_path / "runs" / "filters" / "filters.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["none.png"], 1, "none.png: cannot be read"),
        (["text.png"], 1, "text.png: no image that can be read"),
        (["--out", "a.xyz"], 1, "a.xyz: no kind of figure that can be written; its name may end in"),
        (["grey.png", "--out", "text.png/a.png"], 1, "text.png"),
        (["--filters", "sobel"], 1, "no filter 'sobel'; did you mean 'sobel_x'? There are horizontal_edge"),
        (["--size", "0"], 2, "must be at least 1"),
        (["--backend", "nothing"], 2, "nothing"),
    ],
)
def test_errors_are_one_line_and_leave_no_file(tmp_path: Path, args: list[str], code: int, message: str) -> None:
    (tmp_path / "text.png").write_text("no picture")
    pillow.new("L", (4, 4)).save(tmp_path / "grey.png")
    result = run_here(SCRIPT, *args, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["grey.png", "text.png"]
