"""`mobiletl fleet serve`: serve the rounds of a fleet, and go on where a former server was."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.lock import locked
from mobiletl.device.bundle.signature import require_state_signature
from mobiletl.device.commands.flags import add_signature
from mobiletl.device.commands.parser import Parser, add_state_key
from mobiletl.device.commands.table import guarded
from mobiletl.device.errors import BadState, UsageError
from mobiletl.device.fleet.asked import ALL, LEAST_IN_SUM, NOTHING, PERSONAL, SOFTMAX
from mobiletl.device.fleet.coding import ENCODINGS, FLOAT32
from mobiletl.device.printable import printable, say
from mobiletl.device.refusals import cannot_write
from mobiletl.device.run.start import state_start
from mobiletl.fleet import state_key
from mobiletl.fleet.commands.fleet import require_flower
from mobiletl.fleet.commands.status import line_of, say_best
from mobiletl.fleet.folder import FleetFolder
from mobiletl.fleet.keys import BOARDS, CA, LIST, SERVER, SERVER_KEY
from mobiletl.fleet.plan import FILE, Plan, read_plan
from mobiletl.fleet.strategies import TABLE, row_of

EXAMPLES = """\
to paste:
  mobiletl fleet serve --bundle mbv2 --classes cat,dog,none --keys keys --out fleets/first
  mobiletl fleet serve --out fleets/first --keys keys                 # goes on after a crash
  mobiletl fleet serve --out fleets/first --keys keys --rounds 50     # and further
  mobiletl predict --bundle mbv2 --state fleets/first/state.safetensors picture.jpg
