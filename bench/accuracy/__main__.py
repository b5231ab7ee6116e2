"""`python -m bench.accuracy`: see the package."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from bench.accuracy.grid import Plan, compare
from bench.accuracy.pictures import link_pictures
from bench.accuracy.subjects import every_subject, named_subjects
from bench.accuracy.table import table_lines, write_csv
from mobiletl.core.errors import UsageError
from mobiletl.core.methods import METHODS
from mobiletl.core.optimizers import OPTIMIZERS
from mobiletl.device.commands.flags import below_least
from mobiletl.device.commands.table import guarded
from mobiletl.device.run.limits import LARGEST_LR
from mobiletl.export.weights.loading import embedded_facts

EXAMPLES = """\
to paste:
  make bench-accuracy DATA=photos/ WEIGHTS=mobilenet_v2.safetensors
  python -m bench.accuracy --data photos/ --weights demo --epochs 3 --seeds 1
  python -m bench.accuracy --data photos/ --weights imagenet \\
      --methods mobiletl:3,ft-blocks:3,ft-last --rates 3e-4,1e-3 --resolution 128
"""
LEAST = {"epochs": 1, "sweep_epochs": 1, "seeds": 1, "batch": 1, "threads": 0, "limit": 4}


def main(argv: list[str] | None = None) -> int:
    """Run the comparison and return its exit code (docs/exit-codes.md)."""
    return guarded(lambda: _compare(_parser().parse_args(argv)))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _compare(flags: argparse.Namespace) -> int:
    plan = _plan(flags)
    subjects = named_subjects(flags.methods.split(",")) if flags.methods else every_subject()
    pictures = link_pictures(flags.data, plan.out / "pictures", flags.limit)
    rows, left_out = compare(plan, subjects, pictures, skip_unsupported=not flags.methods)
    facts = (
        f"{plan.model}, {plan.resolution} px, {pictures.train_count} pictures to train on, "
        f"{pictures.val_count} to test on, {plan.epochs} epochs, batch {plan.batch}, "
        f"{plan.optimizer}, {'' if plan.augment else 'no '}augmentation, {plan.threads} threads, "
        f"{plan.seeds} seeds"
    )
    print(facts)
    if rows:
        # Late: matplotlib takes longer to import than the rest of a finished comparison.
        from bench.accuracy.plot import draw_fronts

        print("\n".join(table_lines(rows)))
        write_csv(rows, plan.out / "accuracy.csv")
        draw_fronts(rows, plan.out / "accuracy.png", facts)
        print(f"wrote {plan.out / 'accuracy.csv'} and {plan.out / 'accuracy.png'}")
    for reason in left_out:
        print(f"left out: {reason}")
    return 0


def _plan(flags: argparse.Namespace) -> Plan:
    problems = below_least(flags, LEAST)
    rates = _rates(flags.rates, problems)
    if flags.lr is not None and not 0 < flags.lr <= LARGEST_LR:
        problems.append(f"--lr is {flags.lr}, expected a positive number")
    if flags.lr is not None and rates:
        problems.append("--lr names a rate and --rates has one chosen; give one of them")
    if problems:
        raise UsageError("; ".join(problems))
    facts = embedded_facts() if flags.weights == "demo" else None
    return Plan(
        model=flags.model or (facts.model if facts else "mbv2"),
        weights=flags.weights,
        resolution=flags.resolution or (facts.resolution if facts else 224),
        optimizer=flags.optimizer,
        lr=flags.lr,
        rates=rates,
        sweep_epochs=flags.sweep_epochs,
        epochs=flags.epochs,
        seeds=flags.seeds,
        batch=flags.batch,
        augment=flags.augment,
        threads=flags.threads,
        out=flags.out,
    )


def _rates(text: str | None, problems: list[str]) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        rates = tuple(dict.fromkeys(float(word) for word in text.split(",")))
    except ValueError:
        rates = ()
    if not rates or not all(0 < rate <= LARGEST_LR for rate in rates):
        problems.append(f"--rates is {text!r}, expected positive numbers with commas between them")
    return rates


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.accuracy",
        description="Train methods and seeds, print accuracy against measured memory and time. "
        "What is done is kept in OUT/results.jsonl and not repeated.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="pictures, as for mobiletl train")
    add("--weights", default="imagenet", help="as for mobiletl export (default imagenet)")
    add("--model", help="as for mobiletl export (default mbv2)")
    add(
        "--methods",
        metavar="A,B:BLOCKS",
        help=f"some of {', '.join(m.name for m in METHODS)} (default: all, mobiletl with 1, 3, 5)",
    )
    add("--resolution", type=int, help="default 224; for --weights demo its own")
    add("--optimizer", default="adam", choices=[o.name for o in OPTIMIZERS], help="default adam")
    add("--epochs", type=int, default=10, help="default 10")
    add("--seeds", type=int, default=3, help="runs per method, seeds from 0 on (default 3)")
    add("--batch", type=int, default=8, help="pictures in a step (default 8)")
    add("--lr", type=float, help="first rate of every method (default: the method's)")
    add(
        "--rates",
        metavar="A,B",
        help="try these on a held-out fifth of the training pictures, take the best per method",
    )
    add("--sweep-epochs", type=int, default=3, help="epochs of such a trial (default 3)")
    add(
        "--augment",
        action="store_true",
        help="a fresh random crop in every epoch; nothing can be cached then",
    )
    add("--threads", type=int, default=2, help="default 2; 0 is all cores")
    add(
        "--limit",
        type=int,
        help="about so many pictures to train and to test on, of each class alike",
    )
    add("--out", type=Path, default=Path("artifacts/accuracy"), help="default %(default)s")
    return parser


if __name__ == "__main__":
    for stopping in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(stopping, _interrupt)
    sys.exit(main())
