"""Make docs/pictures again: each by the command that the pages show beside it, then reduced to a small PNG.

python docs/make_pictures.py [NAME ...]     all, or some; needs xpnet[train], and MNIST (downloaded if it is not here)
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from xpnet import data
from xpnet.data.augment import plot_gallery
from xpnet.run import open_run
from xpnet.viz import BOWL, plot_grad_cam, plot_optimizer_paths, save_figure

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "pictures"
LARGEST = 45_000  # bytes of a picture
SEED = 3  # of the gallery: one that shows each augmentation clearly

TRAIN = (
    "xpnet train --model lenet:activation=relu --data mnist --limit 10000 --epochs 8 --validation 0.1 --out runs/mnist"
)
LOOK = "python scripts/visualize_filters.py --data mnist"

# name of the picture: command, file that it leaves, width in pixels
PICTURES: dict[str, tuple[str, str, int]] = {
    "curves": (TRAIN, "runs/mnist/curves.png", 900),
    "feature-maps": (
        "xpnet show feature-maps --run runs/mnist --layer conv1,pool1,conv2",
        "runs/mnist/feature-maps.png",
        900,
    ),
    "confusion": ("xpnet show confusion --run runs/mnist", "runs/mnist/confusion.png", 640),
    "misclassified": ("xpnet show misclassified --run runs/mnist", "runs/mnist/misclassified.png", 560),
    "receptive-fields": ("xpnet show receptive-fields --run runs/mnist", "runs/mnist/receptive-fields.png", 640),
    "model": ("xpnet show model --run runs/mnist", "runs/mnist/model.png", 300),
    "filters": (LOOK, "runs/visualize_filters/filters.png", 600),
    "maximized": (LOOK, "runs/visualize_filters/activation_maximization.png", 900),
    "saliency": (LOOK, "runs/visualize_filters/saliency.png", 640),
    "translation": (LOOK, "runs/visualize_filters/translation.png", 640),
    "initial-values": ("python scripts/compare_init.py", "runs/compare_init/activations.png", 640),
    "optimizer-losses": ("python scripts/compare_optimizers.py", "runs/compare_optimizers/losses.png", 640),
    "overfitting": ("python scripts/overfit_and_regularise.py", "runs/overfit/accuracies.png", 900),
    "search": ("python scripts/hyperparameter_search.py", "runs/search/search.png", 800),
    "gates": ("python scripts/gates.py", "runs/gates/gates.png", 900),
    "image-filters": ("python scripts/image_filters.py --size 160", "runs/filters/filters.png", 480),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join([*PICTURES, *DRAWN]))
    wanted = parser.parse_args(argv).names or [*PICTURES, *DRAWN]
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted:
            if name in DRAWN:
                draw, width = DRAWN[name]
                path = Path(folder, f"{name}.png")
                save_figure(draw(folder), path, dpi=100)
            else:
                command, left, width = PICTURES[name]
                if "--run runs/mnist" in command:
                    run(TRAIN, folder)
                run(command, folder)
                path = Path(folder, left)
            reduce(path, FOLDER / f"{name}.png", width)
    return 0


@functools.cache
def run(command: str, folder: str) -> None:
    """Run a command once, in a folder of its own, as a reader would in a clone of the repository."""
    program, *arguments = shlex.split(command)
    if program == "xpnet":
        arguments = ["-m", "xpnet", *arguments]
    else:
        arguments[0] = str(ROOT / arguments[0])
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)


def gallery(folder: str) -> Any:
    """Draw what each augmentation does to a part of a photo of scikit-learn's."""
    from sklearn.datasets import load_sample_images

    photos = load_sample_images().images
    parts = [photo[100:388, 180:468].reshape(48, 6, 48, 6, 3).mean(axis=(1, 3)) for photo in photos]
    x = np.stack(parts).transpose(0, 3, 1, 2).astype(np.float32) / 255
    return plot_gallery(x, seed=SEED)


def grad_cam(folder: str) -> Any:
    """Draw what spoke for a test image's class at the second convolution."""
    run(TRAIN, folder)
    saved = open_run(Path(folder, "runs/mnist"))
    return plot_grad_cam(saved.model, saved.prepared(data.mnist().x_test[:1])[0], None, "conv2")


