"""The dispatcher, how errors become exit codes, `inspect`, and running from a copied folder."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from mobiletl.device import errors
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.commands import table as commands
from mobiletl.device.memory.plan import plan
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

DEVICE = Path(commands.__file__).parents[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "tiny", graphs=False)


def test_help_lists_every_command_and_ends_with_lines_to_paste(capsys: Any) -> None:
    assert commands.main(["--help"]) == 0
    text = capsys.readouterr().out
    for command in commands.COMMANDS:
        assert f"  {command.name} " in text
        assert command.summary in text
    assert text.strip().splitlines()[-1].startswith("  mobiletl ")


def test_no_command_prints_the_help_and_is_a_usage_error(capsys: Any) -> None:
    assert commands.main([]) == 2
    assert "usage: mobiletl COMMAND" in capsys.readouterr().out


def test_the_version_is_the_packages(capsys: Any) -> None:
    assert commands.main(["--version"]) == 0
    assert capsys.readouterr().out == f"mobiletl {metadata.version('mobiletl')}\n"


def test_an_unknown_command_names_the_nearest(capsys: Any) -> None:
    assert commands.main(["trian"]) == 2
    assert "no command 'trian' (did you mean train?); the commands are" in capsys.readouterr().err


def test_an_unknown_command_lists_the_known_ones(capsys: Any) -> None:
    assert commands.main(["fly"]) == 2
    assert (
        "'fly'; the commands are export, fit, capture, train, teach, predict"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("name", [row.name for row in commands.COMMANDS if not row.needs_host])
def test_every_help_ends_with_lines_to_paste(name: str, capsys: Any) -> None:
    assert commands.main([name, "--help"]) == 0
    last = capsys.readouterr().out.split("to paste:")[1].strip()
    assert f"mobiletl {name} " in last


def test_export_without_its_libraries_prints_the_install_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError(f"No module named 'torch' for {name}", name="torch")

    monkeypatch.setattr(commands.importlib, "import_module", fail)
    assert commands.main(["export"]) == 8
    assert 'pip install "mobiletl[export]"' in capsys.readouterr().err


def test_finish_without_its_libraries_does_the_boards_part(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    real = importlib.import_module

    def without_torch(name: str) -> Any:
        if name.startswith("mobiletl.export"):
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name)

    monkeypatch.setattr(commands.importlib, "import_module", without_torch)
    assert commands.main(["finish", "--help"]) == 0
    assert "Where PyTorch is installed, other formats" in " ".join(capsys.readouterr().out.split())


def test_a_module_of_ours_that_is_missing_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(commands.importlib, "import_module", fail)
    with pytest.raises(ModuleNotFoundError):
        commands.main(["train"])


def raising(error: BaseException) -> Any:
    def body() -> int:
        raise error

    return body


@pytest.mark.parametrize(
    "kind",
    [errors.BadBundle, errors.BadState, errors.NoSpace, errors.Diverged, errors.InternalError],
)
def test_errors_become_one_line_and_their_code(kind: Any, capsys: Any) -> None:
    assert commands.guarded(raising(kind("what; try this"))) == kind.exit_code
    assert capsys.readouterr().err == "mobiletl: what; try this\n"


def test_the_hosts_errors_are_known_by_their_shape(capsys: Any) -> None:
    base = type("MobileTLError", (Exception,), {"exit_code": 1})
    host = type("BadWeights", (base,), {"exit_code": 10})
    assert commands.guarded(raising(host("no such key"))) == 10
    assert capsys.readouterr().err == "mobiletl: no such key\n"


def test_bugs_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        commands.guarded(raising(ZeroDivisionError()))


def test_ctrl_c_is_130(capsys: Any) -> None:
    assert commands.guarded(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "mobiletl: stopped\n"


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (2, 2), (None, 0), ("text", 1)])
def test_argparse_leaves_with_a_number(code: Any, expected: int) -> None:
    assert commands.guarded(raising(SystemExit(code))) == expected


def test_a_closed_pipe_is_silent(folder: Path) -> None:
    command = [sys.executable, str(DEVICE / "inspect_bundle.py"), "--bundle", str(folder)]
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (run.returncode, run.stderr) == (0, "")


def test_inspect_prints_what_is_in_the_bundle(folder: Path, capsys: Any) -> None:
    assert commands.main(["inspect", "--bundle", str(folder), "--classes", "10"]) == 0
    text = capsys.readouterr().out
    for part in ("tiny, width 1", "ft-last", "classifier", "70 trained, 18 frozen", "planned MB"):
        assert part in text


def test_inspect_json_is_the_same_for_programs(folder: Path, capsys: Any) -> None:
    flags = ["--bundle", str(folder), "--batch", "4", "--classes", "5", "--json"]
    assert commands.main(["inspect", *flags]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"]["name"] == "tiny"
    assert report["parameters"] == {"trainable": 35, "frozen": 18}
    expected = plan(open_bundle(folder).manifest, 4, 5)
    assert report["memory"]["total_bytes"] == expected.total_bytes
    assert [row["kind"] for row in report["memory"]["rows"]] == [row.kind for row in expected.rows]


@pytest.mark.parametrize(
    ("flag", "value"), [("--batch", "0"), ("--classes", "1"), ("--micro-batch", "-1")]
)
def test_inspect_refuses_impossible_sizes(folder: Path, flag: str, value: str, capsys: Any) -> None:
    assert commands.main(["inspect", "--bundle", str(folder), flag, value]) == 2
    assert f"{flag} is {value}" in capsys.readouterr().err


def test_inspect_of_a_missing_bundle(tmp_path: Path, capsys: Any) -> None:
    assert commands.main(["inspect", "--bundle", str(tmp_path)]) == 4
    assert capsys.readouterr().err.startswith("mobiletl: ")


def test_a_copied_folder_runs_where_mobiletl_is_not_installed(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "board" / "device"
    shutil.copytree(str(DEVICE), str(copied), ignore=shutil.ignore_patterns("__pycache__"))
    program = (
        "import runpy, sys; sys.path[:0] = [sys.argv.pop(1)]; sys.modules['mobiletl'] = None;"
        "runpy.run_path(sys.path[0] + '/inspect_bundle.py', run_name='__main__')"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(copied), "--bundle", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    assert "tiny, width 1" in run.stdout


def test_a_script_takes_its_own_folder_and_leaves_the_path(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "board" / "device"
    shutil.copytree(str(DEVICE), str(copied), ignore=shutil.ignore_patterns("__pycache__"))
    program = (
        "import sys; sys.path[:0] = [sys.argv[1]]; import _script; _script.register();"
        "import mobiletl.device.errors as errors; print(errors.__file__); print(sys.path)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(copied)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    where, path = run.stdout.splitlines()
    assert where == str(copied.resolve() / "errors.py")
    assert str(copied) not in path
