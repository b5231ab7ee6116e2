"""`mobiletl service`: print a systemd unit that trains in the background, within the memory plan.

The unit starts a run or goes on with it, whichever fits: after a power cut, a crash or a restart of
the board it does the next thing by itself. A finished run ends at once, with success.
"""

from __future__ import annotations

if not __package__:
    import importlib

    importlib.import_module("_script").register()

import argparse
import getpass
import os
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Sequence

from mobiletl.device import errors
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.bundle.state_file import previous_generation
from mobiletl.device.commands import settings
from mobiletl.device.commands.flags import at_blocks, below_least, chosen_bundle
from mobiletl.device.commands.parser import Parser
from mobiletl.device.commands.table import guarded
from mobiletl.device.commands.unit import unit_text, unit_word
from mobiletl.device.diagnosis.checks import HEADROOM
from mobiletl.device.errors import UsageError
from mobiletl.device.memory import plan as memory
from mobiletl.device.pictures.dataset import open_dataset
from mobiletl.device.pictures.needs import needs_of
from mobiletl.device.run.checkpoints import RunFolder
from mobiletl.device.run.level import picked_level
from mobiletl.device.run.options import DEFAULTS
from mobiletl.device.sessions.runtimes import choose_runtime, static_batch

EXAMPLES = """\
to paste:
  mobiletl service --bundle mbv2 --data photos --out runs/first > mobiletl.service
  sudo cp mobiletl.service /etc/systemd/system/ && sudo systemctl daemon-reload
  sudo systemctl enable --now mobiletl && journalctl -fu mobiletl
  mobiletl service --bundle mbv2 --data photos --out runs/first --epochs 20 --cpu-percent 50
"""
LEAST = {"cpu_percent": 1}
# These need a person; starting again would end the same way, over and over.
NEED_A_PERSON = (
    errors.UsageError,
    errors.BadPictures,
    errors.BadBundle,
    errors.BadState,
    errors.NoSpace,
    errors.Diverged,
    errors.MissingDependency,
    errors.Untrusted,
)
UNIT = """\
# Written by `mobiletl service`. MemoryMax is the plan, {plan:.1f} MB, and a tenth. It does nothing
# where the kernel's memory cgroup is off, as on Raspberry Pi OS: `mobiletl doctor` says.
[Unit]
Description=mobiletl: fine-tune {bundle} on {data}
RequiresMountsFor={mounts}
# What fails again and again, without a code of its own, needs a person.
StartLimitIntervalSec=1d
StartLimitBurst=10

[Service]
User={user}
WorkingDirectory={folder}
ExecStart=/bin/sh -c {script}
Nice=10
IOSchedulingClass=idle
CPUQuota={quota}%
MemoryMax={limit}
MemorySwapMax=0
Restart=on-failure
RestartSec=30
# Stopped on request: the state is saved.
SuccessExitStatus={stopped}
RestartPreventExitStatus={hopeless}
# A step, and saving.
TimeoutStopSec=120
PrivateTmp=true
NoNewPrivileges=true

[Install]
WantedBy=multi-user.target
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(lambda: _service(_parser().parse_args(argv)), argv)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="mobiletl service",
        description="Print a systemd unit that trains with low priority inside the memory plan.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    add("--bundle", metavar="DIR", help="default: the folder above this script, if it is one")
    add("--data", metavar="DIR", required=True, help="folder of pictures")
    add("--out", metavar="DIR", required=True, help="folder of the run")
    settings.add_settings(parser)
    settings.add_resources(parser)
    add("--user", default=_user(), help="who trains (default: you)")
    add(
        "--cpu-percent",
        type=int,
        default=200,
        help="of one core, so 400 is all of a Raspberry Pi (default: 200)",
    )
    return parser


def _user() -> str:
    """Return the login name, or the number of a user that has none, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid())


def _service(options: argparse.Namespace) -> int:
    problems = settings.problems(options) + below_least(options, LEAST)
    if not re.fullmatch(r"[\w.-]+", options.user):
        problems.append(f"--user is {options.user!r}, expected a login name")
    if problems:
        raise UsageError("; ".join(problems))
    bundle = at_blocks(open_bundle(chosen_bundle(options.bundle).resolve()), options.blocks)
    values = {**DEFAULTS, **settings.given(options)}
    runtime = choose_runtime(bundle, options.runtime)
    batch = values["batch"] if "batch" in settings.given(options) else static_batch(bundle, runtime)
    needs = needs_of(bundle.manifest.input, values["decode_memory"])
    split, seed, layout = values["val_split"], values["seed"], values["layout"]
    dataset = open_dataset(Path(options.data).resolve(), split, seed, (), layout, needs)
    # Pictures that come later may be larger than those that are there, but MemoryMax stays.
    decoding = max(dataset.decoding_bytes, memory.decoded_bytes(bundle.manifest.input))
    dataset = replace(dataset, decoding_bytes=decoding)
    if bundle.levels and options.blocks is None:
        if options.max_memory is not None:
            sizes = {**values, "batch": batch or values["batch"], "runtime": runtime.name}
            bundle, _ = picked_level(bundle, options.max_memory, sizes, dataset)
        # MemoryMax is this level's, whatever pictures come later.
        options.blocks = bundle.manifest.method.blocks
    plan = memory.plan(
        bundle.manifest,
        batch or values["batch"],
        len(dataset.class_names),
        values["micro_batch"],
        runtime.name,
        decoding,
        dataset.pictures,
    )
    options.decode_memory = decoding
    run = Path(options.out).absolute()
    mounts = (bundle.path, dataset.root, run)
    print(
        UNIT.format(
            plan=plan.total_bytes / 1e6,
            bundle=unit_text(bundle.path.name),
            data=unit_text(dataset.root.name),
            mounts=" ".join(unit_word(str(path)) for path in mounts),
            user=options.user,
            folder=unit_text(str(Path.cwd())),
            # A command line is the one place where systemd replaces variables.
            script=unit_word(_script(bundle.path, dataset.root, run, options)).replace("$", "$$"),
            quota=options.cpu_percent,
            limit=round(plan.total_bytes * HEADROOM),
            stopped=errors.Interrupted.exit_code,
            hopeless=" ".join(str(kind.exit_code) for kind in NEED_A_PERSON),
        ),
        end="",
    )
    return 0


def _script(bundle: Path, data: Path, run: Path, options: argparse.Namespace) -> str:
    """One line of shell that goes on with the run in `run`, or starts it there."""
    folder = RunFolder(run)
    train = [sys.executable, str(Path(__file__).resolve().with_name("train_on_board.py"))]
    train += ["--bundle", str(bundle), "--data", str(data)]
    train += settings.as_arguments(_parser(), options)
    states = (folder.last, previous_generation(folder.last), folder.best)
    there = " || ".join(f"[ -e {shlex.quote(str(state))} ]" for state in states)
    return (
        f"if {there}; then how=--resume; else how=--out; fi; "
        f'exec {" ".join(map(shlex.quote, train))} "$how" {shlex.quote(str(run))}'
    )


if __name__ == "__main__":
    raise SystemExit(main())
