"""What mkdocs is told beside mkdocs.yml: pages that have their home elsewhere, pages of modules, links out of docs/."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
ELSEWHERE = {
    "index.md": "README.md",
    "scripts.md": "scripts/README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
HOMES = {home: page for page, home in ELSEWHERE.items()}
LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are no files of docs/."""
    for page, home in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / home).read_text(encoding="utf-8")))
    for page in _pages(config["nav"]):
        if page.startswith("reference/"):
            module = f"xpnet.{page.removeprefix('reference/').removesuffix('.md')}"
            files.append(File.generated(config, page, content=f"# {module}\n\n::: {module}\n"))
    return files


def _pages(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
        return
    for entry in nav.values() if isinstance(nav, dict) else nav:
        yield from _pages(entry)


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Lead links of files, which are relative to where a file lies in the repository, to pages or to the repository."""
    source = ELSEWHERE.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def lead(match: re.Match[str]) -> str:
        opening, target, anchor, closing = match.groups()
        if "://" in target or target.startswith(("mailto:", "/")):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if path in HOMES or path.startswith("docs/"):
            there = HOMES.get(path, path.removeprefix("docs/"))
            target = posixpath.relpath(there, posixpath.dirname(page.file.src_uri) or ".")
        else:
            kind = "tree" if (ROOT / path).is_dir() else "blob"
            target = f"{config['repo_url'].rstrip('/')}/{kind}/main/{path}"
        return f"{opening}{target}{anchor or ''}{closing}"

    return LINK.sub(lead, markdown)
