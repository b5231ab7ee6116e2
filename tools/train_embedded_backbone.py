"""Train the small MobileNetV2 that the package ships (`--weights demo`).

    python tools/train_embedded_backbone.py --data cifar10-full --out export/assets

`--data` holds `train/<class>/*.jpg` and `test/<class>/*.jpg`, CIFAR-10 at 32 x 32. The test split
is read once, after the last epoch: nothing is chosen by it. Writes `<name>.safetensors`
(torchvision's keys, float32) and, beside it, `<name>.json` with the conditions and the accuracy.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from mobiletl.core.backbones.mobilenetv2 import MobileNetV2

MEAN = torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1)
STD = torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1)
NAME = "mbv2-0.35-cifar10"
WIDTH = 0.35


def read_split(folder: Path) -> tuple[Tensor, Tensor, list[str]]:
    """Pictures uint8 [N,3,32,32], labels i64 [N], class names in label order."""
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir())
    pictures, labels = [], []
    for label, name in enumerate(classes):
        for path in sorted((folder / name).iterdir()):
            pictures.append(np.asarray(Image.open(path).convert("RGB")))
            labels.append(label)
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    return stacked, torch.tensor(labels), classes


def prepare(pictures: Tensor, resolution: int) -> Tensor:
    """uint8 [N,3,32,32] -> normalised f32 [N,3,R,R], channels last."""
    enlarged = functional.interpolate(
        pictures.float() / 255, size=resolution, mode="bilinear", align_corners=False
    )
    return ((enlarged - MEAN) / STD).to(memory_format=torch.channels_last)


def augment(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """A random 32 x 32 crop of the picture padded by 4, and a flip for every other one."""
    padded = functional.pad(pictures, (4, 4, 4, 4), mode="reflect")
    offsets = torch.randint(0, 9, (len(pictures), 2), generator=generator).tolist()
    flips = torch.rand(len(pictures), generator=generator) < 0.5
    cropped = torch.stack(
        [p[:, y : y + 32, x : x + 32] for p, (y, x) in zip(padded, offsets, strict=True)]
    )
    return torch.where(flips.view(-1, 1, 1, 1), cropped.flip(3), cropped)


@torch.no_grad()
def accuracy(model: nn.Module, pictures: Tensor, labels: Tensor, resolution: int) -> float:
    """Share of pictures whose largest logit is their label, one view each."""
    model.eval()
    hits = 0
    for p, y in zip(torch.split(pictures, 250), torch.split(labels, 250), strict=True):
        hits += int((model(prepare(p, resolution)).argmax(1) == y).sum())
    return hits / len(labels)


def train(args: argparse.Namespace) -> None:
    """SGD with Nesterov momentum, one-cycle rate, label smoothing 0.1."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(args.seed)
    pictures, labels, classes = read_split(args.data / "train")
    model = MobileNetV2(len(classes), WIDTH)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = args.epochs * (len(labels) // args.batch)
    optimizer = torch.optim.SGD(
        model.parameters(), args.rate, momentum=0.9, nesterov=True, weight_decay=args.decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.rate, total_steps=steps, pct_start=0.2
    )
    for epoch in range(args.epochs):
        model.train()
        start, total = time.monotonic(), 0.0
        order = torch.randperm(len(labels), generator=generator)
        batches = torch.split(order[: len(order) // args.batch * args.batch], args.batch)
        for chosen in batches:
            logits = model(prepare(augment(pictures[chosen], generator), args.resolution))
            loss = functional.cross_entropy(logits, labels[chosen], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.monotonic() - start
        print(f"epoch {epoch + 1}/{args.epochs}  loss {total / len(batches):.4f}  {seconds:.0f} s")
    test_pictures, test_labels, _ = read_split(args.data / "test")
    top1 = accuracy(model, test_pictures, test_labels, args.resolution)
    print(f"test accuracy {top1:.4f} on {len(test_labels)} pictures")
    save(model, args, classes, top1, len(test_labels))


def save(
    model: nn.Module, args: argparse.Namespace, classes: list[str], top1: float, tested: int
) -> None:
    """Write the weights and the page that says where they come from."""
    args.out.mkdir(parents=True, exist_ok=True)
    state = {
        key: value.contiguous()
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    save_file(state, args.out / f"{NAME}.safetensors")
    facts = {
        "model": "mbv2-0.35",
        "data": "CIFAR-10, 32 x 32, JPEG quality 75, enlarged bilinearly to the resolution",
        "resolution": args.resolution,
        "classes": classes,
        "epochs": args.epochs,
        "batch": args.batch,
        "seed": args.seed,
        "test_accuracy": round(top1, 4),
        "test_pictures": tested,
    }
    (args.out / f"{NAME}.json").write_text(json.dumps(facts, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--decay", type=float, default=2e-4)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
