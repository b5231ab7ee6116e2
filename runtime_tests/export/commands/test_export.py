"""`mobiletl export` from its flags to its exit codes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mobiletl.core.integer.top import AUTO
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.commands.table import main
from mobiletl.export.commands.export import EXAMPLES, _parser
from mobiletl.export.runtimes import DEFAULT_RUNTIMES
from mobiletl.export.writing.export_bundle import export_bundle
from runtime_tests.support.exported_bundles import Case

FAST = ["--weights", "demo", "--method", "ft-last"]


def refused(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str]:
    """(exit code, the one line on stderr)."""
    code = main(["export", *flags])
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("mobiletl: ")
    return code, line


def test_report_says_what_to_do_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bundle"
    assert main(["export", *FAST, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"wrote {out} (")
    assert lines[1].strip() == f"mobiletl inspect --bundle {out}"
    assert lines[2].strip().startswith(f"python {out}/device/train_on_board.py --data")
    manifest = open_bundle(out).manifest
    assert (manifest.model.name, manifest.input.resolution) == ("mbv2-0.35", 64)
    assert manifest.method.name == "ft-last"


def test_json_is_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bundle"
    assert main(["export", *FAST, "--json", "--out", str(out)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["bundle"] == str(out)
    assert document["manifest"] == json.loads((out / "manifest.json").read_text("utf-8"))


def test_flags_reach_the_bundle(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    flags = "--model mbv2-0.1 --weights none --method ft-blocks --blocks 0 --resolution 32"
    assert main(["export", *flags.split(), "--optimizer", "adam", "--out", str(out)]) == 0
    manifest = open_bundle(out).manifest
    assert (manifest.model.width, manifest.model.weights) == (0.1, "none")
    assert (manifest.method.name, manifest.method.blocks) == ("ft-blocks", 0)
    assert (manifest.input.resolution, manifest.input.resize) == (32, 37)
    assert manifest.optimizer.name == "adam"


@pytest.mark.parametrize(
    ("flags", "code", "text"),
    [
        ("--weights none --blocks 18", 9, "18 blocks to train, but MobileNetV2 has 17"),
        ("--weights none --method ft-last --blocks 1", 9, "ft-last reaches the classifier alone"),
        ("--weights none --method ft-all --blocks 3", 9, "ft-all .*3 blocks .*leave --blocks out"),
        ("--weights none --resolution 100", 9, "resolution 100 does not fit .*try 96"),
        ("--weights none --method lora", 9, "no method is called 'lora', .*or FILE.py:NAME"),
        ("--weights none --model resnet18", 9, "no model is called 'resnet18'"),
        ("--weights none --model mbv2-99", 9, "expected 0.1 to 4"),
        ("--weights missing.safetensors", 10, "missing.safetensors: no such file"),
        ("--weights broken.safetensors", 10, "broken.safetensors: not a readable weights file"),
        ("--weights broken.pth", 10, "broken.pth: not a readable weights file"),
        ("--weights timm.safetensors --model mbv3-small", 10, r"timm's: .*\(conv_stem\.weight\)"),
        ("--weights demo --model mbv2", 2, "--weights demo is for --model mbv2-0.35, not mbv2"),
        (f"{' '.join(FAST)} --out occupied", 2, "holds something that is no bundle"),
        (f"{' '.join(FAST)} --out broken.pth", 2, "is a file, expected a folder"),
    ],
)
def test_refusals_are_one_line(
    flags: str,
    code: int,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("broken.safetensors", "broken.pth"):
        (tmp_path / name).write_bytes(b"not what it says")
    save_file({"conv_stem.weight": torch.zeros(16, 3, 3, 3)}, tmp_path / "timm.safetensors")
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "letter.txt").write_text("dear")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    found, line = refused(capsys, *flags.split())
    assert found == code
    assert re.search(text, line), line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ("--optimizer lion", "invalid choice: 'lion'"),
        ("--blocks many", "invalid int value: 'many'"),
        ("--bundle x", "unrecognized arguments"),
    ],
)
def test_wrong_flags(flags: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", *flags.split()]) == 2
    assert text in capsys.readouterr().err


def test_help_ends_with_lines_that_parse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--help"]) == 0
    assert capsys.readouterr().out.rstrip().endswith(EXAMPLES.rstrip())
    lines = [line.strip() for line in EXAMPLES.splitlines() if "mobiletl export" in line]
    assert len(lines) >= 3
    for line in lines:
        _parser().parse_args(shlex.split(line)[2:])


@pytest.mark.slow
def test_other_process_writes_the_same_bundle(tmp_path: Path) -> None:
    """Under another hash seed, by the installed command; the id covers all but the measured."""
    case = Case("mobiletl", 1)
    request = replace(case.request(tmp_path / "here"), runtimes=DEFAULT_RUNTIMES, step=AUTO)
    here, out = export_bundle(request), tmp_path / "there"
    command = Path(sys.executable).parent / "mobiletl"
    flags = ["--weights", "demo", "--method", case.method, "--blocks", "1"]
    flags += ["--optimizer", case.optimizer, "--out", str(out)]
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    subprocess.run([command, "export", *flags], env=environment, check=True, capture_output=True)
    ours, theirs = (json.loads((p / "manifest.json").read_text("utf-8")) for p in (here, out))
    assert theirs["files"] == ours["files"]
    assert theirs["id"] == ours["id"]
