"""Looks through an ONNX file before any runtime does, and says what it must not hold.

A graph can name other files as the place of its weights, and onnxruntime then reads them, wherever
they are. Old releases divide by numbers of a graph that nobody has checked, which ends the process.
So every byte of structure is read here first; weights are skipped. What may stay is in
`graph_rules.py`.
"""

from __future__ import annotations

from io import BufferedReader
from pathlib import Path

from mobiletl.device.bundle import graph_rules as rules
from mobiletl.device.bundle.graph_node import graphs_inside, read_node
from mobiletl.device.bundle.graph_types import declared_name
from mobiletl.device.bundle.outside_file import OddFile, open_outside
from mobiletl.device.bundle.schema import shown
from mobiletl.device.bundle.tensor_scan import check_tensor
from mobiletl.device.bundle.wire import BYTES, VARINT, BadWire, Field, Read, fields
from mobiletl.device.bundle.wire_texts import Refused, text_at

MOST_BYTES = 1 << 31
# A node is read in one piece if it is no longer than this.
PIECE_BYTES = 1 << 16
_IGNORED_OF_MODEL = (*rules.MODEL_TEXTS, *rules.MODEL_NUMBERS, rules.MODEL_METADATA)
_IGNORED_OF_GRAPH = (rules.GRAPH_NAME, rules.GRAPH_NOTE, *rules.GRAPH_METADATA)


def graph_problem(path: Path) -> str:
    """Return what is wrong with the ONNX file at `path`, or an empty text; raises OSError."""
    try:
        with BufferedReader(open_outside(path, MOST_BYTES, follow=False), PIECE_BYTES) as file:
            end = file.seek(0, 2)

            def read(place: int, count: int) -> bytes:
                file.seek(place)
                return file.read(count)

            return _problem(read, end)
    except OddFile as problem:
        return str(problem)


def graph_bytes_problem(content: bytes) -> str:
    """The same of a file that is in memory."""
    return _problem(_reader(content, 0), len(content))


def _problem(read: Read, end: int) -> str:
    try:
        _Scan(read).model(end)
    except Refused as problem:
        return str(problem)
    except BadWire as error:
        return f"is no ONNX file ({error})"
    return ""


def _reader(content: bytes, shift: int) -> Read:
    """Read bytes of a file of which `content` was read, from its byte `shift` on."""

    def read(place: int, count: int) -> bytes:
        return content[place - shift : place - shift + count]

    return read


class _Scan:
    """One pass over a file; raises Refused, BadWire."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._nodes = 0

    def model(self, end: int) -> None:
        """Look through the whole file."""
        graphs: list[Field] = []
        opsets: dict[str, int] = {}
        version = 0
        for field in fields(self._read, 0, end):
            if field.number == rules.MODEL_GRAPH and field.kind == BYTES:
                graphs.append(field)
            elif field.number == rules.MODEL_OPSET and field.kind == BYTES:
                opsets.update([self._opset(field)])
            elif field.number not in _IGNORED_OF_MODEL:
                raise Refused(f"holds field {field.number} of a model, such as functions")
            elif field.number == rules.MODEL_FORMAT and field.kind == VARINT:
                version = field.value
        if len(graphs) != 1:
            raise Refused(f"holds {len(graphs)} graphs, expected 1")
        if version not in rules.FORMATS:
            raise Refused(f"is of ONNX format {version}, expected {_shown(rules.FORMATS)}")
        _check_opsets(opsets)
        self.graph(graphs[0], set(), 1)

    def graph(self, place: Field, outer: set[str], depth: int) -> None:
        """Look through a graph; `outer` are the names that the graphs around it have made."""
        if depth > rules.MOST_DEPTH:
            raise Refused(f"holds graphs inside graphs, more than {rules.MOST_DEPTH} deep")
        own: set[str] = set()
        nodes: list[Field] = []
        outputs: list[str] = []
        for field in fields(self._read, place.start, place.end):
            if field.kind != BYTES:
                raise Refused(f"holds a number as field {field.number} of a graph")
            if field.number == rules.GRAPH_NODE:
                nodes.append(field)
            elif field.number == rules.GRAPH_INITIALIZER:
                _make(check_tensor(self._read, field.start, field.end), own)
            elif field.number in rules.GRAPH_VALUES:
                name = declared_name(self._piece(field), field.start, field.end)
                if field.number == rules.GRAPH_INPUT:
                    _make(name, own)
                elif field.number == rules.GRAPH_OUTPUT:
                    outputs.append(name)
            elif field.number not in _IGNORED_OF_GRAPH:
                raise Refused(f"holds field {field.number} of a graph, such as sparse weights")
        self._order(nodes, outer | own, outputs, depth)

    def _order(self, nodes: list[Field], made: set[str], outputs: list[str], depth: int) -> None:
        """Look through nodes in their order: each reads what is made before it."""
        self._nodes += len(nodes)
        if self._nodes > rules.MOST_NODES:
            raise Refused(f"has more than {rules.MOST_NODES} nodes")
        for place in nodes:
            self._node(place, made, depth)
        missing = [name for name in outputs if name not in made]
        if missing:
            raise Refused(f"has an output {shown(missing[0])} that nothing computes")

    def _node(self, place: Field, made: set[str], depth: int) -> None:
        read = self._piece(place)
        node = read_node(read, place.start, place.end)
        for name in node.inputs:
            if name and name not in made:
                raise Refused(f"reads {shown(name)} before anything makes it")
        for inner in graphs_inside(read, node):
            self.graph(inner, made, depth + 1)
        for name in node.outputs:
            if name:
                _make(name, made)

    def _piece(self, place: Field) -> Read:
        """Return how to read what lies at `place`: from memory, unless it is long."""
        size = place.end - place.start
        if size > PIECE_BYTES:
            return self._read
        return _reader(self._read(place.start, size), place.start)

    def _opset(self, place: Field) -> tuple[str, int]:
        domain, number = "", 0
        for field in fields(self._read, place.start, place.end):
            if field.number == 1:
                domain = text_at(self._read, field)
            elif field.number == 2:
                number = field.value
        return domain, number


def _check_opsets(opsets: dict[str, int]) -> None:
    for domain, number in opsets.items():
        if domain not in rules.OPERATORS:
            raise Refused(f"asks for operators of {shown(domain)}, which no bundle needs")
        if domain in rules.DEFAULT_DOMAINS and number not in rules.OPSETS:
            raise Refused(f"is of opset {number}, expected {_shown(rules.OPSETS)}")
    if not set(rules.DEFAULT_DOMAINS) & set(opsets):
        raise Refused("does not say its opset")


def _make(name: str, made: set[str]) -> None:
    if name in made:
        raise Refused(f"makes {shown(name)} twice")
    made.add(name)


def _shown(known: range) -> str:
    return f"{known.start} to {known.stop - 1}"
