"""A board's part in a sum: the server sees what boards have learned together, and no board's own.

The protocol is SecAgg+ (Bell et al., CCS 2020, https://eprint.iacr.org/2020/704) as Flower has it.
Each board adds random masks to its changes that cancel in the sum of all. A round takes four
messages to each board:

    setup                    the board makes keys, and sends the public ones
    share_keys               it sends parts of its secrets, encrypted for its neighbours
    collect_masked_vectors   it trains, and sends its masked changes
    unmask                   it sends its neighbours' parts, by which the server removes the masks

Flower carries out what the server asks. What is added here: settings with which a server could see
a single board are refused, and masks come from ChaCha20. Flower's own come from a generator with
32 bits of state, which can be tried out.

Letters: B boards that are asked, S parts of a secret, T parts that restore it.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any, Callable, Iterable, Mapping, Sequence

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.common import ndarrays_to_parameters
from flwr.common import recorddict_compat as compat
from flwr.common.secure_aggregation.secaggplus_constants import (
    RECORD_KEY_CONFIGS,
    Key,
    Stage,
)
from flwr.common.typing import Code, FitRes, Status

from mobiletl.device.bundle.arrays import Floats, Tensors
from mobiletl.device.bundle.schema import joined
from mobiletl.device.errors import BadRound, MobileTLError
from mobiletl.device.fleet.asked import LEAST_IN_SUM
from mobiletl.device.printable import one_line

# A board with more pictures counts as one with so many: sums have a fixed number of bits.
MOST_WEIGHT = 10_000
# The largest change of a number, in units of `scales_of`; a larger one is cut to it.
CLIPPED_TO = 4.0
MODULUS = 1 << 32
MASKED_BYTES = 8
"""Of one number on its way: Flower sends a number below 2^32 as 64 bits."""

_MASK_BYTES = 4

# The package has a function by the name of its module, so `import` finds that.
flower: Any = import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")


def is_part_of_sum(content: RecordDict) -> bool:
    """Return whether a message asks for a part in a sum, and not for the board's own parameters."""
    return RECORD_KEY_CONFIGS in content.config_records


def take_part(message: Message, context: Context, train: Callable[[], RecordDict]) -> RecordDict:
    """Answer one of the four messages; `train` is called for one, and returns `fit_record`.

    Raises BadRound where the server asks for what could show it a single board, or makes no sense.
    """
    _check(message.content.config_records[RECORD_KEY_CONFIGS])
    try:
        return flower.secaggplus_mod(
            message, context, lambda asked, _: Message(train(), reply_to=asked)
        ).content
    except MobileTLError:
        raise
    # What a damaged message makes Flower's protocol and its ciphers raise is of many kinds.
    except Exception as error:
        said = f"{type(error).__name__}: {one_line(error)}"
        raise BadRound(f"the server's part in the sum makes no sense ({said})") from error


def _check(asked: ConfigRecord) -> None:
    stage = asked.get(Key.STAGE)
    if stage == Stage.SETUP:
        problems = list(_setup_problems(asked))
    elif stage == Stage.UNMASK:
        problems = list(_unmask_problems(asked))
    else:
        problems = []
    if problems:
        raise BadRound(f"the server could see a single board's part: {joined(problems, most=3)}")


