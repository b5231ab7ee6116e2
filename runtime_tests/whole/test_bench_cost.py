"""`make bench-cost`: a row for every case and form that exists, a reason for every other."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from bench.cost.__main__ import main, measure
from bench.cost.cases import FORMS, Case, Plan
from bench.cost.costs import Cost
from bench.cost.plot import draw_costs
from bench.cost.table import write_csv
from runtime_tests.support.board.shared_files import REPOSITORY

USUAL = Case(blocks=1, batch=2, resolution=64)
COST = Cost("batch", "floats", USUAL, 1.5, 0.25, 90_000_000, 91_000_000)
SIZE = (1200, 700)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


@pytest.mark.slow
def test_every_case_has_a_row_or_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 48 px fit no network here.
    sweeps = {"batch": (1, 2), "blocks": (1,), "resolution": (48, 64)}
    plan = Plan("mbv2-0.35", "none", USUAL, sweeps, rounds=1)
    assert measure(plan, tmp_path) == 0
    with (tmp_path / "cost.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    keys = ("sweep", "form", "blocks", "batch", "resolution")
    expected = [
        ("batch", ("1", "1", "64"), ("1", "2", "64")),
        ("blocks", ("1", "2", "64")),
        ("resolution", ("1", "2", "64")),
    ]
    assert [tuple(row[key] for key in keys) for row in rows] == [
        (sweep, form, *case) for sweep, *cases in expected for form in FORMS for case in cases
    ]
    for row in rows:
        assert float(row["step_ms_per_picture"]) > 0
        assert float(row["frozen_ms_per_picture"]) > 0
        assert float(row["measured_peak_mb"]) > 40
        assert float(row["planned_peak_mb"]) > 0
    reasons = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("left out: ")
    ]
    assert len(reasons) == len(FORMS)
    assert all(f"left out: {form}, blocks 1, 48 px: " in "\n".join(reasons) for form in FORMS)
    assert size_of(tmp_path / "cost.png") == SIZE


def test_csv_keeps_measured_and_planned_apart(tmp_path: Path) -> None:
    write_csv([COST], tmp_path / "cost.csv")
    with (tmp_path / "cost.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["measured_peak_mb"], row["planned_peak_mb"]) == ("90.000", "91.000")
    assert (row["step_ms_per_picture"], row["frozen_ms_per_picture"]) == ("1.500", "0.250")


def test_a_form_that_does_not_exist_is_not_drawn(tmp_path: Path) -> None:
    draw_costs([COST], tmp_path / "cost.png", "")
    assert size_of(tmp_path / "cost.png") == SIZE


def test_cases_are_around_the_usual_one() -> None:
    plan = Plan()
    assert all(plan.usual in plan.cases(sweep) for sweep in plan.sweeps)
    assert plan.most_pictures == 32


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rounds", "0"]) == 2
    assert capsys.readouterr().err.splitlines() == ["mobiletl: --rounds is 0, expected at least 1"]


@pytest.mark.slow
@pytest.mark.usefixtures("heard_signals")
def test_interrupted_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.cost", "--out", str(tmp_path / "out")]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("model")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert said.splitlines() == ["mobiletl: stopped"]
