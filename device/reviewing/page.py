"""The findings as one HTML page that needs no server and loads nothing from anywhere.

Whatever comes from outside, class names and file names, is escaped: as HTML, and what would turn
the direction of writing or does not print as a backslash escape. The page is made piece by piece,
with one thumbnail in memory at a time.
"""

from __future__ import annotations

import html
import math
from typing import Callable, Iterator, Sequence

from mobiletl.device.printable import printable
from mobiletl.device.reviewing.curve import (
    ENOUGH_ALREADY,
    GAINS,
    HELD_OUT,
    LEVEL,
    UNCLEAR,
    ClassCurve,
)
from mobiletl.device.reviewing.findings import TRAIN, VAL, Answer, Copies, Findings, counted
from mobiletl.device.reviewing.scores import Share
from mobiletl.device.reviewing.style import CSS

# A larger table of confusions cannot be read; the commonest ones are listed instead.
MOST_CLASSES = 40
MOST_CONFUSIONS = 30
# Above so many validation pictures their own accuracy says enough.
FEW_PICTURES = 400
PARTS = {TRAIN: "training", VAL: "validation"}
VERDICTS = {
    GAINS: "more pictures help",
    ENOUGH_ALREADY: "has enough",
    LEVEL: "no longer gains",
    UNCLEAR: "cannot be told yet",
}
# Nothing may be loaded or run, whatever a name smuggles in.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

# Returns a picture as a data URI, or None where it cannot be decoded; takes its relative path.
Thumbnail = Callable[[str], "str | None"]


def page(found: Findings, thumbnail: Thumbnail, limit: int, command: str) -> Iterator[str]:
    """Yield the page; each list shows `limit` pictures at most, `command` made it."""
    title = f"Review of {escaped(found.opened.folder.path.name or 'a run')}"
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
    )
    yield from _summary(found)
    yield from _accuracy(found)
    yield from _classes(found)
    yield from _confusion(found)
    yield from _worst(found, thumbnail, limit)
    yield from _suspects(found, thumbnail, limit)
    yield from _copies(found, thumbnail, limit)
    yield from _curve(found)
    yield f"</main>\n<footer>\n<h2>How this page was made</h2>\n{_made(found, limit, command)}"
    yield "</footer>\n</body>\n</html>\n"


def escaped(text: str) -> str:
    """Return text from outside so that it is harmless in HTML, attributes included."""
    return html.escape(printable(text), quote=True)


def _name(text: str) -> str:
    """A class or a file; it may be written from right to left."""
    return f"<bdi>{escaped(text)}</bdi>"


def _summary(found: Findings) -> Iterator[str]:
    opened = found.opened
    train, val = found.pictures
    epoch = opened.info.epoch
    state = f"state of epoch {epoch}" if epoch else "state from before the first epoch"
    yield (
        f'<p class="soft">{_many(train, "picture")} to train on and {val} to validate on, in '
        f"{len(found.classes)} classes; {state}.</p>\n"
    )
    copies = counted(found.copies)
    items = [
        f'<a href="#worst">{_many(len(found.worst), "validation picture")}</a> '
        f"of {val} {_verb(len(found.worst), 'is', 'are')} named wrong",
        f'<a href="#labels">{_many(len(found.suspects), "label")}</a> '
        f"{_verb(len(found.suspects), 'is', 'are')} contradicted by the other pictures; look at "
        "the first of them",
        f'<a href="#copies">{_many(copies["across"], "pair")}</a> of a training and a validation '
        "picture that are nearly the same",
        f'<a href="#curve">{escaped(found.sentence)}</a>',
    ]
    yield "<ul>\n" + "".join(f"<li>{item}</li>\n" for item in items) + "</ul>\n"
    if opened.notes:
        notes = "".join(f"<li>{escaped(note)}</li>\n" for note in opened.notes)
        yield f"<p><strong>Please note</strong></p>\n<ul>\n{notes}</ul>\n"


