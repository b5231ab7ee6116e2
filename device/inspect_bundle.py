"""`mobiletl inspect`: print a bundle's model, method, parameters, MACs and memory plan."""

from __future__ import annotations

if not __package__:
    import importlib

    importlib.import_module("_script").register()

import argparse
import json
from dataclasses import asdict
from typing import Any, Mapping, Sequence

from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.levels import of_state
from mobiletl.device.bundle.state_file import open_state
from mobiletl.device.commands.flags import add_blocks, add_signature, at_blocks
from mobiletl.device.commands.parser import Parser
from mobiletl.device.commands.table import guarded
from mobiletl.device.errors import UsageError
from mobiletl.device.memory import plan as memory
from mobiletl.device.printable import printable, say
from mobiletl.device.sessions.table import RUNTIMES, STOCK

EXAMPLES = """\
to paste:
  mobiletl inspect --bundle artifacts/mbv2
  mobiletl inspect --bundle artifacts/mbv2 --batch 4 --classes 3
  mobiletl inspect --bundle artifacts/mbv2 --blocks 3
  mobiletl inspect --bundle artifacts/mbv2 --state runs/first/state.safetensors
  mobiletl inspect --bundle artifacts/mbv2 --json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(lambda: _inspect(_parser().parse_args(argv)), argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl inspect",
        description="Check a bundle and print what is in it.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--bundle", required=True, metavar="DIR", help="folder of the bundle")
    parser.add_argument("--batch", type=int, default=8, help="pictures in a step (default: 8)")
    parser.add_argument("--classes", type=int, default=10, help="classes (default: 10)")
    parser.add_argument(
        "--micro-batch", type=int, default=1, help="pictures per pass of the prefix (default: 1)"
    )
    parser.add_argument(
        "--runtime",
        help="plan for this one (default: onnxruntime, or the first that the bundle serves)",
    )
    add_blocks(
        parser, "of a bundle with several levels this one (default: the state's, or deepest)"
    )
    parser.add_argument("--state", metavar="FILE", help="say what a state of the bundle knows, too")
    add_signature(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _inspect(options: argparse.Namespace) -> int:
    for name, least in (("batch", 1), ("classes", 2), ("micro_batch", 1)):
        value = getattr(options, name)
        if value < least:
            raise UsageError(f"--{name.replace('_', '-')} is {value}, expected at least {least}")
    opened = open_bundle(options.bundle, require_signature=options.require_signature)
    bundle = at_blocks(opened, options.blocks)
    if options.state is not None and options.blocks is None:
        bundle = of_state(opened, options.state)
    runtime = _runtime(bundle, options.runtime)
    memory_plan = memory.plan(
        bundle.manifest, options.batch, options.classes, options.micro_batch, runtime
    )
    sizes = (options.batch, options.classes, options.micro_batch)
    document = describe(bundle, memory_plan, sizes, runtime)
    state = None if options.state is None else _state(bundle, options.state)
    if options.json:
        print(json.dumps(document if state is None else {**document, "state": state}, indent=2))
        return 0
    say(f"{_summary(document)}\n\n{memory.table(memory_plan)}")
    if state is not None:
        say(f"\n{_state_summary(state)}")
    return 0


def _runtime(bundle: Bundle, named: str | None) -> str:
    """Return the runtime to plan for; it need not be installed here."""
    served = [row.name for row in RUNTIMES if row.name in bundle.manifest.runtimes]
    if named is None:
        return served[0] if served else STOCK
    if named not in served:
        raise UsageError(
            f"--runtime is {named!r}, but {bundle.path} has files for "
            f"{', '.join(served) or 'no runtime'}; name one of these"
        )
    return named


def describe(
    bundle: Bundle, memory_plan: memory.MemoryPlan, sizes: tuple[int, int, int], runtime: str
) -> dict[str, Any]:
    """Return what `--json` prints; `sizes` are pictures in a step, classes, and pictures in a pass
    of the prefix. Counts are for these classes, MACs per picture.
    """
    manifest = bundle.manifest
    batch, classes, micro_batch = sizes
    trainable = manifest.parameters.trainable.at(classes)
    macs = {
        "features": manifest.macs.features,
        "train_step": manifest.macs.train_step.at(classes),
        "predict": manifest.macs.predict.at(classes),
    }
    return {
        "bundle": str(bundle.path),
        "id": manifest.id,
        "created_by": manifest.created_by,
        "model": asdict(manifest.model),
        "method": asdict(manifest.method),
        "levels": [
            {
                "blocks": blocks,
                "planned_bytes": memory.plan(
                    level, batch, classes, micro_batch, runtime
                ).total_bytes,
            }
            for blocks, level in sorted(bundle.levels.items())
        ],
        "input": asdict(manifest.input),
        "prefix": None if manifest.prefix is None else asdict(manifest.prefix),
        "step": manifest.step,
        "feature": asdict(manifest.feature),
        "embedding": asdict(manifest.embedding),
        "optimizer": asdict(manifest.optimizer),
        "runtimes": sorted(manifest.runtimes),
        "batch": batch,
        "classes": classes,
        "parameters": {"trainable": trainable, "frozen": manifest.parameters.frozen},
        "macs_per_picture": macs,
        "memory": {
            "runtime": runtime,
            "rows": [asdict(row) for row in memory_plan.rows],
            "total_bytes": memory_plan.total_bytes,
        },
    }


def _state(bundle: Bundle, path: str) -> dict[str, Any]:
    """Return what `--json` prints of a state, its settings left out; raises BadState."""
    stored, info = open_state(path, bundle.manifest)
    stored.close()
    return {
        "path": path,
        "classes": list(info.class_names),
        "epoch": info.epoch,
        "step": info.step,
        "seed": info.seed,
        "best_accuracy": info.best_accuracy,
        "view": None if info.view is None else info.view.document(),
        "flags": None if info.view is None else info.view.flags(),
    }


def _state_summary(state: dict[str, Any]) -> str:
    best = state["best_accuracy"]
    rows = (
        ("state", state["path"]),
        ("classes", ", ".join(state["classes"])),
        ("trained", f"{state['epoch']} epochs, {state['step']} steps"),
        ("accuracy", "not evaluated" if best is None else f"{best:.1%} of the validation pictures"),
        ("view", state["flags"] or "none kept: its pictures are not of a camera here"),
    )
    return "\n".join(printable(f"{name:<18}{value}") for name, value in rows)


def _summary(document: dict[str, Any]) -> str:
    model, method, optimizer = document["model"], document["method"], document["optimizer"]
    side, macs = document["input"]["resolution"], document["macs_per_picture"]
    rows = (
        ("bundle", f"{document['bundle']} ({document['id'][:12]}, {document['created_by']})"),
        ("model", f"{model['name']}, width {model['width']:g}, weights {model['weights']}"),
        ("pictures", f"{side} x {side}, feature map {_sides(document['feature']['shape'])}"),
        *((("frozen layers", _prefix(document["prefix"])),) if document["prefix"] else ()),
        ("training step", _STEPS[document["step"]]),
        ("embedding", f"{document['embedding']['size']} numbers a picture"),
        ("method", f"{method['name']}, {method['blocks']} of {model['blocks']} blocks"),
        *((("levels", _levels(document["levels"])),) if document["levels"] else ()),
        *(("trains" if index == 0 else "", part) for index, part in enumerate(method["trains"])),
        ("optimizer", f"{optimizer['name']}, learning rate {optimizer['default_lr']:g} at batch 8"),
        ("runtimes", ", ".join(document["runtimes"]) or "none"),
        ("parameters", "{trainable:,} trained, {frozen:,} frozen".format(**document["parameters"])),
        *((f"MACs, {name}", f"{count / 1e6:,.2f} M a picture") for name, count in macs.items()),
        (
            "plan for",
            f"batch {document['batch']}, {document['classes']} classes, "
            f"{document['memory']['runtime']}",
        ),
    )
    return "\n".join(f"{name:<18}{value}" for name, value in rows)


_STEPS = {"float32": "products of float32", "int8": "products of bytes, weights in float32"}


def _levels(levels: Sequence[Mapping[str, Any]]) -> str:
    planned = [f"{one['blocks']} ({one['planned_bytes'] / 1e6:.1f} MB)" for one in levels]
    return f"{', '.join(planned)} blocks, by --blocks or --max-memory of train"


def _prefix(prefix: Mapping[str, Any]) -> str:
    text = f"{prefix['bits']} bits, calibrated on {prefix['calibrated_on']} pictures"
    if prefix["labels_changed"] is None:
        return (
            f"{text}; embeddings of {prefix['checked_on']} others change by {prefix['error']:.1%}"
        )
    return (
        f"{text}; of {prefix['checked_on']} others {prefix['accuracy_int8']:.1%} are right in "
        f"closed form, {prefix['accuracy_float']:.1%} with floats"
    )


def _sides(shape: Sequence[int]) -> str:
    return " x ".join(str(side) for side in shape)


if __name__ == "__main__":
    raise SystemExit(main())
