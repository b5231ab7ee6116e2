"""Training runs that a test can stop, crash or spoil at any call of the session."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mobiletl.device.bundle import state_file
from mobiletl.device.bundle.arrays import Floats, Labels, Tensors
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.run import trainer, training
from mobiletl.device.run.expected import Timing
from mobiletl.device.run.listener import Listener
from mobiletl.device.run.metrics import MetricsFile
from mobiletl.device.run.options import Options, Outcome
from mobiletl.device.run.start import Start
from mobiletl.device.run.stop import StopFlag, StopRequested
from mobiletl.device.run.training import train
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.session import Embedded, Session, StepResult
from runtime_tests.support.board.picture_folders import write_pictures
from runtime_tests.support.board.tiny_bundle import write_tiny_bundle

# 3 classes with 9 + 7 + 5 pictures: 17 train in 3 steps of 5 and one of 2, 4 validate.
COUNTS = {"ant": 9, "bee": 7, "cat": 5}
STEPS = 4
SETTINGS = {"epochs": 3, "batch": 5, "lr": 0.3, "runtime": "fake"}
TIMES = ("pictures_per_s", "rss_bytes", "peak_bytes", "seconds")


class Watched(Session):
    """Tells the workshop about each call, and lets it change what a step returns."""

    def __init__(self, inner: Session, workshop: Workshop) -> None:
        self._inner = inner
        self._workshop = workshop
        self.calls: dict[str, int] = {}
        self.batches: list[int] = []
        self.embeddings: list[Floats] = []

    def _count(self, name: str) -> int:
        self.calls[name] = self.calls.get(name, 0) + 1
        self._workshop.on_call(name, self.calls[name])
        return self.calls[name]

    def features(self, images: Floats) -> Floats:
        self._count("features")
        return self._inner.features(images)

    def train_step(self, h: Floats, labels: Labels, lr: float) -> StepResult:
        number = self._count("train_step")
        self.batches.append(len(h))
        return self._workshop.change(number, self._inner.train_step(h, labels, lr))

    def embed(self, h: Floats) -> Embedded:
        self._count("embed")
        found = self._inner.embed(h)
        self.embeddings.append(found.embeddings)
        return found

    def state(self) -> Tensors:
        self._count("state")
        return self._inner.state()

    def load(self, state: Mapping[str, Floats]) -> None:
        self._inner.load(state)

    def close(self) -> None:
        self._inner.close()


class Workshop:
    """A bundle, pictures, and runs with a session that can be interfered with."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, graphs: bool = False) -> None:
        self.folder = folder
        self.bundle = open_bundle(write_tiny_bundle(folder / "bundle", graphs=graphs))
        self.manifest = self.bundle.manifest
        self.photos = write_pictures(folder / "photos", COUNTS)
        self.stop = StopFlag()
        self.listeners: list[Listener] = []
        self.start: Start | None = None
        self.on_call: Callable[[str, int], None] = lambda name, number: None
        self.change: Callable[[int, StepResult], StepResult] = lambda number, result: result
        self.session: Watched | None = None
        self.static_batch: int | None = None
        monkeypatch.setattr(training, "open_session", self._open)
        # Calls are counted, and those that only time a batch would count as the run's.
        monkeypatch.setattr(trainer, "time_batch", lambda *_: Timing(0.0, 0.0, 0.0))

    def _open(self, *arguments: Any) -> Session:
        self.session = Watched(open_session(*arguments), self)
        self.session.batch = self.static_batch
        return self.session

    def options(self, run: str, **given: Any) -> Options:
        return Options(
            bundle=self.folder / "bundle",
            data=self.photos,
            run=self.folder / run,
            resume=False,
            given={**SETTINGS, **given},
            threads=1,
            # After every epoch, however short: which of them are saved doesn't hang on the clock.
            save_budget=None,
        )

    def train(self, options: Options) -> Outcome:
        return train(options, self.listeners, self.stop, self.start)

    def stop_at(self, name: str, number: int) -> None:
        """Ask for a stop during the call `number` of a session's function."""

        def watch(called: str, count: int) -> None:
            if (called, count) == (name, number):
                self.stop.request()

        self.on_call = watch

    def interrupt(self, options: Options, name: str, number: int) -> None:
        self.stop = StopFlag()
        self.stop_at(name, number)
        with pytest.raises(StopRequested):
            self.train(options)
        self.stop = StopFlag()
        self.on_call = lambda name, number: None

    def files(self, run: str) -> dict[str, bytes]:
        """Return both states of a run as they lie on the disk."""
        return {
            name: (self.folder / run / name).read_bytes()
            for name in ("state.safetensors", "last.safetensors")
        }

    def metrics(self, run: str) -> list[dict[str, Any]]:
        rows = MetricsFile(self.folder / run / "metrics.jsonl").rows()
        return [{k: v for k, v in vars(row).items() if k not in TIMES} for row in rows]


def assert_same_run(workshop: Workshop, whole: str, resumed: str) -> None:
    """Compare tensors, places and metrics of two runs; only wall times may differ."""
    manifest = workshop.bundle.manifest
    for name in ("state.safetensors", "last.safetensors"):
        expected, expected_info = load_state(workshop.folder / whole / name, manifest)
        found, found_info = load_state(workshop.folder / resumed / name, manifest)
        assert list(found) == list(expected)
        for key, tensor in expected.items():
            assert found[key].tobytes() == tensor.tobytes(), key
        assert place(found_info) == place(expected_info)
    assert workshop.metrics(resumed) == workshop.metrics(whole)


def place(info: state_file.StateInfo) -> dict[str, Any]:
    values = dict(vars(info))
    values["settings"] = json.loads(json.dumps(info.settings))
    values["settings"]["position"].pop("seconds")
    return values