def _accuracy(found: Findings) -> Iterator[str]:
    yield '<h2 id="accuracy">How often it is right</h2>\n<div class="cards">\n'
    yield _card(
        "Best epoch, validation pictures",
        found.best,
        "Somewhat optimistic: of all epochs this one was kept because it did best on these very "
        "pictures.",
    )
    yield _card(
        "Every picture, by a head fitted without it",
        found.held_out,
        "Chosen by nothing, and counted on more pictures: a classifier solved for on the network "
        "as it was before training. Training usually does better than this; wrong labels lower it.",
    )
    yield "</div>\n"
    if found.best.total < FEW_PICTURES:
        yield (
            f"<p>With {_many(found.best.total, 'validation picture')}, chance alone moves the "
            "first figure within its interval. If the two figures are far apart, trust neither: "
            "validate on more pictures.</p>\n"
        )


def _card(title: str, share: Share, text: str) -> str:
    return (
        f'<section class="card">\n<h3>{title}</h3>\n<p class="big">{_percent(share.share)}</p>\n'
        f"<p>{share.right} of {share.total}; 19 times out of 20 the true share is between "
        f'{_percent(share.low)} and {_percent(share.high)}</p>\n<p class="soft">{text}</p>\n'
        "</section>\n"
    )


def _classes(found: Findings) -> Iterator[str]:
    yield (
        '<h2 id="classes">Class by class</h2>\n<div class="wide" tabindex="0" role="region" '
        'aria-label="Accuracy of each class">\n<table>\n<caption><span>Validation pictures of each '
        "class that the best epoch names right. The bar is the interval that holds the true share "
        "19 times out of 20 (Wilson), the mark is what was counted.</span></caption>\n<thead><tr>"
        '<th scope="col">class</th><th scope="col">to train on</th>'
        '<th scope="col">to validate on</th><th scope="col">right</th><th scope="col">accuracy</th>'
        '<th scope="col">from, to</th><th scope="col" class="text">interval</th>'
        "</tr></thead>\n<tbody>\n"
    )
    for one in found.classes:
        best = one.best
        yield (
            f'<tr><th scope="row">{_name(one.name)}</th><td>{one.train}</td><td>{one.val}</td>'
            f"<td>{best.right}</td><td>{_percent(best.share)}</td>"
            f'<td class="figures">{_percent(best.low)} to {_percent(best.high)}</td>'
            f'<td class="text">{_bar(best)}</td></tr>\n'
        )
    yield "</tbody>\n</table>\n</div>\n"


def _bar(share: Share) -> str:
    """An interval as a picture; the cells beside it say the same in figures."""
    low, width = 100 * share.low, 100 * (share.high - share.low)
    mark = (
        ""
        if share.share is None
        else f'<b style="left:calc({100 * share.share:.1f}% - 1.5px)"></b>'
    )
    interval = f'<i style="left:{low:.1f}%;width:{width:.1f}%"></i>'
    return f'<span class="bar" aria-hidden="true">{interval}{mark}</span>'


def _confusion(found: Findings) -> Iterator[str]:
    names = [one.name for one in found.classes]
    yield '<h2 id="confusion">What is taken for what</h2>\n'
    if len(names) > MOST_CLASSES:
        yield from _common_confusions(found, names)
        return
    heads = "".join(f'<th scope="col">{_name(name)}</th>' for name in names)
    yield (
        '<div class="wide" tabindex="0" role="region" aria-label="Confusion matrix">\n'
        '<table class="matrix">\n<caption><span>Validation pictures by their label (row) and by '
        "what was said (column). Bold is right.</span></caption>\n"
        f'<thead><tr><th scope="col">label</th>{heads}</tr></thead>\n<tbody>\n'
    )
    for row, name in enumerate(names):
        total = max(int(found.confusion[row].sum()), 1)
        cells = "".join(
            _cell(int(count), int(count) / total, row == column)
            for column, count in enumerate(found.confusion[row])
        )
        yield f'<tr><th scope="row">{_name(name)}</th>{cells}</tr>\n'
    yield "</tbody>\n</table>\n</div>\n"


def _cell(count: int, share: float, right: bool) -> str:
    if not count:
        return "<td>0</td>" if right else "<td></td>"
    colour = f"rgba(var(--{'good' if right else 'bad'}),{0.08 + 0.34 * share:.2f})"
    return f'<td{" class=hit" if right else ""} style="background:{colour}">{count}</td>'


