"""The frozen layers of a bundle in 8 bits: calibrated on pictures, and what that costs measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from mobiletl.core.errors import UnsupportedModel, UsageError
from mobiletl.device.bundle.manifest import Input
from mobiletl.device.errors import BadPictures
from mobiletl.export.chain import MAP, cut, link, renamed
from mobiletl.export.parts import Parts
from mobiletl.export.pictures import picture_files, prepared
from mobiletl.export.prefix.cost import Cost, measured_cost
from mobiletl.export.prefix.eight_bits import in_eight_bits
from mobiletl.export.prefix.ranges import measured_ranges
from mobiletl.export.stock_graphs import StockGraphs, lower_features

INT8, FLOAT32 = "int8", "float32"
PREFIXES = (FLOAT32, INT8)
# Fewer say nothing about a map's range, nor about what is lost.
LEAST_PICTURES = 8
_RUNTIME = "onnxruntime"


def check_prefix(parts: Parts) -> None:
    """Raise UsageError or UnsupportedModel for a request that cannot have its frozen layers so."""
    request = parts.request
    if request.prefix == FLOAT32:
        if request.calibrate is not None:
            raise UsageError("--calibrate is for --prefix int8; add that, or leave it out")
        return
    if request.calibrate is None:
        raise UsageError(
            "--prefix int8 needs --calibrate DIR: some dozen pictures like those that boards will "
            "see, best in a folder for each class"
        )
    others = [name for name in request.runtimes if name != _RUNTIME]
    if others:
        raise UnsupportedModel(
            f"--prefix int8 is for {_RUNTIME} alone, whose operators on bytes it is made of; leave "
            f"{', '.join(others)} out of --runtimes"
        )


def frozen_in_bytes(parts: Parts, graphs: StockGraphs, size: Input) -> tuple[StockGraphs, Cost]:
    """Return `graphs` with the frozen layers in 8 bits, and what that costs.

    Half of the pictures in `parts.request.calibrate` calibrate, the others are what is measured on.
    Raises BadPictures, and UnsupportedModel where nothing is frozen.
    """
    folder = parts.request.calibrate
    assert folder is not None
    if not any(node.op_type == "Conv" for node in graphs.features.graph.node):
        raise UnsupportedModel("--prefix int8: nothing is frozen; train fewer blocks")
    files = picture_files(folder, "--calibrate")
    pictures = prepared(files, size)
    if len(pictures.images) < LEAST_PICTURES:
        raise BadPictures(
            f"--calibrate {folder}: {len(pictures.images)} readable pictures, expected "
            f"{LEAST_PICTURES} or more"
        )
    images = list(pictures.images)
    in_bytes = in_eight_bits(graphs.features, measured_ranges(graphs.features, images[::2]))
    labels = [file.parent.name for file in pictures.files]
    cost = measured_cost(
        graphs.features, in_bytes, graphs.predict, _first_state(parts), images, labels
    )
    return replace(graphs, features=in_bytes), cost


def links_in_bytes(
    parts: Sequence[Parts], features: Sequence[onnx.ModelProto], size: Input
) -> list[onnx.ModelProto]:
    """The chain (export/chain.py) of some levels' frozen layers in 8 bits, `features`, the deepest
    level's first.

    Floats are cut, and each part is put into bytes by what maps were in the whole: a map at a cut
    is handed on in floats, which give the same bytes again. Raises UnsupportedModel where the
    chain's maps are not those of `features` to the last bit, or as `cut`.
    """
    folder = parts[0].request.calibrate
    assert folder is not None
    floats = [lower_features(one.transfer, one.request.resolution) for one in parts]
    images = list(prepared(picture_files(folder, "--calibrate"), size).images)
    ranges = measured_ranges(floats[-1], images[::2])
    chain = [features[0]]
    for deeper, whole in pairwise(floats):
        # Ranges are known by the names that maps have in the longest graph.
        last = floats[-1].graph.node[len(whole.graph.node) - 1].output[0]
        chain.append(link(in_eight_bits(cut(renamed(whole, MAP, last), deeper), ranges)))
        _require_equal(chain, features[len(chain) - 1], images[0])
    return chain


def _require_equal(
    chain: Sequence[onnx.ModelProto], whole: onnx.ModelProto, image: npt.NDArray[np.float32]
) -> None:
    """Raise UnsupportedModel where a chain gives another map of `image` than `whole` gives."""
    found = image
    for model in chain:
        found = _run(model, found)
    if not np.array_equal(found, _run(whole, image)):
        raise UnsupportedModel(
            f"the frozen layers in 8 bits give other numbers in {len(chain)} files than in one, so "
            "they can't be stored once; export a bundle for each number of --blocks, or take "
            "--prefix float32"
        )


def _run(model: onnx.ModelProto, given: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: npt.NDArray[np.float32]
    (found,) = session.run(None, {session.get_inputs()[0].name: given})
    return found


def _first_state(parts: Parts) -> dict[str, npt.NDArray[np.float32]]:
    """The state's values before any training, for as many classes as the examples have."""
    return {
        entry.name: np.ascontiguousarray(entry.value.numpy(), np.float32)
        for entry in parts.step.entries
    }
