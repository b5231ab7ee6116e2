"""`mobiletl fleet status`: the rounds of a fleet so far, from its folder."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mobiletl.device.commands.parser import Parser
from mobiletl.device.commands.table import guarded
from mobiletl.device.printable import printable, say
from mobiletl.fleet.folder import FleetFolder
from mobiletl.fleet.plan import read_plan

EXAMPLES = """\
to paste:
  mobiletl fleet status fleets/first
  mobiletl fleet status fleets/first --json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(lambda: _status(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl fleet status",
        description="Show the rounds of a fleet so far. It only reads, and needs no Flower.",
        epilog=EXAMPLES,
    )
    parser.add_argument("folder", help="what `mobiletl fleet serve --out` was given")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _status(flags: argparse.Namespace) -> int:
    folder = FleetFolder(Path(flags.folder))
    plan, rounds = read_plan(folder.path), folder.read_rounds()
    ended, best = folder.ended(), folder.best_round()
    outcome, message = ended if ended is not None else ("open", "")
    if flags.json:
        document = {
            "plan": plan.document(),
            "outcome": outcome,
            "message": message,
            "best_round": None if best is None else best[0],
            "rounds": rounds,
        }
        say(json.dumps(document))
        return 0
    say(f"{plan.strategy}, {len(plan.class_names)} classes, {plan.rounds} rounds: {outcome}")
    if message:
        say(message)
    for one in rounds:
        say(line_of(one))
    say_best(folder)
    return 0


def say_best(folder: FleetFolder) -> None:
    """Say where the best state is, once a round has been scored."""
    best = folder.best_round()
    if best is not None and folder.best.is_file():
        say(
            f"best {printable(str(folder.best))}: after round {best[0]}, {best[1]:.1%} of what the "
            "boards of the next round held out"
        )


def line_of(one: Mapping[str, Any]) -> str:
    """Return a round as a line, and a line for each board that was refused or is lost."""
    boards = one.get("boards") or []
    up = sum(board.get("bytes-up", 0.0) for board in boards)
    down = sum(board.get("bytes-down", 0.0) for board in boards)
    figures, scores = one.get("figures") or {}, one.get("scores") or {}
    words = [f"round {one['round']}: {len(boards)} of {one.get('asked', 0)} boards"]
    if "loss" in figures:
        words.append(f"loss {figures['loss']:.3f}")
    if "accuracy" in scores:
        words.append(f"accuracy {scores['accuracy']:.1%}")
    elif "accuracy-before" in figures:
        words.append(f"accuracy before {figures['accuracy-before']:.1%}")
    words.append(f"{up / 1e6:.2f} MB up, {down / 1e6:.2f} MB down")
    lines = [", ".join(words)]
    if one.get("dropped"):
        lines.append(f"  it changes nothing: {one['dropped']}")
    for refused in one.get("refused") or []:
        who = f"{refused.get('board')} (node {refused.get('node')})"
        lines.append(f"  {who} is refused: {refused.get('why')}")
    lines += [f"  sits out: {said}" for said in one.get("sat_out") or []]
    lines += [f"  lost: {said}" for said in one.get("lost") or []]
    return "\n".join(printable(line) for line in lines)
