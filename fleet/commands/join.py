"""`mobiletl fleet join`: take part in a fleet with this board's pictures."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.lock import locked
from mobiletl.device.commands.flags import add_signature, chosen_bundle
from mobiletl.device.commands.parser import Parser
from mobiletl.device.commands.table import guarded
from mobiletl.device.errors import UsageError
from mobiletl.device.fleet.board import Board
from mobiletl.device.fleet.environment import flower_environment
from mobiletl.device.printable import printable, say
from mobiletl.device.refusals import cannot_write
from mobiletl.fleet.commands.fleet import require_flower

EXAMPLES = """\
to paste:
  mobiletl fleet join --server 192.168.1.10:9092 --ca ca.pem --key kitchen \\
      --bundle mbv2 --data photos/
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(lambda: _join(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl fleet join",
        description="Take part in the rounds of a fleet until this is stopped. Pictures stay here; "
        "docs/fleet.md says what leaves.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    add("--server", required=True, metavar="HOST:PORT", help="where `mobiletl fleet serve` runs")
    add("--ca", metavar="FILE", help="ca.pem, with which the server is checked")
    add("--key", metavar="FILE", help="this board's own key; FILE.pub is beside it")
    add("--insecure", action="store_true", help="no encryption and no keys, to try things")
    add("--bundle", metavar="DIR", help="default: the folder above this script, if it is one")
    add("--data", required=True, metavar="DIR", help="folder with one folder of pictures per class")
    add("--home", default="fleet", metavar="DIR", help="what is kept between rounds (fleet/)")
    add("--name", help="what the board is called in the server's log (default: the host's name)")
    add("--val-split", type=float, default=0.2, help="share that validates (default: 0.2)")
    add("--threads", type=int, default=0, help="default: 0, all cores")
    add("--most-celsius", type=float, default=80.0, help="sit out above (default: 80)")
    add("--on-battery", action="store_true", help="take part on battery, too")
    add("--only-sums", action="store_true", help="sit out where the server is without --secagg")
    add_signature(parser)
    return parser


def _join(flags: argparse.Namespace) -> int:
    _check(flags)
    os.environ.update(flower_environment(Path(flags.home).resolve() / "flower"))
    require_flower()
    from mobiletl.device.fleet.joining import Way, join

    bundle = chosen_bundle(flags.bundle)
    open_bundle(bundle, require_signature=flags.require_signature)
    board = Board(
        home=Path(flags.home).resolve(),
        name=printable((flags.name or socket.gethostname())[:60]),
        bundle=bundle.resolve(),
        data=Path(flags.data).resolve(),
        val_split=flags.val_split,
        threads=flags.threads,
        most_celsius=flags.most_celsius,
        on_battery=flags.on_battery,
        only_sums=flags.only_sums,
        signed_by=flags.require_signature and Path(flags.require_signature).resolve(),
    )
    way = Way(
        flags.server,
        None if flags.insecure else Path(flags.ca),
        None if flags.key is None else Path(flags.key),
    )
    try:
        board.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write("what the board keeps", board.home, error) from error
    shown = f"the board in {printable(str(board.home))}"
    with locked(board.home / ".lock", shown, "choose another folder with --home"):
        say(f"{board.name} joins the fleet at {way.address}; Ctrl-C ends it")
        join(board, way)
    return 0


def _check(flags: argparse.Namespace) -> None:
    """Report everything that is wrong at once."""
    problems = []
    if flags.insecure and (flags.ca or flags.key):
        problems.append("--insecure uses neither --ca nor --key; leave one or the other out")
    if not flags.insecure and not (flags.ca and flags.key):
        problems.append("expected --ca and --key (`mobiletl fleet keys` makes them), or --insecure")
    files = [flags.ca, flags.key, flags.key and f"{flags.key}.pub"]
    problems += [f"no file {name}" for name in files if name and not Path(name).is_file()]
    host, _, port = flags.server.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        problems.append(f"--server is {flags.server!r}, expected HOST:PORT")
    if not Path(flags.data).is_dir():
        problems.append(f"no folder {flags.data}; --data has one folder of pictures per class")
    if not 0 < flags.val_split < 1:
        problems.append(f"--val-split is {flags.val_split}, expected a share between 0 and 1")
    if flags.threads < 0:
        problems.append(f"--threads is {flags.threads}, expected at least 0")
    if problems:
        raise UsageError(printable("; ".join(problems)))
