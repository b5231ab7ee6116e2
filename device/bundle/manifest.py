"""The manifest of a bundle as frozen objects; `manifest_schema.py` checks it first.

`docs/bundle.md` is the specification. Letters: K classes, C x h x w the feature map, D the width of
the embedding, N pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Tuple

from mobiletl.device.bundle.digest import fit_id
from mobiletl.device.bundle.manifest_schema import MANIFEST_FILE, checked_document

# What a further file of the frozen layers takes: the map of the one before it (docs/bundle.md).
BELOW = "below"
# Bytes alive at moments of one function's run, each as (fixed, per N, per K, per N and K).
Moments = Tuple[Tuple[int, int, int, int], ...]


def peak_of(moments: Moments, batch: int, classes: int) -> int:
    """Return the bytes of the largest moment for N = `batch` and K = `classes`."""
    return max(
        fixed + per_n * batch + per_k * classes + per_nk * batch * classes
        for fixed, per_n, per_k, per_nk in moments
    )


@dataclass(frozen=True)
class PerClass:
    """A quantity that grows with the number of classes."""

    fixed: int
    per_class: int

    def at(self, classes: int) -> int:
        """Return the quantity for `classes` classes."""
        return self.fixed + self.per_class * classes


@dataclass(frozen=True)
class Model:
    """The backbone; `blocks` counts its inverted residual blocks."""

    name: str
    width: float
    weights: str
    blocks: int


@dataclass(frozen=True)
class Method:
    """The transfer method; `trains` lists in words what it trains."""

    name: str
    blocks: int
    trains: tuple[str, ...]


@dataclass(frozen=True)
class Input:
    """How a picture becomes a tensor: sides in pixels, mean and std per RGB channel in 0..1."""

    resolution: int
    resize: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Feature:
    """The feature map of one picture, (C, h, w)."""

    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Embedding:
    """What the last linear layer reads of one picture: `size` is D."""

    size: int


@dataclass(frozen=True)
class Prefix:
    """Frozen layers in 8 bits: `error` is of embeddings, relative; accuracies are of a classifier
    in closed form on `checked_on` pictures of the exporting host, None where it had no classes.
    """

    bits: int
    calibrated_on: int
    checked_on: int
    error: float
    labels_changed: float | None
    accuracy_float: float | None
    accuracy_int8: float | None


@dataclass(frozen=True)
class Optimizer:
    """The optimizer inside `train_step`; `default_lr` is meant for batches of 8."""

    name: str
    momentum: float
    weight_decay: float
    default_lr: float


@dataclass(frozen=True)
class StateEntry:
    """One tensor of the state; "K" in `shape` stands for the number of classes."""

    name: str
    role: str
    shape: tuple[int | str, ...]
    dtype: str
    init: str

    def shape_for(self, classes: int) -> tuple[int, ...]:
        """Return the shape with K filled in."""
        return tuple(side if isinstance(side, int) else classes for side in self.shape)


@dataclass(frozen=True)
class RuntimeFiles:
    """What one runtime runs: paths inside the bundle by role, and what they are fixed to."""

    files: Mapping[str, str]
    batch: int | None
    """Pictures in a step; None is any number."""
    classes: int | None
    """Number of classes; None is any number."""
    memory: Mapping[str, Moments]
    """What the runtime itself states, by function; empty where `Manifest.memory` says it all."""

    @property
    def chain(self) -> tuple[str, ...]:
        """The roles whose files are `features`, run in this order, each on the map before it."""
        roles = ["features"]
        while f"features.{len(roles)}" in self.files:
            roles.append(f"features.{len(roles)}")
        return tuple(roles)


@dataclass(frozen=True)
class Parameters:
    """How many numbers are trained and how many are frozen."""

    trainable: PerClass
    frozen: int


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates per picture; `train_step` counts forward and backward."""

    features: int
    train_step: PerClass
    predict: PerClass


@dataclass(frozen=True)
class GraphMemory:
    """What one function holds, in bytes; each row of `activations` is one moment of its run.

    Each of `holes` has a number of pictures N, and what is between tensors then in the memory of
    stock onnxruntime, as a share of the largest moment.
    """

    weights: int
    activations: Moments
    holes: tuple[tuple[int, float], ...] = ()

    def peak_bytes(self, batch: int, classes: int) -> int:
        """Return the largest moment for N = `batch` and K = `classes`."""
        return peak_of(self.activations, batch, classes)

    def holes_share(self, batch: int) -> float:
        """Return the share of the holes for N = `batch`, which in between lies on a line."""
        for (few, share), (many, other) in zip(self.holes, self.holes[1:]):
            if few <= batch < many:
                return share + (other - share) * (batch - few) / (many - few)
        if not self.holes:
            return 0.0
        first, last = self.holes[0], self.holes[-1]
        return first[1] if batch < first[0] else last[1]


