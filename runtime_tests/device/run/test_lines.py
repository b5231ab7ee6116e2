"""Lines with checksums: every single bit that changes is noticed; files from before are read on."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

import pytest

from mobiletl.device.run.events import EpochMetrics, Note
from mobiletl.device.run.events_file import line_of, read_events
from mobiletl.device.run.lines import read_lines, sealed
from mobiletl.device.run.metrics import MetricsFile

ROW = EpochMetrics(
    epoch=1,
    step=4,
    train_loss=0.5,
    train_accuracy=0.75,
    val_loss=0.25,
    val_accuracy=1.0,
    lr=0.01,
    pictures_per_s=9.5,
    rss_bytes=1,
    peak_bytes=2,
    seconds=0.5,
)


def test_a_line_is_json_whose_last_key_is_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(sealed({"a": 1}) + sealed({"b": "é, \u2028"}))
    assert list(json.loads(path.read_text().splitlines()[0])) == ["a", "crc"]
    assert read_lines(path) == [{"a": 1}, {"b": "é, \u2028"}]
    assert read_lines(tmp_path / "none") == []


def test_every_bit_that_changes_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append(ROW)
    file.append(EpochMetrics(**{**asdict(ROW), "epoch": 2}))
    whole, rows = file.path.read_bytes(), file.rows()
    assert [row.epoch for row in rows] == [1, 2]
    unsaid = []
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        file.path.write_bytes(changed)
        caplog.clear()
        found = file.rows()
        assert all(row in rows for row in found), bit
        if found != rows and "left out" not in caplog.text:
            unsaid.append(bit)
    assert unsaid == []


def test_lines_from_before_count_until_the_first_with_a_checksum(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    old = b'{"event": "note", "text": "old"}\n'
    path.write_bytes(old + line_of(Note("new")) + old)
    assert [event["text"] for event in read_events(path)] == ["old", "new"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"epoch": NaN}',
        b'{"epoch": 1e999}',
        b"[" * 100_000,
        b'{"a": ' * 100_000,
        b"\xff\xfe",
        b'{"epoch": ' + b"9" * 10_000 + b"}",
        b"null",
    ],
)
def test_lines_from_strangers_are_left_out(
    tmp_path: Path, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    row = json.dumps(asdict(ROW)).encode()
    file.path.write_bytes(line + b"\n" + row + b"\n")
    with caplog.at_level(logging.WARNING):
        assert file.rows() == [ROW]
    assert read_events(file.path) == []


@pytest.mark.parametrize("value", ["x", True, None, [1], 1e300])
def test_figures_of_another_type_are_left_out(tmp_path: Path, value: object) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.path.write_bytes(sealed({**asdict(ROW), "val_loss": value}))
    assert file.rows() == []
