"""Flower's strategies by name: how the parameters of many boards become those of the next round.

To add one: a row. What is Flower's is documented there; what a row adds is which of a plan's
settings it takes, and what becomes of norms' statistics. These are no weights: a step of Adam
along their differences would make variances negative, so they are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from mobiletl.fleet.plan import Plan


@dataclass(frozen=True)
class Row:
    """One strategy; `kind` is the class in `flwr.serverapp.strategy`."""

    name: str
    kind: str
    summary: str
    settings: Callable[[Plan], Mapping[str, Any]] = lambda plan: {}
    averages_statistics: bool = False
    needs_each: bool = False
    """Whether it compares boards with each other, and so cannot go by their sum."""


TABLE = (
    Row("fedavg", "FedAvg", "the mean, weighted by pictures"),
    Row(
        "fedprox",
        "FedProx",
        "the same; boards are held near the round's parameters by --proximal",
        lambda plan: {"proximal_mu": plan.proximal},
    ),
    Row(
        "fedadam",
        "FedAdam",
        "Adam on the server, with --server-lr",
        lambda plan: {"eta": plan.server_lr},
        averages_statistics=True,
    ),
    Row(
        "median",
        "FedMedian",
        "the median of each number: a broken board is outvoted",
        needs_each=True,
    ),
    Row(
        "krum",
        "MultiKrum",
        "the mean of those nearest to each other: --broken boards are left out",
        lambda plan: {
            "num_malicious_nodes": plan.broken,
            "num_nodes_to_select": max(plan.boards - plan.broken, 1),
        },
        needs_each=True,
    ),
)
NAMES = tuple(row.name for row in TABLE)


def row_of(name: str) -> Row:
    """Return the row of a strategy, whose name has been checked."""
    return next(row for row in TABLE if row.name == name)


def strategy_of(plan: Plan) -> Any:
    """Make Flower's strategy for a plan."""
    from flwr.serverapp import strategy

    row = row_of(plan.strategy)
    kind = getattr(strategy, row.kind)
    least = max(plan.boards, 1)
    return kind(
        fraction_train=plan.share,
        fraction_evaluate=plan.share if plan.evaluate else 0.0,
        min_train_nodes=max(int(least * plan.share), 1),
        min_evaluate_nodes=max(int(least * plan.share), 1),
        min_available_nodes=least,
        **row.settings(plan),
    )
