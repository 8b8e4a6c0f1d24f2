"""Edits of functions and subgraphs, and of the bytes of a file."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from tests.helpers.fuzzing_bases import Draft, branch
from tests.helpers.fuzzing_edits import (
    NAMES,
    Random,
    attributes,
    names,
    nodes,
    of_bytes,
    of_fields,
    pick,
    place,
    replaced,
)

# ---------------------------------------------------------------------------- functions and subgraphs


def define(draft: Draft, name: str, body: list[onnx.NodeProto]) -> None:
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("fuzz", 1)]
    draft.proto.functions.append(helper.make_function("fuzz", name, ["x"], ["y"], body, imports))


def call(draft: Draft, random: Random, name: str) -> None:
    """Insert a call of a function of one input before a node."""
    graph = draft.proto.graph
    position = place(random, graph.node)
    node = graph.node[position]
    k = place(random, node.input)
    graph.node.insert(position, helper.make_node(name, [node.input[k]], ["called"], domain="fuzz", name="call"))
    graph.node[position + 1].input[k] = "called"
    draft.proto.opset_import.append(helper.make_opsetid("fuzz", 1))


def calls(function: str, source: str, result: str) -> onnx.NodeProto:
    return helper.make_node(function, [source], [result], domain="fuzz")


@of_fields
def recursive_functions(draft: Draft, random: Random) -> None:
    """A ring of one, two or more functions, each calling the next."""
    size = int(pick(random, [1, 2, 5]))
    for k in range(size):
        define(draft, f"F{k}", [calls(f"F{(k + 1) % size}", "x", "h"), helper.make_node("Relu", ["h"], ["y"])])
    call(draft, random, "F0")


@of_fields
def exploding_functions(draft: Draft, random: Random) -> None:
    """Each function calls the one below twice, or ten times."""
    levels, times = pick(random, [(3, 2), (6, 10), (30, 2), (12, 10), (60, 2)])
    define(draft, "F0", [helper.make_node("Relu", ["x"], ["y"])])
    for level in range(1, levels):
        places = ["x", *(f"h{k}" for k in range(times - 1)), "y"]
        define(draft, f"F{level}", [calls(f"F{level - 1}", places[k], places[k + 1]) for k in range(times)])
    call(draft, random, f"F{levels - 1}")


@of_fields
def long_chain_of_functions(draft: Draft, random: Random) -> None:
    """Each function calls the one below once."""
    levels = int(pick(random, [5, 50, 500, 2000]))
    define(draft, "F0", [helper.make_node("Relu", ["x"], ["y"])])
    for level in range(1, levels):
        define(draft, f"F{level}", [calls(f"F{level - 1}", "x", "y")])
    call(draft, random, f"F{levels - 1}")


@of_fields
def function_field(draft: Draft, random: Random) -> None:
    function = pick(random, draft.proto.functions)
    change = int(random.integers(6))
    if change == 0:
        function.name = pick(random, NAMES)
    elif change == 1:
        function.domain = pick(random, ["", "ai.onnx", "x"])
    elif change == 2:
        function.ClearField(pick(random, ["input", "output", "node", "opset_import", "attribute"]))
    elif change == 3:
        replaced(draft.proto.functions, [*draft.proto.functions, function])
    elif change == 4:
        function.input.append(pick(random, [*function.input, "more", ""]))
    else:
        function.output.append(pick(random, [*function.output, "more", ""]))


@of_fields
def function_named_as_an_op(draft: Draft, random: Random) -> None:
    """A function in the place of a standard op."""
    op = pick(random, draft.proto.graph.node).op_type
    body = [helper.make_node("Neg", ["x"], ["y"])]
    draft.proto.functions.append(helper.make_function("", op, ["x"], ["y"], body, [helper.make_opsetid("", 20)]))


@of_fields
def nested_subgraphs(draft: Draft, random: Random) -> None:
    """If in If in If; protobuf reads a hundred levels of messages, about thirty of graphs."""
    graph = draft.proto.graph
    source = pick(random, pick(random, graph.node[:1]).input)
    inner = branch("deepest", helper.make_node("Relu", [source], ["deepest"]))
    for level in range(pick(random, [2, 10, 20, 27])):
        name = f"level{level}"
        other = branch(f"other{level}", helper.make_node("Relu", [source], [f"other{level}"]))
        inner = branch(name, helper.make_node("If", ["yes"], [name], then_branch=inner, else_branch=other))
    if not any(t.name == "yes" for t in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    new = helper.make_node(
        "If",
        ["yes"],
        ["outside"],
        then_branch=inner,
        else_branch=branch("e", helper.make_node("Relu", [source], ["e"])),
    )
    first = graph.node[0]
    first.input[list(first.input).index(source)] = "outside"
    replaced(graph.node, [new, *graph.node])


@of_fields
def subgraph_field(draft: Draft, random: Random) -> None:
    graph = pick(random, [a.g for a in attributes(draft, AttributeProto.GRAPH)])
    change = int(random.integers(5))
    if change == 0:
        graph.ClearField(pick(random, ["input", "output", "node"]))
    elif change == 1:
        pick(random, graph.output).name = pick(random, [*names(draft), *NAMES])
    elif change == 2:
        graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), pick(random, names(draft))))
    elif change == 3:
        graph.input.append(helper.make_tensor_value_info(pick(random, names(draft)), TensorProto.FLOAT, None))
    else:
        graph.node.append(helper.make_node("Relu", [pick(random, names(draft))], [pick(random, names(draft))]))


@of_fields
def condition(draft: Draft, random: Random) -> None:
    """What If and Loop ask for is another tensor, or depends on the input."""
    node = pick(random, [n for n in nodes(draft) if n.op_type in ("If", "Loop")])
    node.input[place(random, node.input)] = pick(random, [*names(draft), "", draft.proto.graph.input[0].name])


@of_fields
def many_rounds(draft: Draft, random: Random) -> None:
    """A Loop that takes long, or has no end."""
    node = pick(random, [n for n in nodes(draft) if n.op_type == "Loop"])
    count = pick(random, [0, 1, 1000, 10**6, 2**62, -1])
    draft.proto.graph.initializer.append(numpy_helper.from_array(np.array(count), "rounds"))
    node.input[0] = pick(random, ["rounds", ""])


# ---------------------------------------------------------------------------- bytes


@of_bytes
def truncated(data: bytes, random: Random) -> bytes:
    return data[: int(random.integers(len(data) + 1))]


@of_bytes
def bits_flipped(data: bytes, random: Random) -> bytes:
    """Half of them in the head or tail, where names and structure are; the rest is mostly weights."""
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 6))):
        near = int(random.integers(min(len(data), 3000)))
        changed[pick(random, [near, len(data) - 1 - near, int(random.integers(len(data)))])] ^= 1 << int(
            random.integers(8)
        )
    return bytes(changed)


@of_bytes
def bytes_set(data: bytes, random: Random) -> bytes:
    """A run of bytes becomes 00, ff, 7f or random: lengths and numbers at their limits."""
    at, length = int(random.integers(len(data))), int(random.integers(1, 12))
    fill = pick(random, [b"\0" * length, b"\xff" * length, b"\x7f" * length, random.bytes(length)])
    return data[:at] + fill + data[at + length :]


@of_bytes
def bytes_dropped(data: bytes, random: Random) -> bytes:
    at = int(random.integers(len(data)))
    return data[:at] + data[at + int(random.integers(1, 40)) :]


@of_bytes
def bytes_inserted(data: bytes, random: Random) -> bytes:
    at = int(random.integers(len(data)))
    return data[:at] + random.bytes(int(random.integers(1, 40))) + data[at:]


@of_bytes
def bytes_spliced(data: bytes, random: Random) -> bytes:
    """A piece of the file once more, elsewhere."""
    start, at = int(random.integers(len(data))), int(random.integers(len(data)))
    return data[:at] + data[start : start + int(random.integers(1, 400))] + data[at:]


@of_bytes
def file_twice(data: bytes, random: Random) -> bytes:
    """Protobuf merges what is concatenated."""
    return data + data[: int(random.integers(len(data) + 1))] if random.random() < 0.5 else data + data
