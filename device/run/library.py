"""`mobiletl.train`: a run as one call, with its settings as keywords."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Sequence, TypedDict

from mobiletl.device.errors import UsageError
from mobiletl.device.neighbour.limits import MachineLimits
from mobiletl.device.run.limits import KNOWN, problems_of
from mobiletl.device.run.listener import Listener
from mobiletl.device.run.options import REPLAY_BYTES, SAVE_BUDGET, Former, Options, Outcome
from mobiletl.device.run.start import Start
from mobiletl.device.run.stop import StopFlag
from mobiletl.device.run.training import train as train_with

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Named(TypedDict, total=False):
    """What may be named; everything else is as `mobiletl train --help` says."""

    epochs: int
    batch: int
    lr: float
    seed: int
    augment: bool
    views: int
    val_split: float
    micro_batch: int
    runtime: str
    layout: str
    decode_memory: int
    blocks: int
    threads: int
    save_every: int
    save_budget: float | None
    max_temp: float
    max_load: float
    pause_when_busy: bool
    system_root: Path
    cache: Path
    use_cache: bool
    former: Former
    replay_bytes: int
    trust_bundle: bool
    require_signature: Path


def train(
    bundle: str | Path,
    data: str | Path,
    run: str | Path,
    *,
    resume: bool = False,
    start: Start | str | None = None,
    listeners: Sequence[Listener] = (),
    stop: StopFlag | None = None,
    **named: Unpack[Named],
) -> Outcome:
    """Fine-tune `bundle` on the picture folder `data`; states and reports go to the folder `run`.

    `resume` goes on with a stopped run in that folder. `start` is a state to begin from,
    or "random" for a classifier that is drawn instead of solved for; `former` names a run to go on
    from, with other pictures or classes, and `replay_bytes` is how much this one keeps for that.
    `trust_bundle` and `require_signature` are as in `open_bundle`.
    `listeners` hear what happens. Once `stop.request()` was called, from a listener
    or another thread, the state is saved after the step and StopRequested is raised. Raises
    MobileTLError for anything else that ends a run.
    """
    problems = [f"{name} is unknown" for name in named if name not in Named.__annotations__]
    problems += problems_of(named)
    if problems:
        raise UsageError("; ".join(problems))
    given = {name: value for name, value in named.items() if name in KNOWN}
    if isinstance(start, str):
        given["start"] = start
    cache, key = named.get("cache"), named.get("require_signature")
    options = Options(
        bundle=Path(bundle),
        data=Path(data),
        run=Path(run),
        resume=resume,
        given=given,
        use_cache=named.get("use_cache", True),
        cache=None if cache is None else Path(cache),
        threads=named.get("threads", 0),
        save_every=named.get("save_every", 200),
        save_budget=named.get("save_budget", SAVE_BUDGET),
        former=named.get("former"),
        replay_bytes=named.get("replay_bytes", REPLAY_BYTES),
        trust=named.get("trust_bundle", False),
        key=None if key is None else Path(key),
        limits=MachineLimits(
            named.get("max_temp"), named.get("max_load"), named.get("pause_when_busy", False)
        ),
        system_root=Path(named.get("system_root", "/")),
    )
    return train_with(options, listeners, stop, None if isinstance(start, str) else start)
