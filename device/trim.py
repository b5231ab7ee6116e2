"""`mobiletl trim`: remove from this environment what no board uses, and say how to get it back.

- `onnxruntime/capi/libonnxruntime.so.*` of the aarch64 wheels: the runtime a second time, for C
  programs. Python loads the copy inside `onnxruntime_pybind11_state`.
- sympy, mpmath, coloredlogs, humanfriendly: onnxruntime up to 1.24 asks for them, and needs them
  in its tools for model authors alone. `pip check` names them as missing afterwards.

Kept is what pip did not put into this environment, what a person asked pip for by name, and what
any other package requires.
"""

from __future__ import annotations

if not __package__:
    import importlib

    importlib.import_module("_script").register()

import argparse
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Sequence

from mobiletl.device.commands.parser import Parser
from mobiletl.device.commands.table import guarded
from mobiletl.device.errors import MissingDependency, NoSpace
from mobiletl.device.printable import printable

EXAMPLES = """\
to paste:
  pip install --force-reinstall onnxruntime    # brings everything back
  mobiletl trim --dry-run
  mobiletl trim
"""
RUNTIME = "onnxruntime"
SECOND_COPY = "libonnxruntime.so."
NEVER_IMPORTED = ("sympy", "mpmath", "coloredlogs", "humanfriendly")
# What an install brings, with all that these require.
INSTALLED = ("mobiletl", RUNTIME, "numpy", "pillow", "safetensors")
# Who may have put a package where it is; anything else is the system's.
INSTALLERS = ("pip", "uv")


@dataclass(frozen=True)
class Package:
    """An installed package: its version, its files in this environment, and what it requires."""

    name: str
    version: str
    files: tuple[Path, ...]
    requires: frozenset[str]
    asked_for: bool

    @property
    def present_bytes(self) -> int:
        """On disk now."""
        return sum(file.stat().st_size for file in self.files if file.is_file())


@dataclass(frozen=True)
class Surplus:
    """What may go: files, and packages as a whole."""

    files: tuple[Path, ...]
    packages: tuple[str, ...]
    size_bytes: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(lambda: _run(_parser().parse_args(argv)), argv)


def installed_packages(environment: Path) -> dict[str, Package]:
    """The packages that pip put below `environment`, by name; of others only what they require."""
    found: dict[str, Package] = {}
    for each in metadata.distributions():
        name = _normal(each.metadata["Name"] or "")
        if name in found:
            continue
        files: list[Path] = []
        if (each.read_text("INSTALLER") or "").strip() in INSTALLERS:
            places = (Path(str(file.locate())).resolve() for file in each.files or [])
            files += [place for place in places if environment in place.parents]
        required = (text for text in each.requires or [] if "extra ==" not in text)
        found[name] = Package(
            name,
            each.version,
            tuple(files),
            frozenset(_normal(re.split(r"[^\w.-]", text)[0]) for text in required),
            each.read_text("REQUESTED") is not None,
        )
    return found


def surplus(packages: dict[str, Package]) -> Surplus:
    """What of `packages` no board uses and nothing else needs."""
    runtime = packages.get(RUNTIME)
    if runtime is None:
        return Surplus((), (), 0)
    files = [f for f in runtime.files if f.name.startswith(SECOND_COPY) and f.is_file()]
    going = [n for n in NEVER_IMPORTED if n in packages and packages[n].files]
    going = [name for name in going if not packages[name].asked_for]
    while True:
        needed = {
            name
            for package in packages.values()
            if package.name not in (RUNTIME, *going)
            for name in package.requires
        }
        if needed.isdisjoint(going):
            break
        going = [name for name in going if name not in needed]
    size = sum(file.stat().st_size for file in files)
    size += sum(packages[name].present_bytes for name in going)
    return Surplus(tuple(files), tuple(going), size)


def beside_numpy(packages: dict[str, Package]) -> list[Package]:
    """What an install of this program brought, but for NumPy, which most boards have."""
    chosen, waiting = [], [name for name in INSTALLED if name in packages]
    seen = {"numpy"}
    while waiting:
        name = waiting.pop()
        if name in seen or name not in packages:
            continue
        seen.add(name)
        chosen.append(packages[name])
        waiting += packages[name].requires
    return chosen


def _run(flags: argparse.Namespace) -> int:
    environment = Path(sys.prefix).resolve()
    before = installed_packages(environment)
    found = surplus(before)
    if not flags.dry_run:
        _remove(found)
    present = sum(package.present_bytes for package in beside_numpy(before))
    files = [str(file.relative_to(environment)) for file in found.files]
    answer = {
        "files": files,
        "packages": list(found.packages),
        "surplus_bytes": found.size_bytes,
        "beside_numpy_bytes": present,
    }
    if flags.json:
        print(json.dumps(answer, indent=2))
        return 0
    verb = "would remove" if flags.dry_run else "removed"
    for name in (*files, *found.packages):
        print(f"{verb} {printable(name)}")
    print(f"{verb} {found.size_bytes / 1e6:.1f} MB; {present / 1e6:.1f} MB beside NumPy are there")
    if found.size_bytes:
        version = before[RUNTIME].version
        print(f"to get it back: pip install --force-reinstall {RUNTIME}=={version}")
    return 0


def _remove(found: Surplus) -> None:
    if found.packages and find_spec("pip") is None:
        raise MissingDependency(
            f"this environment has no pip to uninstall {', '.join(found.packages)} with; do that "
            "with what installed them, or run: python -m ensurepip"
        )
    for file in found.files:
        try:
            file.unlink()
        except OSError as error:
            raise NoSpace(f"can't remove {file}: {error.strerror}") from error
    if found.packages:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "uninstall", "-qy"]
        done = subprocess.run(
            [*pip, *found.packages],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
            raise NoSpace(f"pip can't uninstall {', '.join(found.packages)}: {said[0]}")


def _normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl trim",
        description="Remove from this Python environment what no board uses.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    add("--dry-run", action="store_true", help="only say what would go")
    add("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
