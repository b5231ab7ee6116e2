"""The trained network, and what a program has to know to use it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mobiletl.core.errors import UnsupportedModel
from mobiletl.core.transfer import TransferTop
from mobiletl.device.bundle.answers import Answers
from mobiletl.device.bundle.finished_facts import finished_facts
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.export.finish.bundle_reader import HostBundle
from mobiletl.export.finish.state_reader import State

# How much the frozen layers of the finished network may differ from the bundle's graphs.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Finished:
    """`network` maps images [N,3,R,R] to logits [N,K]; `tensors` are the backbone's, by key, which
    is not all of it where the method `adds_layers`. The temperature of `answers` is in the logits.
    """

    network: nn.Module
    tensors: dict[str, Tensor]
    adds_layers: bool
    class_names: tuple[str, ...]
    manifest: Manifest
    answers: Answers | None = None

    @property
    def resolution(self) -> int:
        """R, in pixels."""
        return self.manifest.input.resolution

    @property
    def tells_unknown(self) -> bool:
        """Whether there is a threshold for pictures of none of the classes."""
        return self.answers is not None and self.answers.unknown is not None

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [N,3,R,R] to logits [N,K] and the embedding [N,D] that they are computed from."""
        assert isinstance(self.network, nn.Sequential)
        below, last = self.network[:-1](images), self.network[-1]
        if isinstance(last, TransferTop):
            embedding = last.embed(below)
            return last.classify(embedding), embedding
        return last(below), below

    def metadata(self) -> str:
        """JSON: classes in the order of the logits, and how a picture becomes a tensor."""
        return finished_facts(self.manifest, self.class_names, self.answers)


def check_against_graphs(finished: Finished, bundle: HostBundle, state: State) -> float:
    """The largest difference of logits between the network and the bundle's own graphs, on noise.

    The graphs are what the board runs. Raises UnsupportedModel where somebody's own network or
    method has changed since the export; else more than the tolerance is a bug of ours and raises
    RuntimeError.
    """
    import onnxruntime

    generator = torch.Generator().manual_seed(0)
    side = finished.resolution
    images = torch.randn(2, 3, side, side, generator=generator)
    values = {"images": images.numpy()}
    for model, output in ((bundle.features, "h"), (bundle.predict, "logits")):
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        wanted = {node.name for node in session.get_inputs()}
        inputs = {name: v for name, v in {**state.tensors, **values}.items() if name in wanted}
        (values[output],) = session.run([output], inputs)
    with torch.no_grad():
        found = finished.network(images)
    difference = float((found - torch.from_numpy(values["logits"])).abs().max())
    scale = max(1.0, float(found.abs().max()))
    if not difference <= _TOLERANCE * scale:
        if bundle.own:
            raise UnsupportedModel(
                f"{' with '.join(bundle.own)} does not compute what {bundle.path} does (logits "
                f"differ by {difference:.2g}); {bundle.remedy}"
            )
        raise RuntimeError(
            f"the finished network's logits differ from the bundle's by {difference:.2g}"
        )
    return difference
