"""`make bench-accuracy`: runs are done once, whatever interrupts; rates see no test picture."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.accuracy import grid
from bench.accuracy.__main__ import main
from bench.accuracy.grid import Row
from bench.accuracy.pareto import on_front
from bench.accuracy.pictures import link_pictures
from bench.accuracy.plot import draw_fronts
from bench.accuracy.results import Key, Outcome, Results
from bench.accuracy.runs import Order, carry_out
from bench.accuracy.subjects import every_subject
from mobiletl.core.methods import METHODS
from mobiletl.device.pictures.dataset import files_below
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.shared_files import REPOSITORY
from runtime_tests.support.digits import write_digits

KEY = Key("run", "b", "p", 0, 2, 8, 0.1, False, True, 1, "1.0")
# In which column of the table a run's speed stands.
COLUMNS = {grid.RUN: "pictures_per_s_cached", grid.WITHOUT_CACHE: "pictures_per_s"}
OUTCOME = Outcome((0.5, 0.75), (1.0, 0.5), (10.0, 12.0), 2_000_000, 1_000_000, 3.5)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits") / "photos", digits=3)


def arguments(digits: Path, out: Path, *more: str) -> list[str]:
    fixed = ["--weights", "demo", "--seeds", "1", "--threads", "1", "--out", str(out)]
    return ["--data", str(digits), *fixed, *more]


def kept(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


@dataclass(frozen=True)
class Made:
    """A run that was made: what for, its speeds, and how many bytes of feature maps it left."""

    use: str
    bundle: str
    pictures_per_s: tuple[float, ...]
    cached_bytes: int | None


@pytest.fixture(scope="module")
def made() -> list[Made]:
    """The runs of `compared`, in the order in which they were made."""
    return []


@pytest.fixture(scope="module")
def compared(digits: Path, tmp_path_factory: pytest.TempPathFactory, made: list[Made]) -> Path:
    """A comparison of two subjects, one of them with a rate of its own choice."""
    out = tmp_path_factory.mktemp("compared")
    methods = ("--methods", "mobiletl:1,ft-last", "--epochs", "1", "--rates", "1e-7,3e-3")

    def recorded(order: Order) -> Outcome:
        found = carry_out(order)
        cache = order.cache
        left = None if cache is None else sum(f.stat().st_size for f in files_below(cache))
        made.append(Made(order.key.use, order.bundle.name, found.pictures_per_s, left))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "carry_out", recorded)
        assert main(arguments(digits, out, *methods, "--sweep-epochs", "2")) == 0
    return out


@pytest.mark.slow
def test_table_has_a_row_per_subject(compared: Path, made: list[Made]) -> None:
    with (compared / "accuracy.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["blocks"]) for row in rows] == [("mobiletl", "1"), ("ft-last", "")]
    for row in rows:
        assert float(row["measured_peak_mb"]) > 40
    speeds = {use: [run.pictures_per_s for run in made if run.use == use] for use in COLUMNS}
    for use, column in COLUMNS.items():
        expected = [statistics.median(each) for each in speeds[use]]
        found = [float(row[column]) for row in rows]
        assert found == pytest.approx(expected, rel=1e-3)
        assert min(found) > 0
    # Which of them is the faster one is for a bench to find out; here it is which one keeps maps.
    assert all(run.cached_bytes for run in made if run.use == grid.RUN)
    assert all(run.cached_bytes is None for run in made if run.use == grid.WITHOUT_CACHE)
    assert len(made) == 2 * (2 + 1 + 1)
    assert (compared / "accuracy.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_rate_is_chosen_on_training_pictures(compared: Path, digits: Path) -> None:
    rows = kept(compared)
    for bundle in {row["key"]["bundle"] for row in rows}:
        trials = {
            (row["outcome"]["accuracies"][-1], -row["outcome"]["losses"][-1]): row["key"]["lr"]
            for row in rows
            if (row["key"]["use"], row["key"]["bundle"]) == ("rate", bundle)
        }
        taken = {
            row["key"]["lr"]
            for row in rows
            if row["key"]["use"] != "rate" and row["key"]["bundle"] == bundle
        }
        assert sorted(trials.values()) == [1e-7, 3e-3]
        assert taken == {trials[max(trials)]}
    seen = [path.resolve() for path in (compared / "pictures/training").rglob("*.png")]
    assert len(seen) == 3 * 24
    assert all(path.is_relative_to(digits.resolve() / "train") for path in seen)


@pytest.mark.slow
def test_done_runs_are_not_repeated(
    compared: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (compared / "results.jsonl").read_bytes()
    methods = ("--methods", "mobiletl:1,ft-last", "--epochs", "1", "--rates", "1e-7,3e-3")
    assert main(arguments(digits, compared, *methods, "--sweep-epochs", "2")) == 0
    assert (compared / "results.jsonl").read_bytes() == before
    said = capsys.readouterr()
    assert said.err == ""
    assert "ft-last" in said.out


@pytest.mark.slow
@pytest.mark.usefixtures("heard_signals")
def test_interrupted_comparison_goes_on_to_the_same_result(digits: Path, tmp_path: Path) -> None:
    settings = ("--methods", "mobiletl:1", "--epochs", "30")
    command = [sys.executable, "-m", "bench.accuracy"]
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    with subprocess.Popen(
        [*command, *arguments(digits, stopped, *settings)],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        wait_for_first_epoch(process, stopped)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("mobiletl: stopped")
    assert not (stopped / "results.jsonl").exists()
    shutil.copytree(stopped / "bundles", whole / "bundles")  # saves the export
    for out in (stopped, whole):
        assert main(arguments(digits, out, *settings)) == 0
    one, other = (
        [(row["outcome"]["accuracies"], row["outcome"]["losses"]) for row in kept(out)]
        for out in (stopped, whole)
    )
    assert one == other
    (log,) = (stopped / "runs").glob("*-run-*.log")
    text = log.read_text()
    assert text.count("before training") == 1  # the second process went on, it did not start
    assert "the state is saved" in text


def wait_for_first_epoch(process: subprocess.Popen[str], out: Path) -> None:
    """Return once a run has written the figures of an epoch, or the process has ended."""
    while process.poll() is None:
        if any(len(p.read_text().splitlines()) > 1 for p in out.glob("runs/*/metrics.jsonl")):
            return
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--methods", "nonsense"), 9, "no method is called 'nonsense'"),
        (("--methods", "ft-last:3"), 9, "takes no number of blocks"),
        (("--methods", "mobiletl:many"), 2, "expected a number"),
        (("--methods", "mobiletl:99"), 9, "has 17"),
        (("--lr", "0.1", "--rates", "0.1,0.2"), 2, "give one of them"),
        (("--rates", "0.1,fast"), 2, "expected positive numbers"),
        (("--epochs", "0"), 2, "expected at least 1"),
        (("--data", "nowhere"), 3, "no folder nowhere"),
    ],
)
def test_bad_input_is_one_line(
    flags: tuple[str, ...],
    code: int,
    words: str,
    digits: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(arguments(digits, tmp_path / "out", *flags)) == code
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("mobiletl: ")
    assert words in said[-1]


def test_a_method_that_does_not_fit_is_left_out_of_the_default_grid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Resolution 48 fits none, so all are left out, with their reasons."""
    write_pictures(tmp_path / "photos", {"a": 4, "b": 4})
    assert main(arguments(tmp_path / "photos", tmp_path / "out", "--resolution", "48")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("left out: ") for line in lines) == len(every_subject())
    assert not (tmp_path / "out" / "accuracy.csv").exists()


