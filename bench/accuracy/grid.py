"""The whole comparison: a bundle per subject, a rate, a run per seed, one more without a cache."""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.accuracy.pictures import Pictures
from bench.accuracy.results import Key, Outcome, Results
from bench.accuracy.runs import Order, carry_out
from bench.accuracy.subjects import Subject
from mobiletl.core.errors import UnsupportedModel
from mobiletl.device.run.duration import duration
from mobiletl.export.own_file import is_own
from mobiletl.export.writing.export_bundle import Request, export_bundle
from mobiletl.export.writing.writer import created_by

RUN, SWEEP, WITHOUT_CACHE = "run", "rate", "without cache"


@dataclass(frozen=True)
class Plan:
    """What is the same for all subjects. `rates` are tried on held-out training pictures; if there
    are none, `lr` is taken, and where that is None, the subject's default.
    """

    model: str
    weights: str
    resolution: int
    optimizer: str
    lr: float | None
    rates: tuple[float, ...]
    sweep_epochs: int
    epochs: int
    seeds: int
    batch: int
    augment: bool
    threads: int
    out: Path


@dataclass(frozen=True)
class Row:
    """The runs of one subject. `cached` says whether they trained on stored feature maps."""

    subject: Subject
    lr: float
    cached: bool
    runs: tuple[Outcome, ...]
    without_cache: Outcome | None

    @property
    def accuracies(self) -> list[float]:
        """After the last epoch, one per seed."""
        return [run.accuracy for run in self.runs]

    @property
    def accuracy(self) -> float:
        """Their mean."""
        return statistics.mean(self.accuracies)

    @property
    def peak_bytes(self) -> int:
        """The most that any of its processes held; later ones find the cache built."""
        extra = [] if self.without_cache is None else [self.without_cache]
        return max(run.peak_bytes for run in [*self.runs, *extra])

    @property
    def planned_bytes(self) -> int:
        """What the bundle's manifest promises."""
        return self.runs[0].planned_bytes

    @property
    def cached_speed(self) -> float | None:
        """Pictures per second on stored feature maps."""
        return _speed(self.runs) if self.cached else None

    @property
    def live_speed(self) -> float | None:
        """Pictures per second with decoding and the frozen layers in every epoch."""
        if not self.cached:
            return _speed(self.runs)
        return None if self.without_cache is None else _speed([self.without_cache])

    @property
    def best_speed(self) -> float:
        """The faster way that was run."""
        return max(self.cached_speed or 0.0, self.live_speed or 0.0)


def _speed(runs: Iterator[Outcome] | list[Outcome] | tuple[Outcome, ...]) -> float | None:
    """The median of all their epochs; None where all diverged."""
    epochs = [speed for run in runs for speed in run.pictures_per_s]
    return statistics.median(epochs) if epochs else None


