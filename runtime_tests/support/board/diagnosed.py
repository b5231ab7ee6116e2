"""What the doctor finds on a board's files: a report for a test to look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mobiletl.device import doctor
from mobiletl.device.diagnosis.facts import Facts, Process, read_facts
from mobiletl.device.diagnosis.findings import LEVELS, Finding
from runtime_tests.support.board.board_files import BoardFiles

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
