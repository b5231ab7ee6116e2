"""State on disk: safetensors, written so that a power cut never costs more than one generation.

A write goes to a temporary file in the same folder, is flushed to the disk, and only then takes
the name (replacing.py). The file that had the name becomes `<name>.previous.safetensors`, if it is
sound: a damaged one must not push out the good one before it. The metadata carry what a resumed run
needs, and a SHA-256 of everything, because FAT has truncated renamed files to zero.
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Callable, Mapping

import numpy as np

from mobiletl.device.bundle.answers import PREFIX, Answers, answers_of
from mobiletl.device.bundle.arrays import Floats, Tensors
from mobiletl.device.bundle.digest import state_digest
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.bundle.replacing import leftovers, remove_leftovers, replacing
from mobiletl.device.bundle.schema import fields, integer, joined, list_of, number, one_of, text
from mobiletl.device.bundle.settings_schema import SETTINGS
from mobiletl.device.bundle.stored_state import StoredState
from mobiletl.device.bundle.strict_json import BadJson, parse_json
from mobiletl.device.bundle.tensors_header import header_of
from mobiletl.device.bundle.view import View, view_of
from mobiletl.device.errors import BadState
from mobiletl.device.refusals import advice, cannot_write, reason

FORMAT = "mobiletl-state-2"
HEADER_ALIGNMENT = 8
# What a state is in its run, so that no file passes for another.
BEST, LAST = "best", "last"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StateInfo:
    """What a state file says about itself, apart from its tensors."""

    fit: str
    """`fit` of the manifest the state belongs to."""
    class_names: tuple[str, ...]
    """The K classes, in the order of the logits."""
    epoch: int
    """Completed epochs."""
    step: int
    """Completed steps of the whole run."""
    seed: int
    best_accuracy: float | None = None
    """Best validation accuracy so far, 0..1; None before the first evaluation."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the run was started with and must be resumed with; JSON values."""
    answers: Answers | None = None
    """How sure its answers are; None until the run that trains it has ended."""
    view: View | None = None
    """The camera's view in which its pictures were taken; None where nobody knows."""
    role: str | None = None
    """BEST or LAST; None for a state of no run, and for one from before there were roles."""

    def document(self) -> dict[str, Any]:
        """What the JSON of a state file says; nothing of what is not known."""
        document = asdict(replace(self, answers=None, view=None))
        del document["answers"], document["view"]
        if self.role is None:
            del document["role"]
        if self.answers is not None:
            document["answers"] = self.answers.document()
        if self.view is not None:
            document["view"] = self.view.document()
        return document


def previous_generation(path: Path) -> Path:
    """Return where the state that `path` held before is kept."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


# Why a state is not the one that is wanted, continuing a sentence that starts with its path.
Refuse = Callable[[StateInfo], "str | None"]


def save_state(path: str | Path, tensors: Tensors, info: StateInfo) -> None:
    """Write a state; raises NoSpace, leaving the former generations as they were."""
    _replace(Path(path), lambda stream: write_state(stream, tensors, info))


def copy_state(path: Path, content: BinaryIO) -> None:
    """Let `path` be the state that `content` gives, as `save_state` does; raises NoSpace."""
    _replace(path, lambda stream: shutil.copyfileobj(content, stream))


def write_state(stream: BinaryIO, tensors: Tensors, info: StateInfo) -> None:
    """Write what a state file has to `stream`; raises OSError."""
    extra = {} if info.answers is None else info.answers.tensors()
    arrays = {
        name: np.asarray(array, np.float32, order="C")
        for name, array in {**tensors, **extra}.items()
    }
    _write(stream, arrays, info)


def _replace(target: Path, write: Callable[[BinaryIO], None]) -> None:
    try:
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
        previous = previous_generation(target) if is_usable(target) else None
        with replacing(target, previous) as stream:
            write(stream)
        for name in (target, previous_generation(target)):
            remove_leftovers(name)
    except OSError as error:
        raise cannot_write("the state", target, error, "choose another folder") from error


def load_state(path: str | Path, manifest: Manifest) -> tuple[Tensors, StateInfo]:
    """Read a state of the bundle `manifest` describes, see `open_state`."""
    stored, info = open_state(path, manifest)
    with stored:
        return dict(stored), info


def open_state(
    path: str | Path, manifest: Manifest, refuse: Refuse | None = None
) -> tuple[StoredState, StateInfo]:
    """Open and check a state of the bundle `manifest` describes; the caller closes it.

    A missing or damaged newest generation, or one that `refuse` has a reason against, is replaced
    by the previous one, and that by a temporary that a crash has left; a warning in the log says
    so. Raises BadState if none can be read, or if the state is another network's.
    """
    target = Path(path)
    if target.is_dir():
        inside = target / "state.safetensors"
        there = f"{inside}, which is in it" if inside.is_file() else "the file of a state"
        raise BadState(f"{target} is a folder; name {there}")
    stored, info = _newest(target, refuse)
    try:
        _refuse_foreign(target, stored.forms(), info, manifest)
    except BadState:
        stored.close()
        raise
    return stored, info


def stated_fit(path: Path) -> str | None:
    """Return the fit that the newest generation that can be read states; nothing else is checked.

    None where none says one.
    """
    for file in generations(path):
        try:
            info = parse_json(header_of(file).metadata.get("info", ""), raw_bytes=True)
        except (OSError, ValueError, BadJson):
            continue
        fit = info.get("fit") if isinstance(info, dict) else None
        if isinstance(fit, str):
            return fit
    return None


def generations(path: Path) -> list[Path]:
    """Return the files that may hold a state for `path`, in the order in which they are tried."""
    return [path, previous_generation(path), *leftovers(path)]


def _newest(target: Path, refuse: Refuse | None) -> tuple[StoredState, StateInfo]:
    found: list[str] = []
    for file in generations(target):
        try:
            stored, info = _checked(file, refuse)
        except _Damaged as damage:
            if file == target or file.exists():
                found.append(f"{file if file == target else file.name} {damage}")
        else:
            if found:
                logger.warning("%s; going on from %s", " and ".join(found), file.name)
            return stored, info
    if len(found) == 1:
        found.append("there is no previous generation of it")
    raise BadState(f"{' and '.join(found)}; name another state file, or start afresh")


def is_usable(path: Path, refuse: Refuse | None = None) -> bool:
    """Whether the file `path` itself is sound, and `refuse` has no reason against it."""
    try:
        _checked(path, refuse)[0].close()
    except _Damaged:
        return False
    return True


class ForeignState(BadState):
    """A sound state of another network."""


class _Damaged(Exception):
    """One generation cannot be used; the text continues a sentence that starts with its path."""


_INFO = fields(
    {
        "fit": text(r"[0-9a-f]{64}", "64 lower-case hex digits"),
        "class_names": list_of(text(r"(?s).{1,1000}", "a name"), minimum=2, maximum=100_000),
        "epoch": integer(),
        "step": integer(),
        "seed": integer(maximum=2**63 - 1),
        "settings": SETTINGS,
    }
)
_ACCURACY = number(minimum=0.0)
_ROLE = one_of(BEST, LAST)
_METADATA = fields({"format": one_of(FORMAT), "info": text(), "sha256": text(r"[0-9a-f]{64}")})


def _write(stream: BinaryIO, arrays: Mapping[str, Floats], info: StateInfo) -> None:
    """Write the safetensors layout straight from the arrays' memory.

    The library's own writer first copies all tensors, which would add a whole state to the
    peak that the memory plan promises. Layout: header length as uint64, header, tensor bytes.
    """
    text_info = json.dumps(info.document())
    header: dict[str, Any] = {
        "__metadata__": {
            "format": FORMAT,
            "info": text_info,
            "sha256": state_digest(text_info, arrays),
        }
    }
    offset = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    content = json.dumps(header).encode("utf-8")
    content += b" " * (-len(content) % HEADER_ALIGNMENT)
    stream.write(len(content).to_bytes(8, "little"))
    stream.write(content)
    for array in arrays.values():
        stream.write(array.data)


def _checked(path: Path, refuse: Refuse | None = None) -> tuple[StoredState, StateInfo]:
    if not path.is_file():
        raise _Damaged("does not exist")
    _refuse_unreadable(path)
    try:
        stored = StoredState(path)
    except OSError as error:
        raise _unread(error) from error
    except ValueError as error:
        raise _Damaged(f"is damaged ({error})") from error
    try:
        info = _info_of(stored)
        refused = None if refuse is None else refuse(info)
        if refused is not None:
            raise _Damaged(refused)
    except _Damaged:
        stored.close()
        raise
    return stored, info


def _refuse_unreadable(path: Path) -> None:
    """Tell a file that the system does not open from a damaged one, which another may stand for.

    A bad spot of the disk is damage; a permission is not.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOENT):
            raise _unread(error) from error
        raise BadState(f"{path} {_unread(error)}") from error


