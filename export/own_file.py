"""A Python file of a person's own, typed as `path/to/file.py:NAME`, opened and run.

Networks (own_network.py) and methods (own_method.py) of one's own come through here, and nothing
else opens such a file. It runs as `python file.py` would: only what a person typed is ever opened,
never a path that a bundle holds. What goes wrong in it becomes one line.
"""

from __future__ import annotations

import difflib
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from mobiletl.core.errors import MobileTLError, UnsupportedModel, UsageError

_SUFFIX = ".py"
# Problems and characters of one line: whole lists and PyTorch's longest messages help nobody.
_SHOWN = 3
_LONGEST = 240


@dataclass(frozen=True)
class Wanted:
    """What a flag takes from a file: `noun` says it, `example` stands for its name, and `fits`
    tells it from the other values of a module.
    """

    flag: str
    noun: str
    form: str
    example: str
    fits: Callable[[object, ModuleType], bool]


@dataclass(frozen=True)
class OwnFile:
    """The file as a module that has run."""

    path: Path
    module: ModuleType

    def call(self, name: str, function: Callable[..., Any], *arguments: object) -> Any:
        """`function(*arguments)`, which the file defines; UnsupportedModel says where it failed."""
        try:
            # Shapes are asked for under the meta device, which a person's code need not know.
            with torch.device("cpu"):
                return function(*arguments)
        except MobileTLError:
            raise
        except (Exception, SystemExit) as error:
            raise UnsupportedModel(f"{name} failed: {where(error, self.path)}") from error


def is_own(name: str) -> bool:
    """Whether a name is that of something in a person's own file."""
    return _path_of(name).endswith(_SUFFIX)


def short_name(name: str) -> str:
    """Fit for a folder: `mnasnet` for `nets/mnasnet.py:build`, other names as they are."""
    return Path(_path_of(name)).stem if is_own(name) else name


def title_of(name: str) -> str:
    """What a bundle calls it: `mnasnet.py:build`, whatever folder the file lies in."""
    return f"{Path(_path_of(name)).name}:{name.rpartition(':')[2]}"


def open_own(name: str, wanted: Wanted) -> tuple[OwnFile, Any]:
    """The file of `name`, and what it calls by the part behind the colon.

    Raises UsageError for a file or a name in it that is not there, UnsupportedModel for a file that
    does not run.
    """
    flag = f"{wanted.flag} {name}"
    if name.endswith(_SUFFIX):
        raise UsageError(
            f"{flag} names a file but no {wanted.noun} in it; try {flag}:{wanted.example}"
        )
    typed, _, attribute = name.rpartition(":")
    path = Path(typed).absolute()
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{wanted.flag} {typed}: can't be read ({error.strerror or error}); "
            f"expected {wanted.form}"
        ) from error
    file = _run(path, source)
    values = vars(file.module)
    if attribute not in values:
        known = [key for key, value in values.items() if wanted.fits(value, file.module)]
        raise UsageError(
            f"{flag}: {typed} has no {wanted.noun} {attribute!r}{_near(attribute, known)}"
        )
    return file, values[attribute]


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f" (did you mean {near[0]}?)"
    return f"; it has {', '.join(known)}" if known else "; it has none at all"


@cache
def _run(path: Path, source: bytes) -> OwnFile:
    """Run the file. Not by an import, which would leave its compiled form beside it.

    Once: a network and a method from one file then share its classes.
    """
    module = ModuleType(f"own_file_{path.stem}")
    vars(module)["__file__"] = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        raise UnsupportedModel(f"{path} does not run: {where(error, path)}") from error
    return OwnFile(path, module)


def where(error: BaseException, *paths: Path) -> str:
    """`net.py line 12: NameError: name 'x' is not defined`, on one line; without a place where the
    error came from no line of `paths`.
    """
    names = {str(path): path.name for path in paths}
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{names[f.filename]} line {f.lineno}: " for f in frames if f.filename in names]
    if isinstance(error, SyntaxError) and error.filename in names:
        places = [f"{names[error.filename]} line {error.lineno}: "]
    text = " ".join(str(error).split())
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
    return f"{places[-1] if places else ''}{type(error).__name__}: {shown}"


@contextmanager
def blamed(done: str, *names: str) -> Iterator[None]:
    """What fails inside is put down to those of `names` that are a person's own, in one line that
    says what can't be `done`. Where none of them is, it is a bug of ours and keeps its traceback.
    """
    try:
        yield
    except MobileTLError as error:
        # torch.fx adds lines of its own to what is raised while it runs a graph.
        message, cut, _ = str(error).partition("\n")
        if not cut:
            raise
        raise type(error)(message) from error
    except Exception as error:
        own = [name for name in names if is_own(name)]
        if not own:
            raise
        found = where(error, *(Path(_path_of(name)).absolute() for name in own))
        raise UnsupportedModel(
            f"{' with '.join(map(title_of, own))} can't be {done}: {found}"
        ) from error


def refuse(title: str, problems: Iterable[str], page: str) -> None:
    """Raise UnsupportedModel that names the first of `problems`, if there are any."""
    found = list(problems)
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise UnsupportedModel(
            f"{title} can't be used as it is: {'; '.join(found[:_SHOWN])}{more} ({page})"
        )


def _path_of(name: str) -> str:
    """`nets/mnasnet.py` of `nets/mnasnet.py:build`, and of a name without a colon all of it."""
    return name.rpartition(":")[0] or name
