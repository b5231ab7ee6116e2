"""`make bench-learning`: a row for each contender, the same pictures and first state for all."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from bench.exported import BYTES, FLOATS, PREFIX
from bench.learning.__main__ import CACHED, FIXED, main
from bench.learning.race import Curve
from bench.learning.table import rows_of, table_lines
from bench.speed import EAGER
from runtime_tests.support.digits import write_digits

KINDS = (EAGER, FIXED, FLOATS, PREFIX, BYTES)
NAMES = [kind + suffix for kind in KINDS for suffix in ("", CACHED)]
SLOW = Curve(16, (4.0, 8.0), (0.5, 0.8))
FAST = Curve(16, (1.0, 2.0), (0.79, 0.8))
WRONG = Curve(16, (1.0, 2.0), (0.1, 0.1))


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The object that a run of two epochs of 16 pictures prints."""
    photos = write_digits(tmp_path_factory.mktemp("digits") / "photos", digits=2)
    words = ["--data", str(photos), "--weights", "none", "--blocks", "1", "--epochs", "2"]
    words += ["--parts", "2", "--seeds", "1", "--limit", "9", "--test-limit", "4", "--json"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main([*words, "--no-memory", "--threads", "1"]) == 0
    found: dict[str, Any] = json.loads(printed.getvalue())
    return found


@pytest.mark.slow
def test_a_row_and_a_curve_for_each_contender(said: dict[str, Any]) -> None:
    assert [row["name"] for row in said["rows"]] == NAMES
    (curves,) = said["curves"]
    assert list(curves) == NAMES
    for row in said["rows"]:
        assert row["pictures_per_s"] > 0
        assert 0 <= row["accuracy"] <= 1
        assert 0 < row["seconds_to_own"] <= curves[row["name"]]["seconds"][-1]
        assert row["peak_bytes"] is None
    for curve in curves.values():
        # 18 pictures give two whole batches in each epoch, and each part has one of them.
        assert curve["pictures"] == 32
        assert len(curve["seconds"]) == len(curve["accuracies"]) == 4
        assert curve["seconds"] == sorted(curve["seconds"])


@pytest.mark.slow
@pytest.mark.parametrize("row", [FLOATS, PREFIX, BYTES])
def test_what_is_cached_trains_as_what_is_not(said: dict[str, Any], row: str) -> None:
    (curves,) = said["curves"]
    assert curves[row]["accuracies"] == curves[row + CACHED]["accuracies"]


@pytest.mark.slow
def test_conditions_are_said(said: dict[str, Any]) -> None:
    assert "18 to train on, 8 to test on, 2 classes" in said["conditions"]["pictures"]
    assert "2 epochs, SGD" in said["conditions"]["training"]


def test_times_to_an_accuracy_are_those_of_the_first_part_that_has_it() -> None:
    rows = {row.name: row for row in rows_of([{EAGER: SLOW, FLOATS: FAST, PREFIX: WRONG}], {})}
    assert (rows[EAGER].seconds_to_own, rows[EAGER].seconds_to_eager) == (8, 8)
    assert (rows[FLOATS].seconds_to_own, rows[FLOATS].own_ratio) == (1, 8)
    assert (rows[FLOATS].speed_ratio, rows[FLOATS].eager_ratio) == (4, 8)
    # One that learns nothing is fast to what it has, and never at PyTorch's.
    assert (rows[PREFIX].seconds_to_own, rows[PREFIX].seconds_to_eager) == (1, None)


def test_means_are_over_seeds() -> None:
    runs = [{EAGER: SLOW, FLOATS: FAST}, {EAGER: SLOW, FLOATS: WRONG}]
    row = rows_of(runs, {FLOATS: 100_000_000})[1]
    assert row.accuracy == pytest.approx(0.45)
    assert row.seconds_to_eager is None  # the second seed has not come so far
    line = table_lines([row], 16)[-1]
    assert line == f"| {FLOATS} | 8.0 (4.00 x) | 45.0 | 1.0 (8.00 x) | not reached | 100 |"


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--epochs", "0"), 2, "expected at least 1"),
        (("--rate", "0"), 2, "expected a positive number"),
        (("--limit", "1"), 2, "gives 2 pictures to train on"),
    ],
)
def test_bad_input_is_one_line(
    flags: tuple[str, ...],
    code: int,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    photos = write_digits(tmp_path / "photos", digits=2)
    assert main(["--data", str(photos), "--weights", "none", *flags]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mobiletl: ")
    assert words in line


def test_a_folder_without_a_test_part_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path)]) != 0
    assert "expected train/ and test/ in it" in capsys.readouterr().err
