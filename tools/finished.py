"""A finished network (ONNX) asked with onnxruntime and Pillow alone, as docs/finish.md tells other
programs to: nothing of the package is in between.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def label_of(network: Path, picture: Path) -> str:
    """Return the class that `network` names for `picture`."""
    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    facts = json.loads(session.get_modelmeta().custom_metadata_map["mobiletl"])
    size = facts["input"]
    image = Image.open(picture).convert("RGB")
    grown = size["resize"] / min(image.size)
    image = image.resize((round(image.width * grown), round(image.height * grown)), 2)
    left, top = ((side - size["resolution"]) // 2 for side in image.size)
    image = image.crop((left, top, left + size["resolution"], top + size["resolution"]))
    values = (np.asarray(image, np.float32) / 255 - size["mean"]) / size["std"]
    tensor = np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32)
    logits = session.run(["logits"], {session.get_inputs()[0].name: tensor})[0][0]
    return str(facts["classes"][int(logits.argmax())])