class Grid:
    """Makes the runs that are not done yet."""

    def __init__(self, plan: Plan, pictures: Pictures) -> None:
        self._plan = plan
        self._pictures = pictures
        plan.out.mkdir(parents=True, exist_ok=True)
        self._results = Results(plan.out / "results.jsonl")

    def row(self, subject: Subject) -> Row:
        """All runs of a subject. Raises UnsupportedModel where it can't be exported, and what
        `carry_out` raises.
        """
        plan = self._plan
        bundle = self._bundle(subject)
        manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
        # A method that reaches all layers has no prefix whose maps could be stored.
        cached = not plan.augment and manifest["macs"]["features"] > 0
        key = self._key(manifest, subject, cached)
        cache = plan.out / "cache" / bundle.name if cached else None
        if plan.rates:
            key = replace(key, lr=self._best_rate(subject, key, bundle, cache))
        orders = [replace(key, seed=seed) for seed in range(plan.seeds)]
        runs = [self._run(subject, k, bundle, self._pictures.all, cache) for k in orders]
        live = None
        if cached:
            short = replace(key, use=WITHOUT_CACHE, epochs=1, cached=False)
            live = self._run(subject, short, bundle, self._pictures.few, None)
        if cache is not None:
            shutil.rmtree(cache, ignore_errors=True)
        return Row(subject, key.lr, cached, tuple(runs), live)

    def _bundle(self, subject: Subject) -> Path:
        """The subject's bundle, exported unless it is there."""
        plan = self._plan
        request = Request(
            model=plan.model,
            weights=plan.weights,
            method=subject.method.name,
            blocks=subject.blocks,
            resolution=plan.resolution,
            optimizer=plan.optimizer,
            out=Path(),
        )
        content = {"model": _content(plan.model), "weights": _content(plan.weights)}
        facts = {**asdict(request), **content, "by": created_by()}
        digest = hashlib.sha256(repr(sorted(facts.items())).encode()).hexdigest()[:8]
        name = str(subject).replace(":", "-")
        out = plan.out / "bundles" / f"{name}-{plan.resolution}px-{digest}"
        if not (out / "manifest.json").is_file():
            _say(f"{subject}: exporting")
            export_bundle(replace(request, out=out))
        return out

    def _key(self, manifest: dict[str, Any], subject: Subject, cached: bool) -> Key:
        plan = self._plan
        return Key(
            use=RUN,
            bundle=manifest["id"],
            pictures=self._pictures.fingerprint,
            seed=0,
            epochs=plan.epochs,
            batch=plan.batch,
            lr=plan.lr or subject.default_rate(plan.optimizer),
            augment=plan.augment,
            cached=cached,
            threads=plan.threads,
            runtime_release=version("onnxruntime"),
        )

    def _best_rate(self, subject: Subject, key: Key, bundle: Path, cache: Path | None) -> float:
        """The rate that scores best on held-out training pictures; the lower one of equals.

        Pictures that the comparison is scored on are not looked at.
        """
        ranks = {}
        for rate in self._plan.rates:
            trial = replace(key, use=SWEEP, lr=rate, epochs=self._plan.sweep_epochs)
            ranks[rate] = self._run(subject, trial, bundle, self._pictures.training, cache).rank
        return max(sorted(ranks), key=lambda rate: ranks[rate])

    def _run(
        self, subject: Subject, key: Key, bundle: Path, pictures: Path, cache: Path | None
    ) -> Outcome:
        found = self._results.find(key)
        if found is not None:
            return found
        folder = self._plan.out / "runs" / f"{bundle.name}-{key.use.replace(' ', '-')}-{key.digest}"
        outcome = carry_out(Order(key, bundle, pictures, folder, cache))
        self._results.add(key, outcome)
        # What is left of it is in the results; the states of a hundred runs are gigabytes.
        shutil.rmtree(folder, ignore_errors=True)
        _say(_line(subject, key, outcome))
        return outcome


def compare(
    plan: Plan, subjects: tuple[Subject, ...], pictures: Pictures, skip_unsupported: bool
) -> tuple[list[Row], list[str]]:
    """(rows, reasons of those left out), in the order of `subjects`.

    `skip_unsupported` leaves a method out that this network can't be exported with; else that is
    an error.
    """
    grid = Grid(plan, pictures)
    rows, left_out = [], []
    for subject in subjects:
        try:
            rows.append(grid.row(subject))
        except UnsupportedModel as error:
            if not skip_unsupported:
                raise
            left_out.append(f"{subject}: {error}")
    return rows, left_out


def _content(source: str) -> str:
    """Weights, or a network of one's own, by content: a file that changes is another one."""
    name, _, function = source.rpartition(":") if is_own(source) else (source, "", "")
    path = Path(name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else name
    return f"{digest}:{function}" if function else digest


def _line(subject: Subject, key: Key, outcome: Outcome) -> str:
    what = f"{subject} {key.use} seed {key.seed} lr {key.lr:g}"
    if outcome.diverged:
        return f"{what}: diverged"
    return (
        f"{what}: {outcome.accuracy:.1%} after {key.epochs} epochs, "
        f"{_speed([outcome]):.1f} pictures/s, peak {outcome.peak_bytes / 1e6:.0f} MB, "
        f"{duration(outcome.seconds)}"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
