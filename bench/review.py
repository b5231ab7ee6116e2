"""How well `mobiletl review` finds wrong labels and copies that were planted (docs/review.md).

    python -m bench.review --bundle DIR --data FOLDER

FOLDER has one folder of pictures per class, or train/ and test/ or val/ of them, which are taken
together, or --per-class of each. Every figure is of the network that the bundle begins with.

Letters: P pictures, D numbers in an embedding, C channels of a map, K classes.
"""

from __future__ import annotations

import argparse
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from mobiletl.device.bundle.arrays import Floats, Labels, Pixels
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.heads.ridge import fit_ridge
from mobiletl.device.heads.softmax import softmax
from mobiletl.device.pictures.balanced import balanced_rows
from mobiletl.device.pictures.dataset import open_dataset
from mobiletl.device.reviewing.duplicates import candidates, confirmed, grey_copy
from mobiletl.device.reviewing.evidence import held_out
from mobiletl.device.reviewing.kernel import Described, channel_statistics
from mobiletl.device.run.start import bundle_start
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.session import Session

WRONG = 0.05
LOOKED_AT = 0.1
NEIGHBOURS = 20
# A copy is planted of every so manieth picture.
COPIED = 8


@dataclass
class Seen:
    """Pictures of a folder: what the network makes of them, labels [P], and grey copies."""

    paths: list[Path]
    labels: Labels
    described: Described
    greys: list[Pixels]
    classes: int


@dataclass
class Sight:
    """One picture: embedding [D], statistics [C] of its map, and a grey copy."""

    embedding: Floats
    means: Floats
    deviations: Floats
    grey: Pixels


