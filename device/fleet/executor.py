"""A process that answers one message of the server, started by `mobiletl fleet join` (joining.py).

Flower means to load a ClientApp out of an archive that the server sends along with a run. Whoever
has the server would then have every board. Here that archive is never unpacked: the code that
answers is what is installed on the board, whatever the server sends.
"""

from __future__ import annotations

import argparse
from typing import Any, Callable, Sequence

from flwr.supernode.runtime import run_clientapp as runtime


def main(argv: Sequence[str] | None = None) -> None:
    """Answer the message that `--token` stands for, and end."""
    parser = argparse.ArgumentParser()
    for flag in ("--clientappio-api-address", "--token", "--flwr-dir"):
        parser.add_argument(flag, required=True)
    parser.add_argument("--parent-pid", type=int, required=True)
    parser.add_argument("--insecure", action="store_true", help="the address is this board's own")
    given = parser.parse_args(argv)
    use_installed_app(runtime)
    runtime.run_clientapp(
        clientappio_api_address=given.clientappio_api_address,
        token=given.token,
        flwr_dir=given.flwr_dir,
        parent_pid=given.parent_pid,
    )


def use_installed_app(module: Any) -> None:
    """Make Flower's `run_clientapp` load the installed ClientApp, and unpack nothing.

    These two names are all by which it reaches the archive, in the release that the extra `fleet`
    names; a test sends an archive with code in it. Raises AttributeError where they are missing.
    """
    for name in ("install_from_fab", "get_load_client_app_fn"):
        getattr(module, name)
    module.install_from_fab = _leave_packed
    module.get_load_client_app_fn = _installed


def _leave_packed(content: bytes, **_: Any) -> None:
    """Do nothing with the archive."""


def _installed(**_: Any) -> Callable[..., Any]:
    def load(*_: str) -> Any:
        from mobiletl.device.fleet.client_app import app

        return app

    return load


if __name__ == "__main__":
    main()
