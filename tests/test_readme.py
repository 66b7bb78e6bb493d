"""The README's Python runs as it stands, and the files it points to are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xpnet import backend

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_code_runs_and_learns(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.S | re.M)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    with backend.using("numpy"):
        for block in blocks:
            exec(compile(block, "README.md", "exec"), names)
    assert names["trainer"].history["validation_accuracy"][-1] > 0.9
    assert float(names["value"]) < 1.0
    assert "multiply-adds" in capsys.readouterr().out


def test_links_lead_somewhere() -> None:
    paths = [p for p in re.findall(r"\]\(([^)#:]+)\)", README) if "://" not in p]
    paths += [p for p in re.findall(r"`(scripts/[\w.]+|xpnet/[\w./]+|docs/[\w.-]*)`", README)]
    missing = [p for p in paths if not (ROOT / p).exists() and (ROOT / p.partition("/")[0]).exists()]
    assert len(paths) > 8
    assert not missing
