"""`mobiletl finish`: a trained state in, one file for inference out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mobiletl.core.errors import UsageError
from mobiletl.device.bundle.signature import require_state_signature
from mobiletl.device.commands.parser import Parser, add_state_key
from mobiletl.device.finishing.opset import DEFAULT, LEAST, MOST
from mobiletl.export.commands.telling import telling
from mobiletl.export.finish.finish import Order, finish
from mobiletl.export.finish.formats import FORMATS

EXAMPLES = """\
to paste:
  mobiletl finish --bundle artifacts/mbv2 --state runs/first/state.safetensors --to onnx
  mobiletl finish --bundle artifacts/mbv2 --state runs/first/state.safetensors --to onnx --int8 \\
      --data photos/ --out pets-int8.onnx
  mobiletl finish --bundle artifacts/mbv2 --state runs/first/state.safetensors --to torchvision \\
      --weights mobilenet_v2.pth
  mobiletl finish --bundle artifacts/mynet --state runs/first/state.safetensors --to onnx \\
      --model mynet.py:build
  mobiletl finish --bundle artifacts/mbv2 --state runs/first/state.safetensors --to onnx \\
      --method mymethod.py:mine
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Finish a state; errors of core/errors.py are the caller's to print."""
    flags = _parser().parse_args(argv)
    with telling("mobiletl.export.weights"):
        result = finish(_order(flags))
    if flags.json:
        answer: dict[str, object] = {
            "files": [str(p) for p in result.files],
            "classes": result.class_names,
        }
        if flags.int8:
            answer |= {"int8": result.summary, "skipped": list(result.skipped)}
        print(json.dumps(answer))
        return 0
    for path in result.files:
        print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
    print(
        f"{len(result.class_names)} classes; images [N,3,R,R] with R = {result.resolution} to "
        f"logits; on noise they differ from the board's by {result.difference:.1g} at most"
        + (" (before int8)" if flags.int8 else "")
    )
    if result.summary:
        print(result.summary)
    if result.skipped:
        print(f"skipped {len(result.skipped)} pictures that cannot be read:")
    for line in result.skipped:
        print(f"  {line}")
    return 0


def _order(flags: argparse.Namespace) -> Order:
    require_state_signature(flags.state, flags.state_key)
    if flags.data is not None and not flags.int8:
        raise UsageError("--data is what --int8 calibrates on; add --int8 or leave it out")
    return Order(
        bundle=flags.bundle,
        state=flags.state,
        to=flags.to,
        int8=flags.int8,
        data=flags.data,
        weights=flags.weights,
        out=flags.out,
        model=flags.model,
        method=flags.method,
        ema=flags.ema,
        opset=flags.opset,
        softmax=flags.softmax,
    )


def _parser() -> argparse.ArgumentParser:
    rows = "\n".join(f"  {row.name:<12}{row.suffix:<14}{row.summary}" for row in FORMATS)
    parser = Parser(
        prog="mobiletl finish",
        description="Write a trained state as one plain file for inference.",
        epilog=f"formats:\n{rows}\n\n{EXAMPLES}",
    )
    add = parser.add_argument
    add("--bundle", type=Path, required=True, metavar="DIR", help="what was trained")
    add("--state", type=Path, required=True, metavar="FILE", help="state.safetensors of a run")
    add("--to", required=True, metavar="FORMAT", help=", ".join(row.name for row in FORMATS))
    add_state_key(parser)
    add(
        "--int8",
        action="store_true",
        help="8-bit weights; with --data 8-bit activations, too, as far as labels stay (onnx only)",
    )
    add(
        "--data",
        type=Path,
        metavar="DIR",
        help="pictures to calibrate --int8 on and compare labels on; best none it was trained on",
    )
    add(
        "--weights",
        metavar="SOURCE",
        help="what the bundle was exported from: gives the frozen layers their own norms back",
    )
    add("--ema", action="store_true", help="of --weights take the moving average beside them")
    add(
        "--model",
        metavar="FILE.py:FUNCTION",
        help="where a network of your own is defined, as for mobiletl export",
    )
    add(
        "--method",
        metavar="FILE.py:NAME",
        help="where a method of your own is defined, as for mobiletl export",
    )
    add(
        "--opset",
        type=int,
        help=f"onnx only: version of the operators, {LEAST} to {MOST} (default {DEFAULT}, which "
        "nearly everything reads)",
    )
    add("--softmax", action="store_true", help="onnx only: probabilities come first, then logits")
    add("--out", type=Path, metavar="FILE", help="default: STATE's name with the format's suffix")
    add("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    sys.exit(main())
