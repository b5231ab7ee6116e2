"""`mobiletl export`: a pretrained network in, a bundle out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mobiletl.core.backbones import FAMILIES
from mobiletl.core.errors import UsageError
from mobiletl.core.integer.top import AUTO, STEPS
from mobiletl.core.methods import METHODS
from mobiletl.core.optimizers import OPTIMIZERS
from mobiletl.core.saved import SAVED
from mobiletl.device.commands.parser import Parser
from mobiletl.export.commands.telling import telling
from mobiletl.export.own_file import short_name
from mobiletl.export.prefix.frozen_in_bytes import PREFIXES
from mobiletl.export.runtimes import DEFAULT_RUNTIMES, RUNTIMES
from mobiletl.export.weights.loading import embedded_facts
from mobiletl.export.writing.export_bundle import Request, export_bundle

DEFAULT_RESOLUTION = 224
EXAMPLES = """\
to paste:
  mobiletl export --model mbv2 --out artifacts/mbv2
  mobiletl export --weights demo --out artifacts/demo
  mobiletl export --model mbv2 --weights mobilenet_v2.pth --method mobiletl --blocks 5
  mobiletl export --model mbv2 --blocks 1,3,5 --out artifacts/levels
  mobiletl export --model mbv2-0.35 --weights none --resolution 96 --optimizer adam
  mobiletl export --model examples/own_network/mnasnet.py:build --weights mnasnet.safetensors
  mobiletl export --model mbv2 --method examples/own_method/depthwise.py:depthwise --blocks 1
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Export a bundle; errors of core/errors.py are the caller's to print."""
    flags = _parser().parse_args(argv)
    request = _request(flags)
    with telling("mobiletl.export.weights"):
        out = export_bundle(request)
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    if flags.json:
        print(json.dumps({"bundle": str(out), "manifest": manifest}))
    else:
        _report(out, manifest)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl export",
        description="Write a bundle: everything a board needs to fine-tune a pretrained network.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--model",
        help=f"{', '.join(family.name for family in FAMILIES)}, with or without a width such as "
        "mbv2-0.35, or FILE.py:FUNCTION for a network of your own (default mbv2; mbv2-0.35 for "
        "--weights demo)",
    )
    parser.add_argument(
        "--weights",
        default="imagenet",
        help="imagenet (downloaded; mbv2 and mbv3), demo (comes along), none, or a file: a "
        ".safetensors, or a .pth or .ckpt as training scripts write it (default imagenet)",
    )
    parser.add_argument(
        "--ema",
        action="store_true",
        help="take the moving average that a training script has kept beside its weights",
    )
    parser.add_argument(
        "--method",
        default="mobiletl",
        help=f"what is trained, and how: {', '.join(m.name for m in METHODS)}, or FILE.py:NAME for "
        "a method of your own (default mobiletl)",
    )
    parser.add_argument(
        "--blocks",
        type=parse_blocks,
        default=(None,),
        metavar="K",
        help="how many top blocks to train (default 3), or several numbers such as 1,3,5: boards "
        "choose among them by `train --blocks` or `train --max-memory`",
    )
    parser.add_argument(
        "--saved",
        choices=[row.name for row in SAVED],
        help="what the backward pass keeps of activations (default: the method's)",
    )
    parser.add_argument(
        "--resolution",
        type=int,
        help="side of the square pictures, a multiple of 32 (default 224; "
        "for --weights demo what they were trained at)",
    )
    parser.add_argument(
        "--optimizer",
        default="adam",
        choices=[o.name for o in OPTIMIZERS],
        help="sgd with momentum 0.9, adam, or adamw (default adam)",
    )
    parser.add_argument(
        "--prefix",
        choices=PREFIXES,
        default=PREFIXES[0],
        help="numbers that the frozen layers compute with; int8 is faster and smaller, and is "
        "measured on the pictures of --calibrate (default %(default)s)",
    )
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="DIR",
        help="pictures like those that boards will see, in a folder for each class",
    )
    parser.add_argument(
        "--step",
        choices=(AUTO, *STEPS),
        default=AUTO,
        help="numbers that the training step multiplies; int8 is faster and needs less memory; "
        "auto is int8 where the network has it under --method mobiletl (docs/eight-bits.md; "
        "default %(default)s)",
    )
    _add_runtimes(parser)
    parser.add_argument("--out", type=Path, help="the folder to write (default artifacts/MODEL)")
    parser.add_argument("--force", action="store_true", help="replace a bundle that is there")
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON")
    return parser


def parse_blocks(text: str) -> tuple[int, ...]:
    """The numbers of blocks that `text` names, the largest first."""
    try:
        return tuple(sorted({int(number) for number in text.split(",")}, reverse=True))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"invalid int value: {text!r}, expected a number such as 3, or several such as 1,3,5"
        ) from None


def _add_runtimes(parser: argparse.ArgumentParser) -> None:
    """Add what decides which runtimes a bundle serves and what those that need it are fixed to."""
    parser.add_argument(
        "--runtimes",
        default=",".join(DEFAULT_RUNTIMES),
        metavar="A,B",
        help=f"some of {', '.join(row.name for row in RUNTIMES)} (default %(default)s)",
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=8,
        help="pictures in a step, for runtimes that take one number only (default 8)",
    )
    parser.add_argument(
        "--classes",
        type=int,
        default=10,
        help="number of classes, for runtimes that take one number only (default 10)",
    )
    parser.add_argument(
        "--whole-graph",
        action="store_true",
        help="onnxruntime-training: the frozen layers become part of the training model, which "
        "then takes pictures",
    )


def _request(flags: argparse.Namespace) -> Request:
    least = {"batch": (flags.batch, 1), "classes": (flags.classes, 2)}
    for name, (value, smallest) in least.items():
        if value < smallest:
            raise UsageError(f"--{name} is {value}, expected {smallest} or more")
    facts = embedded_facts() if flags.weights == "demo" else None
    model = flags.model or (facts.model if facts else "mbv2")
    resolution = flags.resolution or (facts.resolution if facts else DEFAULT_RESOLUTION)
    return Request(
        model=model,
        weights=flags.weights,
        method=flags.method,
        blocks=flags.blocks[0],
        levels=flags.blocks[1:],
        resolution=resolution,
        optimizer=flags.optimizer,
        out=flags.out or Path("artifacts") / short_name(model),
        runtimes=tuple(name.strip() for name in flags.runtimes.split(",") if name.strip()),
        batch=flags.batch,
        classes=flags.classes,
        whole_graph=flags.whole_graph,
        saved=flags.saved,
        force=flags.force,
        ema=flags.ema,
        prefix=flags.prefix,
        calibrate=flags.calibrate,
        step=flags.step,
    )


def _report(out: Path, manifest: dict[str, Any]) -> None:
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    fewer = sorted(map(int, manifest.get("levels", {})))
    most = manifest["method"]["blocks"]
    levels = f", to train {', '.join(map(str, fewer))} or {most} blocks" if fewer else ""
    print(f"wrote {out} ({size / 1e6:.1f} MB{levels}). See what is in it, then train on a board:")
    print(f"  mobiletl inspect --bundle {out}")
    print(f"  python {out}/device/train_on_board.py --data photos/")


if __name__ == "__main__":
    sys.exit(main())
