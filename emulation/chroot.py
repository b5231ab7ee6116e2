"""The engine for machines with root and no Docker: mmdebstrap, chroot and qemu-user.

The packages are unpacked, not configured: what a board's Python needs is there, and the emulator
need not run a hundred install scripts for it (6 minutes instead of 15 seconds). Everything is in a
cache; a folder gets its name when it is complete, so a half-built one is never taken for whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from emulation.errors import BoardFailed
from emulation.host import (
    cache_folder,
    certificates,
    index_answers,
    locked,
    package_index,
)
from emulation.machine import ENVIRONMENT, Machine

SUITES = {"11": "bullseye", "12": "bookworm", "13": "trixie"}
# Mirrors still list their security updates, and no longer have the files.
OUT_OF_SUPPORT = ("bullseye",)
# onnxruntime needs the last two, which no system of a board lacks.
PACKAGES = ("python3-venv", "libc-bin", "dash", "libstdc++6", "libgomp1")
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
TOOLS = ("mmdebstrap", "arch-test", "unshare", "chroot")
INSTALL_HINT = "apt install qemu-user-static mmdebstrap arch-test"
NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child", "--propagation", "private")
ENTER = Path(__file__).with_name("enter.sh")
# From mmdebstrap's own mirror; behind a proxy set http_proxy.
UNPACK = ("unshare", *NAMESPACES, "mmdebstrap", "--quiet", "--variant=extract")
BOARDS = "arm64"
INSTALL_TIMEOUT_S = 1800
CPUINFO = "/proc/cpuinfo"
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"
# Links of a Debian whose /bin is /usr/bin; releases before 13 unpack without them, as folders. The
# last holds the loader of x86-64.
MERGED = ("bin", "lib", "sbin", "lib64")
FOLDERS = ("proc", "dev", "tmp", "root", "run", "shared", "envs", "sys/devices/system/cpu")


@dataclass(frozen=True)
class Chroot:
    """See the module."""

    name: str = "chroot"

    def objection(self, machine: Machine) -> str:
        """Cheap questions first; the network is asked only for what isn't in the cache."""
        if not hasattr(os, "geteuid") or os.geteuid() != 0:
            return "needs root"
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if missing or not _emulator():
            return f"needs {', '.join(missing or ['a static qemu-aarch64'])} ({INSTALL_HINT})"
        if not _may_mount():
            return "this system lets nobody mount in a namespace of its own"
        place = Place(machine)
        if not place.root.exists() and not mirror_answers(place.suite):
            return f"mmdebstrap can't read Debian {place.suite} from its mirror"
        if not place.stamp.exists() and not index_answers():
            return "the package index does not answer"
        return ""

    def install(self, machine: Machine, wheel: Path) -> Place:
        """Build root and environment where they are not in the cache; install `wheel` if new."""
        place = Place(machine)
        with locked(place.root.with_name(f"{place.root.name}.lock")):
            if not place.root.exists():
                build_root(place.root, place.suite)
            _settle(place.root, machine)
            _install_wheel(place, wheel)
        return place


@dataclass(frozen=True)
class Place:
    """Where a machine lies in the cache: a root per Debian, an environment per runtime."""

    machine: Machine
    group: Path | None = None
    """A control group that commands find as /run/group."""

    @property
    def suite(self) -> str:
        """The release by the name mirrors use."""
        return SUITES[self.machine.board.debian]

    @property
    def root(self) -> Path:
        """The whole system; another list of packages is another folder."""
        kind = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:8]
        return cache_folder() / f"debian-{self.machine.board.debian}-{kind}"

    @property
    def environment(self) -> str:
        """The virtual environment, as the board sees it."""
        extra = f"-{self.machine.extra}" if self.machine.extra else ""
        return f"/envs/onnxruntime-{self.machine.onnxruntime}{extra}"

    @property
    def stamp(self) -> Path:
        """Exists once the environment is complete; holds the digest of the wheel in it."""
        return self.root / f"{self.environment[1:]}.installed"

    @property
    def untrimmed(self) -> Path:
        """What `mobiletl trim --dry-run` said before it trimmed; on_board.py looks for it there."""
        return self.root / f"{self.environment[1:]}.untrimmed"

    def run(
        self, shared: Path, command: Sequence[str], timeout_s: float
    ) -> subprocess.CompletedProcess[str]:
        """See engine.Installed."""
        path, group = f"{self.environment}/bin", self.group
        return enter(self.root, self.machine, shared, command, timeout_s, path, group)


def unpacking(
    suite: str, packages: Sequence[str] = PACKAGES, processor: str = BOARDS
) -> tuple[str, ...]:
    """The command that unpacks `suite`, up to the words that say what and where.

    `processor` is as Debian calls it; an empty one is this machine's.
    """
    words = (*UNPACK, *([f"--arch={processor}"] if processor else []))
    words += (f"--include={','.join(packages)}",)
    if suite in OUT_OF_SUPPORT:
        words += ("""--setup-hook=sed -i /security/d "$1"/etc/apt/sources.list""",)
    return words


