"""Flower's SuperNode as a child that ends with its parent, which may be killed."""

from __future__ import annotations

import sys

from flwr.supercore.app_utils import start_parent_process_monitor
from flwr.supernode.cli import flower_supernode


def main() -> None:
    """Run `flower-supernode` with the arguments behind the first, which is the parent's id."""
    start_parent_process_monitor(int(sys.argv[1]))
    sys.argv[1:] = sys.argv[2:]
    flower_supernode()


if __name__ == "__main__":
    main()
