"""What `Session.load` promises, checked on a session of any runtime."""

from __future__ import annotations

from typing import Callable

import numpy as np
import pytest

from mobiletl.device.bundle.arrays import Floats, Labels, Tensors
from mobiletl.device.errors import BadState
from mobiletl.device.sessions.session import Session


def assert_load_is_as_opened(
    open_with: Callable[[Tensors], Session],
    first: Tensors,
    second: Tensors,
    h: Floats,
    labels: Labels,
) -> None:
    """Going on from a state that was loaded gives the bits of a session opened with it."""

    def two_steps(session: Session) -> list[float]:
        return [session.train_step(h, labels, 0.05).loss for _ in range(2)]

    with open_with(second) as opened:
        losses = two_steps(opened)
        expected = {name: tensor.copy() for name, tensor in opened.state().items()}
        answered = opened.embed(h)
    given = {name: tensor.copy() for name, tensor in second.items()}
    with open_with(first) as session:
        two_steps(session)
        session.load(given)
        # A copy was taken: what happens to the caller's arrays afterwards does not matter.
        for tensor in given.values():
            tensor[...] = np.nan
        assert two_steps(session) == losses
        found = session.state()
        assert list(found) == list(expected)
        for name, tensor in expected.items():
            assert found[name].tobytes() == tensor.tobytes(), name
        again = session.embed(h)
        np.testing.assert_array_equal(again.logits, answered.logits)
        np.testing.assert_array_equal(again.embeddings, answered.embeddings)
        _refuses_what_does_not_fit(session, second)


def _refuses_what_does_not_fit(session: Session, state: Tensors) -> None:
    before = {name: tensor.copy() for name, tensor in session.state().items()}
    name = next(name for name in state if state[name].ndim)
    for broken in (
        {key: tensor for key, tensor in state.items() if key != name},
        {**state, "more": state[name]},
        {**state, name: state[name][:-1]},
        {**state, name: state[name].astype(np.float64)},
    ):
        with pytest.raises(BadState, match="does not fit this session"):
            session.load(broken)
    after = session.state()
    assert all(after[key].tobytes() == tensor.tobytes() for key, tensor in before.items())
