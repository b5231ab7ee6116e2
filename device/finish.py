"""`mobiletl finish` without PyTorch: a trained state in, one ONNX file for inference out."""

from __future__ import annotations

if not __package__:
    import importlib

    importlib.import_module("_script").register()

import argparse
import json
import sys
from pathlib import Path
from typing import Sequence

from mobiletl.device.bundle.signature import require_state_signature
from mobiletl.device.commands.flags import chosen_bundle
from mobiletl.device.commands.parser import Parser, add_state_key
from mobiletl.device.commands.table import EXPORT_HINT, guarded
from mobiletl.device.errors import MissingDependency
from mobiletl.device.finishing.finish import finish
from mobiletl.device.printable import printable

FORMAT = "onnx"
EXAMPLES = """\
to paste:
  mobiletl finish --bundle artifacts/mbv2 --state runs/first/state.safetensors
  python artifacts/mbv2/device/finish.py --state runs/first/state.safetensors --out pets.onnx
"""
# What only the host's command does.
_HOST_ONLY = ("int8", "data", "weights", "model", "method")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(lambda: _finish(_parser().parse_args(argv)), argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl finish",
        description="Write a trained state as one plain ONNX file for inference. Where PyTorch is "
        "installed, other formats and 8-bit weights can be had, too.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    add("--bundle", metavar="DIR", help="default: the folder above this script, if it is one")
    add("--state", metavar="FILE", required=True, help="state.safetensors of a run")
    add("--to", metavar="FORMAT", default=FORMAT, help=f"{FORMAT}, all others need PyTorch")
    add("--out", metavar="FILE", help="default: STATE's name with the format's suffix")
    add(
        "--opset",
        type=int,
        metavar="N",
        help="version of the operators, 11 to 18 (default: 13, or later where that is needed)",
    )
    add("--softmax", action="store_true", help="probabilities come first, then logits")
    add("--json", action="store_true", help="print one JSON object")
    add_state_key(parser)
    for name in _HOST_ONLY:
        kind = "store_true" if name == "int8" else "store"
        add(f"--{name}", action=kind, help=argparse.SUPPRESS)
    return parser


def _finish(flags: argparse.Namespace) -> int:
    named = [f"--{name}" for name in _HOST_ONLY if getattr(flags, name)]
    named = [f"--to {flags.to}"] * (flags.to != FORMAT) + named
    if named:
        raise MissingDependency(
            f"{', '.join(named)} needs PyTorch; without it there is --to {FORMAT} alone; "
            f"on the host: {EXPORT_HINT}"
        )
    out = None if flags.out is None else Path(flags.out)
    bundle, state = chosen_bundle(flags.bundle), Path(flags.state)
    require_state_signature(state, flags.state_key)
    written = finish(bundle, state, out, flags.opset, flags.softmax)
    if flags.json:
        print(
            json.dumps(
                {
                    "files": [str(written.path), str(written.labels)],
                    "classes": list(written.class_names),
                }
            )
        )
        return 0
    size = written.path.stat().st_size / 1e6
    print(printable(f"wrote {written.path} ({size:.1f} MB)", sys.stdout.encoding))
    print(
        f"{len(written.class_names)} classes; images [N,3,R,R] with R = {written.resolution} to "
        f"logits; on noise they differ from the board's by {written.difference:.1g} at most"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
