"""`mobiletl account`: what training costs on paper, by kind of layer."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from mobiletl.core.accounting.account import Account, account
from mobiletl.core.backbones import FAMILIES
from mobiletl.core.errors import UsageError
from mobiletl.core.methods import METHODS
from mobiletl.core.saved import SAVED, find_saved
from mobiletl.core.transfer import check_resolution
from mobiletl.device.commands.parser import Parser
from mobiletl.export.own_file import blamed
from mobiletl.export.own_method import method_named
from mobiletl.export.own_network import find_network

MB = 1e6
MILLION = 1e6
TITLES = (
    "component",
    "stored MB",
    "forward MMACs",
    "forward MFLOPs",
    "backward MMACs",
    "backward MFLOPs",
)
EXAMPLES = """\
Sums on paper, in the convention of the papers (docs/accounting.md): neither planned nor measured.
What a process needs is in a bundle's memory plan (mobiletl inspect).

to paste:
  mobiletl account --model mbv2 --method mobiletl --blocks 5
  mobiletl account --model proxyless --method tinytl-b --classes 100 --batch 8 --resolution 224
"""

Cells = tuple[str, ...]


def main(argv: Sequence[str] | None = None) -> int:
    """Print an account; errors of core/errors.py are the caller's to print."""
    flags = _parser().parse_args(argv)
    for name, value, least in (("batch", flags.batch, 1), ("classes", flags.classes, 2)):
        if value < least:
            raise UsageError(f"--{name} is {value}, expected {least} or more; try --{name} 8")
    check_resolution(flags.resolution)
    with blamed("counted", flags.model, flags.method):
        it = account(
            find_network(flags.model),
            method_named(flags.method),
            flags.blocks,
            flags.classes,
            flags.batch,
            flags.resolution,
            None if flags.saved is None else find_saved(flags.saved),
        )
    if flags.json:
        print(json.dumps(_facts(it)))
        return 0
    blocks = f", {flags.blocks} blocks" if flags.blocks is not None else ""
    print(f"{flags.model}, {flags.method}{blocks}, {flags.classes} classes")
    print(f"a step of {flags.batch} pictures of {flags.resolution} x {flags.resolution} px")
    print("paper accounting: sums on paper, neither planned nor measured", end="\n\n")
    print("\n".join(_lines(it)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl account",
        description="Print parameters, FLOPs and stored activations of a training step.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    families = ", ".join(family.name for family in FAMILIES)
    add(
        "--model",
        default="mbv2",
        help=f"{families}, each also as mbv2-0.35, or FILE.py:FUNCTION (default mbv2)",
    )
    add(
        "--method",
        default="mobiletl",
        help=f"{', '.join(m.name for m in METHODS)}, or FILE.py:NAME (default mobiletl)",
    )
    add("--blocks", type=int, help="how many top blocks are trained (default 3)")
    add(
        "--saved",
        choices=[row.name for row in SAVED],
        help="what the backward pass keeps of activations (default: the method's)",
    )
    add("--batch", type=int, default=8, help="pictures in a step (default 8)")
    add("--resolution", type=int, default=224, help="side of the pictures (default 224)")
    add("--classes", type=int, default=10, help="default 10")
    add("--json", action="store_true", help="print one JSON object")
    return parser


def _facts(it: Account) -> dict[str, object]:
    """The account as JSON; every number is paper accounting."""
    return {
        "convention": "paper accounting",
        "trained_parameters": it.trained_parameters,
        "frozen_parameters": it.frozen_parameters,
        "stored_bytes": it.stored_bytes,
        "peak_activation_bytes": it.peak_activation_bytes,
        "training_memory_bytes": it.training_memory_bytes,
        "forward_macs": it.forward_macs,
        "forward_flops": it.forward_flops,
        "backward_macs": it.backward_macs,
        "backward_flops": it.backward_flops,
        "components": {
            name: dict(zip(("stored_bytes", *_WORK), sums, strict=True))
            for name, sums in _components(it).items()
        },
    }


_WORK = ("forward_macs", "forward_flops", "backward_macs", "backward_flops")


def _components(it: Account) -> dict[str, tuple[int, ...]]:
    """Stored bytes, then the work in the order of `_WORK`, by kind of layer."""
    sums: dict[str, tuple[int, ...]] = {}
    for layer in it.layers:
        work = (
            layer.stored_bytes,
            layer.forward_macs,
            layer.forward_flops,
            layer.backward_macs,
            layer.backward_flops,
        )
        before = sums.get(layer.component, (0,) * len(work))
        sums[layer.component] = tuple(a + b for a, b in zip(before, work, strict=True))
    return sums


def _lines(it: Account) -> list[str]:
    found = _components(it)
    total = tuple(sum(column) for column in zip(*found.values(), strict=True))
    rows = [TITLES] + [_cells(name, sums) for name, sums in (found | {"total": total}).items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(TITLES))]
    table = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    trained, frozen = it.trained_parameters / MILLION, it.frozen_parameters / MILLION
    facts = {
        "parameters, millions": f"{trained:.3f} trained, {frozen:.3f} frozen",
        "peak activations, MB": f"{it.peak_activation_bytes / MB:.2f}",
        "training memory, MB": f"{it.training_memory_bytes / MB:.2f}",
    }
    return [*table, "", *(f"{name:<22}{text}" for name, text in facts.items())]


def _cells(name: str, sums: tuple[int, ...]) -> Cells:
    stored, *work = sums
    return name, f"{stored / MB:.2f}", *(f"{value / MILLION:.1f}" for value in work)


if __name__ == "__main__":
    sys.exit(main())
