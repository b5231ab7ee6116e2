"""The doctor on the files of real boards: what it finds, at which level, what it says to type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mobiletl.device import commands, doctor
from mobiletl.device.diagnosis.facts import Facts, Process, read_facts, this_process
from mobiletl.device.diagnosis.findings import LEVELS, Finding
from runtime_tests.board_files import JETSON, PI4, PI5, ZERO2, BoardFiles
from runtime_tests.tiny_bundle import write_tiny_bundle

DEVICE = Path(doctor.__file__).parent
GOOD = {
    "onnxruntime": ("1.31.1",),
    "numpy": ("1.24.2",),
    "pillow": ("9.4.0",),
    "safetensors": ("0.8.0",),
}
BOOKWORM = Process(
    machine="aarch64",
    pointer_bits=64,
    python=(3, 11),
    glibc=(2, 36),
    packages=GOOD,
    importable=frozenset({"picamera2"}),
)
RUNS = Path("/home/pi/runs")


def facts_of(
    files: BoardFiles, root: Path, process: Process = BOOKWORM, folder: Path = RUNS, **changed: str
) -> Facts:
    return read_facts(folder, process, files.write(root, **changed))


def found(facts: Facts, check: str, bundle: Path | None = None, **sizes: int) -> Finding:
    findings = doctor.examine(facts, bundle, **sizes)
    assert all(finding.level in LEVELS and finding.found for finding in findings)
    return next(finding for finding in findings if finding.check == check)


def with_packages(**versions: Any) -> Process:
    changed = {name.replace("_", "-"): version for name, version in versions.items()}
    packages = {**GOOD, **changed}
    return replace(
        BOOKWORM, packages={name: version for name, version in packages.items() if version}
    )


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


# --- what is installed --------------------------------------------------------------------------


@pytest.mark.parametrize("files", [PI4, ZERO2, JETSON])
def test_the_release_that_dies_is_a_problem_without_atomics(
    files: BoardFiles, tmp_path: Path
) -> None:
    finding = found(facts_of(files, tmp_path, with_packages(onnxruntime=("1.21.0",))), "runtime")
    assert finding.level == "problem"
    assert "illegal instruction" in finding.found
    assert finding.to_type == "pip install 'onnxruntime!=1.21.0'"


def test_on_a_pi5_it_is_a_note_and_the_next_release_is_fine(tmp_path: Path) -> None:
    bad = with_packages(onnxruntime=("1.21.0",))
    assert found(facts_of(PI5, tmp_path / "a", bad), "runtime").level == "note"
    good = with_packages(onnxruntime=("1.21.1",))
    assert found(facts_of(PI4, tmp_path / "b", good), "runtime").level == "ok"


def test_two_runtimes_in_one_environment(tmp_path: Path) -> None:
    both = with_packages(onnxruntime_training_cpu=("1.19.2",))
    finding = found(facts_of(PI4, tmp_path, both), "runtime")
    assert finding.level == "problem"
    assert finding.to_type.startswith("pip uninstall -y onnxruntime onnxruntime-training-cpu && ")


@pytest.mark.parametrize(
    ("versions", "check", "words"),
    [
        ({"onnxruntime": None}, "runtime", "not installed"),
        ({"onnxruntime": ("1.15.1",)}, "runtime", "1.16.3 is the oldest"),
        ({"safetensors": None, "pillow": None}, "libraries", "pillow, safetensors"),
        ({"numpy": ("1.19.5",)}, "libraries", "numpy 1.19.5"),
        ({"onnxruntime": ("1.17.3",), "numpy": ("2.0.2",)}, "libraries", "made for NumPy 1"),
    ],
)
def test_packages_that_cannot_work(versions: Any, check: str, words: str, tmp_path: Path) -> None:
    finding = found(facts_of(PI4, tmp_path, with_packages(**versions)), check)
    assert finding.level == "problem"
    assert words in finding.found
    assert "pip install" in finding.to_type


@pytest.mark.parametrize(
    ("python", "glibc", "level", "words"),
    [
        ((3, 7), (2, 28), "problem", "3.8 is the oldest"),
        ((3, 8), (2, 27), "ok", "up to 1.19.2"),
        ((3, 11), (2, 27), "ok", "up to 1.28.0"),
        ((3, 13), (2, 41), "ok", "up to 1.31.1"),
        ((3, 15), (2, 41), "problem", "newest with wheels"),
        ((3, 11), (2, 26), "problem", "wheels need 2.27"),
        ((3, 11), None, "note", "no glibc"),
    ],
)
def test_python_and_its_c_library(
    python: Any, glibc: Any, level: str, words: str, tmp_path: Path
) -> None:
    process = replace(BOOKWORM, python=python, glibc=glibc)
    finding = found(facts_of(PI4, tmp_path, process), "python")
    assert (finding.level, words in finding.found) == (level, True)


@pytest.mark.parametrize(
    ("machine", "bits", "words"),
    [
        ("aarch64", 32, "a 64-bit kernel with a 32-bit system"),
        ("armv7l", 32, "a 32-bit system (armv7l)"),
    ],
)
def test_32_bits_anywhere_are_a_problem(
    machine: str, bits: int, words: str, tmp_path: Path
) -> None:
    process = replace(BOOKWORM, machine=machine, pointer_bits=bits)
    finding = found(facts_of(PI4, tmp_path, process), "64 bits")
    assert finding.level == "problem"
    assert words in finding.found
    assert "64-bit Raspberry Pi OS" in finding.to_type


def test_a_processor_without_64_bits_is_told_apart(tmp_path: Path) -> None:
    old = PI4.files["proc/cpuinfo"].replace("0xd08", "0xb76")
    process = replace(BOOKWORM, machine="armv6l", pointer_bits=32)
    facts = facts_of(PI4, tmp_path, process, cpuinfo=old, model="Raspberry Pi Zero W Rev 1.1")
    assert "no 64-bit mode" in found(facts, "64 bits").found


# --- the board ----------------------------------------------------------------------------------


def test_a_plan_that_does_not_fit_names_a_batch_that_does(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", graphs=False)
    fits = facts_of(ZERO2, tmp_path / "a")
    assert found(fits, "memory", bundle).level == "ok"
    large = found(fits, "memory", bundle, batch=2_000_000)
    assert large.level == "problem"
    batch = int(large.to_type.replace("train with --batch ", ""))
    assert found(fits, "memory", bundle, batch=batch).level == "warning"
    assert found(fits, "memory", bundle, batch=batch + 1).level == "problem"


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
    assert found(facts_of(PI4, tmp_path / "a"), "temperature").found == "48 degrees C"
    hot = facts_of(PI4, tmp_path / "b", temp="82300\n")
    assert found(hot, "temperature").level == "warning"
    # Its power chip always says 100.
    assert found(facts_of(JETSON, tmp_path / "c"), "temperature").found == "40 degrees C"


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


def test_cameras(tmp_path: Path) -> None:
    facts = facts_of(PI4, tmp_path)
    assert found(facts, "camera").level == "ok"
    none = replace(facts, process=replace(BOOKWORM, importable=frozenset()))
    assert "apt install -y python3-picamera2" in found(none, "camera").to_type
    hidden = replace(none, system_picamera2=True)
    assert "--system-site-packages" in found(hidden, "camera").to_type
    usb = replace(
        facts,
        process=replace(BOOKWORM, importable=frozenset({"cv2"})),
        video_devices=("/dev/video0",),
    )
    assert found(usb, "camera").found == "OpenCV for USB cameras (/dev/video0)"


def test_a_newer_numpy_over_the_one_picamera2_was_built_for(tmp_path: Path) -> None:
    over = with_packages(numpy=("2.4.6", "1.24.2"))
    finding = found(facts_of(PI4, tmp_path, over), "camera")
    assert finding.level == "warning"
    assert finding.to_type.startswith("pip uninstall -y numpy")


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


# --- the command --------------------------------------------------------------------------------


def test_the_command_here_is_ready_or_says_why(tmp_path: Path, capsys: Any) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", graphs=False)
    code = commands.main(["doctor", "--bundle", str(bundle), "--out", str(tmp_path), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert code == (0 if report["ready"] else 12)
    assert report["ready"] == all(row["level"] != "problem" for row in report["findings"])
    assert set(report["findings"][0]) == {"check", "level", "found", "to_type"}


def test_the_text_puts_what_to_type_under_the_finding(tmp_path: Path, capsys: Any) -> None:
    missing = str(tmp_path / "none")
    assert commands.main(["doctor", "--bundle", missing, "--out", str(tmp_path)]) == 12
    printed = capsys.readouterr()
    assert "problem  bundle" in printed.out
    assert "1 problem" in printed.out.splitlines()[-1]
    assert printed.err.startswith("mobiletl: training would fail here: bundle")
    assert len(printed.err.splitlines()) == 1


def test_impossible_flags(capsys: Any) -> None:
    assert commands.main(["doctor", "--batch", "0", "--classes", "1"]) == 2
    assert "--batch is 0" in capsys.readouterr().err


def test_a_runtime_that_would_kill_the_process_is_never_imported(tmp_path: Path) -> None:
    """1.21.0 on a Raspberry Pi 4: whoever imports it dies, by whatever path."""
    package = tmp_path / "site" / "onnxruntime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import os\nos.kill(os.getpid(), 4)\n")
    info = tmp_path / "site" / "onnxruntime-1.21.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime\nVersion: 1.21.0\n")
    run = subprocess.run(
        [sys.executable, str(DEVICE / "doctor.py"), "--out", str(tmp_path), "--json"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        check=False,
    )
    assert run.returncode in (0, 12)
    rows = {row["check"]: row for row in json.loads(run.stdout)["findings"]}
    assert "1.21.0" in rows["runtime"]["found"]


def test_it_needs_nothing_installed(tmp_path: Path) -> None:
    """Without site-packages: no NumPy, no runtime, and still a report."""
    run = subprocess.run(
        [sys.executable, "-S", "-s", str(DEVICE / "doctor.py"), "--out", str(tmp_path), "--json"],
        stdout=subprocess.PIPE,
        env={name: text for name, text in os.environ.items() if name != "PYTHONPATH"},
        check=False,
    )
    rows = {row["check"]: row for row in json.loads(run.stdout)["findings"]}
    assert run.returncode == 12
    assert rows["runtime"]["found"] == "onnxruntime is not installed"
    assert "numpy, pillow, safetensors" in rows["libraries"]["found"]


def test_this_process_knows_itself() -> None:
    process = this_process()
    assert process.pointer_bits in (32, 64)
    assert process.python == sys.version_info[:2]
    assert "numpy" in process.packages
