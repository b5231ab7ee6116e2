"""`mobiletl fleet keys`: the certificates and keys of a fleet."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mobiletl.device.commands.parser import Parser
from mobiletl.device.commands.table import guarded
from mobiletl.device.errors import UsageError
from mobiletl.device.printable import say
from mobiletl.fleet.keys import BOARDS, CA, make_keys

EXAMPLES = """\
to paste:
  mobiletl fleet keys --out keys --host 192.168.1.10 --boards kitchen,garden,attic
  mobiletl fleet keys --out keys --boards porch                 # one more, later
  scp keys/ca.pem keys/boards/kitchen keys/boards/kitchen.pub pi@kitchen.local:
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(lambda: _keys(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl fleet keys",
        description="Make a certificate for the server of a fleet and a key for each board. What "
        "is there already stays as it is.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    add("--out", required=True, metavar="DIR", help="folder of the keys")
    add("--host", default="", help="names and addresses of the server, by which boards find it")
    add("--boards", default="", help="names of boards, a key each, with commas")
    return parser


def _keys(flags: argparse.Namespace) -> int:
    folder, hosts = Path(flags.out), _listed(flags.host)
    if not hosts and not (folder / CA).is_file():
        raise UsageError("whose certificate is it? name the server's addresses with --host")
    new = make_keys(folder, hosts, _listed(flags.boards))
    say(f"{folder / CA}: every board gets a copy")
    for name in new:
        say(f"{folder / BOARDS / name} and {name}.pub: for the board {name} alone")
    say("a server that runs lets new boards in when it is started again")
    return 0


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