def mirror_answers(suite: str, packages: Sequence[str] = PACKAGES, processor: str = BOARDS) -> bool:
    """Whether mmdebstrap finds the packages; it downloads lists, nothing else (6 seconds)."""
    command = [*unpacking(suite, packages, processor), "--simulate", suite, os.devnull]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def build_root(
    root: Path, suite: str, packages: Sequence[str] = PACKAGES, processor: str = BOARDS
) -> None:
    """Unpack Debian `suite` into `root`, which appears whole or not at all; see `unpacking`."""
    root.parent.mkdir(parents=True, exist_ok=True)
    for left_over in root.parent.glob(f"{root.name}.partial-*"):
        shutil.rmtree(left_over)
    partial = Path(tempfile.mkdtemp(prefix=f"{root.name}.partial-", dir=root.parent))
    try:
        command = [*unpacking(suite, packages, processor), suite, str(partial)]
        subprocess.run(command, check=True)
        for name in MERGED:
            if not (partial / name).exists() and (partial / "usr" / name).is_dir():
                (partial / name).symlink_to(f"usr/{name}")
        for name in FOLDERS:
            (partial / name).mkdir(parents=True, exist_ok=True)
        partial.chmod(0o755)
        partial.rename(root)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def enter(
    root: Path,
    machine: Machine,
    shared: Path,
    command: Sequence[str],
    timeout_s: float,
    path: str = "",
    group: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `command` in `root` on the machine's processor; output is captured, stderr with it."""
    emulated = {"QEMU": str(_emulator()), "QEMU_CPU": machine.board.cpu, "GROUP": str(group or "")}
    settings = {**ENVIRONMENT, **emulated}
    with tempfile.NamedTemporaryFile("w", suffix=".cpuinfo") as cpuinfo:
        cpuinfo.write(machine.cpuinfo())
        cpuinfo.flush()
        arguments = [str(root), cpuinfo.name, str(shared), *command]
        return _enter(arguments, settings, timeout_s, path)


def enter_natively(
    root: Path, shared: Path, command: Sequence[str], timeout_s: float, path: str = ""
) -> subprocess.CompletedProcess[str]:
    """The same in a `root` for this machine's own processor, without an emulator."""
    return _enter([str(root), CPUINFO, str(shared), *command], {"QEMU": ""}, timeout_s, path)


def _enter(
    arguments: Sequence[str], settings: Mapping[str, str], timeout_s: float, path: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": f"{path}:/usr/sbin:/usr/bin:/sbin:/bin".lstrip(":"),
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        **settings,
        **_pip_settings(),
    }
    return subprocess.run(
        ["unshare", *NAMESPACES, "sh", str(ENTER), *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )


def _settle(root: Path, machine: Machine) -> None:
    """Write what a running board's kernel and an administrator would have provided."""
    for name, content in machine.cpu_lists().items():
        (root / "sys/devices/system/cpu" / name).write_text(content, "ascii")
    trust(root)


def trust(root: Path) -> None:
    """Let programs in `root` trust whom this machine trusts."""
    authorities = certificates()
    if authorities is not None:
        (root / AUTHORITIES).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(authorities, root / AUTHORITIES)


def _install_wheel(place: Place, wheel: Path) -> None:
    """As docs/boards.md says: a virtual environment, pip with the wheel, trim."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if place.stamp.exists() and place.stamp.read_text("ascii") == digest:
        return
    here = place.environment
    pip = [f"{here}/bin/pip", "install", "--quiet", "--no-compile"]
    trim = [f"{here}/bin/mobiletl", "trim"]
    if place.stamp.exists():
        place.stamp.unlink()
        _call(place, wheel, [*pip, "--no-deps", "--force-reinstall", f"/shared/{wheel.name}"])
    else:
        shutil.rmtree(place.root / here[1:], ignore_errors=True)
        place.untrimmed.unlink(missing_ok=True)
        _call(place, wheel, ["python3", "-m", "venv", here])
        ours = place.machine.wheel(f"/shared/{wheel.name}")
        _call(place, wheel, [*pip, *place.machine.requirements, ours])
    if not place.untrimmed.exists():
        place.untrimmed.write_text(_call(place, wheel, [*trim, "--dry-run", "--json"]), "utf-8")
    _call(place, wheel, trim)
    place.stamp.write_text(digest, "ascii")


def _call(place: Place, wheel: Path, command: Sequence[str]) -> str:
    """What `command` prints on the board, with the wheel's folder as /shared."""
    done = enter(place.root, place.machine, wheel.parent, command, INSTALL_TIMEOUT_S)
    if done.returncode:
        raise BoardFailed(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}")
    return done.stdout


def _pip_settings() -> Mapping[str, str]:
    settings = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    if certificates() is not None:
        settings["PIP_CERT"] = f"/{AUTHORITIES}"
    return {**settings, **package_index()}


def _emulator() -> str:
    """QEMU for aarch64 programs that needs no library of the host: it runs inside the chroot."""
    for name in EMULATORS:
        path = shutil.which(name)
        if path is not None and _is_static(Path(path)):
            return path
    return ""


def _is_static(program: Path) -> bool:
    """A program that needs libraries names the loader that finds them, near its beginning."""
    with program.open("rb") as file:
        return b"/ld-linux" not in file.read(4096)


def _may_mount() -> bool:
    probe = ["unshare", *NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", tempfile.gettempdir()]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0
