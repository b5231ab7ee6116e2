"""Frames from the camera to the announced answer against the network alone, in paired rounds."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mobiletl.device.bundle.arrays import Floats, Pixels
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.pictures.dataset import files_below
from mobiletl.device.prediction.ahead import FramesAhead
from mobiletl.device.prediction.live import Ends, Live
from mobiletl.device.prediction.looking import AT_ONCE, Looks, OneAtATime, TwoAtOnce
from mobiletl.device.prediction.predictor import Predictor, open_predictor
from mobiletl.device.prediction.smoothing import Smoother

FRAMES, WARM = 60, 5
# What a camera gives as a rule.
WIDTH, HEIGHT = 640, 480
PICTURES = 30


class Ready:
    """A camera whose frames are there already: pixels in memory."""

    name = "ready frames"

    def __init__(self, pictures: list[Pixels]) -> None:
        self._pictures, self._count = pictures, 0

    def read(self) -> Frame:
        self._count += 1
        return Frame(self.name, self._pictures[self._count % len(self._pictures)], time.time())


class Files:
    """A camera that decodes a JPEG of its size for each frame, as USB cameras send them."""

    name = "JPEG frames"

    def __init__(self, encoded: list[bytes]) -> None:
        self._encoded, self._count = encoded, 0

    def read(self) -> Frame:
        self._count += 1
        content = self._encoded[self._count % len(self._encoded)]
        return Frame(self.name, np.asarray(Frame(self.name, content).decode(HEIGHT)), time.time())


@dataclass(frozen=True)
class Cost:
    """Of one frame, in seconds."""

    wall: float
    processor: float
    """Of all threads together; on more than one it holds the time that they spin, too."""


def speed(bundle: Path, state: Path, data: Path, threads: int, rounds: int) -> Iterator[str]:
    """Yield a line for each way to feed the network."""
    pictures, encoded = _pictures(data)
    with ExitStack() as opened:
        predictor = opened.enter_context(open_predictor(bundle, state, threads))
        pair = opened.enter_context(open_predictor(bundle, state, threads, at_once=AT_ONCE))
        side = predictor.input.resolution
        image = np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)
        ways: dict[str, Callable[[], Cost]] = {
            "ready frames": lambda: _live(predictor, Ready(pictures), False),
            "JPEG frames": lambda: _live(predictor, Files(encoded), False),
            "ready frames, one ahead": lambda: _live(predictor, Ready(pictures), True),
            "JPEG frames, one ahead": lambda: _live(predictor, Files(encoded), True),
        }
        if pair.at_once == AT_ONCE:
            ways["ready frames, two at once"] = lambda: _live(pair, Ready(pictures), False)
            ways["JPEG frames, two at once"] = lambda: _live(pair, Files(encoded), False)
        costs: dict[str, list[Cost]] = {name: [] for name in ways}
        alone: dict[str, list[Cost]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                before = _network(predictor, image)
                costs[name].append(way())
                after = _network(predictor, image)
                # Both sides of it, so that a machine that slows down counts for neither.
                alone[name].append(
                    Cost((before.wall + after.wall) / 2, (before.processor + after.processor) / 2)
                )
    network = [cost for name in ways for cost in alone[name]]
    yield f"network alone, {threads} threads: {_milliseconds(network)}"
    for name in ways:
        walls = [c.wall / a.wall for c, a in zip(costs[name], alone[name], strict=True)]
        work = [c.processor / a.processor for c, a in zip(costs[name], alone[name], strict=True)]
        ratio = statistics.median(walls)
        low, _, high = statistics.quantiles(walls, n=4)
        yield (
            f"{name}: {_milliseconds(costs[name])}; {ratio:.3f} x the network alone (quartiles "
            f"{low:.3f} to {high:.3f}), {1 - 1 / ratio:.1%} of a frame's time is not the network; "
            f"{statistics.median(work):.3f} x its processor time"
        )


def _milliseconds(costs: list[Cost]) -> str:
    wall, processor = (
        1e3 * statistics.median(values)
        for values in ([c.wall for c in costs], [c.processor for c in costs])
    )
    return f"{wall:.2f} ms a frame, {processor:.2f} ms of processor time"


@contextmanager
def _timed(costs: list[Cost]) -> Iterator[None]:
    wall, processor = time.perf_counter(), time.process_time()
    yield
    costs.append(
        Cost((time.perf_counter() - wall) / FRAMES, (time.process_time() - processor) / FRAMES)
    )


def _pictures(data: Path) -> tuple[list[Pixels], list[bytes]]:
    """Real pictures at a camera's size, as pixels and as JPEG."""
    pixels, encoded = [], []
    for path in files_below(data)[:PICTURES]:
        with Image.open(path) as picture:
            frame = picture.convert("RGB").resize((WIDTH, HEIGHT))
        kept = io.BytesIO()
        frame.save(kept, "JPEG", quality=85)
        encoded.append(kept.getvalue())
        pixels.append(np.asarray(frame))
    return pixels, encoded


def _network(predictor: Predictor, image: Floats) -> Cost:
    costs: list[Cost] = []
    predictor.look(image)
    with _timed(costs):
        for _ in range(FRAMES):
            predictor.look(image)
    return costs[0]


def _live(predictor: Predictor, camera: Ready | Files, ahead: bool) -> Cost:
    costs: list[Cost] = []
    live = Live(predictor, Smoother(len(predictor.class_names)), [])
    with _looks(predictor, camera, ahead) as frames:
        live.run(frames, Ends(frames=WARM), lambda: False)
        with _timed(costs):
            live.run(frames, Ends(frames=WARM + FRAMES), lambda: False)
    return costs[0]


def _looks(predictor: Predictor, camera: Ready | Files, ahead: bool) -> Looks:
    if predictor.at_once == AT_ONCE:
        return TwoAtOnce(camera, predictor)
    return OneAtATime(FramesAhead(camera, predictor.input, ahead), predictor)
