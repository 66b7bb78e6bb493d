"""The documentation is true: its Python runs, its commands parse, its links and pictures are there."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import xpnet
from xpnet import cli
from xpnet.data import augment
from xpnet.run import Settings, train

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted([*ROOT.glob("*.md"), ROOT / "scripts" / "README.md", *ROOT.glob("docs/**/*.md")])
}
BLOCK = re.compile(r"^(?:<!-- no-run: (?P<reason>.+) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```", re.S | re.M)
PICTURES = ROOT / "docs" / "pictures"


def blocks(page: str, language: str) -> list[str]:
    """The blocks of a language, without those marked as not to be run, behind as many lines as stand before them."""
    found = []
    for match in BLOCK.finditer(PAGES[page]):
        if match["language"] == language and match["reason"] is None:
            found.append("\n" * PAGES[page].count("\n", 0, match.start("code")) + match["code"])
    return found


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every simple command in the bash blocks, as its page and its words, without variables set for it."""
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                for command in line.split("&&"):
                    words = shlex.split(command, comments=True)
                    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                        words.pop(0)
                    if words[:1] == ["mpiexec"] and words[3:6] == ["python", "-m", "xpnet"]:
                        words = words[5:]  # mpiexec -n N python -m xpnet
                    if words:
                        yield page, words


LEARNT = {  # what else must hold of the names that a page leaves
    "README.md": lambda names: (
        names["trainer"].history["validation_accuracy"][-1] > 0.9 and float(names["value"]) < 1.0
    ),
    # and it knows the 1 that it draws
    "docs/tutorial.md": lambda names: names["result"].accuracy > 0.93 and int(names["scores"][0].argmax()) == 1,
    "docs/how-to/train.md": lambda names: names["saved"].epochs == 3,
    "docs/how-to/layer.md": lambda names: names["report"].passed,
    "docs/how-to/compare.md": lambda names: names["report"].passed,
}


def require_extras() -> None:
    for name in ("sklearn", "safetensors", "matplotlib", "PIL", "tomli_w"):
        pytest.importorskip(name, reason="the examples need xpnet[train]")


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_the_python_of_a_page_runs_and_prints_what_it_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require_extras()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XPNET_BACKEND", "numpy")
    monkeypatch.delenv("XPNET_DTYPE", raising=False)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        exec(compile(block, str(ROOT / page), "exec"), names)
    assert LEARNT.get(page, lambda names: True)(names)
    printed = capsys.readouterr().out
    for said in re.findall(r"^print\(.*\)  # (.+)$", "\n".join(blocks(page, "python")), re.M):
        for part in said.split("; "):
            assert part in printed, f"{page} says that {part!r} is printed"


def test_a_run_leaves_the_files_that_the_page_lists(tmp_path: Path) -> None:
    require_extras()
    settings = Settings(model="tiny_convnet", data="digits", limit=100, epochs=1, validation=0.2, backend="numpy")
    train(settings, tmp_path / "run", verbose=False)
    listed = re.findall(r"^\| `(\w+\.\w+)` \|", PAGES["docs/how-to/train.md"], re.M)
    assert sorted(listed) == sorted(path.name for path in (tmp_path / "run").iterdir())


def known(words: list[str]) -> argparse.Namespace:
    parser, names = cli._parser()
    cli._suggest(parser, names, words)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    "page, words",
    [pytest.param(page, words, id=f"{page}-{' '.join(words)}") for page, words in commands() if words[0] == "xpnet"],
)
def test_a_command_parses(page: str, words: list[str]) -> None:
    args = known(words[1:])
    given = {name: value for name, value in vars(args).items() if name in Settings.__dataclass_fields__}
    if words[1] == "train":
        settings = Settings.from_dict(given)
        if settings.augment is not None:
            augment.parse(settings.augment, classes=10)


def test_every_command_and_every_picture_of_it_is_explained() -> None:
    names = cli._parser()[1]
    missing = [name for name in names if f"## {name}\n" not in PAGES["docs/command-line.md"]]
    assert not missing
    assert all(f"`xpnet {name}" in PAGES["README.md"] for name in names)
    assert [w for w in cli.show.PICTURES if f"`{w}`" not in PAGES["docs/command-line.md"]] == []


def test_every_augmentation_but_normalize_is_explained() -> None:
    page = PAGES["docs/how-to/augmentation.md"]
    assert [n for n in augment.names() if n != "normalize" and not re.search(rf"\| `{n}[:`]", page)] == []


def named_scripts() -> dict[str, set[str]]:
    """The flags that the pages give each script or module of docs/ that they run."""
    flags: dict[str, set[str]] = {}
    for _, words in commands():
        if words[0] == "python" and words[1].startswith(("scripts/", "docs/")):
            flags.setdefault(words[1], set()).update(w.partition("=")[0] for w in words[2:] if w.startswith("--"))
    return flags


@pytest.mark.parametrize("script", sorted(named_scripts()))
def test_a_script_takes_what_the_pages_give_it(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (ROOT / script).exists()
    require_extras()
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert end.value.code == 0
    assert not [flag for flag in named_scripts()[script] if flag not in shown.getvalue()]


def test_every_script_has_its_line_and_every_file_that_is_named_exists() -> None:
    scripts = {path.name for path in (ROOT / "scripts").glob("[!_]*.*")} - {"README.md"}
    assert {name for name in scripts if f"[{name}]({name})" not in PAGES["scripts/README.md"]} == set()
    for page, text in PAGES.items():
        for name in re.findall(r"`((?:scripts|xpnet|docs|tests|benchmarks)/[\w./-]+)`", text):
            assert (ROOT / name).exists(), f"{page} names {name}"
        for name in re.findall(r"`((?:train|compare)_\w+\.py)\b", text):
            assert name in scripts, f"{page} names {name}"


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"^```.*?^```", "", PAGES[page], flags=re.S | re.M)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{page}: {target}"


def test_every_public_module_has_a_reference_page() -> None:
    named = set(re.findall(r": reference/([\w.]+)\.md$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M))
    assert set(xpnet.__all__) <= named


def test_pictures_are_small_and_each_is_shown_and_can_be_made_again() -> None:
    files = sorted(PICTURES.glob("*"))
    sizes = [path.stat().st_size for path in files]
    assert max(sizes) < 60_000
    assert sum(sizes) < 620_000
    maker = (ROOT / "docs" / "make_pictures.py").read_text(encoding="utf-8")
    for path in files:
        assert f'"{path.stem}": (' in maker
        assert any(f"pictures/{path.name})" in text for text in PAGES.values()), path.name
    shown = " ".join(" ".join(words) for page, words in commands() if page == "docs/pictures.md")
    made = re.findall(r'"((?:xpnet|python) [^"]+)"', maker)
    assert len(made) > 5
    assert [command for command in made if command not in shown] == []
