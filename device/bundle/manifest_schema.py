"""What a manifest must look like, as a table, and the checks between its parts.

`docs/bundle.md` is the specification this follows, key by key.
"""

from __future__ import annotations

import math
from typing import Any

from mobiletl.device.bundle.digest import manifest_id
from mobiletl.device.bundle.schema import (
    both,
    either,
    fields,
    integer,
    joined,
    label,
    list_of,
    mapping,
    nullable,
    number,
    one_of,
    shown,
    text,
)
from mobiletl.device.bundle.strict_json import BadJson, parse_json
from mobiletl.device.errors import BadBundle

FORMAT = "mobiletl-bundle"
VERSION = 5
MANIFEST_FILE = "manifest.json"
STATE_FILE = "state.safetensors"
RESERVED_NAMES = ("images", "h", "labels", "lr", "loss", "correct", "logits", "embedding")

# Far above what any board trains; below, no sum that the program makes leaves its memory by far.
MOST_SIDE = 4096
MOST_MAP_VALUES = 1 << 26
MOST_EMBEDDING = 1 << 16
MOST_STATE_BYTES = 1 << 30
MOST_RANK = 6
# A network has no more blocks than that to choose from.
MOST_LEVELS = 64

_SHA256 = text(r"[0-9a-f]{64}", "64 lower-case hex digits")
_POSITIVE = number(above=0.0)
_PER_CLASS = fields({"fixed": integer(), "per_class": integer()})
_MOMENTS = list_of(list_of(integer(), length=4), minimum=1)
# N, and a share of what is alive at once.
_HOLES = list_of(list_of(number(minimum=0.0, maximum=1e6), length=2), maximum=100)
_GRAPH_MEMORY = fields({"weights": integer(), "activations": _MOMENTS}, {"holes": _HOLES})
_BLOCKS = text(r"0|[1-9][0-9]{0,2}", "a number of blocks")
_STATE_ENTRY = fields(
    {
        "name": label(),
        "role": one_of("parameter", "statistic", "slot"),
        "shape": list_of(
            either(integer(minimum=1), one_of("K"), "an integer >= 1 or 'K'"), maximum=MOST_RANK
        ),
        "dtype": one_of("float32"),
        "init": text(
            r"file|zeros|normal:[0-9]{1,20}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,2})?",
            "'file', 'zeros' or 'normal:STD'",
        ),
    }
)
_PATH = both(
    text(
        r"(?!/)(?!.*(^|/)\.{0,2}(/|$))[^\\\x00-\x1f]+",
        "a relative POSIX path without '.', '..' or empty parts",
    ),
    label(),
)

_SIZE = either(integer(minimum=1, maximum=1 << 20), one_of(None), "an integer >= 1 or null")
_RUNTIME = fields(
    {
        "files": mapping(label(), _PATH),
        "batch": _SIZE,
        "classes": _SIZE,
        "memory": mapping(label(), _MOMENTS),
    }
)

_SHARE = nullable(number(minimum=0.0, maximum=1.0))
_PREFIX = fields(
    {
        "bits": one_of(8),
        "calibrated_on": integer(),
        "checked_on": integer(),
        "error": number(minimum=0.0),
        "labels_changed": _SHARE,
        "accuracy_float": _SHARE,
        "accuracy_int8": _SHARE,
    }
)

SCHEMA = fields(
    {
        "format": one_of(FORMAT),
        "version": integer(minimum=1),
        "id": _SHA256,
        "created_by": label(),
        "model": fields(
            {"name": label(), "width": _POSITIVE, "weights": label(), "blocks": integer()}
        ),
        "method": fields({"name": label(), "blocks": integer(), "trains": list_of(label())}),
        "input": fields(
            {
                "resolution": integer(minimum=1, maximum=MOST_SIDE),
                "resize": integer(minimum=1, maximum=2 * MOST_SIDE),
                "mean": list_of(number(), length=3),
                "std": list_of(_POSITIVE, length=3),
            }
        ),
        "feature": fields({"shape": list_of(integer(minimum=1), length=3)}),
        "embedding": fields({"size": integer(minimum=1, maximum=MOST_EMBEDDING)}),
        "frozen": _SHA256,
        "optimizer": fields(
            {
                "name": label(),
                "momentum": number(minimum=0.0),
                "weight_decay": number(minimum=0.0),
                "default_lr": _POSITIVE,
            }
        ),
        "state": list_of(_STATE_ENTRY, minimum=1),
        "runtimes": mapping(label(), _RUNTIME),
        "parameters": fields({"trainable": _PER_CLASS, "frozen": integer()}),
        "macs": fields({"features": integer(), "train_step": _PER_CLASS, "predict": _PER_CLASS}),
        "memory": fields(
            {
                "features": _GRAPH_MEMORY,
                "train_step": _GRAPH_MEMORY,
                "predict": _GRAPH_MEMORY,
                "state": _PER_CLASS,
                "slots": _PER_CLASS,
                "runtime": integer(),
                "runtime_release": label(),
            }
        ),
        "files": mapping(_PATH, fields({"bytes": integer(), "sha256": _SHA256})),
    },
    # Frozen layers in other numbers than float32, and what that costs on the host's pictures; the
    # numbers that the training step multiplies, float32 where nothing is said; further levels.
    optional={
        "prefix": _PREFIX,
        "step": one_of("float32", "int8"),
        "levels": mapping(_BLOCKS, _SHA256),
    },
)


