"""Data parallel on real ranks: what one process with the whole batch would have learnt."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.launch import needs_mpi, reports, run_ranks

pytest.importorskip("safetensors", reason="checkpoints are safetensors files")
pytestmark = needs_mpi

EQUAL = {  # case -> how far the weights may be from those of one process
    "plain_float64": 1e-12,
    "plain_float32": 1e-5,
    "clipped_adam": 1e-12,
    "sync_float64": 1e-12,
    "sync_float32": 1e-5,
    "accumulated": 1e-12,
    "accumulated_sync": 1e-12,
    "weighted": 1e-12,
    "weighted_accumulated_sync": 1e-12,
    "unsynchronized": 1e-12,
    "with_torch": 1e-12,
    "with_array_api_strict": 1e-12,
}
OTHERS = ["random_masks_and_changes", "every_sample_once", "measured", "resumed", "refused", "stopped"]
FEWER = ["plain_float32", "sync_float64", "weighted_accumulated_sync"]


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    return launched(2, tmp_path_factory.mktemp("two"), [*EQUAL, *OTHERS])


@pytest.fixture(scope="module")
def of_three(tmp_path_factory):
    return launched(3, tmp_path_factory.mktemp("three"), [*FEWER, "measured", "resumed"])


def launched(n: int, folder: Path, cases: list[str]) -> dict[str, list[dict[str, Any]]]:
    found = reports(run_ranks(n, Path(__file__).with_name("training_ranks.py"), folder, *cases))
    by_case = {name: sorted((r for r in found if r["case"] == name), key=lambda r: r["rank"]) for name in cases}
    assert all(len(ranks) == n for ranks in by_case.values())
    return by_case


@pytest.mark.parametrize("case", EQUAL)
def test_two_ranks_learn_what_one_would(of_two, case):
    for report in of_two[case]:
        if len(report) == 2:
            pytest.skip("torch is not installed")
        assert report["steps"] >= 50 or case.startswith("with_")
        assert report["weights"] < EQUAL[case]
        assert report["history"] < EQUAL[case]


@pytest.mark.parametrize("case", FEWER)
def test_three_ranks_learn_what_one_would(of_three, case):
    for report in of_three[case]:
        assert report["steps"] >= 15
        assert report["weights"] < EQUAL[case]
        assert report["history"] < EQUAL[case]


def test_results_are_those_of_all_samples(of_two, of_three):
    for report in [*of_two["measured"], *of_three["measured"]]:
        assert report["weights"] < 1e-6


def test_every_sample_is_learnt_from_once(of_two):
    assert all(report["epochs"] == [True, True] for report in of_two["every_sample_once"])


def test_random_numbers_differ_between_ranks(of_two):
    for report in of_two["random_masks_and_changes"]:
        assert (report["draws"], report["seeds"], report["epoch"]) == (2, 2, 2)


def test_a_run_goes_on_with_another_number_of_ranks(of_two, of_three):
    for report in [*of_two["resumed"], *of_three["resumed"]]:
        assert report["steps"] == 12
        assert report["weights"] < 1e-12
        assert report["alone again"] < 1e-12


SAID = {
    "size": r"number of training samples: 105 on rank 0, 90 on rank 1",
    "data": r"training data: 'checksum \w+' on rank 0, 'checksum \w+' on rank 1",
    "model": r"line \d of the model: '.*ReLU.*' on rank 0, '.*BatchNorm.*' on rank 1",
    "optimizer": r"optimizer: 'Momentum\(.*' on rank 0, 'Adam\(.*' on rank 1",
    "batch size": r"batch size: 34 on rank 0, 35 on rank 1",
    "too small": r"2 ranks cannot share a batch of 1 samples",
    "version": r"xpnet version: '.*' on rank 0, '9\.9' on rank 1",
    "apart": r"the weights of rank 1 are no longer those of rank 0",
}


@pytest.mark.parametrize("what", SAID)
def test_ranks_that_do_not_fit_are_refused_with_both_values(of_two, what):
    for report in of_two["refused"]:
        assert re.search(SAID[what], report["said"][what]), report["said"][what]


def test_all_ranks_stop_together_and_go_on_together(of_two):
    for report in of_two["stopped"]:
        writes = 7 if report["rank"] == 0 else 0
        stopped, rest, interrupted, rest_again = report["found"]
        assert stopped == [7, "enough", False, writes]
        assert interrupted == [7, None, True, writes]
        assert rest == rest_again == [12, 3]
