"""The server of a fleet as Flower sees it: a ServerApp that goes on from its folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from mobiletl.device.bundle.manifest_files import read_manifest
from mobiletl.device.errors import MobileTLError
from mobiletl.device.fleet.asked import personal_names
from mobiletl.device.fleet.client_app import record_of
from mobiletl.fleet.folder import FAILED, FINISHED, FleetFolder
from mobiletl.fleet.guarded import Guarded, RoundRecord
from mobiletl.fleet.plan import read_plan
from mobiletl.fleet.strategies import row_of, strategy_of
from mobiletl.fleet.summed import Summed

FOLDER, STATE_KEY = "folder", "state-key"
# What Flower's strategies with a memory call it.
MEMORY = ("m_t", "v_t")

logger = logging.getLogger(__name__)

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Serve the rounds that are left, and say in the folder how it ended."""
    key = str(context.run_config.get(STATE_KEY, ""))
    folder = FleetFolder(Path(str(context.run_config[FOLDER])), Path(key) if key else None)
    try:
        serve_rounds(grid, folder)
    except MobileTLError as error:
        folder.end(FAILED, str(error))
        raise
    # Whatever it is: who waits for the fleet has to hear of it.
    except Exception as error:
        folder.end(FAILED, f"{type(error).__name__}: {error}")
        raise
    folder.end(FINISHED)


def serve_rounds(grid: Grid, folder: FleetFolder) -> None:
    """Go on from the folder's state to the plan's last round."""
    plan = read_plan(folder.path)
    manifest = read_manifest(plan.bundle)
    tensors, info = folder.load(manifest)
    done, row = info.epoch, row_of(plan.strategy)
    inner = strategy_of(plan)
    remember(inner, folder.load_strategy(done))
    strategy = Guarded(inner, plan, manifest, done, row.averages_statistics)

    def save(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        if server_round:
            number = done + server_round
            _keep_best(folder, strategy.record)
            # The strategy's memory first: it names the round, and counts with that state alone.
            folder.save_strategy(memory_of(inner), number)
            now = {name: array.numpy() for name, array in arrays.items()}
            folder.save(manifest, plan.class_names, now, number)
            folder.add_round(strategy.record.document())
        return None

    if plan.secagg:
        grid = Summed(grid, personal_names(manifest, plan.personal))
    if done < plan.rounds:
        strategy.start(
            grid=grid,
            initial_arrays=record_of(tensors),
            num_rounds=plan.rounds - done,
            timeout=plan.round_seconds,
            evaluate_fn=save,
        )


def _keep_best(folder: FleetFolder, record: RoundRecord) -> None:
    """Keep the state that the round `record` began with, if boards found none better so far."""
    accuracy, best = record.figures.get("accuracy-before"), folder.best_round()
    if accuracy is not None and (best is None or accuracy > best[1]):
        folder.keep_best(record.number - 1)


def memory_of(strategy: Any) -> dict[str, Any]:
    """Return the arrays that a strategy keeps from round to round, by name."""
    return {
        f"{kind}/{name}": array
        for kind in MEMORY
        for name, array in (getattr(strategy, kind, None) or {}).items()
    }


def remember(strategy: Any, arrays: dict[str, Any]) -> None:
    """Give a strategy back what `memory_of` has returned."""
    for kind in MEMORY:
        mine = {
            name.split("/", 1)[1]: array
            for name, array in arrays.items()
            if name.startswith(f"{kind}/")
        }
        if mine:
            setattr(strategy, kind, mine)
