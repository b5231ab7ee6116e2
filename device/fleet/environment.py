"""What Flower's programs are started with, on boards and on the server."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def flower_environment(home: Path) -> dict[str, str]:
    """Return what to add to a process's environment, before anything of Flower is imported.

    `home` is where Flower keeps its own files.
    """
    own = str(Path(sys.executable).parent)
    return {
        "FLWR_HOME": str(home),
        # Flower tells its makers how it is used, unless it is told not to.
        "FLWR_TELEMETRY_ENABLED": "0",
        # Flower's programs start each other by name.
        "PATH": f"{own}{os.pathsep}{os.environ.get('PATH', '')}",
        # Flower starts programs from processes that use gRPC. What gRPC does to go on in a fork
        # then runs in the child before it becomes that program, and kills it now and then.
        "GRPC_ENABLE_FORK_SUPPORT": "false",
    }
