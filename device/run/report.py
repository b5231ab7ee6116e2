"""The end of a run in words and as JSON: before and after, memory, skipped files, what is next."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mobiletl.device.memory import plan as memory
from mobiletl.device.printable import aligned, printable
from mobiletl.device.run.evaluation import Score
from mobiletl.device.run.progress import duration
from mobiletl.device.run.training import Outcome

CLASS_LIMIT = 20
SKIPPED_LIMIT = 5


def report_text(outcome: Outcome, peak_bytes: int, predict_command: str) -> str:
    """Return what a person reads; `peak_bytes` is the measured peak of this process."""
    blocks = [
        "\n".join(_accuracy_lines(outcome)),
        memory.table(outcome.plan, peak_bytes),
        "\n".join(_skipped_lines(outcome)),
        "\n".join(_file_lines(outcome)),
        f"{duration(outcome.seconds)} in all; name a picture with\n  {predict_command}",
    ]
    return "\n\n".join(block for block in blocks if block)


def report_json(outcome: Outcome, peak_bytes: int, predict_command: str) -> dict[str, Any]:
    """Return the same for a program; accuracies are shares, bytes are bytes."""
    position, folder = outcome.position, outcome.folder
    best = position.best
    return {
        "bundle": str(outcome.bundle.path),
        "bundle_id": outcome.bundle.manifest.id,
        "run": str(folder.path),
        "state": str(folder.best),
        "last": str(folder.last),
        "metrics": str(folder.metrics),
        "plot": str(folder.plot),
        "classes": list(outcome.dataset.class_names),
        "pictures": {"train": len(outcome.dataset.train), "val": len(outcome.dataset.val)},
        "settings": asdict(outcome.settings),
        "steps": position.step,
        "before": _score(position.before),
        "best": {"epoch": best.epoch if best else None, **_score(best.score if best else None)},
        "last_epoch": {"epoch": position.epoch, **_score(position.latest)},
        "memory": {
            "plan": [asdict(row) for row in outcome.plan.rows],
            "planned_bytes": outcome.plan.total_bytes,
            "measured_peak_bytes": peak_bytes,
        },
        "skipped": [asdict(entry) for entry in outcome.skipped.entries()],
        "notes": list(outcome.dataset.notes),
        "seconds": outcome.seconds,
        "predict": predict_command,
    }


def _score(score: Score | None) -> dict[str, Any]:
    if score is None:
        return {"accuracy": None, "loss": None, "class_correct": None, "class_seen": None}
    return {"accuracy": score.accuracy, **asdict(score)}


def _accuracy_lines(outcome: Outcome) -> list[str]:
    """A table of the validation pictures: all of them, then class by class."""
    position = outcome.position
    columns: list[tuple[str, Score]] = []
    if position.before:
        columns.append(("before", position.before))
    if position.best:
        columns.append((f"best (epoch {position.best.epoch})", position.best.score))
    if position.latest:
        columns.append((f"last (epoch {position.epoch})", position.latest))
    scores = [score for _, score in columns]
    rows = [
        ("validation", *(name for name, _ in columns), "pictures"),
        ("loss", *(f"{score.loss:.3f}" for score in scores), ""),
        ("accuracy", *(f"{score.accuracy:.1%}" for score in scores), _seen(scores)),
    ]
    names = outcome.dataset.class_names
    if len(names) <= CLASS_LIMIT:
        for label, name in enumerate(names):
            shares = [
                _share(score.class_correct[label], score.class_seen[label]) for score in scores
            ]
            rows.append((f"  {printable(name)}", *shares, _seen(scores, label)))
    return aligned(rows, right=range(1, len(columns) + 2))


def _share(correct: int, seen: int) -> str:
    return f"{correct / seen:.1%}" if seen else "-"


def _seen(scores: list[Score], label: int | None = None) -> str:
    """Pictures the last score saw, of one class or of all."""
    if not scores:
        return "0"
    counts = scores[-1].class_seen
    return str(sum(counts) if label is None else counts[label])


def _skipped_lines(outcome: Outcome) -> list[str]:
    entries = outcome.skipped.entries()
    if not entries:
        return []
    place = printable(str(outcome.folder.skipped))
    lines = [f"skipped {len(entries)} file{'s' if len(entries) > 1 else ''}, listed in {place}"]
    lines += [
        f"  {printable(entry.path)}: {printable(entry.reason)}" for entry in entries[:SKIPPED_LIMIT]
    ]
    if len(entries) > SKIPPED_LIMIT:
        lines.append(f"  and {len(entries) - SKIPPED_LIMIT} more")
    return lines


def _file_lines(outcome: Outcome) -> list[str]:
    folder = outcome.folder
    rows = [
        ("best state", printable(str(folder.best))),
        ("last state", printable(str(folder.last))),
        ("metrics", printable(str(folder.metrics))),
        ("plot", printable(str(folder.plot))),
    ]
    return aligned(rows)
