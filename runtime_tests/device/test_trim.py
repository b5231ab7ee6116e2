"""What `mobiletl trim` takes away, and what it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mobiletl.device import trim
from mobiletl.device.trim import Package, beside_numpy, surplus

COPY = "onnxruntime/capi/libonnxruntime.so.1.31.1"
LOADED = "onnxruntime/capi/onnxruntime_pybind11_state.so"


def environment(folder: Path, pip: bool = False) -> tuple[Path, Path]:
    """An environment of its own: (its Python, its folder of packages)."""
    command = [sys.executable, "-m", "venv", *([] if pip else ["--without-pip"]), str(folder)]
    subprocess.run(command, check=True)
    return folder / "bin" / "python", next((folder / "lib").glob("python*/site-packages"))


def install(
    site: Path, name: str, files: dict[str, int], requires: str = "", installer: str = "pip"
) -> None:
    """Lay out a package as an installer does; `files` with their sizes in bytes."""
    for file, size in files.items():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_bytes(bytes(size))
    info = site / f"{name}-1.0.dist-info"
    info.mkdir()
    lines = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    lines += f"Requires-Dist: {requires}\n" if requires else ""
    (info / "METADATA").write_text(lines)
    (info / "INSTALLER").write_text(f"{installer}\n")
    rows = [f"{file},,{size}" for file, size in files.items()]
    rows += [f"{info.name}/{each},," for each in ("METADATA", "INSTALLER", "RECORD")]
    (info / "RECORD").write_text("\n".join(rows) + "\n")


def run(python: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """The command as a copied folder runs it: `mobiletl` is not in that environment."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(python), str(Path(trim.__file__)), *flags],
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_second_copy_goes_and_the_figures_are_right(tmp_path: Path) -> None:
    python, site = environment(tmp_path / "env")
    install(site, "onnxruntime", {COPY: 2_500_000, LOADED: 3_000_000}, "numpy>=1.21")
    install(site, "numpy", {"numpy/core.so": 7_000_000})
    install(site, "pillow", {"PIL/core.so": 500_000})
    dry = json.loads(run(python, "--dry-run", "--json").stdout)
    assert dry["files"] == [str((site / COPY).relative_to(tmp_path / "env"))]
    assert dry["surplus_bytes"] == 2_500_000
    assert (site / COPY).is_file()
    done = run(python)
    assert done.returncode == 0, done.stderr
    assert "removed 2.5 MB; 3.5 MB beside NumPy are there" in done.stdout
    assert "pip install --force-reinstall onnxruntime==1.0" in done.stdout
    assert sorted(file.name for file in (site / COPY).parent.iterdir()) == [Path(LOADED).name]
    again = json.loads(run(python, "--json").stdout)
    assert (again["files"], again["surplus_bytes"]) == ([], 0)
    assert dry["beside_numpy_bytes"] - again["beside_numpy_bytes"] == 2_500_000


def test_what_the_system_installed_stays(tmp_path: Path) -> None:
    python, site = environment(tmp_path / "env")
    install(site, "onnxruntime", {COPY: 100}, installer="apt")
    assert run(python).returncode == 0
    assert (site / COPY).is_file()


def test_without_a_runtime_there_is_nothing_to_do(tmp_path: Path) -> None:
    python, _ = environment(tmp_path / "env")
    done = run(python)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "removed 0.0 MB; 0.0 MB beside NumPy are there\n"


def test_without_pip_nothing_is_removed_by_half(tmp_path: Path) -> None:
    python, site = environment(tmp_path / "env")
    install(site, "onnxruntime", {COPY: 100}, "sympy")
    install(site, "sympy", {"sympy/a.py": 100})
    done = run(python)
    assert done.returncode == 8
    assert "no pip to uninstall sympy with" in done.stderr
    assert (site / COPY).is_file()


@pytest.mark.slow
def test_packages_nobody_imports_are_uninstalled(tmp_path: Path) -> None:
    python, site = environment(tmp_path / "env", pip=True)
    install(site, "onnxruntime", {LOADED: 100}, "sympy")
    install(site, "sympy", {"sympy/a.py": 1_000_000}, "mpmath")
    install(site, "mpmath", {"mpmath/a.py": 1_000_000})
    done = run(python)
    assert done.returncode == 0, done.stderr
    assert "removed 2.0 MB" in done.stdout
    assert not (site / "sympy").exists()
    assert not (site / "mpmath-1.0.dist-info").exists()
    assert (site / LOADED).is_file()


def packages(asked_for: frozenset[str] = frozenset(), **requires: str) -> dict[str, Package]:
    here = (Path(__file__),)
    return {
        name: Package(name, "1.0", here, frozenset(needs.split()), name in asked_for)
        for name, needs in requires.items()
    }


def test_what_another_package_requires_stays() -> None:
    runtime = {"onnxruntime": "sympy coloredlogs", "sympy": "mpmath", "mpmath": ""}
    logs = {"coloredlogs": "humanfriendly", "humanfriendly": ""}
    everything = ("sympy", "mpmath", "coloredlogs", "humanfriendly")
    assert surplus(packages(**runtime, **logs)).packages == everything
    # torch keeps sympy, and sympy keeps mpmath.
    assert surplus(packages(**runtime, **logs, torch="sympy")).packages == everything[2:]
    found = surplus(packages(frozenset({"coloredlogs"}), **runtime, **logs))
    assert found.packages == everything[:2]
    assert surplus(packages(sympy="mpmath", mpmath="")).packages == ()


def test_beside_numpy_is_what_our_install_brought() -> None:
    found = packages(mobiletl="onnxruntime numpy", onnxruntime="protobuf", protobuf="", numpy="")
    found.update(packages(opencv="numpy", pillow=""))
    assert sorted(package.name for package in beside_numpy(found)) == [
        "mobiletl",
        "onnxruntime",
        "pillow",
        "protobuf",
    ]