"""
# What a person may leave out; `lr` is the bundle's.
DEFAULTS: dict[str, Any] = {
    "rounds": 20,
    "boards": 2,
    "share": 1.0,
    "round_seconds": 3600.0,
    "strategy": "fedavg",
    "epochs": 1,
    "seconds": 0.0,
    "batch": 8,
    "encoding": FLOAT32,
    "personal": NOTHING,
    "softmax": ALL,
    "proximal": 0.01,
    "server_lr": 0.01,
    "broken": 1,
    "evaluate": False,
    "secagg": False,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(lambda: _serve(_parser().parse_args(argv)))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl fleet serve",
        description="Serve the rounds of a fleet. The folder keeps the state after each round, and "
        "the same command goes on from there.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    strategies = "; ".join(f"{row.name}: {row.summary}" for row in TABLE)
    add("--out", required=True, metavar="DIR", help="folder of the fleet")
    add("--bundle", metavar="DIR", help="what all boards have a copy of")
    add("--classes", help="the classes of the fleet, with commas")
    add("--from", dest="begin", metavar="STATE", help="begin from this state (default: untrained)")
    add("--keys", metavar="DIR", help="folder that `mobiletl fleet keys` wrote")
    add("--insecure", action="store_true", help="no encryption and no keys, to try things")
    add("--address", default="0.0.0.0:9092", help="where boards connect (default: 0.0.0.0:9092)")
    add("--rounds", type=int, help="rounds in all (default: 20)")
    add("--boards", type=int, help="a round begins once so many are there (default: 2)")
    add("--share", type=float, help="of the boards, which take part in a round (default: 1)")
    add("--round-seconds", type=float, help="a round ends after (default: 3600)")
    add("--strategy", choices=[row.name for row in TABLE], help=f"{strategies} (default: fedavg)")
    add("--epochs", type=int, help="of a board in a round (default: 1)")
    add("--seconds", type=float, help="a board stops training after (default: 0, never)")
    add("--batch", type=int, help="pictures in a step (default: 8)")
    add("--lr", type=float, help="learning rate on boards (default: the bundle's)")
    add("--encoding", choices=ENCODINGS, help="how parameters are sent (default: float32)")
    add("--personal", choices=PERSONAL, help="what stays on each board (default: nothing)")
    add("--softmax", choices=SOFTMAX, help="over all classes, or those of a board (default: all)")
    add("--proximal", type=float, help="mu of fedprox (default: 0.01)")
    add("--server-lr", type=float, help="rate of fedadam on the server (default: 0.01)")
    add("--broken", type=int, help="boards that krum leaves out (default: 1)")
    add("--evaluate", action="store_true", default=None, help="boards score each round's result")
    add(
        "--secagg",
        action="store_true",
        default=None,
        help="boards mask what they send, so that the server sees the sum alone",
    )
    add_signature(parser)
    add_state_key(parser)
    return parser


def _serve(flags: argparse.Namespace) -> int:
    require_flower()
    from mobiletl.fleet.serving import Listening, serve

    keys = _keys(flags)
    key = None if keys is None else keys / state_key.KEY
    folder = FleetFolder(Path(flags.out), key if key is not None and key.is_file() else None)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write("the fleet's folder", folder.path, error) from error
    shown = f"the fleet in {printable(str(folder.path))}"
    with locked(folder.lock, shown, "choose another folder with --out"):
        plan = _settle(flags, folder)
        done = _begin(flags, folder, plan)
        say(
            f"{plan.strategy}, round {done + 1} of {plan.rounds}, boards connect to {flags.address}"
        )
        serve(folder, Listening(flags.address, keys), lambda one: say(line_of(one)))
    say(f"state {printable(str(folder.state))}")
    say_best(folder)
    return 0


def _keys(flags: argparse.Namespace) -> Path | None:
    if flags.insecure == (flags.keys is not None):
        raise UsageError(
            "expected either --keys DIR (`mobiletl fleet keys` makes it) or --insecure"
        )
    if flags.insecure:
        return None
    keys = Path(flags.keys)
    missing = [name for name in (CA, SERVER, SERVER_KEY, LIST) if not (keys / name).is_file()]
    if missing:
        raise UsageError(
            f"{printable(str(keys))} has no {', '.join(missing)}; "
            "make it with `mobiletl fleet keys`"
        )
    if not any((keys / BOARDS).glob("*.pub")):
        raise UsageError(
            f"no board has a key in {printable(str(keys / BOARDS))}, so none could join; "
            "make some with `mobiletl fleet keys --boards`"
        )
    return keys


def _settle(flags: argparse.Namespace, folder: FleetFolder) -> Plan:
    """Return the plan: what is named, else what the folder has, else the default."""
    given = {name: getattr(flags, name) for name in (*DEFAULTS, "lr")}
    given = {name: value for name, value in given.items() if value is not None}
    former = read_plan(folder.path) if (folder.path / FILE).is_file() else None
    if former is None and not (flags.bundle and flags.classes):
        raise UsageError("a new fleet needs --bundle and --classes")
    _check(given)
    known: dict[str, Any] = dict(DEFAULTS) if former is None else former.document()
    known.update(given)
    if flags.bundle:
        known["bundle"] = flags.bundle
    if flags.classes:
        known["class_names"] = _classes(flags.classes)
    bundle = open_bundle(Path(known["bundle"]), require_signature=flags.require_signature)
    known.setdefault("lr", bundle.manifest.optimizer.default_lr)
    known.update(bundle=Path(known["bundle"]).resolve(), class_names=tuple(known["class_names"]))
    plan = Plan(**known)
    _check_sum(plan)
    changed = [] if former is None else former.differences(plan)
    if changed:
        raise UsageError(
            f"{printable(str(folder.path))} holds another fleet: {printable('; '.join(changed))}; "
            "leave that out, or begin another one with --out"
        )
    plan.write(folder.path)
    return plan


def _classes(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(f"--classes is {text!r}, expected two or more names, each once")
    return sorted(names)


def _check(given: dict[str, Any]) -> None:
    least = {"rounds": 1, "boards": 1, "epochs": 1, "batch": 1, "broken": 0, "seconds": 0}
    problems = [
        f"--{name} is {given[name]}, expected at least {limit}"
        for name, limit in least.items()
        if name in given and given[name] < limit
    ]
    for name in ("round_seconds", "lr", "server_lr"):
        if name in given and not 0 < given[name] < float("inf"):
            flag = name.replace("_", "-")
            problems.append(f"--{flag} is {given[name]}, expected a positive number")
    if "share" in given and not 0 < given["share"] <= 1:
        problems.append(f"--share is {given['share']}, expected more than 0 and at most 1")
    if "proximal" in given and not 0 <= given["proximal"] <= 1e6:
        problems.append(f"--proximal is {given['proximal']}, expected 0 or more")
    if problems:
        raise UsageError("; ".join(problems))


def _check_sum(plan: Plan) -> None:
    """Raise UsageError where a sum of what boards send cannot serve the plan."""
    if not plan.secagg:
        return
    problems = []
    if row_of(plan.strategy).needs_each:
        usable = ", ".join(row.name for row in TABLE if not row.needs_each)
        problems.append(f"--strategy {plan.strategy} compares boards; expected one of {usable}")
    if plan.encoding != FLOAT32:
        problems.append(f"masked numbers have 32 bits, so --encoding {plan.encoding} saves nothing")
    if int(plan.boards * plan.share) < LEAST_IN_SUM:
        problems.append(f"a round needs at least {LEAST_IN_SUM} boards (--boards, --share)")
    if problems:
        raise UsageError(f"--secagg: {'; '.join(problems)}")


def _begin(flags: argparse.Namespace, folder: FleetFolder, plan: Plan) -> int:
    """Write the first state, unless there is one; return how many rounds it has."""
    bundle = open_bundle(plan.bundle)
    if folder.state.exists():
        _, info = folder.load(bundle.manifest)
        if flags.begin:
            raise UsageError(
                f"{printable(str(folder.state))} has {info.epoch} rounds already; "
                "leave out --from, or begin another fleet with --out"
            )
        if info.class_names != plan.class_names:
            raise BadState(f"{printable(str(folder.state))} is of other classes than the fleet")
        folder.sign(info.epoch)
        return info.epoch
    folder.save(bundle.manifest, plan.class_names, _first(flags, bundle, plan), 0)
    return 0


def _first(flags: argparse.Namespace, bundle: Bundle, plan: Plan) -> dict[str, Any]:
    names = plan.class_names
    if flags.begin:
        require_state_signature(Path(flags.begin), flags.state_key)
        state = state_start(flags.begin, bundle).for_classes(bundle.manifest, names)
    else:
        state = bundle.initial_state(len(names), 0)
    lasting = {entry.name for entry in bundle.manifest.state if entry.role != "slot"}
    return {name: tensor for name, tensor in state.items() if name in lasting}
