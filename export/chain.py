"""The frozen layers of several levels, stored once: as a chain of graphs, a file each.

A level with fewer trained blocks freezes more, and begins with what a deeper level freezes. So the
first graph is the deepest level's `features`, and each further one takes the map of the one before
it, `below` [N,C,h,w], and gives its own, `h` [N,C',h',w'].

A graph is cut where the deeper level's ends. The nodes before that have to be the deeper level's
own, with the same constants, and nothing behind may read anything before it but the map there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import onnx

from mobiletl.core.errors import UnsupportedModel
from mobiletl.device.bundle.manifest import BELOW

MAP = "h"


def cut(whole: onnx.ModelProto, deeper: onnx.ModelProto) -> onnx.ModelProto:
    """What `whole` does behind its beginning, which is `deeper`, in its own names.

    Raises UnsupportedModel where `deeper` is not its beginning, or not all that the rest reads.
    """
    count = len(deeper.graph.node)
    head, rest = whole.graph.node[:count], list(whole.graph.node[count:])
    if not rest or not _same(head, deeper.graph, whole.graph):
        raise UnsupportedModel(
            "the frozen layers of one level are not the beginning of another's, so they can't be "
            "stored once; export a bundle for each number of --blocks"
        )
    border = head[-1].output[0]
    constants = {tensor.name: tensor for tensor in whole.graph.initializer}
    written = {name for node in rest for name in node.output}
    read = {name for node in rest for name in node.input if name}
    others = read - written - set(constants) - {border}
    if others:
        raise UnsupportedModel(
            f"behind the cut between two levels {', '.join(sorted(others))} is read besides the "
            "map there; export a bundle for each number of --blocks"
        )
    taken = onnx.ValueInfoProto()
    taken.CopyFrom(deeper.graph.output[0])
    taken.name = border
    graph = onnx.helper.make_graph(
        rest,
        whole.graph.name,
        [taken],
        list(whole.graph.output),
        [tensor for name, tensor in constants.items() if name in read],
        value_info=[value for value in whole.graph.value_info if value.name in written],
    )
    return _model(graph, whole)


def link(part: onnx.ModelProto) -> onnx.ModelProto:
    """The same as a file of the chain, which takes `below` and gives `h`."""
    (taken,), (given,) = part.graph.input, part.graph.output
    found = renamed(renamed(part, given.name, MAP), taken.name, BELOW)
    onnx.checker.check_model(found, full_check=True)
    return found


def renamed(model: onnx.ModelProto, old: str, new: str) -> onnx.ModelProto:
    """The same model with the tensor `old`, which is no constant, under the name `new`."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    graph = found.graph
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.name == old:
            value.name = new
    return found


def links(features: Sequence[onnx.ModelProto]) -> list[onnx.ModelProto]:
    """The chain of some levels' frozen layers, the deepest level's first; raises as `cut`."""
    parts = [cut(whole, deeper) for deeper, whole in pairwise(features)]
    return [features[0], *map(link, parts)]


def _same(head: Sequence[onnx.NodeProto], deeper: onnx.GraphProto, whole: onnx.GraphProto) -> bool:
    """Whether `head`, nodes of `whole`, compute what `deeper` does, node by node."""
    here = {tensor.name: tensor for tensor in whole.initializer}
    there = {tensor.name: tensor for tensor in deeper.initializer}
    renamed = {value.name for value in deeper.output}
    for mine, other in zip(head, deeper.node, strict=True):
        same_outputs = list(mine.output) == list(other.output) or set(other.output) <= renamed
        if not same_outputs or not _alike(mine, other):
            return False
        if any(here.get(name) != there.get(name) for name in mine.input):
            return False
    return list(deeper.node[-1].output) == list(renamed)


def _alike(mine: onnx.NodeProto, other: onnx.NodeProto) -> bool:
    return (
        (mine.op_type, mine.domain) == (other.op_type, other.domain)
        and list(mine.input) == list(other.input)
        and list(mine.attribute) == list(other.attribute)
    )


def _model(graph: onnx.GraphProto, like: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.helper.make_model(
        graph,
        producer_name=like.producer_name,
        producer_version=like.producer_version,
        opset_imports=list(like.opset_import),
        ir_version=like.ir_version,
    )
