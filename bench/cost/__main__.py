"""`python -m bench.cost`: see the package."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.cost.cases import Plan
from bench.cost.costs import Cost, Costs
from bench.cost.table import table_lines, write_csv
from bench.report import conditions
from mobiletl.device.commands.flags import below_least
from mobiletl.device.commands.table import guarded
from mobiletl.device.errors import UsageError

EXAMPLES = """\
to paste:
  make bench-cost
  python -m bench.cost --rounds 3 --out artifacts/cost
"""
LEAST = {"rounds": 1}


def main(argv: list[str] | None = None) -> int:
    """Measure all sweeps and return the exit code (docs/exit-codes.md)."""
    return guarded(lambda: _measure(_parser().parse_args(argv)))


def _measure(flags: argparse.Namespace) -> int:
    problems = below_least(flags, LEAST)
    if problems:
        raise UsageError("; ".join(problems))
    plan = Plan(weights=flags.weights, rounds=flags.rounds)
    return measure(plan, flags.out)


def measure(plan: Plan, out: Path) -> int:
    """Print each sweep when it is done, then write `out`/cost.csv and cost.png."""
    out.mkdir(parents=True, exist_ok=True)  # before minutes of work, not after them
    usual = plan.usual
    facts = conditions(plan.weights, usual.blocks, plan.rounds) | {
        "model": f"{plan.model}, mobiletl, SGD; the usual case: trained blocks {usual.blocks}, "
        f"batch {usual.batch}, {usual.resolution} px",
        "timing": f"medians of {plan.rounds} rounds; a round runs all cases of a sweep in turn",
    }
    print("\n".join(f"{name:<10}{text}" for name, text in facts.items()), flush=True)
    costs: list[Cost] = []
    with tempfile.TemporaryDirectory() as scratch:
        found = Costs(plan, Path(scratch))
        for sweep in plan.sweeps:
            costs += (done := found.measure(sweep))
            print("\n" + "\n".join(table_lines(done)), flush=True)
    print()
    for reason in found.left_out:
        print(f"left out: {reason}")
    # Late: matplotlib takes long to import.
    from bench.cost.plot import draw_costs

    write_csv(costs, out / "cost.csv")
    draw_costs(costs, out / "cost.png", facts["model"])
    print(f"wrote {out / 'cost.csv'} and {out / 'cost.png'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cost",
        description="Time and memory of training against batch, trained blocks and resolution, "
        "with a step on floats and one on bytes; writes OUT/cost.csv and OUT/cost.png.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--weights", default="none", help="as for mobiletl export (default: none)")
    add("--rounds", type=int, default=Plan.rounds, help=f"default: {Plan.rounds}")
    add("--out", type=Path, default=Path("artifacts/cost"), help="default: artifacts/cost")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