def _setup_problems(asked: Mapping[str, Any]) -> Iterable[str]:
    boards, parts, enough = (
        asked.get(key) for key in (Key.SAMPLE_NUMBER, Key.SHARE_NUMBER, Key.THRESHOLD)
    )
    if not isinstance(boards, int) or boards < LEAST_IN_SUM:
        yield f"it asks {boards!r} boards, expected at least {LEAST_IN_SUM}"
    if not isinstance(parts, int) or parts < LEAST_IN_SUM:
        yield f"it asks for {parts!r} parts of a secret, expected at least {LEAST_IN_SUM}"
    # Two groups of neighbours that do not know of each other must not both restore a secret.
    elif not isinstance(enough, int) or not parts < 2 * enough <= 2 * parts:
        yield f"{enough!r} of {parts} parts are enough, expected more than half"
    clipped, steps = asked.get(Key.CLIPPING_RANGE), asked.get(Key.TARGET_RANGE)
    if not isinstance(clipped, float) or not 0 < clipped < math.inf:
        yield f"changes are cut to {clipped!r}, expected a positive number"
    if asked.get(Key.MOD_RANGE) != MODULUS:
        yield f"sums are modulo {asked.get(Key.MOD_RANGE)!r}, expected {MODULUS}"
    elif not isinstance(steps, int) or not isinstance(boards, int) or steps * boards > MODULUS:
        yield f"a number has {steps!r} steps, expected so few that a sum of {boards!r} holds them"
    weight = asked.get(Key.MAX_WEIGHT)
    if not isinstance(weight, float) or weight < MOST_WEIGHT:
        yield f"the largest weight is {weight!r}, expected at least {MOST_WEIGHT}"


def _unmask_problems(asked: Mapping[str, Any]) -> Iterable[str]:
    """Who has the parts of both secrets of a board can take all masks off its changes."""
    there, gone = asked.get(Key.ACTIVE_NODE_ID_LIST), asked.get(Key.DEAD_NODE_ID_LIST)
    if not isinstance(there, list) or not isinstance(gone, list):
        yield "it names no boards to unmask"
    elif len({*there, *gone}) < len(there) + len(gone):
        yield "it names a board as one that has answered and as one that has not"


def fit_record(
    began: Tensors, ended: Tensors, pictures: int, told: Mapping[str, Any]
) -> RecordDict:
    """Return what Flower's protocol masks: changes in units of their scales, in the order of names.

    `told` goes to the server in the clear. Raises BadRound where a number is not finite.
    """
    scales = scales_of(began)
    changes = [
        (ended[name].astype(np.float64) - began[name]) / scales[name] for name in sorted(ended)
    ]
    if not all(np.isfinite(change).all() for change in changes):
        raise BadRound("what the board has learned is not finite")
    weight = min(pictures, MOST_WEIGHT)
    found = FitRes(Status(Code.OK, ""), ndarrays_to_parameters(changes), weight, dict(told))
    return compat.fitres_to_recorddict(found, keep_input=False)


def mean_of(began: Tensors, changes: Sequence[Any], names: Iterable[str]) -> Tensors:
    """Return the parameters of which `changes` are the mean changes, as `fit_record` has them."""
    scales = scales_of(began)
    return {
        name: (began[name] + scales[name] * change).astype(np.float32).reshape(began[name].shape)
        for name, change in zip(sorted(names), changes)
    }


def scales_of(began: Mapping[str, Floats]) -> dict[str, float]:
    """Return the unit of each entry's changes: its largest number, and 1 at least."""
    return {name: max(1.0, float(np.abs(t).max(initial=0.0))) for name, t in began.items()}


def use_strong_masks(module: Any) -> None:
    """Make a module of Flower's protocol draw its masks by `masks_of`.

    A board and its server have to draw the same ones. Raises AttributeError where the module has
    no such name: Flower has changed then, in a release that the extra `fleet` does not name.
    """
    module.pseudo_rand_gen  # noqa: B018
    module.pseudo_rand_gen = masks_of


def masks_of(seed: bytes, modulus: int, shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """Return i64 arrays of `shapes`, uniform below 2^32: the key stream of ChaCha20 for `seed`."""
    if modulus != MODULUS:
        raise BadRound(f"masks are below {modulus}, expected {MODULUS}")
    digest = hashes.Hash(hashes.SHA256())
    digest.update(seed)
    # A key is used for one stream only, so the stream may begin anywhere.
    stream = Cipher(algorithms.ChaCha20(digest.finalize(), bytes(16)), mode=None).encryptor()
    masks = []
    for shape in shapes:
        zeros = bytes(_MASK_BYTES * int(np.prod(shape, dtype=np.int64)))
        drawn = np.frombuffer(stream.update(zeros), "<u4")
        masks.append(drawn.astype(np.int64).reshape(shape))
    return masks


use_strong_masks(flower)
