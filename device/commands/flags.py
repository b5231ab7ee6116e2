"""What the commands' flags share: their limits, and the bundle that is meant by default."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Mapping

from mobiletl.device.errors import UsageError
from mobiletl.device.run import limits

if TYPE_CHECKING:
    from mobiletl.device.bundle.bundle import Bundle


def below_least(flags: argparse.Namespace, least: Mapping[str, int]) -> list[str]:
    """Say which flags are given and smaller than `least` allows."""
    return limits.below_least(vars(flags), least, flags=True)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add what a person says of a bundle that was made elsewhere."""
    parser.add_argument(
        "--trust-bundle",
        action="store_true",
        help="run TorchScript and ExecuTorch files, which are programs, of a bundle from elsewhere",
    )
    add_signature(parser)


def add_signature(parser: argparse.ArgumentParser) -> None:
    """Add whose bundles alone are opened."""
    parser.add_argument(
        "--require-signature",
        metavar="KEYFILE",
        help="open a bundle only if this public key of minisign has signed it",
    )


def add_blocks(parser: argparse.ArgumentParser, help: str) -> None:
    """Add which level of a bundle is meant."""
    parser.add_argument("--blocks", type=int, metavar="K", help=help)


def at_blocks(bundle: Bundle, blocks: int | None) -> Bundle:
    """Return `bundle` at the level that `--blocks` names, if it does; raises UsageError."""
    return bundle if blocks is None else bundle.at(blocks)


def chosen_bundle(named: str | None) -> Path:
    """Return the bundle a person named, else the one whose `device/` folder this file is in."""
    if named is not None:
        return Path(named)
    above = Path(__file__).resolve().parents[2]
    if (above / "manifest.json").is_file():
        return above
    raise UsageError("no bundle named; give the folder that `mobiletl export` wrote with --bundle")