@dataclass(frozen=True)
class Memory:
    """Bytes one process needs; `runtime` is measured on the exporting host, the rest planned."""

    features: GraphMemory
    train_step: GraphMemory
    predict: GraphMemory
    state: PerClass
    slots: PerClass
    runtime: int
    runtime_release: str
    """The onnxruntime it was measured with."""

    def of(self, function: str) -> GraphMemory:
        """Return the row of `features`, `train_step` or `predict`."""
        rows = {
            "features": self.features,
            "train_step": self.train_step,
            "predict": self.predict,
        }
        return rows[function]


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A checked manifest; `docs/bundle.md` says what each field means."""

    id: str
    """Of this very bundle."""
    fit: str
    """Of what decides whether a state fits; bundles of other releases may share it."""
    version: int
    created_by: str
    model: Model
    method: Method
    input: Input
    feature: Feature
    embedding: Embedding
    optimizer: Optimizer
    state: tuple[StateEntry, ...]
    runtimes: Mapping[str, RuntimeFiles]
    parameters: Parameters
    macs: Macs
    memory: Memory
    files: Mapping[str, FileRecord]
    prefix: Prefix | None = None
    """Of the frozen layers, where they are not float32."""
    step: str = "float32"
    """The numbers that the training step multiplies, float32 or int8."""
    levels: Mapping[int, str] = field(default_factory=dict)
    """The ids of the further levels that the bundle holds, by blocks (bundle/levels.py)."""

    @property
    def classifier(self) -> tuple[str, str] | None:
        """The names of the weight [K,D] and the bias [K] of the last linear layer.

        None for a network whose classifier has no bias.
        """
        parameters = [entry for entry in self.state if entry.role == "parameter"]
        weights = [e.name for e in parameters if e.shape == ("K", self.embedding.size)]
        biases = [e.name for e in parameters if e.shape == ("K",)]
        return (weights[0], biases[0]) if weights and biases else None

    def peak_bytes(self, runtime: str, function: str, batch: int, classes: int) -> int:
        """Return what `function` holds at its peak on `runtime`, as planned.

        A runtime that states its own figures knows them best; the others run graphs whose plan
        `memory` is.
        """
        files = self.runtimes.get(runtime)
        stated = files.memory.get(function) if files is not None else None
        if stated is not None:
            return peak_of(stated, batch, classes)
        return self.memory.of(function).peak_bytes(batch, classes)

    def tensor_problems(self, tensors: Mapping[str, Any], classes: int) -> list[str]:
        """Say in what `tensors` (arrays by name) differ from the state for `classes` classes."""
        wanted = {entry.name: entry.shape_for(classes) for entry in self.state}
        problems = [f"{name} is missing" for name in wanted if name not in tensors]
        problems += [f"{name} is unknown" for name in tensors if name not in wanted]
        for name, shape in wanted.items():
            if name not in tensors:
                continue
            found = tensors[name]
            if tuple(found.shape) != shape or str(found.dtype) != "float32":
                problems.append(
                    f"{name} is {found.dtype} {list(found.shape)}, not float32 {list(shape)}"
                )
        return problems


def parse_manifest(content: bytes | str, name: str = MANIFEST_FILE) -> Manifest:
    """Check the text of the manifest `name` and build it; raises BadBundle naming every problem."""
    document = checked_document(content, name)
    memory = document["memory"]
    return Manifest(
        id=document["id"],
        fit=fit_id(document),
        version=document["version"],
        created_by=document["created_by"],
        model=_make(Model, document["model"]),
        method=_make(Method, document["method"]),
        input=_make(Input, document["input"]),
        feature=_make(Feature, document["feature"]),
        embedding=_make(Embedding, document["embedding"]),
        optimizer=_make(Optimizer, document["optimizer"]),
        state=tuple(_make(StateEntry, entry) for entry in document["state"]),
        runtimes={name: _make(RuntimeFiles, files) for name, files in document["runtimes"].items()},
        parameters=Parameters(
            _make(PerClass, document["parameters"]["trainable"]), document["parameters"]["frozen"]
        ),
        macs=Macs(
            document["macs"]["features"],
            _make(PerClass, document["macs"]["train_step"]),
            _make(PerClass, document["macs"]["predict"]),
        ),
        memory=Memory(
            features=_graph_memory(memory["features"]),
            train_step=_graph_memory(memory["train_step"]),
            predict=_graph_memory(memory["predict"]),
            state=_make(PerClass, memory["state"]),
            slots=_make(PerClass, memory["slots"]),
            runtime=memory["runtime"],
            runtime_release=memory["runtime_release"],
        ),
        files={path: _make(FileRecord, record) for path, record in document["files"].items()},
        prefix=_make(Prefix, document["prefix"]) if "prefix" in document else None,
        step=document.get("step", "float32"),
        levels={int(blocks): name for blocks, name in document.get("levels", {}).items()},
    )


def _graph_memory(document: Mapping[str, Any]) -> GraphMemory:
    row: GraphMemory = _make(GraphMemory, {"holes": [], **document})
    return row


def _make(kind: Any, values: Mapping[str, Any]) -> Any:
    """Fill the dataclass `kind` from `values`, with tuples for lists at any depth."""
    return kind(**{name: _frozen(values[name]) for name in kind.__dataclass_fields__})


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
