"""Random search: what is drawn, what is ranked, what failures and Ctrl-C do."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from xpnet.errors import NonFiniteError
from xpnet.training.search import Choice, LogUniform, Uniform, random_search

SPACE = {"lr": LogUniform(1e-6, 1e-2), "rate": Uniform(-1, 3), "name": Choice(["a", "b", "c"])}


def test_draws_from_the_whole_space_evenly() -> None:
    drawn: list[dict] = []
    random_search(lambda s: drawn.append(s) or 0.0, SPACE, trials=2000)
    for values in (np.log10([s["lr"] for s in drawn]) / 4 + 1.5, (np.array([s["rate"] for s in drawn]) + 1) / 4):
        assert 0 <= values.min() < 0.01
        assert 0.99 < values.max() <= 1
        counts = np.histogram(values, 10, (0, 1))[0]
        assert counts.min() > 140  # of 200; a sixth below would be five standard deviations
    assert {s["name"] for s in drawn} == {"a", "b", "c"}


def test_the_seed_decides_and_more_trials_change_none() -> None:
    few, more, other = (
        random_search(lambda s: s["rate"], SPACE, trials=n, seed=s) for n, s in ((3, 1), (6, 1), (3, 2))
    )
    assert [t.settings for t in few.trials] == [t.settings for t in more.trials[:3]]
    assert [t.settings for t in few.trials] != [t.settings for t in other.trials]


@pytest.mark.parametrize("maximize", [True, False])
def test_the_best_comes_first_and_failures_last(tmp_path, maximize) -> None:
    def measure(settings: dict) -> float:
        if settings["name"] == "b":
            raise NonFiniteError("Trainer.fit", "the loss of epoch 1/1 is nan")
        return settings["rate"]

    reported = []
    search = random_search(measure, SPACE, trials=30, maximize=maximize, report=reported.append)
    assert reported == search.trials
    scores = [t.score for t in search.ranked]
    good = [s for s in scores if not math.isnan(s)]
    assert 0 < len(good) < 30
    assert good == sorted(good, reverse=maximize)
    assert all(math.isnan(s) for s in scores[len(good) :])
    assert search.best.score == (max(good) if maximize else min(good))
    lines = search.table(top=30).splitlines()
    assert lines[0].split() == ["rank", "trial", "score", "lr", "rate", "name", "seconds"]
    assert f"{search.best.score:.4f}" in lines[1]
    assert "the loss of epoch 1/1 is nan" in lines[-1]
    search.save(tmp_path / "search.json")
    saved = json.loads((tmp_path / "search.json").read_text())
    assert saved["trials"][0]["score"] == search.best.score
    assert saved["trials"][-1]["score"] is None


def test_ctrl_c_keeps_what_was_tried() -> None:
    def measure(settings: dict) -> float:
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(settings)
        return 1.0

    seen: list[dict] = []
    assert len(random_search(measure, SPACE, trials=9).trials) == 3
    seen = [{}] * 3
    with pytest.raises(KeyboardInterrupt):
        random_search(measure, SPACE, trials=9)


def test_faults_of_the_program_are_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        random_search(lambda s: 1 / 0, SPACE, trials=2)


def test_wrong_settings() -> None:
    for make, message in (
        (lambda: Uniform(2, 1), "Uniform: give low < high, got 2, 1"),
        (lambda: LogUniform(0, 1), "LogUniform: low must be above 0, got 0"),
        (lambda: Choice([]), "at least one value"),
        (lambda: random_search(lambda s: 0.0, {}, trials=1), "the space is empty"),
        (lambda: random_search(lambda s: 0.0, SPACE, trials=0), "trials must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    all_failed = random_search(lambda s: math.nan, SPACE, trials=2)
    with pytest.raises(ValueError, match="no trial has succeeded"):
        _ = all_failed.best