class Eye:
    """Looks at one picture after another with the network that a bundle begins with."""

    def __init__(self, bundle: Bundle, session: Session) -> None:
        self._bundle = bundle
        self._session = session

    def see(self, frame: Frame) -> Sight:
        maps = self._session.features(prepare(frame, self._bundle.manifest.input)[None])
        means, deviations = channel_statistics(maps)
        embedding = self._session.embed(maps).embeddings[0].copy()
        return Sight(embedding, means[0], deviations[0], grey_copy(frame.decode(128)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=10, help="of wrong labels (default: 10)")
    parser.add_argument("--per-class", type=int, help="pictures of a class at most, drawn evenly")
    parser.add_argument("--only-labels", action="store_true", help="plant no copies")
    parser.add_argument("--threads", type=int, default=1)
    flags = parser.parse_args()
    bundle = open_bundle(flags.bundle)
    state = bundle_start(bundle, ("a", "b"), 0).tensors
    with open_session(bundle, 2, state, flags.threads) as session:
        eye = Eye(bundle, session)
        seen = see_all(eye, flags.data, flags.per_class)
        print(f"{flags.data}: {len(seen.labels)} pictures, {seen.classes} classes", flush=True)
        print_labels(seen, flags.draws)
        if not flags.only_labels:
            print_copies(eye, seen)


def see_all(eye: Eye, data: Path, per_class: int | None) -> Seen:
    dataset = open_dataset(data, 0.2, 0)
    pictures = [*dataset.train, *dataset.val]
    classes = len(dataset.class_names)
    labels = np.array([picture.label for picture in pictures], np.int64)
    most = len(pictures) if per_class is None else per_class * classes
    rows = balanced_rows(labels, range(len(pictures)), 0, most)
    paths = [data / pictures[row].path for row in rows]
    sights = [eye.see(Frame(str(path), path)) for path in paths]
    described = Described(
        np.array([sight.embedding for sight in sights]),
        np.array([sight.means for sight in sights]),
        np.array([sight.deviations for sight in sights]),
    )
    return Seen(paths, labels[rows], described, [sight.grey for sight in sights], classes)


def planted(labels: Labels, classes: int, draws: np.random.Generator) -> tuple[Labels, Labels]:
    """Return labels of which WRONG are another class, drawn evenly, and which these are."""
    rows = draws.choice(len(labels), round(WRONG * len(labels)), replace=False)
    changed = labels.copy()
    changed[rows] = (labels[rows] + draws.integers(1, classes, len(rows))) % classes
    return changed, rows


def found_share(contradiction: Floats, rows: Labels) -> float:
    """Share of `rows` among the LOOKED_AT with the highest `contradiction` [P]."""
    count = math.ceil(LOOKED_AT * len(contradiction))
    return float(np.isin(rows, np.argsort(-contradiction, kind="stable")[:count]).mean())


def rankings(described: Described, labels: Labels, classes: int) -> dict[str, Floats]:
    """Return how much each way to rank holds against each label [P]."""
    rows = np.arange(len(labels))
    kernel = held_out(described, labels, classes).probabilities
    alone = held_out(embeddings_alone(described), labels, classes).probabilities
    plain = softmax(fit_ridge(described.embeddings, labels, classes).held_out.astype(np.float32))
    near = neighbours(described.embeddings, labels, classes)
    thresholds = np.array([kernel[labels == k, k].mean() for k in range(classes)])
    return {
        "held out, kernel (review's)": -kernel[rows, labels],
        "held out, kernel of embeddings": -alone[rows, labels],
        "held out, plain ridge": -plain[rows, labels],
        "held out, kernel, margin": margin(kernel, labels),
        "confident learning": margin(kernel - thresholds, labels),
        f"{NEIGHBOURS} neighbours": margin(near, labels),
        "kernel and neighbours": -np.log(kernel + 1e-3)[rows, labels]
        - np.log(near + 0.02)[rows, labels],
    }


def embeddings_alone(described: Described) -> Described:
    """Return it without what tells maps apart: kernels of nothing are 1, which fits take off."""
    nothing = np.zeros((len(described.embeddings), 1), np.float32)
    return Described(described.embeddings, nothing, nothing)


def margin(shares: Floats, labels: Labels) -> Floats:
    """Return by how much the best other class is above the label's."""
    rows = np.arange(len(labels))
    others = shares.copy()
    others[rows, labels] = -np.inf
    result: Floats = others.max(axis=1) - shares[rows, labels]
    return result


def neighbours(embeddings: Floats, labels: Labels, classes: int) -> Floats:
    """Return the share of each class among the neighbours by cosine, the nearer the heavier."""
    x = embeddings - embeddings.mean(axis=0)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    found = np.zeros((len(labels), classes), np.float32)
    for start in range(0, len(x), 1024):
        cosines = x[start : start + 1024] @ x.T
        here = np.arange(len(cosines))
        cosines[here, start + here] = -np.inf
        nearest = np.argpartition(-cosines, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        weights = np.exp(10 * np.take_along_axis(cosines, nearest, axis=1))
        for k in range(classes):
            found[start + here, k] = (weights * (labels[nearest] == k)).sum(axis=1)
    result: Floats = found / found.sum(axis=1, keepdims=True)
    return result


def print_labels(seen: Seen, draws: int) -> None:
    said = held_out(seen.described, seen.labels, seen.classes).probabilities
    right = (said.argmax(axis=1) == seen.labels).mean()
    print(f"  right of its own labels, held out: {right:.1%}", flush=True)
    shares: dict[str, list[float]] = {}
    for draw in range(draws):
        generator = np.random.default_rng(draw)
        labels, rows = planted(seen.labels, seen.classes, generator)
        found = rankings(seen.described, labels, seen.classes)
        # As well as such a head could do that no wrong label has misled.
        found["review's, had it seen right labels"] = -said[np.arange(len(labels)), labels]
        for name, contradiction in found.items():
            shares.setdefault(name, []).append(found_share(contradiction, rows))
    print(f"  of {WRONG:.0%} wrong labels in the first {LOOKED_AT:.0%}, {draws} draws:")
    for name, values in shares.items():
        error = np.std(values) / math.sqrt(max(draws - 1, 1))
        print(f"    {name:<36}{np.mean(values):7.1%} +- {error:.1%}", flush=True)


def copies_of(image: Image.Image, draws: np.random.Generator) -> dict[str, bytes]:
    """Return copies of a picture by what was done to it, as JPEG."""

    def cropped(share: float) -> Image.Image:
        width, height = (max(int(side * share), 1) for side in image.size)
        left = int(draws.integers(0, image.width - width + 1))
        top = int(draws.integers(0, image.height - height + 1))
        return image.crop((left, top, left + width, top + height))

    half = (max(image.width // 2, 1), max(image.height // 2, 1))
    made = {
        "recompressed (quality 35)": (image, 35),
        "cropped to 95 %": (cropped(0.95), 90),
        "cropped to 85 %": (cropped(0.85), 90),
        "brightened by 30 %": (ImageEnhance.Brightness(image).enhance(1.3), 90),
        "darkened by 30 %": (ImageEnhance.Brightness(image).enhance(0.7), 90),
        "half as large": (image.resize(half), 85),
        "mirrored": (ImageOps.mirror(image), 90),
        "93 %, brighter, quality 50": (ImageEnhance.Brightness(cropped(0.93)).enhance(1.2), 50),
    }
    encoded = {}
    for name, (copy, quality) in made.items():
        content = io.BytesIO()
        copy.save(content, "JPEG", quality=quality)
        encoded[name] = content.getvalue()
    return encoded


def print_copies(eye: Eye, seen: Seen) -> None:
    """Plant one kind of copy at a time, and look for pairs."""
    generator = np.random.default_rng(0)
    sources = range(0, len(seen.paths), COPIED)
    kinds: dict[str, list[Sight]] = {}
    for row in sources:
        image = Frame("copy", seen.paths[row]).decode(4096)
        for kind, content in copies_of(image, generator).items():
            kinds.setdefault(kind, []).append(eye.see(Frame("copy", content)))
    pairs = pairs_of(seen.described.embeddings, seen.labels, seen.greys)
    two = sum(seen.labels[first] != seen.labels[second] for first, second in pairs)
    print(f"  pairs without any planted: {two} of two classes, {len(pairs) - two} of one")
    count = len(seen.paths)
    for kind, copies in kinds.items():
        copied = [copy.embedding for copy in copies]
        embeddings = np.concatenate([seen.described.embeddings, copied])
        labels = np.concatenate([seen.labels, seen.labels[list(sources)]])
        found = pairs_of(embeddings, labels, [*seen.greys, *(copy.grey for copy in copies)])
        hits = sum((row, count + place) in found for place, row in enumerate(sources))
        print(f"    {kind:<28}{hits / len(copies):7.1%} of {len(copies)} copies found")


def pairs_of(embeddings: Floats, labels: Labels, greys: list[Pixels]) -> set[tuple[int, int]]:
    found, _ = confirmed(candidates(embeddings), labels, greys.__getitem__)
    return {(pair.first, pair.second) for pair in found}


if __name__ == "__main__":
    main()
