"""Frames from the camera to the announced answer against the network alone, in paired rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from mobiletl.device.bundle.arrays import Pixels
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.pictures.dataset import files_below
from mobiletl.device.prediction.ahead import FramesAhead
from mobiletl.device.prediction.live import Ends, Live
from mobiletl.device.prediction.predictor import Predictor, open_predictor
from mobiletl.device.prediction.smoothing import Smoother

FRAMES = 60
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


def speed(bundle: Path, state: Path, data: Path, threads: int, rounds: int) -> Iterator[str]:
    """Yield a line for each way to feed the network."""
    pictures, encoded = _pictures(data)
    with open_predictor(bundle, state, threads) as predictor:
        side = predictor.input.resolution
        image = np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)
        ways: dict[str, Callable[[], float]] = {
            "ready frames": lambda: _live(predictor, Ready(pictures)),
            "JPEG frames": lambda: _live(predictor, Files(encoded)),
            "ready frames, one after another": lambda: _in_turn(predictor, pictures),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        network: list[float] = []
        ratios: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                before = _network(predictor, image)
                taken = way()
                after = _network(predictor, image)
                network += [before, after]
                times[name].append(taken)
                # Both sides of it, so that a machine that slows down counts for neither.
                ratios[name].append(taken / ((before + after) / 2))
        yield f"network alone: {statistics.median(network) * 1e3:.2f} ms a frame"
        for name in ways:
            ratio = statistics.median(ratios[name])
            low, _, high = statistics.quantiles(ratios[name], n=4)
            yield (
                f"{name}: {statistics.median(times[name]) * 1e3:.2f} ms a frame, {ratio:.3f} x the "
                f"network alone (quartiles {low:.3f} to {high:.3f}); {1 - 1 / ratio:.1%} of a "
                "frame's time is not the network"
            )


def _pictures(data: Path) -> tuple[list[Pixels], list[bytes]]:
    """Real pictures at a camera's size, as pixels and as JPEG."""
    import io

    from PIL import Image

    pixels, encoded = [], []
    for path in files_below(data)[:PICTURES]:
        with Image.open(path) as picture:
            frame = picture.convert("RGB").resize((WIDTH, HEIGHT))
        kept = io.BytesIO()
        frame.save(kept, "JPEG", quality=85)
        encoded.append(kept.getvalue())
        pixels.append(np.asarray(frame))
    return pixels, encoded


def _network(predictor: Predictor, image: np.ndarray) -> float:
    predictor.look(image)
    began = time.perf_counter()
    for _ in range(FRAMES):
        predictor.look(image)
    return (time.perf_counter() - began) / FRAMES


def _live(predictor: Predictor, camera: Ready | Files) -> float:
    live = Live(predictor, Smoother(len(predictor.class_names)), [])
    with FramesAhead(camera, predictor.input) as frames:
        live.run(frames, Ends(frames=5), lambda: False)
        began = time.perf_counter()
        live.run(frames, Ends(frames=5 + FRAMES), lambda: False)
        return (time.perf_counter() - began) / FRAMES


def _in_turn(predictor: Predictor, pictures: list[Pixels]) -> float:
    camera = Ready(pictures)
    predictor.predict(camera.read())
    began = time.perf_counter()
    for _ in range(FRAMES):
        predictor.predict(camera.read())
    return (time.perf_counter() - began) / FRAMES
