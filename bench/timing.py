"""Times several subjects side by side, so that whatever else the machine does hits all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# Worker threads spin for a while after a call, waiting for the next one; here that is another's.
SETTLE_SECONDS = 0.05


@dataclass(frozen=True)
class Timing:
    """Seconds of one call in every round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def times_faster_than(self, other: Timing) -> float:
        """The median of the ratios within a round: both saw the same machine then."""
        pairs = zip(other.seconds, self.seconds, strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)


def side_by_side(subjects: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    """Run every subject in every round: once to warm its caches, once timed."""
    seconds: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, call in subjects.items():
            time.sleep(SETTLE_SECONDS)
            call()
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}
