"""The pictures of a run: found, understood, and within the memory that the run may take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Mapping, Sequence

from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.decode import TO_DECODE
from mobiletl.device.bundle.manifest import Input
from mobiletl.device.memory.plan import decoded_bytes, decoding_room
from mobiletl.device.pictures.dataset import Dataset, open_dataset
from mobiletl.device.pictures.needs import needs_of
from mobiletl.device.printable import printable
from mobiletl.device.run.options import Options

# So many bytes above what the plan has for any pictures are told.
WORTH_SAYING = 5_000_000


def find_pictures(
    options: Options, bundle: Bundle, values: dict[str, Any], known: Sequence[str]
) -> Dataset:
    """Return the pictures, by the settings `values`, of all classes and those `known`.

    See `within_limit`. Raises BadPictures, PicturesAway.
    """
    dataset = opened_dataset(options, bundle.manifest.input, values, known)
    return within_limit(options, bundle, values, known, dataset)


def within_limit(
    options: Options,
    bundle: Bundle,
    values: dict[str, Any],
    known: Sequence[str],
    dataset: Dataset,
) -> Dataset:
    """Return `dataset`, which the settings `values` gave, as it is within the limit of memory.

    Where a person's limit of memory holds only without the largest pictures, these are left out,
    and `values` says so, so that a resumed run leaves them out again. Raises BadPictures,
    PicturesAway.
    """
    size = bundle.manifest.input
    if options.max_memory is not None:
        room = decoding_room(
            options.max_memory,
            bundle.manifest,
            values["batch"],
            len(dataset.class_names),
            values["micro_batch"],
            values["runtime"],
            dataset.pictures,
        )
        # With less the plan is too large whatever the pictures are, and is refused as such.
        if decoded_bytes(size) <= room < dataset.decoding_bytes:
            values["decode_memory"] = room
            dataset = opened_dataset(options, size, values, known)
    return replace(dataset, notes=(*dataset.notes, *_notes(dataset, size)))


def opened_dataset(
    options: Options, size: Input, values: Mapping[str, Any], known: Sequence[str]
) -> Dataset:
    """Open the data folder as the settings `values` say."""
    needs = needs_of(size, values["decode_memory"])
    split, seed = values["val_split"], values["seed"]
    wanted = options.classes
    if wanted is None:
        return open_dataset(options.data, split, seed, known, values["layout"], needs)
    return open_dataset(options.data, split, seed, wanted, values["layout"], needs).only(wanted)


def _notes(dataset: Dataset, size: Input) -> list[str]:
    """Say which picture sets the plan, and how many were too large for it."""
    notes = []
    if dataset.decoding_bytes > decoded_bytes(size) + WORTH_SAYING:
        notes.append(
            f"{printable(dataset.heaviest)} takes {dataset.decoding_bytes / 1e6:.0f} MB while it "
            "is decoded, which are planned; --decode-memory leaves out what takes more than it says"
        )
    too_large = sum(TO_DECODE in entry.reason for entry in dataset.skipped)
    if too_large:
        notes.append(
            f"{too_large} pictures take more than {dataset.decode_limit / 1e6:.0f} MB to decode "
            "and are left out; make them smaller, or allow more with --decode-memory"
        )
    return notes
