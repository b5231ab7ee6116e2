"""What is asked for, and what the exporter makes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mobiletl.core.backbones import Backbone
from mobiletl.core.methods import Method
from mobiletl.core.saved import Saved
from mobiletl.core.step import TrainingStep
from mobiletl.core.transfer import Transfer


@dataclass(frozen=True)
class Request:
    """What a person asked for. `blocks` None takes the method's default.

    `batch` and `classes` bind the runtimes that take one N and one K only. `whole_graph` puts the
    frozen prefix into the graphs of onnxruntime-training. `saved` names a policy of what the
    backward pass keeps (core/saved/), None the method's own. `force`
    lets a bundle at `out` be replaced.
    """

    model: str
    weights: str
    method: str
    blocks: int | None
    resolution: int
    optimizer: str
    out: Path
    runtimes: tuple[str, ...] = ("onnxruntime",)
    batch: int = 8
    classes: int = 10
    whole_graph: bool = False
    saved: str | None = None
    force: bool = False
    ema: bool = False
    """Take the moving average that a checkpoint has beside its weights."""
    prefix: str = "float32"
    """In which numbers the frozen layers compute: one of `export/prefix`'s PREFIXES."""
    calibrate: Path | None = None
    """Pictures that a prefix in 8 bits is calibrated on."""
    step: str = "float32"
    """In which numbers the training step multiplies: one of `core/integer`'s STEPS, or AUTO."""
    levels: tuple[int, ...] = ()
    """Fewer blocks than `blocks`, which the same bundle may be trained at, too."""

    def of_each_level(self) -> list[Request]:
        """A request for each level alone, the deepest first."""
        depths = sorted(self.levels, reverse=True)
        alone = replace(self, levels=())
        return [alone, *(replace(alone, blocks=blocks) for blocks in depths)]


@dataclass(frozen=True)
class Parts:
    """The request made real: what the graphs and the manifest are written from."""

    request: Request
    backbone: Backbone
    method: Method
    saved: Saved
    transfer: Transfer
    step: TrainingStep
    training: TrainingStep
    """What the training step is traced from: `step`, or the same on bytes, with the same state."""
    feature_shape: tuple[int, int, int]
