"""The end of a run in words and as JSON: before and after, memory, skipped files, what is next."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Sequence, TextIO

from mobiletl.device.bundle.answers import Answers
from mobiletl.device.memory.plan import table
from mobiletl.device.neighbour.changes import Stay
from mobiletl.device.pictures.dataset import Skipped
from mobiletl.device.printable import aligned, printable
from mobiletl.device.run.checkpoints import RunFolder
from mobiletl.device.run.duration import duration
from mobiletl.device.run.evaluation import Score
from mobiletl.device.run.events import (
    FINISHED,
    Ended,
    Event,
    Started,
    class_pictures,
    written,
)
from mobiletl.device.run.listener import Listener

CLASS_LIMIT = 20
SKIPPED_LIMIT = 5


class Report(Listener):
    """Writes to `stream` once a run has finished; a stopped or failed one has an error to tell.

    `predict` and `review` make the commands to paste next of the run's start.
    """

    def __init__(
        self,
        stream: TextIO,
        predict: Callable[[Started], str],
        as_json: bool = False,
        review: Callable[[Started], str] | None = None,
    ) -> None:
        """Write nothing yet."""
        self._stream = stream
        self._predict = predict
        self._review = review
        self._as_json = as_json
        self._started: Started | None = None

    def hear(self, event: Event) -> None:
        """Remember the start, and report at the end."""
        if isinstance(event, Started):
            self._started = event
        elif isinstance(event, Ended) and event.outcome == FINISHED and self._started is not None:
            self._write(self._started, event)

    def _write(self, started: Started, ended: Ended) -> None:
        predict = self._predict(started)
        review = "" if self._review is None else self._review(started)
        if self._as_json:
            document = report_json(started, ended, predict)
            text = json.dumps({**document, "review": review} if review else document)
        else:
            lines = report_text(started, ended, predict).splitlines()
            # Before the last block, which has two lines.
            lines[-2:-2] = ["see what it gets wrong with", f"  {review}", ""] if review else []
            text = "\n".join(printable(line, self._stream.encoding) for line in lines)
        self._stream.write(f"{text}\n")
        self._stream.flush()


def report_text(started: Started, ended: Ended, predict_command: str) -> str:
    """Return what a person reads."""
    folder = RunFolder(Path(started.run))
    blocks = [
        "\n".join(_accuracy_lines(started, ended)),
        answers_line(ended.answers),
        table(started.plan, ended.measured_peak_bytes),
        "\n".join(skipped_lines(ended.skipped, folder)),
        "\n".join(_file_lines(folder)),
        "\n".join(filter(None, (written_line(ended), stay_line(ended.stay)))),
        f"{duration(ended.seconds)} in all; name a picture with\n  {predict_command}",
    ]
    return "\n\n".join(block for block in blocks if block)


def report_json(started: Started, ended: Ended, predict_command: str) -> dict[str, Any]:
    """Return the same for a program; accuracies are shares, bytes are bytes."""
    position, folder, dataset = ended.position, RunFolder(Path(started.run)), started.dataset
    best = position.best
    return {
        "bundle": started.bundle,
        "bundle_id": started.bundle_id,
        "run": started.run,
        "state": str(folder.best),
        "last": str(folder.last),
        "metrics": str(folder.metrics),
        "events": str(folder.events),
        "plot": str(folder.plot),
        "classes": list(dataset.class_names),
        "pictures": {"train": len(dataset.train), "val": len(dataset.val)},
        "class_pictures": class_pictures(dataset),
        "layout": dataset.layout,
        "settings": dict(started.settings),
        "steps": position.step,
        "rate_cuts": position.cuts,
        "before": _score(position.before),
        "best": {"epoch": best.epoch if best else None, **_score(best.score if best else None)},
        "last_epoch": {"epoch": position.epoch, **_score(position.latest)},
        "kept": None if ended.kept is None else dict(ended.kept),
        "memory": {
            "plan": [asdict(row) for row in started.plan.rows],
            "planned_bytes": started.plan.total_bytes,
            "measured_peak_bytes": ended.measured_peak_bytes,
        },
        "answers": None if ended.answers is None else ended.answers.document(),
        "skipped": [asdict(entry) for entry in ended.skipped],
        "notes": list(dataset.notes),
        "seconds": ended.seconds,
        "written": written(ended.wear, ended.seconds),
        **ended.stay.document(),
        "predict": predict_command,
    }


def _score(score: Score | None) -> dict[str, Any]:
    if score is None:
        return {"accuracy": None, "loss": None, "class_correct": None, "class_seen": None}
    return {"accuracy": score.accuracy, **asdict(score)}


def _accuracy_lines(started: Started, ended: Ended) -> list[str]:
    """A table of the validation pictures: all of them, then class by class."""
    position = ended.position
    columns: list[tuple[str, Score]] = []
    if position.before:
        columns.append(("before", position.before))
    if position.best:
        columns.append((f"best (epoch {position.best.epoch})", position.best.score))
    if position.latest:
        columns.append((f"last (epoch {position.epoch})", position.latest))
    if ended.kept is not None:
        counts = (tuple(ended.kept[name]) for name in ("class_correct", "class_seen"))
        columns.append((f"kept ({ended.kept['what']})", Score(ended.kept["loss"], *counts)))
    scores = [score for _, score in columns]
    rows = [
        ("validation", *(name for name, _ in columns), "pictures"),
        ("loss", *(f"{score.loss:.3f}" for score in scores), ""),
        ("accuracy", *(f"{score.accuracy:.1%}" for score in scores), _seen(scores)),
    ]
    names = started.dataset.class_names
    if len(names) <= CLASS_LIMIT:
        for label, name in enumerate(names):
            shares = [
                _share(score.class_correct[label], score.class_seen[label]) for score in scores
            ]
            rows.append((f"  {printable(name)}", *shares, _seen(scores, label)))
    return aligned(rows, right=range(1, len(columns) + 2))


def answers_line(answers: Answers | None) -> str:
    """Say what predictions are worth; nothing where nothing is known."""
    if answers is None:
        return ""
    off = f"probabilities are {answers.calibration_error:.1%} off on average"
    if answers.chance_error is not None:
        off += f"; of so few, true ones would be {answers.chance_error:.1%} off"
    unknown = answers.unknown
    if unknown is None:
        answered = "too few to tell unknown pictures by"
    else:
        answered = f"{unknown.accepted:.1%} get an answer, the others count as unknown"
    return f"of {answers.pictures} validation pictures {answered}; their {off}"


def written_line(ended: Ended) -> str:
    """Say what the run has put on the disk, and what that would make in an hour."""
    found = written(ended.wear, ended.seconds)
    return (
        f"written: {found['bytes'] / 1e6:.1f} MB, {found['fsyncs']} fsyncs; at this rate "
        f"{found['bytes_per_hour'] / 1e6:.0f} MB and {found['fsyncs_per_hour']} fsyncs an hour"
    )


def stay_line(stay: Stay) -> str:
    """Say what limits of the machine have cost; nothing where there were none."""
    parts = [f"paused for {duration(stay.paused_s)}"] * bool(stay.paused_s)
    if stay.highest_c is not None:
        parts.append(f"the processor had {stay.highest_c:.0f} degrees C at most")
    if stay.reported:
        parts.append(f"the firmware reported: {', '.join(stay.reported)}")
    return "; ".join(parts)


def _share(correct: int, seen: int) -> str:
    return f"{correct / seen:.1%}" if seen else "-"


def _seen(scores: list[Score], label: int | None = None) -> str:
    """Pictures the last score saw, of one class or of all."""
    if not scores:
        return "0"
    counts = scores[-1].class_seen
    return str(sum(counts) if label is None else counts[label])


def skipped_lines(entries: Sequence[Skipped], folder: RunFolder) -> list[str]:
    """Say how many files were left out, and the first few of them."""
    if not entries:
        return []
    place = printable(str(folder.skipped))
    lines = [f"skipped {len(entries)} file{'s' if len(entries) > 1 else ''}, listed in {place}"]
    lines += [
        f"  {printable(entry.path)}: {printable(entry.reason)}" for entry in entries[:SKIPPED_LIMIT]
    ]
    if len(entries) > SKIPPED_LIMIT:
        lines.append(f"  and {len(entries) - SKIPPED_LIMIT} more")
    return lines


def _file_lines(folder: RunFolder) -> list[str]:
    rows = [
        ("best state", printable(str(folder.best))),
        ("last state", printable(str(folder.last))),
        ("metrics", printable(str(folder.metrics))),
        ("plot", printable(str(folder.plot))),
    ]
    return aligned(rows)
