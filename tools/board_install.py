"""Put this program and a bundle on a board over ssh, and see them work there.

    make board-install HOST=pi@raspberrypi.local
    python tools/board_install.py pi@raspberrypi.local --bundle artifacts/mbv2

Builds the wheel, copies wheel, bundle and a few pictures into ~/mobiletl of the board, makes a
virtual environment that also sees the system's packages (picamera2 comes from apt), installs,
asks the doctor, and trains and predicts for a moment. What goes wrong ends it with one line.
docs/boards.md does the same by hand.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo import write_digits
from own_wheel import WheelError, build_wheel

REPOSITORY = Path(__file__).resolve().parent.parent
CONNECT_SECONDS = 15
# Of wheels: downloaded, unpacked, and unpacked once more by pip on the way.
INSTALL_BYTES = 350_000_000
SMOKE_CLASSES = ("0", "1")
SMOKE_PICTURES = 6
# What ssh says, as a pattern, and what to do about it.
SSH_ADVICE = (
    (r"Could not resolve|Name or service not known", "no machine of that name; is the board on, "
     "on this network? Try its address: HOST=pi@192.168.1.23"),
    (r"Connection refused", "the board is there, but ssh is not; on the board: sudo raspi-config "
     "nonint do_ssh 0, or sudo systemctl enable --now ssh"),
    (r"timed out|No route to host|unreachable", "nothing answers there; is the board on, and on "
     "this network?"),
    (r"Permission denied", "the board refused the login; check the name before the @, or: "
     "ssh-copy-id {host}"),
    (r"Host key verification failed|IDENTIFICATION HAS CHANGED", "another machine answered there "
     "before (a card written anew?): ssh-keygen -R {name}, then ssh {host} once"),
)  # fmt: skip
# Answers what the host needs to know, in one connection; `python` is replaced.
PROBE = """\
echo machine=$(uname -m)
echo rsync=$(command -v rsync)
echo free_kb=$(df -Pk . | awk 'NR == 2 {print $4}')
echo python=$({python} -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
echo bits=$({python} -c 'import struct; print(8 * struct.calcsize("P"))' 2>/dev/null)
echo venv=$({python} -c 'import ensurepip, venv; print("yes")' 2>/dev/null)
"""


class InstallError(Exception):
    """Something on the way that a person can mend; the message says how."""


@dataclass(frozen=True)
class Board:
    """A machine reached by ssh; `options` are OpenSSH's, as in `-o Port=2222`."""

    host: str
    options: tuple[str, ...]

    @property
    def _flags(self) -> list[str]:
        return [flag for option in self.options for flag in ("-o", option)]

    def run(self, script: str, show: bool = False) -> str:
        """Run shell text there and return what it printed; InstallError if ssh cannot."""
        command = ["ssh", *self._flags, self.host, script]
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=None if show else subprocess.PIPE,
            stderr=None if show else subprocess.PIPE,
            text=True,
            check=False,
        )
        if answer.returncode == 255:
            raise InstallError(self._advice(answer.stderr or ""))
        if answer.returncode:
            last = (answer.stderr or "").strip().splitlines()[-1:] or [
                f"see above; it ran: {script}"
            ]
            raise InstallError(f"{self.host} answered with code {answer.returncode}: {last[0]}")
        return answer.stdout or ""

    def copy(self, sources: Sequence[Path], folder: str, rsync: bool) -> None:
        """Copy files and folders into `folder` of the board's home."""
        if rsync:
            shell = shlex.join(["ssh", *self._flags])
            command = ["rsync", "-rlt", "--delete", "-e", shell]
        else:
            command = ["scp", "-q", "-r", "-p", *self._flags]
        command += [*map(str, sources), f"{self.host}:{folder}/"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode:
            last = answer.stderr.strip().splitlines()[-1:] or ["no reason given"]
            raise InstallError(f"copying to {self.host} failed: {last[0]}")

    def _advice(self, said: str) -> str:
        name = self.host.rpartition("@")[2]
        for pattern, advice in SSH_ADVICE:
            if re.search(pattern, said):
                return f"{self.host}: {advice.format(host=self.host, name=name)}"
        last = said.strip().splitlines()[-1:] or ["the connection broke"]
        return f"{self.host}: {last[0]}; does `ssh {self.host}` work?"


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        _check(options)
        with tempfile.TemporaryDirectory() as scratch:
            _install(options, Path(scratch))
    except InstallError as error:
        print(f"board-install: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="board-install", description="Install on a board over ssh, and see it work there."
    )
    add = parser.add_argument
    add("host", help="as ssh takes it: pi@raspberrypi.local")
    add("--bundle", type=Path, default=Path("artifacts/mbv2"), help="default: %(default)s")
    add("--folder", default="mobiletl", help="on the board, in its home (default: %(default)s)")
    add("--python", default="python3", help="of the board (a Jetson Nano: python3.8)")
    add("--pip-flags", default="", help="for the board's pip")
    add("--ssh-option", action="append", default=[], metavar="NAME=VALUE", help="as ssh -o takes")
    add("--service", metavar="DATA", help="write a systemd unit that trains on this folder there")
    add("--studio", action="store_true", help="install the studio, and write a unit that serves it")
    return parser


def _check(options: argparse.Namespace) -> None:
    if options.host.startswith("-") or not re.fullmatch(r"\S+", options.host):
        raise InstallError(
            f"HOST is {options.host!r}, expected name@machine: HOST=pi@raspberrypi.local"
        )
    if not re.fullmatch(r"\w[\w./-]*", options.folder):
        raise InstallError(
            f"--folder is {options.folder!r}, expected a name of letters, digits, ./-_"
        )
    if not (options.bundle / "manifest.json").is_file():
        raise InstallError(
            f"no bundle in {options.bundle}; write one (make export MODEL=mbv2) or name one: "
            "BUNDLE=DIR"
        )
    _words(options.pip_flags)
    if shutil.which("ssh") is None:
        raise InstallError(
            "no ssh on this machine; on Debian and Ubuntu: sudo apt install openssh-client"
        )


def _install(options: argparse.Namespace, scratch: Path) -> None:
    # One connection for everything: a password is asked for once.
    shared = (f"ControlPath={scratch}/c", "ControlMaster=auto", "ControlPersist=60")
    board = Board(options.host, (*options.ssh_option, f"ConnectTimeout={CONNECT_SECONDS}", *shared))
    clock = _Clock()
    facts = _probe(board, options)
    clock.say(f"{options.host}: {facts['machine']}, Python {facts['python']}")
    try:
        wheel = build_wheel(scratch)
    except WheelError as error:
        raise InstallError(str(error)) from error
    clock.say(f"built {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB")
    folder, bundle = options.folder, options.bundle.resolve()
    board.run(f"mkdir -p {folder}/smoke")
    rsync = bool(facts["rsync"]) and shutil.which("rsync") is not None
    pictures = _smoke_pictures(scratch / "pictures")
    board.copy([wheel, bundle], folder, rsync)
    board.copy(pictures, f"{folder}/smoke", rsync)
    clock.say(f"copied the wheel, {bundle.name} and a few pictures ({'rsync' if rsync else 'scp'})")
    _environment(board, options, wheel.name)
    clock.say(f"installed into {folder}/.venv")
    print(board.run(f"cd {folder} && .venv/bin/mobiletl trim"), end="")
    name = shlex.quote(bundle.name)
    _see_it_work(board, folder, name)
    clock.say("the smoke run trained, saved, and named a picture")
    if options.service:
        _service(board, folder, name, options.service)
    if options.studio:
        _studio(board, folder, name)
    print(
        f"\nnow: ssh {options.host}\n  cd {folder} && . .venv/bin/activate\n"
        f"  mobiletl train --bundle {name} --data ~/photos --out runs/first"
    )


def _probe(board: Board, options: argparse.Namespace) -> dict[str, str]:
    """Ask the board what it is, and refuse what cannot end well."""
    python = shlex.quote(options.python)
    answers = board.run(PROBE.replace("{python}", python)).splitlines()
    facts = dict(line.split("=", 1) for line in answers if "=" in line)
    if not facts.get("python"):
        raise InstallError(f"{board.host} has no {options.python}; there: sudo apt install python3")
    if facts.get("bits") != "64":
        raise InstallError(
            f"{board.host} runs a 32-bit system ({facts.get('machine')}), and onnxruntime has no "
            "32-bit wheel; write the 64-bit system to its card"
        )
    version = facts["python"]
    if tuple(map(int, version.split("."))) < (3, 8):
        raise InstallError(
            f"{board.host} has Python {version}, 3.8 or newer is needed; on Ubuntu 18.04: "
            "sudo apt install python3.8 python3.8-venv, then PYTHON_ON_BOARD=python3.8"
        )
    if facts.get("venv") != "yes":
        raise InstallError(
            f"{board.host} lacks Python's venv module; there: "
            f"sudo apt install -y python{version}-venv"
        )
    size = sum(file.stat().st_size for file in options.bundle.rglob("*") if file.is_file())
    free, needed = int(facts.get("free_kb") or 0) * 1024, INSTALL_BYTES + size
    if free < needed:
        raise InstallError(
            f"{board.host} has {free / 1e6:.0f} MB free in its home, {needed / 1e6:.0f} MB are "
            "needed; there: sudo apt clean, and to see what is large: du -xh ~ | sort -h | tail"
        )
    return facts


def _smoke_pictures(folder: Path) -> list[Path]:
    """A few handwritten digits as `train/` and `val/`."""
    write_digits(folder / "all")
    for split in ("train", "val"):
        for digit in SMOKE_CLASSES:
            target = folder / split / digit
            target.mkdir(parents=True)
            for picture in sorted((folder / "all" / split / digit).iterdir())[:SMOKE_PICTURES]:
                shutil.copy(picture, target)
    return [folder / "train", folder / "val"]


def _environment(board: Board, options: argparse.Namespace, wheel: str) -> None:
    """Make the environment and install; again over an older one, the wheel is replaced."""
    python = shlex.quote(options.python)
    # Without --no-compile pip writes bytecode of every module, a third more, most never imported.
    pip = ".venv/bin/python -m pip --disable-pip-version-check install --quiet --no-compile"
    pip = shlex.join([*pip.split(), *_words(options.pip_flags)])
    extras = "[studio,cameras]" if options.studio else ""
    # Older ones do not know today's names of wheels (Ubuntu 18.04 brings 9.0).
    old = "import pip, sys; sys.exit(tuple(map(int, pip.__version__.split('.')[:2])) < (20, 3))"
    board.run(
        f"cd {options.folder} && {python} -m venv --system-site-packages .venv && "
        f"{{ .venv/bin/python -c {shlex.quote(old)} || {pip} --upgrade pip; }} && "
        f"{pip} {shlex.quote(f'./{wheel}{extras}')} && "
        f"{pip} --force-reinstall --no-deps ./{wheel}"
    )


def _words(flags: str) -> list[str]:
    """Split flags as a shell would, so that the board's shell reads each as one word."""
    try:
        return shlex.split(flags)
    except ValueError as error:
        raise InstallError(f"--pip-flags is {flags!r}: {error}") from error


def _see_it_work(board: Board, folder: str, bundle: str) -> None:
    """Doctor, training and prediction there, all of it shown; `bundle` is quoted."""
    mobiletl = f"cd {folder} && .venv/bin/mobiletl"
    print(f"\n$ mobiletl doctor --bundle {bundle}", flush=True)
    try:
        board.run(f"{mobiletl} doctor --bundle {bundle}", show=True)
    except InstallError as error:
        raise InstallError(f"installed, but not trained: {error}") from error
    flags = "--epochs 2 --batch 4 --no-augment --seed 0"
    print(f"\n$ mobiletl train --bundle {bundle} --data smoke {flags}", flush=True)
    board.run(
        f"rm -rf {folder}/runs/smoke && {mobiletl} train --bundle {bundle} --data smoke {flags} "
        "--out runs/smoke",
        show=True,
    )
    board.run(
        f"{mobiletl} predict --bundle {bundle} --state runs/smoke/state.safetensors smoke/val",
        show=True,
    )


def _service(board: Board, folder: str, bundle: str, data: str) -> None:
    """Write the unit there; `bundle` is quoted, `data` taken from the board's home."""
    unit = f"{folder}/mobiletl.service"
    board.run(
        f"{folder}/.venv/bin/mobiletl service --bundle {folder}/{bundle} --data "
        f"{shlex.quote(data)} --out {folder}/runs/service > {unit}.new && mv {unit}.new {unit}"
    )
    print(
        f"\nwrote {folder}/mobiletl.service; to start it now and after every restart, there:\n"
        f"  sudo cp {folder}/mobiletl.service /etc/systemd/system/\n"
        "  sudo systemctl daemon-reload && sudo systemctl enable --now mobiletl\n"
        "  journalctl -fu mobiletl"
    )


def _studio(board: Board, folder: str, bundle: str) -> None:
    """Write the studio's unit there; `bundle` is quoted."""
    unit = f"{folder}/mobiletl-studio.service"
    board.run(
        f"{folder}/.venv/bin/mobiletl studio --bundle {folder}/{bundle} --project {folder}/studio "
        f"--camera 0 --host 0.0.0.0 --unit > {unit}.new && mv {unit}.new {unit}"
    )
    print(
        f"\nwrote {unit}, which serves the studio with the first camera; to start it, there:\n"
        f"  sudo cp {unit} /etc/systemd/system/\n"
        "  sudo systemctl daemon-reload && sudo systemctl enable --now mobiletl-studio\n"
        "  journalctl -u mobiletl-studio    # has its address and its code"
    )


class _Clock:
    """Says what is done, with the seconds since the line before."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        now = time.monotonic()
        print(f"{now - self._last:6.1f} s  {text}", flush=True)
        self._last = now


if __name__ == "__main__":
    sys.exit(main())
