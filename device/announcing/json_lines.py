"""Live answers for another program: a line of JSON each. docs/live.md is the schema."""

from __future__ import annotations

import json
import threading
from typing import Any, TextIO

from mobiletl.device.prediction.live import Answer, Hearer, Tally

# Raised when a reader would misunderstand the lines.
VERSION = 1


class JsonLines(Hearer):
    """Writes each change, and each answer that is `every_s` after the last line."""

    def __init__(self, stream: TextIO, every_s: float | None) -> None:
        """`every_s` of 0 writes every frame, None changes alone."""
        self._stream = stream
        self._due = Due(every_s)
        # Notes come from other threads.
        self._turn = threading.Lock()

    def hear(self, answer: Answer) -> None:
        """Write `answer`, if it is time or something new."""
        if self._due.at(answer):
            self.write("answer", answer.time_s, document(answer))

    def close(self) -> None:
        """Nothing is held."""

    def write(self, event: str, time_s: float, content: dict[str, Any]) -> None:
        """Write a line, and let the reader have it at once."""
        line = {"version": VERSION, "event": event, "time": round(time_s, 3), **content}
        with self._turn:
            self._stream.write(json.dumps(line, allow_nan=False) + "\n")
            self._stream.flush()


class Due:
    """Tells which answers are passed on: changes, and one every so many seconds."""

    def __init__(self, every_s: float | None) -> None:
        """See JsonLines."""
        self._every_s = every_s
        self._last = float("-inf")

    def at(self, answer: Answer) -> bool:
        """Whether `answer` is passed on; if so the seconds count from it."""
        passed = answer.time_s - self._last
        # A clock that is set back would silence it for as long.
        late = self._every_s is not None and (passed >= self._every_s or passed < 0)
        if not answer.changed and not late:
            return False
        self._last = answer.time_s
        return True


def document(answer: Answer) -> dict[str, Any]:
    """What JSON says of an answer."""
    verdict, names = answer.verdict, answer.class_names
    best = int(verdict.probabilities.argmax())
    return {
        "frame": answer.frame,
        "changed": answer.changed,
        "label": answer.label,
        "probability": round(answer.probability, 6),
        "unknown": answer.unknown,
        "unknown_share": round(answer.unknown_share, 6),
        "probabilities": {
            name: round(float(share), 6) for name, share in zip(names, answer.probabilities)
        },
        "frames_per_s": round(answer.frames_per_s, 2),
        "this_frame": {
            "label": names[best],
            "probability": round(float(verdict.probabilities[best]), 6),
            "unknown": verdict.unknown,
            "score": verdict.score,
            "threshold": verdict.threshold,
        },
    }


def summary(tally: Tally, unreadable: int, losses: int, dropped: int) -> dict[str, Any]:
    """What JSON says at the end; `losses` and `dropped` are the camera stream's."""
    return {
        "frames": tally.frames,
        "unreadable": unreadable,
        "dropped": dropped,
        "losses": losses,
        "changes": tally.changes,
        "seconds": round(tally.seconds, 3),
        "frames_per_s": round(tally.frames_per_s, 2),
        "network_seconds": round(tally.network_s, 3),
        "waited_seconds": round(tally.waited_s, 3),
        "other_share": round(tally.other_share, 4),
    }
