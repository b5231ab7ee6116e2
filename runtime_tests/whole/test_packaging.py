"""What pyproject.toml says about the folders is what the folders hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runtime_tests.support.board.shared_files import REPOSITORY

FOLDERS = ("api", "core", "export", "device", "fitting", "fleet")
# Without MODEL, WEIGHTS and the like, and without an outer make's flags.
BARE = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}


def test_every_package_is_listed() -> None:
    found = {
        "mobiletl." + ".".join(init.parent.relative_to(REPOSITORY).parts)
        for folder in FOLDERS[1:]
        for init in (REPOSITORY / folder).rglob("__init__.py")
    } | {"mobiletl"}
    listed = re.search(
        r"^packages = \[(.*?)\]", (REPOSITORY / "pyproject.toml").read_text(), re.M | re.S
    )
    assert listed is not None
    assert found == set(re.findall(r'"([^"]+)"', listed[1]))


def test_a_studio_reads_what_phones_send() -> None:
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    lines = {}
    for name in ("heic", "studio"):
        extra = re.search(rf"^{name} = \[(.*?)^\]", project, re.M | re.S)
        assert extra is not None
        lines[name] = re.findall(r'"(pillow-heif[^"]*)"', extra[1])
    assert lines["studio"] == lines["heic"] != []


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_of_modules_is_a_package(folder: str) -> None:
    assert "api" not in folder or len(list((REPOSITORY / folder).rglob("*.py"))) == 1
    homes = {path.parent for path in (REPOSITORY / folder).rglob("*.py")}
    assert homes
    assert all((home / "__init__.py").is_file() for home in homes)
    assert (REPOSITORY / folder / "py.typed").is_file()


@pytest.mark.parametrize("folder", [*FOLDERS, "runtime_tests"])
def test_every_folder_has_a_short_readme(folder: str) -> None:
    lines = (REPOSITORY / folder / "README.md").read_text(encoding="utf-8").splitlines()
    assert 5 <= len(lines) <= 30


def test_help_lists_every_target_and_is_the_default() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    bare = subprocess.run(
        ["make"], cwd=REPOSITORY, env=BARE, capture_output=True, text=True, check=True
    )
    for target in ("help", "demo", "test", "lint", "export", "bench", "clean"):
        assert re.search(rf"^{target}:", makefile, re.M)
        assert re.search(rf"^  {target} +\S", bare.stdout, re.M)


@pytest.mark.parametrize(
    ("variables", "flags"),
    [
        ("", "--out artifacts/mbv2"),
        ("MODEL=mbv2-0.5", "--out artifacts/mbv2-0.5 --model mbv2-0.5"),
        ("MODEL=nets/own.py:build", "--out artifacts/own --model nets/own.py:build"),
        ("METHOD=own.py:mine", "--out artifacts/mbv2 --method own.py:mine"),
        ("WEIGHTS=demo", "--out artifacts/mbv2-0.35 --weights demo"),
        (
            "MODEL=mbv2 WEIGHTS=none METHOD=ft-last BLOCKS=0 RESOLUTION=96 OPTIMIZER=adam OUT=x",
            "--out x --model mbv2 --weights none --method ft-last --blocks 0 --resolution 96 "
            "--optimizer adam",
        ),
    ],
    ids=["none", "model", "own", "method", "demo", "all"],
)
def test_export_passes_on_what_was_given(variables: str, flags: str) -> None:
    given = variables.split()
    shown = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "export", *given],
        cwd=REPOSITORY,
        env=BARE,
        capture_output=True,
        text=True,
        check=True,
    )
    command = next(line for line in shown.stdout.splitlines() if "mobiletl export" in line)
    assert " ".join(command.split()) == f".venv/bin/mobiletl export {flags}"


def test_find_python_finds_this_one_and_refuses_a_wrong_word(tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to(sys.executable)
    # A name on PATH that does not run, as pyenv's shims are.
    (tmp_path / "python3.8").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "python3.8").chmod(0o755)
    script = REPOSITORY / "tools" / "find_python.sh"
    environment = {"PATH": f"{tmp_path}:/nowhere", "HOME": str(tmp_path)}

    def find(word: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", str(script), word],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    assert find("host").stdout == "python3\n"
    assert find("board").stdout == ""
    assert find("laptop").returncode == 2