def _unread(error: OSError) -> _Damaged:
    return _Damaged(f"cannot be read ({reason(error)}; {advice(error)})")


def _info_of(stored: StoredState) -> StateInfo:
    metadata = stored.metadata
    problems: list[str] = []
    _METADATA(metadata, "", problems)
    if problems:
        raise _Damaged(f"is not a state of mobiletl ({joined(problems)})")
    try:
        digest = stored.digest(metadata["info"])
    except OSError as error:
        raise _unread(error) from error
    if digest != metadata["sha256"]:
        raise _Damaged("is damaged (its content has another SHA-256 than it states)")
    return _parse_info(metadata["info"], _without_answers(stored))


def _without_answers(stored: StoredState) -> Tensors:
    """Return the arrays that are no part of the state itself, and leave them out of it."""
    names = [name for name in stored if name.startswith(PREFIX)]
    return {name: stored.take(name) for name in names}


def _parse_info(content: str, extra: Tensors) -> StateInfo:
    try:
        document = parse_json(content, raw_bytes=True)
    except BadJson as error:
        raise _Damaged(f"is damaged (its info cannot be read: {error})") from error
    problems: list[str] = []
    _INFO(document, "", problems)
    if not problems and document.get("best_accuracy") is not None:
        _ACCURACY(document["best_accuracy"], "best_accuracy", problems)
    if not problems and "role" in document:
        _ROLE(document["role"], "role", problems)
    answers = None if problems else answers_of(document.get("answers"), extra, problems)
    view = None if problems else view_of(document.get("view"), "view", problems)
    if problems:
        raise _Damaged(f"is damaged ({joined(problems)})")
    return StateInfo(
        fit=document["fit"],
        class_names=tuple(document["class_names"]),
        epoch=document["epoch"],
        step=document["step"],
        seed=document["seed"],
        best_accuracy=document.get("best_accuracy"),
        settings=document["settings"],
        answers=answers,
        view=view,
        role=document.get("role"),
    )


def _refuse_foreign(
    path: Path, tensors: Mapping[str, Floats], info: StateInfo, manifest: Manifest
) -> None:
    if info.fit != manifest.fit:
        raise ForeignState(
            f"{path} was trained with another network than this bundle's ({manifest.model.name}, "
            f"{manifest.method.name}, {manifest.method.blocks} blocks), with other frozen weights, "
            "or at another resolution; name the bundle it was trained with"
        )
    problems = manifest.tensor_problems(tensors, len(info.class_names))
    if problems:
        raise BadState(f"{path} does not fit its bundle: {joined(problems)}; start afresh")
