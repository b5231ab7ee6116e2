"""Times and peaks of the cases: sessions that take turns, then a real process for each."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.cost.cases import FORMS, Case, Plan
from bench.eager import LR
from bench.processes import board_memory
from bench.speed import CLASSES, STEP, THREADS
from bench.timing import side_by_side
from mobiletl.core.errors import UnsupportedModel
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.session import Session
from mobiletl.export.parts import Request
from mobiletl.export.writing.export_bundle import export_bundle
from runtime_tests.support.board.numbered_frames import jpeg

FROZEN = "frozen layers"
# Of the pictures that processes train on: what a plain camera gives. Noise has no faster pixels.
PICTURE, CLASS_NAMES, VALIDATION = (480, 640, 3), ("a", "b"), 4
# Pictures that one timed call maps, whatever the batch is: one alone is over in a few ms.
MAPPED = 8


@dataclass(frozen=True)
class Cost:
    """One case in one form: times of a picture in ms, peaks of the whole process in bytes."""

    sweep: str
    form: str
    case: Case
    step_ms: float
    frozen_ms: float
    measured_bytes: int
    planned_bytes: int


class Costs:
    """Measures sweep by sweep; a bundle or process that several sweeps share is made once."""

    def __init__(self, plan: Plan, scratch: Path) -> None:
        """`scratch` is an empty folder that holds everything written on the way."""
        self._plan, self._scratch = plan, scratch
        self._pictures = _write_pictures(scratch / "pictures", plan.most_pictures)
        self._bundles: dict[tuple[str, int, int], Bundle | None] = {}
        self._peaks: dict[tuple[str, Case], tuple[int, int]] = {}
        self.left_out: list[str] = []
        """What could not be exported, one line each with the reason."""

    def measure(self, sweep: str) -> list[Cost]:
        """The costs of every case that exists, form by form."""
        found = {
            (form, case): bundle
            for form, case in itertools.product(FORMS, self._plan.cases(sweep))
            if (bundle := self._bundle(form, case)) is not None
        }
        times = _times(found, self._plan.rounds)
        costs = []
        for (form, case), bundle in found.items():
            measured, planned = self._peak(form, case, bundle)
            costs.append(Cost(sweep, form, case, *times[form, case], measured, planned))
        return costs

    def _bundle(self, form: str, case: Case) -> Bundle | None:
        """None where the exporter has no such form; the reason is noted once."""
        key = (form, case.blocks, case.resolution)
        if key not in self._bundles:
            self._bundles[key] = self._exported(form, case)
        return self._bundles[key]

    def _exported(self, form: str, case: Case) -> Bundle | None:
        request = Request(
            self._plan.model,
            self._plan.weights,
            "mobiletl",
            case.blocks,
            case.resolution,
            "sgd",
            self._scratch / f"{form}-{case.blocks}-{case.resolution}",
            step=FORMS[form],
        )
        try:
            return open_bundle(export_bundle(request))
        except UnsupportedModel as reason:
            where = f"{form}, blocks {case.blocks}, {case.resolution} px"
            self.left_out.append(f"{where}: {' '.join(str(reason).split())}")
            return None

    def _peak(self, form: str, case: Case, bundle: Bundle) -> tuple[int, int]:
        """(measured, planned) bytes of one epoch in a process of its own."""
        if (form, case) not in self._peaks:
            run = self._scratch / "runs" / str(len(self._peaks))
            self._peaks[form, case] = board_memory(
                bundle.path, self._pictures, run, batch=case.batch
            )
        return self._peaks[form, case]


def _times(
    found: dict[tuple[str, Case], Bundle], rounds: int
) -> dict[tuple[str, Case], tuple[float, float]]:
    """ms of a picture in the step and in the frozen layers; all cases take turns in a round."""
    with ExitStack() as opened:
        subjects: dict[str, Callable[[], object]] = {}
        for (form, case), bundle in found.items():
            state = bundle.initial_state(CLASSES, 0)
            session = opened.enter_context(open_session(bundle, CLASSES, state, THREADS))
            for part, call in _parts(session, case).items():
                subjects[f"{form}, {case}: {part}"] = call
        timings = side_by_side(subjects, rounds)
    return {
        (form, case): (
            1e3 * timings[f"{form}, {case}: {STEP}"].median / case.batch,
            1e3 * timings[f"{form}, {case}: {FROZEN}"].median / MAPPED,
        )
        for form, case in found
    }


def _parts(session: Session, case: Case) -> dict[str, Callable[[], object]]:
    """The step on maps of noise, and the frozen layers one picture at a time, as by default."""
    noise = np.random.default_rng(0)
    shape = (max(case.batch, MAPPED), 3, case.resolution, case.resolution)
    images = noise.standard_normal(shape, np.float32)
    labels = noise.integers(0, CLASSES, case.batch)
    maps = list(_maps(session, images))
    h = np.concatenate(maps[: case.batch])
    few = images[:MAPPED]
    return {
        STEP: lambda: session.train_step(h, labels, LR),
        FROZEN: lambda: list(_maps(session, few)),
    }


def _maps(session: Session, images: np.ndarray) -> Iterator[np.ndarray]:
    for row in range(len(images)):
        yield session.features(images[row : row + 1])


def _write_pictures(root: Path, most: int) -> Path:
    """JPEGs of noise: as many to train on as the largest batch has, and a few to validate on."""
    noise = np.random.default_rng(0)
    each = -(-most // len(CLASS_NAMES))
    for part, count in (("train", each), ("val", VALIDATION)):
        for name in CLASS_NAMES:
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = noise.integers(0, 256, PICTURE, np.uint8)
                (folder / f"{index:02}.jpg").write_bytes(jpeg(pixels))
    return root
