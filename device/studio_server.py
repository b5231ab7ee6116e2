"""`mobiletl studio`: a page on this board to collect pictures, teach, train and look."""

from __future__ import annotations

if not __package__:
    import importlib

    importlib.import_module("_script").register()

import argparse
import getpass
import logging
import socket
import sys
from pathlib import Path
from typing import Sequence

from mobiletl.device.bundle.bundle import unchecked_bundle
from mobiletl.device.commands.camera_flags import add_camera, camera_of, camera_problems
from mobiletl.device.commands.flags import add_blocks, at_blocks, below_least, chosen_bundle
from mobiletl.device.commands.parser import Parser
from mobiletl.device.commands.table import guarded
from mobiletl.device.commands.unit import unit_text, unit_word
from mobiletl.device.errors import MissingDependency, UsageError
from mobiletl.device.printable import printable
from mobiletl.device.sessions.freed import return_early

HINT = 'pip install "mobiletl[studio]"'
PORT = 8757
LOCAL = "127.0.0.1"
UNIT = """\
# Written by `mobiletl studio --unit`. The pairing code is in its log: journalctl -u mobiletl-studio
[Unit]
Description=mobiletl: studio
After=network.target

[Service]
User={user}
SupplementaryGroups=video
WorkingDirectory={folder}
ExecStart={command}
Restart=on-failure
RestartSec=5
# A flag, a bundle or a package is wrong: starting again would end the same way.
RestartPreventExitStatus=2 4 8
# A training is a process of its own, and goes on while the page is started again.
KillMode=process
NoNewPrivileges=true

[Install]
WantedBy=multi-user.target
"""
EXAMPLES = """\
to paste:
  mobiletl studio --bundle artifacts/mbv2 --camera 0
  mobiletl studio --bundle artifacts/mbv2 --camera 0 --host 0.0.0.0
  mobiletl studio --bundle artifacts/mbv2 --camera photos/ --camera-rate 2 --project my-studio
  mobiletl studio --bundle artifacts/mbv2 --camera 0 --host 0.0.0.0 --unit > mobiletl-studio.service
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(lambda: _studio(_parser().parse_args(argv)), argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl studio",
        description="Serve one page on this board: its camera live, pictures by class, teaching, "
        "training, review and downloads. Nothing leaves the board.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    add("--bundle", metavar="DIR", help="default: the folder above this script, if it is one")
    add("--project", metavar="DIR", default="studio", help="what it keeps (default: studio)")
    add_camera(parser)
    add("--host", default=LOCAL, help=f"address to listen at (default: {LOCAL}, this board only)")
    add("--port", type=int, default=PORT, help=f"default: {PORT}")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name that this board is called by; may be given again",
    )
    add("--runtime", help="default: the first that the bundle serves and that is installed")
    add_blocks(parser, "train so many, of a bundle with several levels (default: the deepest)")
    add("--threads", type=int, default=0, help="of the live network (default: 0, all cores)")
    add(
        "--unit",
        action="store_true",
        help="print a systemd unit that serves this after every start of the board, and end",
    )
    return parser


def _studio(flags: argparse.Namespace) -> int:
    _check(flags)
    if flags.unit:
        print(_unit(flags), end="")
        return 0
    try:
        from mobiletl.device.studio.server import Place, StudioServer
        from mobiletl.device.studio.studio import Asked, Studio
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("mobiletl"):
            raise
        raise MissingDependency(
            f"the studio needs {error.name}, which is not installed: {HINT}"
        ) from error
    return_early()
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    chosen = camera_of(flags)
    asked = Asked(
        bundle=chosen_bundle(flags.bundle),
        project=Path(flags.project),
        camera=chosen.source,
        wanted=chosen.wanted,
        view=chosen.view,
        threads=flags.threads,
        runtime=flags.runtime,
        blocks=flags.blocks,
    )
    with Studio(asked) as studio:
        server = StudioServer(studio, Place(flags.host, flags.port, flags.allow_host))
        code = server.pairing.code if server.pairing is not None else None
        for line in _lines(flags, server.port, code):
            print(printable(line, sys.stdout.encoding))
        if code is not None:
            _show_code(address_of(flags.host), server.port, code)
        sys.stdout.flush()
        server.run()
    return 0


def _unit(flags: argparse.Namespace) -> str:
    """Return a systemd unit that serves what the flags say, from the folder that this is."""
    bundle = chosen_bundle(flags.bundle).absolute()
    at_blocks(unchecked_bundle(bundle), flags.blocks)
    project = Path(flags.project).absolute()
    words = [sys.executable, str(Path(__file__).resolve())]
    words += ["--bundle", str(bundle), "--project", str(project)]
    words += ["--host", flags.host, "--port", str(flags.port), "--threads", str(flags.threads)]
    for name in ("camera", "camera_size", "camera_rate", "runtime", "blocks"):
        if getattr(flags, name) is not None:
            words += [f"--{name.replace('_', '-')}", str(getattr(flags, name))]
    words += ["--lock-exposure"] if flags.lock_exposure else []
    for name in flags.allow_host:
        words += ["--allow-host", name]
    # A command line is the one place where systemd replaces variables.
    command = " ".join(unit_word(word).replace("$", "$$") for word in words)
    return UNIT.format(
        user=unit_text(getpass.getuser()), folder=unit_text(str(Path.cwd())), command=command
    )


def _check(flags: argparse.Namespace) -> None:
    """Report every flag out of range at once."""
    problems = camera_problems(flags) + below_least(flags, {"threads": 0, "port": 0})
    if flags.port > 65535:
        problems.append(f"--port is {flags.port}, expected at most 65535")
    if flags.unit and (flags.rotate is not None or flags.roi is not None):
        # The page may change the view, and a unit that asks for the former one would be refused.
        problems.append(
            "--unit takes no --rotate and no --roi, which the project keeps; choose them on the "
            "page, or start the studio with them once"
        )
    if problems:
        raise UsageError("; ".join(problems))


def _lines(flags: argparse.Namespace, port: int, code: str | None) -> list[str]:
    """Return what a person reads before the first visitor comes."""
    lines = [f"open http://{address_of(flags.host)}:{port}/"]
    if code is not None:
        lines.append(f"its code is {code[:4]} {code[4:]}; whoever knows it uses the camera, too")
    lines.append(f"the project is in {flags.project}; Ctrl-C ends the studio, not a training")
    return lines


def address_of(host: str) -> str:
    """Return what a visitor types for a server that listens at `host`."""
    if host not in ("0.0.0.0", "::", ""):
        return f"[{host}]" if ":" in host else host
    # No packet is sent: this asks the kernel which of its addresses it would send from.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


def _show_code(address: str, port: int, code: str) -> None:
    """Draw the address with its code for a phone's camera; the code stays behind the #."""
    import segno

    # An error correction of L keeps it small enough for a terminal of 24 lines.
    segno.make(f"http://{address}:{port}/#code={code}", error="l").terminal(
        out=sys.stdout, compact=True
    )


if __name__ == "__main__":
    raise SystemExit(main())
