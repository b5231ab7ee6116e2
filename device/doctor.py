"""`mobiletl doctor`: say what would fail on this board before it does, and what to type."""

from __future__ import annotations

if not __package__:
    import importlib

    importlib.import_module("_script").register()

import argparse
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Sequence

from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.commands.flags import below_least, chosen_bundle
from mobiletl.device.commands.parser import Parser
from mobiletl.device.commands.table import guarded
from mobiletl.device.diagnosis import cameras, checks, packages
from mobiletl.device.diagnosis.checks import HEADROOM, Need, available_bytes, board_of
from mobiletl.device.diagnosis.facts import Facts, read_facts, this_process
from mobiletl.device.diagnosis.findings import OK, PROBLEM, Finding
from mobiletl.device.errors import BadBundle, NotReady, UsageError
from mobiletl.device.memory import plan as memory
from mobiletl.device.printable import printable

if TYPE_CHECKING:
    from mobiletl.device.bundle.bundle import Bundle

EXAMPLES = """\
to paste:
  mobiletl doctor
  mobiletl doctor --bundle artifacts/mbv2 --batch 4 --out runs
  python artifacts/mbv2/device/doctor.py --json
  mobiletl doctor --bundle artifacts/mbv2
"""
BUNDLE_HINT = "name the folder that `mobiletl export` wrote: mobiletl doctor --bundle DIR"
LEAST = {"batch": 1, "classes": 2}

Check = Callable[[Facts, "Need | None"], Finding]


def _of_facts(check: Callable[[Facts], Finding]) -> Check:
    return lambda facts, need: check(facts)


# In the order of the report.
CHECKS: tuple[Check, ...] = (
    _of_facts(checks.check_board),
    _of_facts(checks.check_width),
    _of_facts(packages.check_python),
    _of_facts(packages.check_runtime),
    _of_facts(packages.check_libraries),
    checks.check_memory,
    _of_facts(checks.check_memory_cgroup),
    checks.check_swap,
    _of_facts(checks.check_power),
    _of_facts(checks.check_temperature),
    checks.check_folder,
    _of_facts(cameras.check_camera),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(lambda: _doctor(_parser().parse_args(argv)), argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl doctor",
        description="Check this board, what is installed on it, and whether a bundle's memory plan "
        "fits. Reads only: nothing is changed, and no runtime is loaded.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    add("--bundle", metavar="DIR", help="default: the folder above this script, if it is one")
    add("--batch", type=int, default=8, help="pictures in a step (default: 8)")
    add("--classes", type=int, default=10, help="classes (default: 10)")
    add("--out", metavar="DIR", default="runs", help="where runs are written (default: runs)")
    add("--json", action="store_true", help="print one JSON object")
    return parser


def _doctor(options: argparse.Namespace) -> int:
    problems = below_least(options, LEAST)
    if problems:
        raise UsageError("; ".join(problems))
    facts = read_facts(Path(options.out).absolute(), this_process())
    findings = examine(facts, _bundle(options.bundle), options.batch, options.classes)
    report = _json(facts, findings) if options.json else _text(findings)
    print(report, flush=True)
    failing = [finding.check for finding in findings if finding.level == PROBLEM]
    if failing:
        raise NotReady(f"training would fail here: {', '.join(failing)}; see the report's ->")
    return 0


def examine(
    facts: Facts, bundle: Path | None = None, batch: int = 8, classes: int = 10
) -> tuple[Finding, ...]:
    """Return one finding per check, and one about the bundle where there is one."""
    need: Need | None = None
    about_bundle: tuple[Finding, ...] = ()
    if bundle is not None:
        try:
            opened, found = _opened(bundle, facts)
        except BadBundle as error:
            about_bundle = (Finding("bundle", PROBLEM, str(error), BUNDLE_HINT),)
        else:
            about_bundle = (Finding("bundle", OK, found, ""),)
            need = _need(opened, facts, batch, classes)
    return (*(check(facts, need) for check in CHECKS), *about_bundle)


def _bundle(named: str | None) -> Path | None:
    try:
        return chosen_bundle(named)
    except UsageError:  # none named, and none around this file
        return None


def _opened(bundle: Path, facts: Facts) -> tuple[Bundle, str]:
    """The bundle, its files checked; reading the states' types needs NumPy and safetensors."""
    if not {"numpy", "safetensors"} <= set(facts.process.packages):
        raise BadBundle(f"{bundle} is not checked: NumPy or safetensors is missing")
    from mobiletl.device.bundle.bundle import open_bundle

    opened = open_bundle(bundle)
    return opened, f"{bundle}: {opened.manifest.model.name}, every file as exported"


def _need(bundle: Bundle, facts: Facts, batch: int, classes: int) -> Need:
    manifest = bundle.manifest

    def planned(pictures: int, level: Manifest = manifest) -> int:
        return memory.plan(level, pictures, classes).total_bytes

    # The plan grows with the batch: the largest that fits is found by halving.
    free = available_bytes(facts) or 0
    fits, fails = 0, batch
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if planned(middle) * HEADROOM <= free:
            fits = middle
        else:
            fails = middle
    fitting = [
        blocks
        for blocks, level in bundle.levels.items()
        if level is not manifest and planned(batch, level) * HEADROOM <= free
    ]
    return Need(
        plan_bytes=planned(batch),
        state_bytes=manifest.memory.state.at(classes) + manifest.memory.slots.at(classes),
        batch=batch,
        smaller_batch=fits or None,
        fewer_blocks=max(fitting, default=None),
    )


def _text(findings: Sequence[Finding]) -> str:
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<8} {finding.check:<14} {finding.found}")
        if finding.to_type:
            lines.append(f"{'':<23} -> {finding.to_type}")
    counts = Counter(finding.level for finding in findings)
    lines += ["", ", ".join(f"{count} {level}" for level, count in counts.items())]
    return "\n".join(printable(line) for line in lines)


def _json(facts: Facts, findings: Sequence[Finding]) -> str:
    board = board_of(facts)
    document: dict[str, Any] = {
        "board": board.name if board else None,
        "model": facts.model,
        "ready": all(finding.level != PROBLEM for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(document, indent=2)


if __name__ == "__main__":
    raise SystemExit(main())
