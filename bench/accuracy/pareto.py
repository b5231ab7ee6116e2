"""The Pareto front: what nothing else beats in both respects."""

from __future__ import annotations

from collections.abc import Sequence


def on_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (cost, gain) whether no other costs at most as much, gains at least as much, and is
    better in one of them. Equal points share their place.
    """
    return [
        not any(
            cost <= own_cost and gain >= own_gain and (cost, gain) != (own_cost, own_gain)
            for cost, gain in points
        )
        for own_cost, own_gain in points
    ]
