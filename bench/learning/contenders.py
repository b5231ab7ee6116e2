"""Who trains: eager PyTorch and ours, each with or without its feature maps kept.

Letters: N pictures, K classes, H x W the picture, C x h x w the feature map.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch

from bench.eager import EagerFineTuning
from mobiletl.device.bundle.arrays import Floats, Labels, Tensors
from mobiletl.device.bundle.frame import frame_of
from mobiletl.device.bundle.manifest import Input
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.sessions.session import Session

CLASSIFIER = "classifier.1"


class Learner(ABC):
    """Frozen layers, and the trained ones above them."""

    @abstractmethod
    def features(self, images: Floats) -> Floats:
        """Map pictures [N,3,H,W] to feature maps [N,C,h,w]."""

    @abstractmethod
    def step(self, h: Floats, labels: Labels, rate: float) -> None:
        """Take one step of SGD on feature maps [N,C,h,w] and labels [N]."""

    @abstractmethod
    def logits(self, h: Floats) -> Floats:
        """Map feature maps [N,C,h,w] to logits [N,K]."""


class Ours(Learner):
    """A session of a bundle; pictures go through the frozen layers one by one, as by default."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def features(self, images: Floats) -> Floats:
        return np.concatenate([self._session.features(image[None]) for image in images])

    def step(self, h: Floats, labels: Labels, rate: float) -> None:
        self._session.train_step(h, labels, rate)

    def logits(self, h: Floats) -> Floats:
        return self._session.predict(h)


class Eager(Learner):
    """PyTorch, with the classifier that `state` has."""

    def __init__(self, network: EagerFineTuning, state: Tensors, *, fixed_norms: bool) -> None:
        """`fixed_norms`: norms of trained blocks keep the statistics of the checkpoint."""
        self._network, self._fixed_norms = network, fixed_norms
        layer = network.top[-1][-1]
        with torch.no_grad():
            for name, tensor in layer.named_parameters():
                tensor.copy_(torch.from_numpy(state[f"{CLASSIFIER}.{name}"]))

    def features(self, images: Floats) -> Floats:
        found: Floats = self._network.features(torch.from_numpy(images)).numpy()
        return found

    def step(self, h: Floats, labels: Labels, rate: float) -> None:
        self._network.top.train(not self._fixed_norms)
        for group in self._network.optimizer.param_groups:
            group["lr"] = rate
        self._network.step(torch.from_numpy(h), torch.from_numpy(labels))

    def logits(self, h: Floats) -> Floats:
        with torch.no_grad():
            found: Floats = self._network.top.eval()(torch.from_numpy(h)).numpy()
        return found


class Contender:
    """A learner and where its feature maps come from: each time anew, or once and then kept."""

    def __init__(self, learner: Learner, size: Input, *, kept: bool) -> None:
        self.learner = learner
        self._size = size
        self._kept: dict[Path, Floats] | None = {} if kept else None

    def train(self, paths: list[Path], labels: Labels, rate: float) -> None:
        """Take one step on the pictures of `paths`."""
        self.learner.step(self.maps(paths), labels, rate)

    def maps(self, paths: list[Path]) -> Floats:
        """Feature maps [N,C,h,w] of the central crops; kept ones are floats in memory."""
        kept = {} if self._kept is None else self._kept
        new = [path for path in paths if path not in kept]
        if not new:
            return np.stack([kept[path] for path in paths])
        found = self.learner.features(decoded(new, self._size))
        if self._kept is None:
            return found
        kept.update(zip(new, found, strict=True))
        return np.stack([kept[path] for path in paths])


def decoded(paths: list[Path], size: Input) -> Floats:
    """The central crops [N,3,H,W] of the pictures of `paths`."""
    side = size.resolution
    images = np.empty((len(paths), 3, side, side), np.float32)
    for path, image in zip(paths, images, strict=True):
        prepare(frame_of(path), size, image)
    return images
