"""A limit on memory: what it may be called, and that it is refused before anything is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mobiletl.device import train_on_board
from mobiletl.device.errors import UsageError
from mobiletl.device.memory.limit import check_limit, parse_bytes
from mobiletl.device.memory.plan import MemoryPlan, MemoryRow
from runtime_tests.support.board.training_workshop import Workshop


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("120MB", 120_000_000),
        ("120 mb", 120_000_000),
        ("1.5GiB", 1_610_612_736),
        ("64MiB", 67_108_864),
        ("2gb", 2_000_000_000),
        ("900kB", 900_000),
        ("4096", 4096),
    ],
)
def test_sizes_as_people_write_them(text: str, found: int) -> None:
    assert parse_bytes(text) == found


@pytest.mark.parametrize("text", ["", "much", "-1MB", "12 M", "1e9", "nan", "MB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_bytes(text)


def planned(batch: int) -> MemoryPlan:
    return MemoryPlan((MemoryRow("rest", 80_000_000), MemoryRow("step", 2_000_000 * batch)))


def test_the_largest_batch_that_fits_is_named() -> None:
    check_limit(96_000_000, 8, planned)
    with pytest.raises(
        UsageError, match=r"^96\.0 MB are planned, .* 95\.9 MB of --max-memory; --batch 7 "
    ):
        check_limit(95_900_000, 8, planned)
    with pytest.raises(UsageError, match=r"--batch 1 is planned with 82\.0 MB$"):
        check_limit(83_000_000, 8, planned)
    with pytest.raises(UsageError, match=r"^96\.1 MB are planned, more than the 96\.0 MB "):
        check_limit(96_000_000, 8, lambda batch: MemoryPlan((MemoryRow("rest", 96_000_001),)))


def test_where_no_batch_fits_the_export_is_what_helps() -> None:
    for limit, any_batch in ((81_000_000, True), (90_000_000, False)):
        with pytest.raises(UsageError, match=r"; export fewer --blocks or a lower --resolution"):
            check_limit(limit, 8, planned, any_batch)


def test_a_run_is_refused_before_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    workshop = Workshop(tmp_path, monkeypatch)
    options = workshop.options("run")
    with pytest.raises(UsageError, match=r"are planned, more than the 1\.0 MB"):
        workshop.train(replace(options, max_memory=1_000_000))
    assert not options.run.exists()
    flags = ["--bundle", str(options.bundle), "--data", str(options.data), "--runtime", "fake"]
    assert train_on_board.main([*flags, "--out", str(options.run), "--max-memory", "1MB"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not options.run.exists()
    workshop.train(replace(options, max_memory=10**9))
