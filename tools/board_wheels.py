"""Download what each board's Python gets; hold it against the table of boards and the promise.

    python tools/board_wheels.py            # all Pythons; needs a package index, about 300 MB
    python tools/board_wheels.py 3.8 3.11

For aarch64 and the C library of the row, on any machine: nothing is run. Prints, per Python, the
newest onnxruntime and NumPy, the megabytes of download and on disk, and the newest symbol version
of glibc that any file asks for. Fails if a figure differs from the table, or if an install takes
more than 75 MB of download (a minute at 10 Mbit/s) or 60 MB on disk beside NumPy after
`mobiletl trim`, which `make board-install` runs and docs/boards.md asks for.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from mobiletl.device.diagnosis.boards import BOARDS, WHEELS, Wheels
from mobiletl.device.trim import NEVER_IMPORTED, SECOND_COPY

REPOSITORY = Path(__file__).resolve().parent.parent
DOWNLOAD_LIMIT_BYTES = 75_000_000
BESIDE_NUMPY_LIMIT_BYTES = 60_000_000
GLIBC_MINORS = (17, 24, 26, 27, 28, 31, 34, 35, 36, 39, 41)


@dataclass(frozen=True)
class Install:
    """The wheels of one Python. Disk is what lies in them, without bytecode."""

    versions: dict[str, str]
    download_bytes: int
    disk_bytes: int
    numpy_bytes: int
    trimmed_bytes: int
    glibc: tuple[int, int]

    @property
    def beside_numpy_bytes(self) -> int:
        """On disk beside NumPy, as `mobiletl trim` leaves it."""
        return self.disk_bytes - self.numpy_bytes - self.trimmed_bytes


def main(argv: Sequence[str]) -> int:
    rows = [row for row in WHEELS if not argv or row.python in argv]
    print("MB: download | on disk, all | beside NumPy | beside NumPy, trimmed")
    failures = []
    for row in rows:
        install = inspect(row.python, glibc_of(row))
        print(_line(row, install), flush=True)
        failures += problems(row, install)
    for failure in failures:
        print(f"board_wheels: {failure}", file=sys.stderr)
    return 1 if failures else 0


def glibc_of(row: Wheels) -> str:
    """The oldest C library of a board with this Python; without one, what the wheel asks for."""
    return min((board.glibc for board in BOARDS if board.python == row.python), default=row.glibc)


def requirements(python: str, extras: Sequence[str] = ()) -> list[str]:
    """What the base install and `extras` require on aarch64; KeyError if there is no such extra.

    pip reads markers for the Python that it runs on, so they are read here.
    """
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    listed = list(project["dependencies"])
    for extra in extras:
        listed += project["optional-dependencies"][extra]
    board = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": "aarch64",
        "sys_platform": "linux",
        "platform_system": "Linux",
    }
    parsed = [Requirement(text) for text in listed]
    return [
        f"{each.name}{each.specifier}"
        for each in parsed
        if each.marker is None or each.marker.evaluate(board)
    ]


def inspect(python: str, glibc: str) -> Install:
    """Download the wheels of aarch64 for `python` and `glibc`, and measure them."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(download(python, glibc, requirements(python), Path(folder)))


def download(python: str, glibc: str, wanted: Sequence[str], folder: Path) -> list[Path]:
    """Download `wanted` and what it requires, for aarch64; CalledProcessError if pip cannot."""
    minor = int(glibc.split(".")[1])
    tags = [f"manylinux_2_{each}_aarch64" for each in GLIBC_MINORS if each <= minor]
    platforms = [flag for tag in [*tags, "manylinux2014_aarch64"] for flag in ("--platform", tag)]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    flags = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    subprocess.run([*pip, *flags, *platforms, "--dest", str(folder), *wanted], check=True)
    return sorted(folder.glob("*.whl"))


def problems(row: Wheels, install: Install) -> list[str]:
    """What differs from the table or breaks the promise."""
    found = []
    for name, stated in (("onnxruntime", row.onnxruntime), ("numpy", row.numpy)):
        if install.versions[name] != stated:
            found.append(
                f"Python {row.python} gets {name} {install.versions[name]}; "
                f"device/diagnosis/boards.py and docs/boards.md say {stated}"
            )
    for what, size, limit in (
        ("downloads", install.download_bytes, DOWNLOAD_LIMIT_BYTES),
        ("adds beside NumPy", install.beside_numpy_bytes, BESIDE_NUMPY_LIMIT_BYTES),
    ):
        if size > limit:
            found.append(f"Python {row.python} {what} {size / 1e6:.1f} MB, above {limit / 1e6:.0f}")
    if install.glibc > tuple(map(int, glibc_of(row).split("."))):
        found.append(f"Python {row.python}: a wheel asks for glibc {install.glibc}")
    return found


def _measure(wheels: Sequence[Path]) -> Install:
    versions, disk, trimmed = {}, {}, 0
    glibc = (0, 0)
    for wheel in wheels:
        name, version, _, _ = parse_wheel_filename(wheel.name)
        with zipfile.ZipFile(wheel) as archive:
            entries = archive.infolist()
            disk[name] = sum(entry.file_size for entry in entries)
            glibc = max(glibc, _glibc(archive))
        versions[str(name)] = str(version)
        trimmed += sum(
            entry.file_size
            for entry in entries
            if Path(entry.filename).name.startswith(SECOND_COPY)
        )
    trimmed += sum(disk.get(canonicalize_name(name), 0) for name in NEVER_IMPORTED)
    return Install(
        versions=versions,
        download_bytes=sum(wheel.stat().st_size for wheel in wheels),
        disk_bytes=sum(disk.values()),
        numpy_bytes=disk[canonicalize_name("numpy")],
        trimmed_bytes=trimmed,
        glibc=glibc,
    )


def _glibc(archive: zipfile.ZipFile) -> tuple[int, int]:
    """The newest glibc symbol version that a library inside asks for; (0, 0) without readelf."""
    tool = shutil.which("readelf")
    libraries = [name for name in archive.namelist() if ".so" in Path(name).name]
    newest = (0, 0)
    with tempfile.TemporaryDirectory() as folder:
        for library in libraries if tool else ():
            shown = subprocess.run(
                [str(tool), "--version-info", "--wide", archive.extract(library, folder)],
                capture_output=True,
                text=True,
                check=True,
            )
            for major, minor in re.findall(r"GLIBC_(\d+)\.(\d+)", shown.stdout):
                newest = max(newest, (int(major), int(minor)))
    return newest


def _line(row: Wheels, install: Install) -> str:
    beside = install.disk_bytes - install.numpy_bytes
    sizes = (install.download_bytes, install.disk_bytes, beside, install.beside_numpy_bytes)
    shown = " | ".join(f"{size / 1e6:.1f}" for size in sizes)
    names = ", ".join(f"{name} {install.versions[name]}" for name in ("onnxruntime", "numpy"))
    return f"Python {row.python}, glibc {glibc_of(row)}: {names}; {shown}; needs glibc " + ".".join(
        map(str, install.glibc)
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
