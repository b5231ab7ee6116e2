"""`mobiletl doctor`, the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from mobiletl.device import doctor
from mobiletl.device.commands import table as commands
from mobiletl.device.diagnosis.facts import this_process
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

DEVICE = Path(doctor.__file__).parent


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
    assert "-> name the folder that `mobiletl export` wrote" in printed.out
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
