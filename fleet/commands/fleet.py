"""`mobiletl fleet`: many boards that learn together, on Flower."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Callable

from mobiletl.device.commands.table import guarded
from mobiletl.device.errors import MissingDependency, UsageError
from mobiletl.device.printable import say

# What each does, and the module with its `main`.
COMMANDS = {
    "keys": ("make the certificates and keys of a fleet", "mobiletl.fleet.commands.keys"),
    "serve": ("serve the rounds of a fleet", "mobiletl.fleet.commands.serve"),
    "join": ("take part with this board's pictures", "mobiletl.fleet.commands.join"),
    "status": ("show the rounds of a fleet so far", "mobiletl.fleet.commands.status"),
}
INSTALL = "pip install 'mobiletl[fleet]'"


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mobiletl fleet COMMAND ...` and return its exit code."""
    arguments = list(sys.argv[2:] if argv is None else argv)
    return guarded(lambda: _dispatch(arguments))


def _dispatch(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        say(usage())
        return 0 if arguments else UsageError.exit_code
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise UsageError(
            f"there is no command {name!r} of a fleet, only {known}; "
            "`mobiletl fleet --help` lists what there is"
        )
    run: Callable[[Sequence[str]], int] = importlib.import_module(COMMANDS[name][1]).main
    return run(rest)


def usage() -> str:
    """Return the help: every command with a line."""
    rows = [f"  {name:<8}{summary}" for name, (summary, _) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: mobiletl fleet COMMAND [flags]",
            "",
            "commands (each has its own --help; docs/fleet.md tells the whole):",
            *rows,
            "",
            "to paste:",
            "  mobiletl fleet keys --out keys --host 192.168.1.10 --boards kitchen,garden,attic",
            "  mobiletl fleet serve --bundle mbv2 --classes cat,dog --keys keys --out fleets/first",
        ]
    )


def require_flower() -> None:
    """Raise MissingDependency unless Flower can be imported."""
    if sys.version_info < (3, 9):
        raise MissingDependency(
            f"Flower needs Python 3.9.2 or newer, and this is {sys.version.split()[0]}; "
            "a board with an older one cannot take part in a fleet"
        )
    try:
        import flwr  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            f"a fleet needs Flower, which cannot be imported ({error}); {INSTALL}"
        ) from error
