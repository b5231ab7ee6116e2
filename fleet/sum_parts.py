"""What boards send for a sum, read before Flower's protocol sees it.

That protocol ends the server's process where a part is not as it should be. Such a part is an error
of its board here, and the round goes on without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Callable

import numpy as np
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.common import bytes_to_ndarray
from flwr.common import recorddict_compat as compat
from flwr.common.secure_aggregation.crypto.symmetric_encryption import bytes_to_public_key
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.serverapp import Grid

from mobiletl.device.errors import BadRound
from mobiletl.device.fleet.client_app import FAILED, PICTURES
from mobiletl.device.fleet.sums import MODULUS
from mobiletl.device.fleet.wire import Shape
from mobiletl.device.printable import one_line
from mobiletl.fleet.checking import figures_of


class Checked:
    """Sends for the protocol, and keeps the errors that boards have answered instead."""

    def __init__(self, grid: Grid, shapes: list[Shape]) -> None:
        """`shapes` are those of the arrays that boards mask."""
        self._grid = grid
        # The protocol puts a board's weight before them.
        self._shapes = [(1,), *shapes]
        self.errors: list[Message] = []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None) -> Any:
        asked = {message.metadata.dst_node_id: message for message in messages}
        stages = {b: str(_configs(m.content)[Key.STAGE]) for b, m in asked.items()}
        replies = []
        for reply in self._grid.send_and_receive(asked.values(), timeout=timeout):
            board = reply.metadata.src_node_id
            replies.append(reply)
            if not reply.has_error():
                try:
                    self._read(stages[board], reply.content)
                except BadRound as error:
                    replies[-1] = Message(Error(FAILED, str(error)), reply_to=asked[board])
        self.errors += [reply for reply in replies if reply.has_error()]
        return replies

    def _read(self, stage: str, content: RecordDict) -> None:
        try:
            _READERS[stage](_configs(content), content, self._shapes)
        # What is missing, of another type or unreadable: a board may send anything.
        except Exception as error:
            said = f"{stage}: {type(error).__name__} {one_line(error)}"
            raise BadRound(f"its part in the sum makes no sense: {said}") from error


def _configs(content: RecordDict) -> ConfigRecord:
    return content.config_records[RECORD_KEY_CONFIGS]


def _read_keys(part: ConfigRecord, content: RecordDict, shapes: list[Shape]) -> None:
    for key in (Key.PUBLIC_KEY_1, Key.PUBLIC_KEY_2):
        bytes_to_public_key(part[key])


def _read_pairs(first: str, second: str) -> Callable[..., None]:
    def read(part: ConfigRecord, content: RecordDict, shapes: list[Shape]) -> None:
        numbers, texts = part[first], part[second]
        if len(numbers) != len(texts):
            raise ValueError(f"{len(numbers)} boards and {len(texts)} parts")
        if not all(isinstance(n, int) for n in numbers):
            raise TypeError("a board's number is none")
        if not all(isinstance(text, bytes) for text in texts):
            raise TypeError("a part is not of bytes")

    return read


def _read_masked(part: ConfigRecord, content: RecordDict, shapes: list[Shape]) -> None:
    arrays = [bytes_to_ndarray(text) for text in part[Key.MASKED_PARAMETERS]]
    if [array.shape for array in arrays] != shapes or any(a.dtype != np.int64 for a in arrays):
        raise ValueError("the masked numbers are of other shapes or types")
    if any(((array < 0) | (array >= MODULUS)).any() for array in arrays):
        raise ValueError(f"a masked number is not below {MODULUS}")
    figures = compat.recorddict_to_fitres(content, keep_input=True)
    figures_of({PICTURES: figures.num_examples, **figures.metrics})


_READERS: dict[str, Callable[..., None]] = {
    Stage.SETUP: _read_keys,
    Stage.SHARE_KEYS: _read_pairs(Key.DESTINATION_LIST, Key.CIPHERTEXT_LIST),
    Stage.COLLECT_MASKED_VECTORS: _read_masked,
    Stage.UNMASK: _read_pairs(Key.NODE_ID_LIST, Key.SHARE_LIST),
}