def test_grid_holds_every_method() -> None:
    assert {subject.method.name for subject in every_subject()} == {row.name for row in METHODS}
    names = [str(subject) for subject in every_subject()]
    assert {"mobiletl:1", "mobiletl:3", "mobiletl:5", "ft-blocks:3", "ft-last"} <= set(names)


def test_limit_takes_classes_alike(tmp_path: Path) -> None:
    photos = write_pictures(tmp_path / "photos", {"a": 20, "b": 5})
    found = link_pictures(photos, tmp_path / "links", limit=6)
    assert (found.train_count, found.val_count) == (6, 4)
    assert len(list((found.all / "train" / "a").iterdir())) == 3


def test_results_survive_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    Results(path).add(KEY, OUTCOME)
    path.write_bytes(path.read_bytes() + b'{"key": {"use": "ru')
    again = Results(path)
    assert again.find(KEY) == OUTCOME
    other = Key(**{**KEY.__dict__, "seed": 1})
    assert again.find(other) is None
    again.add(other, OUTCOME)
    assert Results(path).find(other) == OUTCOME
    assert Results(path).find(KEY) == OUTCOME


# Few values, so that equal ones meet.
NUMBERS = st.integers(0, 6).map(float)


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] >= other[1] and one != other


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12))
def test_front_is_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    marks = on_front(points)
    front = [point for point, mark in zip(points, marks, strict=True) if mark]
    assert bool(front) == bool(points)
    assert not any(beats(one, other) for one in front for other in front)
    for point, mark in zip(points, marks, strict=True):
        assert mark or any(beats(better, point) for better in front)


def test_front_of_known_points() -> None:
    assert on_front([(1, 5), (2, 5), (2, 7), (3, 6), (2, 7)]) == [True, False, True, False, True]


def test_a_run_that_diverged_has_a_point_in_memory_and_none_in_time(tmp_path: Path) -> None:
    failed = Outcome((), (), (), 3_000_000, 0, 0.0, True)
    one, other = every_subject()[:2]
    rows = [
        Row(one, 0.1, False, (OUTCOME, OUTCOME), None),
        Row(other, 0.1, False, (failed,), None),
    ]
    memory, time_ms = draw_fronts(rows, tmp_path / "fronts.png", "")
    assert memory == {str(one): 2.0, str(other): 3.0}
    assert time_ms == {str(one): pytest.approx(1e3 / 11)}
