"""The metrics file: whole lines, no epoch twice, nothing lost to a cut-off line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mobiletl.device.errors import NoSpace
from mobiletl.device.run.events import EpochMetrics
from mobiletl.device.run.metrics import MetricsFile


def row(epoch: int) -> EpochMetrics:
    return EpochMetrics(
        epoch=epoch,
        step=epoch * 4,
        train_loss=None if epoch == 0 else 1.0 / 3.0,
        train_accuracy=None if epoch == 0 else 0.5,
        val_loss=0.1 + epoch,
        val_accuracy=0.25,
        lr=None if epoch == 0 else 0.01,
        pictures_per_s=None if epoch == 0 else 9.5,
        rss_bytes=1,
        peak_bytes=2,
        seconds=0.5,
    )


def test_lines_read_back(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    assert file.rows() == []
    for epoch in range(3):
        file.append(row(epoch))
    assert file.rows() == [row(0), row(1), row(2)]
    lines = file.path.read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2]


def test_resumed_epochs_are_dropped(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for epoch in range(4):
        file.append(row(epoch))
    file.keep_before(2)
    file.append(row(2))
    assert file.rows() == [row(0), row(1), row(2)]
    file.keep_before(0)
    assert file.path.read_text() == ""
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_line_cut_by_a_power_loss_is_left_out(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append(row(0))
    whole = file.path.read_text()
    file.path.write_text(whole + whole[:30])
    assert file.rows() == [row(0)]
    file.keep_before(5)
    file.append(row(1))
    assert file.rows() == [row(0), row(1)]


def test_no_number_that_is_no_json(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    broken = EpochMetrics(**{**vars(row(1)), "val_loss": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        file.append(broken)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = MetricsFile(tmp_path / "file" / "metrics.jsonl")
    with pytest.raises(NoSpace, match="--out"):
        file.append(row(0))
    with pytest.raises(NoSpace, match="--out"):
        file.keep_before(0)
