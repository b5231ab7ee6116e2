"""This program as a wheel, for a board."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import tomllib

REPOSITORY = Path(__file__).resolve().parent.parent
FILES = ("pyproject.toml", "README.md", "LICENSE")
# Files in a wheel carry times; with this one the same sources are the same wheel.
EPOCH = "315532800"


class WheelError(Exception):
    """The wheel cannot be built; the message has the last line of what pip said."""


def build_wheel(folder: Path) -> Path:
    """Build the wheel in `folder`, without the network.

    The sources are copied first: setuptools would put files of earlier builds into the wheel.
    """
    source = folder / "source"
    source.mkdir(parents=True)
    for name in packages():
        shutil.copytree(
            REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in FILES:
        if (REPOSITORY / name).is_file():
            shutil.copy(REPOSITORY / name, source)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    command += ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    answer = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
    )
    if answer.returncode:
        last = answer.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise WheelError(f"the wheel cannot be built: {last[0]}")
    (wheel,) = folder.glob("*.whl")
    return wheel


def packages() -> list[str]:
    """Return the folders that the wheel is made of, as pyproject.toml has them."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    folders: dict[str, str] = project["tool"]["setuptools"]["package-dir"]
    return sorted(set(folders.values()))
