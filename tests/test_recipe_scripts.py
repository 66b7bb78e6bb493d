"""The scripts that reproduce a recipe, run tiny: their figures, their numbers, their errors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.processes import run_script, run_script_here

SMALL = {  # arguments that make each one quick, and the figures it leaves
    "compare_init.py": (["--steps", "20"], {"activations", "losses"}),
    "compare_optimizers.py": (["--steps", "20", "--path-steps", "10"], {"losses", "paths"}),
    "gates.py": ([], {"gates"}),
    "hyperparameter_search.py": (["--trials", "4", "--epochs", "2", "--images", "100"], {"search"}),
    "overfit_and_regularise.py": (["--epochs", "2", "--hidden", "2", "--test-images", "50"], {"accuracies"}),
    "visualize_filters.py": (
        ["--epochs", "1", "--limit", "200", "--steps", "3"],
        {
            "activation_maximization",
            "feature_maps",
            "filters",
            "grad_cam",
            "misclassified",
            "model",
            "receptive_fields",
            "saliency",
            "translation",
        },
    ),
}

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
pytest.importorskip("matplotlib")


def png_size(path: Path) -> tuple[int, int]:
    """Width and height, from the header of the file."""
    start = path.read_bytes()[:24]
    assert start.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(start[16:20], "big"), int.from_bytes(start[20:24], "big")


def results(tmp_path: Path, name: str) -> tuple[dict, str]:
    """Run a script in its small form; check its figures and the origin of its numbers; return these and its output."""
    result = run_script_here(tmp_path, name, *SMALL[name][0], "--backend", "numpy", "--seed", "1", "--out", "out")
    assert result.returncode == 0, result.stderr
    folder, output = tmp_path / "out", result.stdout
    found = json.loads((folder / "results.json").read_text())
    figures = {path.stem: png_size(path) for path in folder.glob("*.png")}
    assert figures.keys() == SMALL[name][1]
    assert all(min(size) > 100 for size in figures.values())
    assert {path.name for path in folder.iterdir()} == {"results.json"} | {f"{figure}.png" for figure in figures}
    about = found["about"]
    arguments = [*SMALL[name][0], "--backend", "numpy", "--seed", "1", "--out", "out"]
    assert about["command"] == " ".join(["python", f"scripts/{name}", *arguments])
    assert about["backend"] == "numpy"
    for path in folder.iterdir():
        assert path.name in output
    return found, output


def test_every_recipe_is_tried() -> None:
    tested = set(re.findall(r'results\(tmp_path, "(\w+\.py)"\)', Path(__file__).read_text()))
    assert tested == set(SMALL)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_help_and_wrong_arguments(tmp_path: Path, name: str) -> None:
    shown = run_script_here(tmp_path, name, "--help")
    assert shown.returncode == 0
    assert {"--backend", "--dtype", "--seed", "--out"} <= set(shown.stdout.replace(",", " ").split())
    wrong = run_script_here(tmp_path, name, "--backend", "nympy")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: no backend 'nympy'; did you mean 'numpy'? There are auto, numpy")
    assert "Traceback" not in wrong.stderr
    assert not (tmp_path / "runs").exists()


def test_gates_are_learnt_and_their_tables_told(tmp_path: Path) -> None:
    found, output = results(tmp_path, "gates.py")
    inputs = [(0, 0), (0, 1), (1, 0), (1, 1)]
    truth = {
        "AND": lambda a, b: a & b,
        "NAND": lambda a, b: 1 - (a & b),
        "OR": lambda a, b: a | b,
        "XOR": lambda a, b: a ^ b,
    }
    assert found["gates"].keys() == truth.keys()
    for gate, rule in truth.items():
        assert found["gates"][gate]["table"] == [[a, b, rule(a, b)] for a, b in inputs]
        assert found["gates"][gate]["learnt"] is True
        line = next(line for line in output.splitlines() if line.split()[0] == gate)
        assert line.split(maxsplit=1)[1] == "  ".join(f"{a} {b} -> {rule(a, b)}" for a, b in inputs)
    (w0, w1), b = (x[0] for x in found["gates"]["AND"]["weights"]["W"]), found["gates"]["AND"]["weights"]["b"][0]
    assert w0 + w1 + b > 0 > max(w0, w1) + b  # the perceptron that the picture shows


def test_a_gate_that_is_not_learnt_is_an_error(tmp_path: Path) -> None:
    """One tanh unit and a line cannot part XOR."""
    result = run_script_here(tmp_path, "gates.py", "--hidden", "1", "--out", "out")
    assert result.returncode == 1
    assert "error: XOR not learnt; try more --steps" in result.stderr
    assert json.loads((tmp_path / "out" / "results.json").read_text())["gates"]["XOR"]["learnt"] is False


def test_a_search_draws_from_its_ranges_and_ranks(tmp_path: Path) -> None:
    found, output = results(tmp_path, "hyperparameter_search.py")
    trials = found["trials"]
    scores = [trial["score"] for trial in trials]
    assert len(trials) == 4
    assert scores == sorted(scores, reverse=True)
    assert all(1e-3 <= trial["lr"] <= 1 and 1e-8 <= trial["weight_decay"] <= 1e-2 for trial in trials)
    table = output[output.index("rank") :].splitlines()
    assert table[0].split() == ["rank", "trial", "score", "lr", "weight_decay", "seconds"]
    assert float(table[1].split()[2]) == pytest.approx(scores[0], abs=1e-4)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numbers do overflow
def test_a_search_in_which_nothing_was_learnt_keeps_what_it_found(tmp_path: Path) -> None:
    more = ["--trials", "2", "--epochs", "1", "--images", "100", "--lr", "1e20", "1e30", "--out", "out"]
    result = run_script_here(tmp_path, "hyperparameter_search.py", *more)
    assert result.returncode == 1
    assert "error: no trial came to a validation accuracy" in result.stderr
    assert json.loads((tmp_path / "out" / "results.json").read_text())["trials"] == []


def test_optimizers_start_alike_and_all_learn(tmp_path: Path) -> None:
    found, _ = results(tmp_path, "compare_optimizers.py")
    runs = found["optimizers"]
    assert list(runs) == ["sgd", "momentum", "nesterov", "adagrad", "adadelta", "rmsprop", "adam"]
    assert len({result["losses"][0] for result in runs.values()}) == 1  # same weights, same batch
    for name, result in runs.items():
        assert len(result["losses"]) == 20
        assert min(result["losses"][-3:]) < result["losses"][0], name
        assert 0.0 <= result["test_accuracy"] <= 1.0
    assert {name: len(path) for name, path in found["paths"]["x²/20 + y²"].items()} == dict.fromkeys(runs, 11)
    x, y = found["paths"]["x²/20 + y²"]["sgd"][1]  # -7 + 0.95 * 7/10 and 2 - 0.95 * 2 * 2
    assert (x, y) == (pytest.approx(-6.335, abs=1e-6), pytest.approx(-1.8, abs=1e-6))


def test_initial_values_as_in_the_book(tmp_path: Path) -> None:
    found, _ = results(tmp_path, "compare_init.py")
    spread = found["standard_deviations"]
    assert spread.keys() == {"sigmoid", "tanh", "relu"}
    for activation, by_name in spread.items():
        assert list(by_name) == ["normal, std 1", "normal, std 0.01", "Xavier", "He"], activation
        assert all(len(values) == 5 for values in by_name.values())
    assert spread["tanh"]["normal, std 0.01"][-1] < 0.01 < 0.3 < spread["tanh"]["Xavier"][-1]
    assert spread["relu"]["Xavier"][-1] < spread["relu"]["He"][-1] / 2
    assert spread["sigmoid"]["normal, std 1"][-1] > 0.35  # near 0 and 1
    losses = {name: result["losses"] for name, result in found["initial_values"].items()}
    assert list(losses) == ["normal, std 0.01", "Xavier", "He"]
    small = losses["normal, std 0.01"]
    assert max(small) - min(small) < 0.01  # nothing gets through
    assert losses["He"][-1] < losses["He"][0]


def test_the_ways_to_regularise(tmp_path: Path) -> None:
    found, output = results(tmp_path, "overfit_and_regularise.py")
    assert list(found["accuracies"]) == ["nothing", "weight decay", "dropout", "batch norm", "max norm"]
    for name, halves in found["accuracies"].items():
        assert [len(halves[half]) for half in ("train", "test")] == [2, 2], name
        assert f"{name:13} training accuracy {halves['train'][-1]:.4f}" in output
    assert "300 train, 50 test" in found["data"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--dropout", "1.5"], "error: Dropout: rate must be at least 0 and below 1, got 1.5"),
        (["--data", "mnist"], "XPNET_DATA"),
    ],
    ids=["dropout", "mnist"],
)
def test_regularisation_that_cannot_be_is_refused_before_training(tmp_path: Path, arguments, message) -> None:
    result = run_script_here(tmp_path, "overfit_and_regularise.py", *arguments)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "runs").exists()


def test_what_is_seen_inside(tmp_path: Path) -> None:
    found, _ = results(tmp_path, "visualize_filters.py")
    assert found["receptive_fields"] == {
        "conv": {"size": [5, 5], "jump": [1, 1]},
        "pool": {"size": [6, 6], "jump": [2, 2]},
    }
    moved = found["translation"]
    assert moved["shift"] == 2
    assert moved["largest_difference_to_moved_map"] <= 1e-5 * moved["largest_value_of_map"]
    assert moved["largest_value_of_map"] > 0
    assert moved["pooling_hides_move_inside_window"] is True
    assert moved["pooling_hides_move_out_of_window"] is False


def test_a_shift_out_of_the_image_is_refused(tmp_path: Path) -> None:
    result = run_script_here(tmp_path, "visualize_filters.py", "--shift", "32")
    assert result.returncode == 1
    assert "--shift must be less than the 32 pixels of an image, got 32" in result.stderr


def test_a_learning_rate_too_high_ends_in_one_line(tmp_path: Path) -> None:
    result = run_script(tmp_path, "compare_init.py", "--steps", "30", "--lr", "1e9", "--backend", "numpy")
    assert result.returncode == 1
    assert "lower the learning rate" in result.stderr
    assert "Traceback" not in result.stderr
