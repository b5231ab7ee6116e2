"""The `mobiletl` command: a table of commands, and how a command's errors become one line.

Every command is a module with `main(argv=None) -> int` that wraps its work in `guarded`.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import logging
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Callable, Sequence

from mobiletl.device.commands.said import complain, flush_all, open_streams, silence
from mobiletl.device.errors import InternalError, Interrupted, MissingDependency, UsageError
from mobiletl.device.installed import installed_release
from mobiletl.device.printable import printable, say
from mobiletl.device.refusals import of_system

EXPORT_HINT = 'pip install "mobiletl[export]"'
# What `mobiletl export` imports from outside, and our own package: a copied folder lacks it.
EXPORT_MODULES = ("torch", "onnx", "onnxscript", "onnx_ir", "mobiletl")


@dataclass(frozen=True)
class Command:
    """One row. The module is a string, loaded when the command runs: none loads another's."""

    name: str
    module: str
    summary: str
    needs_host: bool = False
    on_board: str = ""
    """The module that does a part of it where the host's packages are missing."""


COMMANDS: tuple[Command, ...] = (
    Command(
        "export",
        "mobiletl.export.commands.export",
        "turn a pretrained network into a bundle (needs PyTorch)",
        needs_host=True,
    ),
    Command(
        "fit",
        "mobiletl.fitting.command",
        "export the most that fits into a board's memory (needs PyTorch)",
        needs_host=True,
    ),
    Command("capture", "mobiletl.device.capture", "take pictures of classes by a camera"),
    Command("train", "mobiletl.device.train_on_board", "fine-tune a bundle on a picture folder"),
    Command("teach", "mobiletl.device.teach", "learn a picture folder in one look, untrained"),
    Command("predict", "mobiletl.device.predict", "name what is in pictures"),
    Command("inspect", "mobiletl.device.inspect_bundle", "show what is in a bundle"),
    Command("review", "mobiletl.device.review", "write a page on what a run gets wrong"),
    Command(
        "finish",
        "mobiletl.export.commands.finish",
        "write a trained state as one file for inference (without PyTorch: ONNX)",
        needs_host=True,
        on_board="mobiletl.device.finish",
    ),
    Command(
        "account",
        "mobiletl.export.commands.account",
        "what training costs on paper: parameters, FLOPs, memory (needs PyTorch)",
        needs_host=True,
    ),
    Command("doctor", "mobiletl.device.doctor", "say what would fail on this board"),
    Command("trim", "mobiletl.device.trim", "remove from this environment what no board uses"),
    Command("studio", "mobiletl.device.studio_server", "serve a page to collect, teach and train"),
    Command("fleet", "mobiletl.fleet.commands.fleet", "learn together with other boards"),
    Command("service", "mobiletl.device.service", "print a systemd unit that trains"),
)

EXAMPLES = """\
to paste:
  mobiletl export --model mbv2 --out artifacts/mbv2
  mobiletl inspect --bundle artifacts/mbv2
  mobiletl teach --bundle artifacts/mbv2 --data photos/
  mobiletl train --bundle artifacts/mbv2 --data photos/
  mobiletl predict --bundle artifacts/mbv2 --state runs/first/state.safetensors picture.jpg
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mobiletl COMMAND ...` and return its exit code (docs/exit-codes.md)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _dispatch(arguments), arguments)


def guarded(body: Callable[[], int], argv: Sequence[str] | None = ()) -> int:
    """Run `body`; turn an error raised on purpose into one line and its exit code.

    What the system refuses is one, too. Any other exception is a bug of ours and keeps its
    traceback, with which Python exits 1. A stream that nobody reads changes no exit code. `argv`
    are the command's words, None for the process's own: with --json an error is an object, too.
    """
    open_streams()
    tell_warnings()
    as_json = "--json" in (sys.argv[1:] if argv is None else argv)
    try:
        code = _ended(body, as_json)
    except BrokenPipeError:
        # Whoever read our output (`| head`) has enough.
        silence("stdout")
        return 0
    try:
        flush_all()
    except BrokenPipeError:
        silence("stdout")
    except OSError as error:
        silence("stdout")
        refusal = of_system(error)
        complain(f"mobiletl: the output cannot be written; {refusal}")
        return code or refusal.exit_code
    return code


def _ended(body: Callable[[], int], as_json: bool) -> int:
    error: Exception
    try:
        return body()
    except SystemExit as stop:  # argparse, after --help
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        error = Interrupted("stopped")
    except BrokenPipeError:
        raise
    except Exception as raised:
        error = of_system(raised) if isinstance(raised, OSError) else raised
        if exit_code_of(error) is None:
            raise
    code = exit_code_of(error) or InternalError.exit_code
    complain(f"mobiletl: {error}")
    if as_json and not getattr(error, "answered", False):
        # Whether anybody reads it changes no exit code.
        with contextlib.suppress(OSError, ValueError):
            print(json.dumps(error_document(error, code)), flush=True)
    return code


def error_document(error: Exception, code: int) -> dict[str, Any]:
    """Return what --json prints in place of an answer (docs/json.md)."""
    kind = type(error).__name__
    return {"error": {"class": kind, "exit_code": code, "message": str(error)}}


class _Warnings(logging.Handler):
    """Says what the log warns of, as everything else is said."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads any more
            say(f"warning: {printable(record.getMessage())}", sys.stderr)


def tell_warnings() -> None:
    """Let warnings of the log be told on standard error; without this Python writes them raw."""
    logger = logging.getLogger("mobiletl")
    if not any(isinstance(handler, _Warnings) for handler in logger.handlers):
        logger.addHandler(_Warnings(logging.WARNING))


def exit_code_of(error: BaseException) -> int | None:
    """Return the exit code of an error raised on purpose, None for any other exception.

    The host has its own tree of errors, which this part must not import. Both trees have a base
    class of the same name with the same attribute, and this is the only place that relies on it.
    """
    bases = [kind.__name__ for kind in type(error).__mro__]
    code = getattr(error, "exit_code", None)
    return code if "MobileTLError" in bases and isinstance(code, int) else None


def _dispatch(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else UsageError.exit_code
    if arguments[0] == "--version":
        print(f"mobiletl {installed_release('mobiletl')}")
        return 0
    name, rest = arguments[0], arguments[1:]
    for command in COMMANDS:
        if command.name == name:
            run: Callable[[Sequence[str]], int] = _load(command).main
            return run(rest)
    names = [command.name for command in COMMANDS]
    near = difflib.get_close_matches(name, names, 1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    raise UsageError(f"there is no command {name!r}{meant}; the commands are {', '.join(names)}")


def usage() -> str:
    """Return the help: every command with a line."""
    rows = [f"  {command.name:<10}{command.summary}" for command in COMMANDS]
    return "\n".join(
        [
            "usage: mobiletl COMMAND [flags], or mobiletl --version",
            "",
            "commands (each has its own --help):",
            *rows,
            "",
            EXAMPLES,
        ]
    )


def _load(command: Command) -> ModuleType:
    try:
        return importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if not command.needs_host or missing not in EXPORT_MODULES:
            raise
        if command.on_board:
            return importlib.import_module(command.on_board)
        raise MissingDependency(
            f"`mobiletl {command.name}` needs {error.name}, which is not installed; "
            f"on the host: {EXPORT_HINT}"
        ) from error