def _common_confusions(found: Findings, names: Sequence[str]) -> Iterator[str]:
    pairs = [
        (int(found.confusion[row, column]), row, column)
        for row in range(len(names))
        for column in range(len(names))
        if row != column and found.confusion[row, column]
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    shown = pairs[:MOST_CONFUSIONS]
    yield (
        f"<table>\n<caption><span>The {len(shown)} commonest of {len(pairs)} confusions; --json "
        'has all of them.</span></caption>\n<thead><tr><th scope="col">label</th>'
        '<th scope="col" class="text">was said</th><th scope="col">pictures</th></tr></thead>\n'
        "<tbody>\n"
    )
    for count, row, column in shown:
        yield (
            f'<tr><th scope="row">{_name(names[row])}</th>'
            f'<td class="text">{_name(names[column])}</td><td>{count}</td></tr>\n'
        )
    yield "</tbody>\n</table>\n"


def _worst(found: Findings, thumbnail: Thumbnail, limit: int) -> Iterator[str]:
    yield (
        '<h2 id="worst">The worst answers</h2>\n<p>Validation pictures that the best epoch names '
        "wrong, those first whose own label it holds for least likely.</p>\n"
    )
    yield from _gallery(found.worst, thumbnail, limit, "No validation picture is named wrong.")


def _suspects(found: Findings, thumbnail: Thumbnail, limit: int) -> Iterator[str]:
    yield (
        '<h2 id="labels">Labels to check</h2>\n<p>Each picture is answered by a classifier that '
        "was fitted to the others, on the network as it was before training. Here it names another "
        "class than the label, those first whose label it holds for least likely: the label may be "
        "wrong, or the picture is unlike its class. Wrong labels gather at the beginning of the "
        "list. Move a picture to the right class folder, or leave it.</p>\n"
    )
    yield from _gallery(found.suspects, thumbnail, limit, "No label is contradicted.")


def _gallery(
    answers: Sequence[Answer], thumbnail: Thumbnail, limit: int, none: str
) -> Iterator[str]:
    if not answers:
        yield f"<p>{none}</p>\n"
        return
    yield '<ul class="pictures">\n'
    for answer in answers[:limit]:
        path = answer.picture.path
        alt = f"{path}, labelled {answer.label}, named {answer.said}"
        yield (
            f"<li><figure>{_image(thumbnail(path), alt)}<figcaption>"
            f"<strong>{_name(answer.said)}</strong> {_percent(answer.probability)}<br>"
            f"label {_name(answer.label)} {_percent(answer.label_probability)}<br>"
            f"{PARTS[answer.part]} picture "
            f'<span class="path">{_name(path)}</span></figcaption></figure></li>\n'
        )
    yield "</ul>\n"
    yield _more(len(answers), limit)


def _copies(found: Findings, thumbnail: Thumbnail, limit: int) -> Iterator[str]:
    yield (
        '<h2 id="copies">Nearly the same picture twice</h2>\n<p>A validation picture that is '
        "nearly a training picture proves little: the network has seen it. Keep such pictures in "
        "one part, by folders train/ and val/, or keep one of them.</p>\n"
    )
    count = counted(found.copies)
    if found.copies:
        yield (
            f"<p>{_many(count['across'], 'pair')} between training and validation, "
            f"{count['within_train']} inside training, {count['within_val']} inside validation; "
            f"{count['two_labels']} of them have two different labels.</p>\n"
        )
    else:
        yield "<p>None was found.</p>\n"
    if found.alike:
        yield (
            "<p>These pictures are all much alike, even those of different classes: some pairs may "
            "be two pictures after all, and some copies are not found.</p>\n"
        )
    if found.unconfirmed:
        yield (
            f"<p>{found.unconfirmed} more pairs have close embeddings and were not compared.</p>\n"
        )
    shown = found.copies[:limit]
    if shown:
        yield '<ul class="pictures pairs">\n'
        for copies in shown:
            yield _pair(copies, thumbnail)
        yield f"</ul>\n{_more(len(found.copies), limit)}"


def _pair(copies: Copies, thumbnail: Thumbnail) -> str:
    both = list(zip((copies.first, copies.second), copies.parts, copies.labels))
    images = "".join(
        _image(thumbnail(picture.path), f"{picture.path}, labelled {label}")
        for picture, _, label in both
    )
    lines = "".join(
        f"{PARTS[part]} picture, label {_name(label)}"
        f'<span class="path">{_name(picture.path)}</span>'
        for picture, part, label in both
    )
    caption = f"<figcaption>{lines}</figcaption>"
    return f'<li><figure><div class="two">{images}</div>{caption}</figure></li>\n'


def _curve(found: Findings) -> Iterator[str]:
    curve = found.curve
    heads = "".join(
        f'<th scope="col">with {share:.0%} of them</th>'.replace("%", " %")
        for share in curve.shares
    )
    yield (
        f'<h2 id="curve">What more pictures would bring</h2>\n<p><strong>{escaped(found.sentence)}'
        "</strong></p>\n"
        f"<p>Classifiers are fitted to {_listed(curve.pictures)} pictures and asked about others, "
        f"{_percent(HELD_OUT)} of each class, in several draws, on the network as it was before "
        "training. What the last doubling of the pictures brought is what the next one may bring "
        "at most.</p>\n"
        '<div class="wide" tabindex="0" role="region" aria-label="Learning curve of each class">\n'
        "<table>\n<caption><span>Accuracy on held-out pictures, and what the last doubling "
        "brought, in points and plus or minus two standard errors.</span></caption>\n"
        f'<thead><tr><th scope="col">class</th><th scope="col">pictures</th>{heads}'
        '<th scope="col">last doubling</th><th scope="col" class="text">so</th></tr></thead>\n'
        "<tbody>\n"
    )
    order = sorted(range(len(found.classes)), key=lambda k: _last(curve.classes[k]))
    for label in order:
        one = curve.classes[label]
        cells = "".join(f"<td>{_percent(value)}</td>" for value in one.accuracy)
        yield (
            f'<tr><th scope="row">{_name(found.classes[label].name)}</th><td>{one.pictures}</td>'
            f'{cells}<td class="figures">{_gain(one)}</td>'
            f'<td class="text">{VERDICTS[one.verdict]}</td></tr>\n'
        )
    yield "</tbody>\n</table>\n</div>\n"


def _last(curve: ClassCurve) -> tuple[int, float]:
    """Sort what wants pictures first, then by gain."""
    order = (GAINS, UNCLEAR, LEVEL, ENOUGH_ALREADY)
    return order.index(curve.verdict), 0.0 if math.isnan(curve.gain) else -curve.gain


def _gain(curve: ClassCurve) -> str:
    if math.isnan(curve.gain):
        return "-"
    return f"{100 * curve.gain:+.0f} &plusmn; {200 * curve.error:.0f}"


def _made(found: Findings, limit: int, command: str) -> str:
    opened = found.opened
    total = sum(found.pictures)
    rows = [
        ("run", str(opened.folder.path)),
        ("bundle", str(opened.bundle.path)),
        ("pictures", str(opened.dataset.root)),
        ("state", str(opened.state)),
        ("made by", command),
    ]
    lines = "".join(f"{name}: {_name(value)}<br>\n" for name, value in rows)
    return (
        f"<p>{lines}</p>\n<p>Each list shows {limit} pictures at most (--limit). "
        f"{total - found.computed} of {total} pictures were looked at by feature maps that the run "
        f"had kept. {_many(len(found.skipped), 'file')} could not be used. What the figures mean, "
        "and how well the lists find what they look for, is in docs/review.md.</p>\n"
    )


def _image(uri: str | None, alt: str) -> str:
    if uri is None:
        return '<div class="none">this picture cannot be decoded</div>'
    return f'<img src="{uri}" alt="{escaped(alt)}">'


def _more(count: int, limit: int) -> str:
    """Say what a list leaves out."""
    return f'<p class="soft">and {count - limit} more (--limit)</p>\n' if count > limit else ""


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _verb(count: int, one: str, many: str) -> str:
    return one if count == 1 else many


def _listed(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def _percent(share: float | None) -> str:
    if share is None or math.isnan(share):
        return "-"
    # Rounded, a share below all would claim all.
    text = f"{100 * share:.0f}" if share in (0.0, 1.0) or 0.005 <= share < 0.995 else ""
    return f"{text or ('&lt;1' if share < 0.5 else '&gt;99')}&nbsp;%"
