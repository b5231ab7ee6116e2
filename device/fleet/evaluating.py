"""How good a round's parameters are on the pictures that a board holds out.

All classes of the fleet may be the answer, also those of which the board has no picture.
"""

from __future__ import annotations

import numpy as np

from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.errors import SitsOut
from mobiletl.device.features.parts import SourcePlan, open_parts
from mobiletl.device.features.views import ONLY_CENTRAL
from mobiletl.device.fleet.asked import Asked
from mobiletl.device.fleet.board import Board
from mobiletl.device.fleet.sitting_out import sits_out
from mobiletl.device.fleet.training import planned_bytes, round_pictures, with_slots
from mobiletl.device.pictures.skipped import SkippedFiles
from mobiletl.device.run.evaluation import Score, evaluate
from mobiletl.device.run.options import DEFAULTS
from mobiletl.device.run.start import Start
from mobiletl.device.sessions.runtimes import open_session


def evaluate_round(board: Board, asked: Asked, tensors: Tensors) -> Score:
    """Score the parameters `tensors` on the board's validation pictures; raises SitsOut."""
    bundle = open_bundle(board.bundle, require_signature=board.signed_by)
    manifest = bundle.manifest
    dataset = round_pictures(board, asked)
    if not dataset.val:
        raise SitsOut("it holds no picture out to evaluate on")
    why = sits_out(board, planned_bytes(asked, bundle, dataset))
    if why is not None:
        raise SitsOut(why)
    classes = len(dataset.class_names)
    start = Start(with_slots(manifest, tensors, classes), asked.class_names, "a round")
    state = start.for_classes(manifest, dataset.class_names)
    buffer = np.empty((asked.batch, *manifest.feature.shape), np.float32)
    with open_session(bundle, classes, state, board.threads) as session:
        del start, state
        source = SourcePlan(
            session, manifest, ONLY_CENTRAL, int(DEFAULTS["micro_batch"]), board.maps
        )
        with open_parts(source, dataset, SkippedFiles(dataset)) as parts:
            labels = parts.val.labels
            return evaluate(session, parts.val.source, labels, classes, buffer, _quietly)


def _quietly(done: int, total: int) -> None:
    """Nobody watches an evaluation."""
