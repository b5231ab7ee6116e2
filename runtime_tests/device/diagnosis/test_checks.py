"""The doctor on the files of real boards: what it finds, at which level, what it says to type."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mobiletl.device import doctor
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.diagnosis.facts import read_facts
from mobiletl.device.memory.plan import plan
from runtime_tests.support.board.board_files import JETSON, PI4, PI5, ZERO2, BoardFiles
from runtime_tests.support.board.diagnosed import BOOKWORM, RUNS, facts_of, found
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle
from runtime_tests.support.board.tiny_levels import MORE_BYTES, write_tiny_levels


@pytest.mark.parametrize(
    ("files", "name", "cpu"),
    [
        (PI4, "pi4", "cortex-a72"),
        (PI5, "pi5", "cortex-a76"),
        (ZERO2, "pi-zero2", "cortex-a53"),
        (JETSON, "jetson-nano", "cortex-a57"),
    ],
)
def test_a_board_is_known_by_its_files(
    files: BoardFiles, name: str, cpu: str, tmp_path: Path
) -> None:
    finding = found(facts_of(files, tmp_path), "board")
    assert finding.level == "ok"
    assert finding.found.endswith(f"({name}, {cpu})")
    assert files.files["proc/device-tree/model"].strip("\0") in finding.found


def test_in_a_container_without_a_device_tree_cpuinfo_tells(tmp_path: Path) -> None:
    root = PI4.write(tmp_path)
    (root / "proc/device-tree/model").unlink()
    assert "(pi4, cortex-a72)" in found(read_facts(RUNS, BOOKWORM, root), "board").found


def test_an_unknown_arm_board_is_the_last_row_and_a_laptop_is_none(tmp_path: Path) -> None:
    arm = facts_of(PI4, tmp_path / "a", model="Radxa ROCK 4C+", cpuinfo="")
    assert found(arm, "board").found.endswith("(aarch64, cortex-a53)")
    laptop = facts_of(BoardFiles(), tmp_path / "b", replace(BOOKWORM, machine="x86_64"))
    assert found(laptop, "board").level == "note"


def test_a_good_board_has_no_problem(tmp_path: Path) -> None:
    for files in (PI4, PI5, ZERO2):
        findings = doctor.examine(facts_of(files, tmp_path / str(id(files))))
        assert "problem" not in {finding.level for finding in findings}


def test_a_plan_that_does_not_fit_names_a_batch_that_does(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", graphs=False)
    fits = facts_of(ZERO2, tmp_path / "a")
    assert found(fits, "memory", bundle).level == "ok"
    large = found(fits, "memory", bundle, batch=2_000_000)
    assert large.level == "problem"
    batch = int(large.to_type.replace("train with --batch ", ""))
    assert found(fits, "memory", bundle, batch=batch).level == "warning"
    assert found(fits, "memory", bundle, batch=batch + 1).level == "problem"


def test_of_a_bundle_with_levels_a_level_that_fits_is_named(tmp_path: Path) -> None:
    folder = write_tiny_levels(tmp_path / "bundle")
    level = open_bundle(folder).at(0).manifest
    between = round((plan(level, 8, 10).total_bytes + MORE_BYTES / 2) * 1.1 / 1024)
    meminfo = f"MemTotal:  426000 kB\nMemAvailable:  {between} kB\n"
    finding = found(facts_of(ZERO2, tmp_path / "a", meminfo=meminfo), "memory", folder)
    assert (finding.level, finding.to_type) == ("problem", "train with --blocks 0")
    few = "MemTotal:  426000 kB\nMemAvailable:  20000 kB\n"
    finding = found(facts_of(ZERO2, tmp_path / "b", meminfo=few), "memory", folder)
    assert "multi-user.target" in finding.to_type


def test_a_board_too_small_for_any_batch_says_what_to_stop(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", graphs=False)
    few = "MemTotal:  426000 kB\nMemAvailable:  20000 kB\n"
    finding = found(facts_of(ZERO2, tmp_path / "a", meminfo=few), "memory", bundle)
    assert finding.level == "problem"
    assert "multi-user.target" in finding.to_type


def test_a_container_limit_counts_as_memory(tmp_path: Path) -> None:
    facts = facts_of(PI4, tmp_path)
    group = tmp_path / "sys/fs/cgroup/app"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/self/cgroup").write_text("0::/app\n")
    (group / "memory.max").write_text("30000000\n")
    (group / "memory.current").write_text("10000000\n")
    bundle = write_tiny_bundle(tmp_path / "bundle", graphs=False)
    assert found(facts, "memory", bundle).level == "ok"
    limited = read_facts(RUNS, BOOKWORM, tmp_path)
    assert found(limited, "memory", bundle).found.startswith("20 MB available of 3979;")


def test_swap_on_a_card_matters_if_the_plan_needs_it(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", graphs=False)
    facts = facts_of(PI4, tmp_path / "a")
    assert found(facts, "swap").level == "warning"
    finding = found(facts, "swap", bundle)
    assert (finding.level, "105 MB on the SD card (/var/swap)" in finding.found) == ("note", True)
    assert "dphys-swapfile swapoff" in finding.to_type
    assert found(facts_of(PI5, tmp_path / "b"), "swap").found == "not on an SD card (/dev/zram0)"


@pytest.mark.parametrize(
    ("bits", "level", "words"),
    [
        ("0", "ok", "no under-voltage"),
        ("50005", "warning", "now: under-voltage, throttled (get_throttled 0x50005)"),
        ("50000", "warning", "earlier: under-voltage, throttled"),
        ("80000", "note", "earlier: soft temperature limit"),
        ("80008", "warning", "now: soft temperature limit"),
    ],
)
def test_the_firmwares_bits(bits: str, level: str, words: str, tmp_path: Path) -> None:
    finding = found(facts_of(PI4, tmp_path, get_throttled=bits + "\n"), "power")
    assert (finding.level, words in finding.found) == (level, True)


def test_without_the_file_the_firmwares_own_tool_answers(tmp_path: Path) -> None:
    root = PI5.write(tmp_path)
    (root / "sys/devices/platform/soc/soc:firmware/get_throttled").unlink()
    asked = replace(BOOKWORM, throttled=lambda: "throttled=0x50000\n")
    assert "0x50000" in found(read_facts(RUNS, asked, root), "power").found
    assert found(read_facts(RUNS, BOOKWORM, root), "power").level == "ok"


def test_the_kernels_own_alarm_counts_as_under_voltage(tmp_path: Path) -> None:
    root = PI5.write(tmp_path)
    (root / "sys/class/hwmon/hwmon1").mkdir(parents=True)
    (root / "sys/class/hwmon/hwmon1/name").write_text("rpi_volt\n")
    (root / "sys/class/hwmon/hwmon1/in0_lcrit_alarm").write_text("1\n")
    assert "now: under-voltage" in found(read_facts(RUNS, BOOKWORM, root), "power").found


def test_heat(tmp_path: Path) -> None:
    assert found(facts_of(PI4, tmp_path / "a"), "temperature").found == "48 degrees C (cpu-thermal)"
    hot = facts_of(PI4, tmp_path / "b", temp="82300\n")
    assert found(hot, "temperature").level == "warning"
    # Its power chip always says 100.
    assert (
        found(facts_of(JETSON, tmp_path / "c"), "temperature").found == "40 degrees C (CPU-therm)"
    )


def test_memory_limits_need_the_kernels_controller(tmp_path: Path) -> None:
    off = found(facts_of(PI4, tmp_path / "a"), "memory limits")
    assert (off.level, "cgroup_enable=memory" in off.to_type) == ("note", True)
    on = facts_of(PI4, tmp_path / "b", **{"cgroup.controllers": "cpu memory pids\n"})
    assert found(on, "memory limits").level == "ok"


@pytest.mark.parametrize(
    ("line", "level", "words"),
    [
        ("/dev/sda1 /media/stick vfat rw,nosuid 0 0\n", "warning", "FAT can leave"),
        ("/dev/sda1 /media/stick exfat rw 0 0\n", "warning", "FAT can leave"),
        ("/dev/sda1 /media/stick ext4 ro,relatime 0 0\n", "problem", "is read-only"),
        ("/dev/sda1 /media/stick ext4 rw,relatime 0 0\n", "ok", "on ext4 (/dev/sda1)"),
    ],
)
def test_where_the_run_is_written(line: str, level: str, words: str, tmp_path: Path) -> None:
    folder = Path("/media/stick/runs")
    facts = facts_of(PI4, tmp_path, folder=folder, mounts=PI4.files["proc/mounts"] + line)
    finding = found(facts, "run folder")
    assert (finding.level, words in finding.found) == (level, True)


def test_a_full_disk_and_a_nearly_full_one(tmp_path: Path) -> None:
    facts = facts_of(PI4, tmp_path)
    full = replace(facts, folder=replace(facts.folder, free_bytes=15_000_000))
    assert found(full, "run folder").level == "problem"
    little = replace(facts, folder=replace(facts.folder, free_bytes=300_000_000))
    assert found(little, "run folder").to_type.startswith("train with --no-cache")
    foreign = replace(facts, folder=replace(facts.folder, writable=False))
    assert found(foreign, "run folder").level == "problem"


def test_a_damaged_bundle_is_a_problem_in_the_report(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", graphs=False)
    facts = facts_of(PI4, tmp_path / "a")
    assert found(facts, "bundle", bundle).level == "ok"
    (bundle / "state.safetensors").write_bytes(b"cut")
    assert found(facts, "bundle", bundle).level == "problem"


def test_a_machine_that_says_nothing_is_no_error(tmp_path: Path) -> None:
    facts = facts_of(BoardFiles(), tmp_path)
    assert len(doctor.examine(facts)) == len(doctor.CHECKS)
    odd = {
        "proc/meminfo": "\0\xff MemAvailable: x kB",
        "proc/swaps": "a\nb c\n",
        "proc/mounts": "x",
    }
    assert doctor.examine(facts_of(BoardFiles(odd), tmp_path / "odd"))
