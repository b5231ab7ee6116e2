"""The forward model that onnxruntime-training's own builder starts from, written by torch.onnx."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from mobiletl.core.transfer import Transfer

OPSET = 17


class Whole(nn.Module):
    """Prefix and top of a transfer. Maps [N,3,R,R] to logits [N,K]."""

    def __init__(self, transfer: Transfer) -> None:
        super().__init__()
        self.prefix = transfer.prefix
        self.top = transfer.top

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.top(self.prefix(images))
        return logits


def write_forward_model(transfer: Transfer, resolution: int, folder: Path) -> tuple[Path, Path]:
    """`forward.onnx`, trained norms in training mode, and `trained.txt` with the names of what the
    builder shall train. Frozen norms are folded already: given as norms, the builder would train
    their statistics.
    """
    network = Whole(transfer)
    network.train()
    network.prefix.eval()
    folder.mkdir(parents=True, exist_ok=True)
    model, names = folder / "forward.onnx", folder / "trained.txt"
    with warnings.catch_warnings():
        # The newer exporter writes every norm in inference mode.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(2, 3, resolution, resolution),),
            str(model),
            input_names=["input"],
            output_names=["output"],
            opset_version=OPSET,
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamic_axes={"input": {0: "N"}, "output": {0: "N"}},
        )
    trained = [name for name, value in network.named_parameters() if value.requires_grad]
    names.write_text("\n".join(trained), "utf-8")
    return model, names