def checked_document(content: bytes | str, name: str = MANIFEST_FILE) -> dict[str, Any]:
    """Parse and check the text of the manifest `name`; raises BadBundle naming every problem."""
    document: dict[str, Any] = _load_json(content, name)
    _refuse_other_version(document)
    problems: list[str] = []
    SCHEMA(document, "", problems)
    if not problems:
        problems = _contradictions(document)
    if problems:
        raise BadBundle(
            f"{name} has {len(problems)} problem(s): {joined(problems)}. "
            "Export or copy the bundle again"
        )
    return document


def _load_json(content: bytes | str, name: str) -> Any:
    try:
        return parse_json(content)
    except BadJson as error:
        raise BadBundle(
            f"{name} cannot be read: {error}; export or copy the bundle again"
        ) from error


def _refuse_other_version(document: Any) -> None:
    """Look at the version first: a manifest of another one may break every other rule."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return
    version = document.get("version")
    # JSON's true is an int to Python; the schema refuses it.
    if isinstance(version, int) and not isinstance(version, bool) and version != VERSION:
        advice = (
            "Update mobiletl on this board, or export with an older one"
            if version > VERSION
            else "Export the bundle again"
        )
        raise BadBundle(
            f"the bundle has format version {version}, made by "
            f"{shown(document.get('created_by', 'an unknown program'))}; this program reads "
            f"version {VERSION}. {advice}"
        )


def _contradictions(document: dict[str, Any]) -> list[str]:
    """Return the problems between parts of a document that fits the schema."""
    problems = []
    before: set[str] = set()
    for index, entry in enumerate(document["state"]):
        name = entry["name"]
        if name in before:
            problems.append(f"state[{index}].name: {shown(name)} occurs twice")
        if name in RESERVED_NAMES or name.endswith(".next"):
            problems.append(f"state[{index}].name: {shown(name)} is reserved")
        before.add(name)
        if entry["init"] == "file" and "K" in entry["shape"]:
            problems.append(f"state[{index}].init: 'file' needs a shape without 'K'")
    classifier = ["K", document["embedding"]["size"]]
    if classifier not in [e["shape"] for e in document["state"] if e["role"] == "parameter"]:
        problems.append(f"embedding.size: state has no parameter of shape {classifier}")
    for name, runtime in document["runtimes"].items():
        problems += [
            f"runtimes.{name}.files.{role}: {shown(path)} is not in files"
            for role, path in runtime["files"].items()
            if path not in document["files"]
        ]
    from_file = any(entry["init"] == "file" for entry in document["state"])
    if from_file and STATE_FILE not in document["files"]:
        problems.append(f"files: {STATE_FILE} is missing, but state entries come from it")
    problems += _size_problems(document)
    levels = document.get("levels", {})
    if len(levels) > MOST_LEVELS:
        problems.append(f"levels: {len(levels)} are named, expected at most {MOST_LEVELS}")
    if str(document["method"]["blocks"]) in levels:
        problems.append("levels: names the manifest's own number of blocks")
    if document["input"]["resize"] < document["input"]["resolution"]:
        problems.append("input.resize: smaller than input.resolution")
    expected = manifest_id(document)
    if document["id"] != expected:
        problems.append(
            f"id: found {document['id'][:12]}..., the content hashes to {expected[:12]}..."
        )
    return problems


def _size_problems(document: dict[str, Any]) -> list[str]:
    """Compare what would be allocated with what the memory plan states."""
    problems = []
    values = math.prod(document["feature"]["shape"])
    if values > MOST_MAP_VALUES:
        problems.append(f"feature.shape: {values} numbers, expected at most {MOST_MAP_VALUES}")
    for section, roles in (("state", ("parameter", "statistic")), ("slots", ("slot",))):
        entries = [e["shape"] for e in document["state"] if e["role"] in roles]
        fixed = 4 * sum(math.prod(shape) for shape in entries if "K" not in shape)
        growing = [[side for side in shape if side != "K"] for shape in entries if "K" in shape]
        per_class = 4 * sum(map(math.prod, growing))
        stated = document["memory"][section]
        if (fixed, per_class) != (stated["fixed"], stated["per_class"]):
            problems.append(
                f"memory.{section}: states {stated['fixed']} + {stated['per_class']} K bytes, the "
                f"entries take {fixed} + {per_class} K"
            )
        if fixed + 1000 * per_class > MOST_STATE_BYTES:
            problems.append(f"state: its entries take {fixed} + {per_class} K bytes, too many")
    for index, entry in enumerate(document["state"]):
        if entry["shape"].count("K") > 1:
            problems.append(f"state[{index}].shape: 'K' occurs twice")
    return problems
