"""`python -m mobiletl.fleet.commands`: the same as `mobiletl fleet`."""

from __future__ import annotations

import sys

from mobiletl.fleet.commands.fleet import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
