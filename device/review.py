"""`mobiletl review`: a page on what a run gets wrong, and what its pictures are worth."""

from __future__ import annotations

if not __package__:
    import importlib

    importlib.import_module("_script").register()

import argparse
import contextlib
import json
import sys
from pathlib import Path
from typing import Iterable, Sequence

from mobiletl.device.bundle.replacing import replacing
from mobiletl.device.commands.flags import add_trust, below_least, chosen_bundle
from mobiletl.device.commands.parser import Parser
from mobiletl.device.commands.paste import command_line
from mobiletl.device.commands.table import guarded
from mobiletl.device.errors import UsageError
from mobiletl.device.printable import aligned, say
from mobiletl.device.refusals import cannot_write
from mobiletl.device.reviewing.findings import Findings, counted, find
from mobiletl.device.reviewing.looking import look
from mobiletl.device.reviewing.opened import Asked, open_reviewed
from mobiletl.device.reviewing.page import page
from mobiletl.device.reviewing.thumbnails import data_uri
from mobiletl.device.run.events import Part
from mobiletl.device.run.terminal import Terminal

PAGE = "review.html"
LIMIT = 24
# A page of 500 pictures a list has some 20 MB.
MOST = 500

EXAMPLES = """\
to paste:
  mobiletl review runs/first
  mobiletl review runs/first --out review.html --limit 60
  python artifacts/mbv2/device/review.py runs/first
  mobiletl review runs/first --data photos/ --json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _review(_parser().parse_args(given), given), given)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl review",
        description="Write a page on a run: accuracy by class, the worst pictures, labels that "
        "look wrong, pictures that are in it twice, and which class would gain from more.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="folder of a run")
    add("--bundle", metavar="DIR", help="default: the run's")
    add("--data", metavar="DIR", help="folder of pictures (default: the run's)")
    add("--state", metavar="FILE", help="default: the run's best")
    add("--cache", metavar="DIR", help="feature maps that the run kept, where it had a --cache")
    add("--out", metavar="FILE", help=f"page to write (default: {PAGE} in the run's folder)")
    add("--limit", type=int, default=LIMIT, help=f"pictures in each list (default: {LIMIT})")
    add("--threads", type=int, default=0, help="default: 0, all cores")
    add("--runtime", help="default: the run's")
    add_trust(parser)
    add("--json", action="store_true", help="print one JSON object beside writing the page")
    return parser


def _review(flags: argparse.Namespace, given: Sequence[str]) -> int:
    problems = below_least(flags, {"limit": 0, "threads": 0})
    if flags.limit > MOST:
        problems.append(f"--limit is {flags.limit}, expected at most {MOST}")
    if problems:
        raise UsageError("; ".join(problems))
    opened = open_reviewed(_asked(flags), _bundle_beside(flags.bundle))
    terminal = Terminal(sys.stderr)
    looked = look(
        opened, flags.threads, lambda done, total: terminal.hear(Part("looking", done, total))
    )
    found = find(opened, looked)
    del looked
    out = Path(flags.out) if flags.out else opened.folder.path / PAGE
    root = opened.dataset.root
    command = command_line("review", given)
    _write(out, page(found, lambda path: data_uri(root / path), flags.limit, command))
    if flags.json:
        print(json.dumps(found.document(out), allow_nan=False))
    else:
        for line in _lines(found, out):
            say(line)
    return 0


def _asked(flags: argparse.Namespace) -> Asked:
    def path(name: str | None) -> Path | None:
        return None if name is None else Path(name)

    return Asked(
        run=Path(flags.run),
        bundle=path(flags.bundle),
        data=path(flags.data),
        state=path(flags.state),
        cache=path(flags.cache),
        runtime=flags.runtime,
        trust=flags.trust_bundle,
        key=flags.require_signature,
    )


def _bundle_beside(named: str | None) -> Path | None:
    """Return the bundle that this script is in, if it is in one and none was named."""
    if named is None:
        with contextlib.suppress(UsageError):
            return chosen_bundle(None)
    return None


def _write(path: Path, pieces: Iterable[str]) -> None:
    """Write the page piece by piece; the former one stays until it is whole."""
    try:
        with replacing(path) as file:
            for piece in pieces:
                file.write(piece.encode("utf-8"))
    except OSError as error:
        raise cannot_write("the page", path, error, "name another file with --out") from error


def _lines(found: Findings, out: Path) -> list[str]:
    best, held_out, copies = found.best, found.held_out, counted(found.copies)
    rows = [
        (
            "best epoch, validation pictures",
            f"{best.right} of {best.total} right ({best.low:.0%} to {best.high:.0%}), "
            "chosen by these pictures",
        ),
        (
            "every picture, by a head without it",
            f"{held_out.right} of {held_out.total} right "
            f"({held_out.low:.0%} to {held_out.high:.0%}), before training",
        ),
        (
            "labels to check",
            f"{len(found.suspects)}, those first that are contradicted most",
        ),
        (
            "nearly the same picture twice",
            f"{copies['across']} between training and validation, {copies['within_train']} inside "
            "training",
        ),
    ]
    notes = [f"note: {note}" for note in found.opened.notes]
    return [*notes, *aligned(rows), found.sentence, f"open {out}"]


if __name__ == "__main__":
    raise SystemExit(main())
