"""What a state file may say of the run that wrote it: its settings, and how far it was.

Only types and ranges: what they mean is known where runs are resumed (run/checkpoints.py). Keys
that a state lacks are noticed there; another release may have written others besides.
"""

from __future__ import annotations

from mobiletl.device.bundle.schema import (
    both,
    fields,
    flag,
    integer,
    label,
    list_of,
    mapping,
    nullable,
    number,
    one_of,
    text,
)

_COUNT = integer()
# A saved loss may be any finite number.
_SCORE = fields(
    {}, {"loss": number(), "class_correct": list_of(_COUNT), "class_seen": list_of(_COUNT)}
)
_BEST = fields({}, {"epoch": _COUNT, "score": _SCORE, "top": number(minimum=0.0, maximum=1.0)})
SETTINGS_OF_RUN = fields(
    {},
    {
        "epochs": integer(minimum=1),
        "batch": integer(minimum=1, maximum=1 << 20),
        "lr": number(above=0.0),
        "seed": integer(maximum=2**63 - 1),
        "augment": flag(),
        "views": integer(maximum=1 << 20),
        "start": one_of("closed-form", "random"),
        "val_split": number(above=0.0, maximum=1.0),
        "micro_batch": integer(minimum=1, maximum=1 << 20),
        "runtime": label(),
        "pictures": label(),
        "layout": label(),
        "decode_memory": integer(),
        "threads": integer(maximum=1 << 20),
        "blocks": integer(maximum=1 << 20),
        "begins": text(r"[0-9a-f]*", "hex digits"),
    },
)
_POSITION = fields(
    {},
    {
        "epoch": _COUNT,
        "step": _COUNT,
        "loss_sum": number(),
        "correct": _COUNT,
        "seen": _COUNT,
        "seconds": number(minimum=0.0),
        "cuts": integer(maximum=1000),
        "before": nullable(_SCORE),
        "best": nullable(_BEST),
        "latest": nullable(_SCORE),
    },
)
# What resuming refuses it names.
_NAMED = mapping(label(100), lambda value, path, problems: None)
_KEPT = fields(
    {
        "what": label(),
        "score": _SCORE,
        "penalty": number(minimum=0.0),
        "scale": number(above=0.0),
        "gain": nullable(number()),
    }
)
SETTINGS = fields(
    {},
    {
        "run": both(_NAMED, SETTINGS_OF_RUN),
        "position": both(_NAMED, _POSITION),
        "kept": _KEPT,
    },
)
