"""What a PyTorch user writes to fine-tune the top of a MobileNetV2: the thing we compare with.

Plain modules, SGD with momentum, the frozen prefix under `no_grad`. Letters: N pictures, K classes,
C x h x w the feature map below the trained blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mobiletl.core.backbones.mobilenetv2 import MobileNetV2
from mobiletl.export.weights.loading import load_weights

MODEL = "mbv2"
LR, MOMENTUM = 0.002, 0.9


class EagerFineTuning:
    """The top `blocks` blocks, the head convolution and the classifier are trained."""

    def __init__(self, weights: str, blocks: int, classes: int, threads: int) -> None:
        """`weights` as `mobiletl export --weights` takes them."""
        torch.set_num_threads(threads)
        model = MobileNetV2(classes)
        tensors = load_weights(weights, MODEL)
        if tensors is not None:
            model.load_state_dict(tensors, strict=False)
        border = len(model.features) - blocks - 1
        self.prefix = model.features[:border].eval().requires_grad_(False)
        self.top = nn.Sequential(model.features[border:], _Mean(), model.classifier).train()
        self.optimizer = torch.optim.SGD(self.top.parameters(), LR, MOMENTUM)

    def features(self, images: Tensor) -> Tensor:
        """Map pictures [N,3,H,W] to feature maps [N,C,h,w]."""
        with torch.no_grad():
            h: Tensor = self.prefix(images)
        return h

    def step(self, h: Tensor, labels: Tensor) -> float:
        """One step on feature maps [N,C,h,w] and labels [N]; returns the loss before it."""
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.top(h), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.item()


class _Mean(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return torch.mean(h, dim=(2, 3))
