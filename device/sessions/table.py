"""The runtimes a session can run on, a row each; the first one that a bundle serves and that is
installed is the default.

A row owns what is particular to its runtime. Nothing is imported for it: the doctor reads the table
where nothing is installed.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from mobiletl.device.errors import UsageError
from mobiletl.device.sessions.freed import GIVEN_BACK_BYTES

# With onnxruntime 1.19.2, measured as GIVEN_BACK_BYTES was, on Python 3.8: 13.6 to 14.1 MB.
GIVEN_BACK_TO_1_19 = 13_900_000
# More than any board has cores; thousands take minutes to start, and all of the memory.
MOST_THREADS = 64


@dataclass(frozen=True)
class Import:
    """By how many bytes one release makes a process at rest grow, loaded functions included.

    Measured on x86-64 Linux with CPU builds: the resident memory of
    `mobiletl.export.memory.at_rest` with the functions of MobileNetV2, 3 blocks, less that without
    any and less their weights. Stock onnxruntime's are the same in three processes of three to
    0.2 MB. Of the others it is what the measured peaks of runs left for it.
    """

    release: tuple[int, ...]
    bytes: int
    code: int = GIVEN_BACK_BYTES
    """Of code that only a start has run: what is added where code stays in memory."""


@dataclass(frozen=True)
class Runtime:
    """One row: a module with `open_session(bundle, classes, state, threads, activations)`."""

    name: str
    module: str
    package: str
    """What has to be importable; empty for the one that needs nothing and no files of a bundle."""
    distribution: str
    """What the package index calls it."""
    install: str
    """The command that installs it."""
    imports: tuple[Import, ...] = ()
    """By rising release."""
    copies_while_loading: int = 0
    """How many more copies of the frozen weights it holds while it loads `features`."""
    copies_of_state: int = 0
    """How many more copies of the state it holds: gradients, and a file put together in memory."""
    regions: bool = False
    """Whether its tensors lie in regions of memory, with lists of them (arena.py)."""
    roles: tuple[str, ...] = ()
    """What its files in a bundle must be for."""
    runs_code: bool = False
    """Whether its files are programs, which may do more than arithmetic (trust.py)."""
    fixed: bool = False
    """Whether its files are of one N and one K."""
    shared: bool = False
    """Whether several threads may predict with one session at the same time."""

    @property
    def in_bundle(self) -> bool:
        """Whether it runs files that the manifest's `runtimes` names."""
        return bool(self.package)

    def installed(self) -> bool:
        """Whether the package is there; of a package inside another the outer one is imported."""
        try:
            return not self.package or importlib.util.find_spec(self.package) is not None
        except ModuleNotFoundError:
            return False


STOCK = "onnxruntime"
RUNTIMES: tuple[Runtime, ...] = (
    Runtime(
        STOCK,
        "mobiletl.device.sessions.onnxruntime",
        package="onnxruntime",
        distribution="onnxruntime",
        install='pip install "onnxruntime>=1.16.3,!=1.21.0"',
        imports=(
            Import((1, 16, 3), 17_500_000, code=GIVEN_BACK_TO_1_19),
            Import((1, 17, 0), 18_400_000, code=GIVEN_BACK_TO_1_19),
            Import((1, 19, 2), 19_200_000, code=GIVEN_BACK_TO_1_19),
            Import((1, 20, 0), 19_000_000),
            Import((1, 31, 1), 24_000_000),
        ),
        # While it optimises the graph it holds the weights as parsed and as reordered, too: 1.6
        # times their bytes (1.31.1, x86-64). The other functions it loads as they are.
        copies_while_loading=2,
        regions=True,
        roles=("features", "train_step", "predict"),
        shared=True,
    ),
    Runtime(
        "onnxruntime-training",
        "mobiletl.device.sessions.onnxruntime_training.session",
        package="onnxruntime.training",
        distribution="onnxruntime-training-cpu",
        install="pip install onnxruntime-training-cpu==1.19.2 torch "
        "(Linux on x86-64, Python 3.8 to 3.11)",
        imports=(Import((1, 19, 2), 243_600_000),),
        copies_of_state=1,
        regions=True,
        roles=("features", "training_model", "eval_model", "optimizer_model", "checkpoint"),
    ),
    Runtime(
        "executorch",
        "mobiletl.device.sessions.executorch",
        package="executorch",
        distribution="executorch",
        install="pip install executorch==1.5.1 torch==2.13.0",
        imports=(Import((1, 5, 1), 215_100_000),),
        roles=("program",),
        runs_code=True,
        fixed=True,
    ),
    Runtime(
        "torchscript",
        "mobiletl.device.sessions.torchscript",
        package="torch",
        distribution="torch",
        install="pip install torch",
        imports=(Import((2, 13, 0), 228_900_000),),
        roles=("features", "train_step", "predict"),
        runs_code=True,
    ),
    Runtime("fake", "mobiletl.device.sessions.fake", package="", distribution="", install=""),
)


def known_runtime(name: str) -> Runtime:
    """Return the row called `name`; raises UsageError that lists the known ones."""
    for row in RUNTIMES:
        if row.name == name:
            return row
    known = ", ".join(row.name for row in RUNTIMES if row.in_bundle)
    raise UsageError(f"runtime {name!r} is unknown; known are {known}")
