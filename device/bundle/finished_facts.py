"""What a finished file says about itself, for the program that uses it (docs/finish.md).

Hosts and boards both finish, and a program cannot tell their files apart.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from typing import Any, Sequence

import numpy as np

from mobiletl.device.bundle.answers import Answers
from mobiletl.device.bundle.manifest import Manifest

# The key of the facts among the metadata of a file.
METADATA = "mobiletl"


def finished_facts(
    manifest: Manifest, class_names: Sequence[str], answers: Answers | None = None
) -> str:
    """Return JSON: classes in the order of the logits, how a picture becomes a tensor, and what
    calibration has found.
    """
    facts: dict[str, Any] = {
        "format": "mobiletl-finished",
        "model": asdict(manifest.model),
        "method": manifest.method.name,
        "bundle": manifest.id,
        "classes": list(class_names),
        "input": {
            **asdict(manifest.input),
            "layout": "NCHW",
            "colours": "RGB",
            "scale": "x / 255, then (x - mean) / std",
            "crop": "short side to `resize`, then the centre square of `resolution`",
        },
    }
    if answers is not None:
        facts["answers"] = _answers_facts(answers)
    return json.dumps(facts, sort_keys=True)


def _answers_facts(answers: Answers) -> dict[str, Any]:
    """What calibration has found, with the arrays as base64 of little-endian f32[1+R,D]: the
    centre, then the directions.
    """
    facts = answers.document()
    if answers.unknown is not None:
        rows = np.vstack([answers.unknown.centre, answers.unknown.directions]).astype("<f4")
        facts["unknown"]["subspace"] = base64.b64encode(rows.tobytes()).decode("ascii")
        facts["unknown"]["subspace_shape"] = list(rows.shape)
    return facts