def paths(folder: str) -> Any:
    """Draw the paths of the optimizers on the steep bowl, in two rows."""
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    return plot_optimizer_paths([BOWL], ax=[figure.add_subplot(2, 4, i + 1) for i in range(len(BOWL.rates))])


def speed(folder: str) -> Any:
    """Draw PyTorch's time over xpnet's, from the results that the page on performance shows."""
    shown = _shown("workloads")
    width = 0.8 / len(shown)  # which leaves a gap between the networks
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    for i, mode in enumerate(("train", "inference")):
        ax = figure.add_subplot(1, 2, i + 1)
        for j, (title, found) in enumerate(shown):
            ratios = [_against_torch(found[name][mode]["times"]) for name in found]
            ax.bar(np.arange(len(ratios)) + width * (j - (len(shown) - 1) / 2), ratios, width, label=title)
        ax.axhline(1.0, color="black", linewidth=0.8)
        ax.set_xticks(range(len(found)), list(found), rotation=30, ha="right")
        ax.set_ylabel("PyTorch's time / xpnet's")
        ax.set_title({"train": "training step", "inference": "inference"}[mode])
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def scaling(folder: str) -> Any:
    """Draw how time grows beside images, pixels and channels squared, from the results on the same page."""
    ((_, curves),) = _shown("scaling")
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    titles = {"images": "images", "pixels": "pixels: side", "channels": "channels"}
    axes = dict(zip(titles, figure.subplots(1, 3, sharey=True, width_ratios=(2, 1, 1)), strict=True))
    lines = {}
    for name, curve in curves.items():
        work = name.partition(" over ")[0]
        (lines[work],) = axes[curve["over"]].plot(
            [one["point"] for one in curve["points"]],
            [one["relative"] for one in curve["points"]],
            marker="o",
            markersize=3,
            color=lines[work].get_color() if work in lines else f"C{len(lines)}",
            label=work,
        )
    for over, ax in axes.items():
        ax.axhspan(0.8, 1.2, color="black", alpha=0.08, linewidth=0)
        ax.set_xscale("log", base=2)
        points = [one["point"] for curve in curves.values() if curve["over"] == over for one in curve["points"]]
        ax.set_xticks(sorted(set(points)), [str(point) for point in sorted(set(points))])
        ax.set_xlabel(titles[over])
        ax.set_title({"images": "time per image", "pixels": "per pixel", "channels": "per channel²"}[over])
    axes["images"].set_ylim(bottom=0.0)
    axes["images"].set_ylabel("to the middle of the curve")
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=4)
    return figure


def _shown(part: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the sections of the page on performance that show such a part of a result, with it."""
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    shown = re.findall(r"^## (.+)\n(?:(?!## ).*\n)*?<!-- results: (\S+) -->", page, re.M)
    found = [(title, json.loads((ROOT / path).read_text(encoding="utf-8")).get(part)) for title, path in shown]
    return [(title, result) for title, result in found if result]


def _against_torch(times: dict[str, Any]) -> float:
    """Return the ratio to the faster of PyTorch's memory formats."""
    best = min((name for name in times if name.startswith("torch")), key=lambda name: times[name]["median"])
    return times[best]["ratio"]


DRAWN: dict[str, tuple[Callable[[str], Any], int]] = {
    "augmentation": (gallery, 560),
    "grad-cam": (grad_cam, 640),
    "optimizer-paths": (paths, 900),
    "scaling": (scaling, 900),
    "speed": (speed, 900),
}


def reduce(source: Path, target: Path, width: int) -> None:
    """Write a picture no wider than so many pixels, in as many colours as its size allows."""
    image = Image.open(source).convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    for colours in (256, 128, 64, 32, 16):
        image.quantize(colours, dither=Image.Dither.NONE).save(target, optimize=True)
        size = target.stat().st_size
        if size < LARGEST:
            break
    else:
        raise SystemExit(f"{target} has {size:,} bytes even in {colours} colours; make it smaller")
    print(f"{target.relative_to(ROOT)}  {image.width}x{image.height}, {colours} colours, {size:,} bytes", flush=True)


if __name__ == "__main__":
    sys.exit(main())
