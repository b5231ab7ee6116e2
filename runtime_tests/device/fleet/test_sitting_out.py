"""A board sits out while training would do harm, and says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobiletl.device.fleet.board import Board
from mobiletl.device.fleet.sitting_out import condition, sits_out

BOARD = Board(Path("home"), "kitchen", Path("bundle"), Path("photos"))
GENEROUS = 1_000


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="ascii")
    return root


MEMORY = {"proc/meminfo": "MemTotal: 400000 kB\nMemAvailable:  200000 kB"}


def test_a_board_that_tells_nothing_takes_part(tmp_path: Path) -> None:
    assert sits_out(BOARD, GENEROUS, tmp_path) is None


def test_a_hot_board_sits_out(tmp_path: Path) -> None:
    zones = "sys/class/thermal/thermal_zone"
    put(
        tmp_path,
        {f"{zones}0/temp": "45000", f"{zones}1/temp": "81500", f"{zones}2/temp": "-274000"},
    )
    assert condition(tmp_path).celsius == 81.5
    assert sits_out(BOARD, GENEROUS, tmp_path) == "it is hot: 82 °C, and 80 are allowed"
    cooler = Board(BOARD.home, "kitchen", BOARD.bundle, BOARD.data, most_celsius=85.0)
    assert sits_out(cooler, GENEROUS, tmp_path) is None


@pytest.mark.parametrize(
    ("files", "out"),
    [
        ({"BAT0/type": "Battery", "BAT0/status": "Discharging"}, True),
        ({"BAT0/type": "Battery", "BAT0/status": "Charging"}, False),
        ({"AC/type": "Mains", "AC/online": "0"}, False),
        ({"hid/type": "Battery", "hid/status": "Discharging", "hid/scope": "Device"}, False),
    ],
)
def test_a_board_on_battery_sits_out(tmp_path: Path, files: dict[str, str], out: bool) -> None:
    put(tmp_path, {f"sys/class/power_supply/{name}": text for name, text in files.items()})
    assert sits_out(BOARD, GENEROUS, tmp_path) == ("it runs on battery" if out else None)
    anyway = Board(BOARD.home, "kitchen", BOARD.bundle, BOARD.data, on_battery=True)
    assert sits_out(anyway, GENEROUS, tmp_path) is None


def test_a_board_without_the_planned_memory_sits_out(tmp_path: Path) -> None:
    put(tmp_path, MEMORY)
    assert sits_out(BOARD, 204_800_000, tmp_path) is None
    assert sits_out(BOARD, 204_800_001, tmp_path) == (
        "its memory is short: 204.9 MB are planned and 204.8 MB are available"
    )
