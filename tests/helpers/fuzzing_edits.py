"""The ways in which the fuzzer damages a model: edits of its fields, and of its bytes.

An edit changes a Draft in place and draws all its choices from the generator given, so that (base, edits, seed) is the
whole case. One that finds nothing to change raises Nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from tests.helpers.fuzzing_bases import Draft, branch

Random = np.random.Generator
FieldEdit = Callable[[Draft, Random], None]
ByteEdit = Callable[[bytes, Random], bytes]


class Nothing(Exception):
    """There is nothing here that this edit could change."""


FIELDS: dict[str, FieldEdit] = {}
BYTES: dict[str, ByteEdit] = {}


def of_fields(edit: FieldEdit) -> FieldEdit:
    FIELDS[edit.__name__] = edit
    return edit


def of_bytes(edit: ByteEdit) -> ByteEdit:
    BYTES[edit.__name__] = edit
    return edit


INTEGERS = [-(2**63), -(2**31) - 1, -1000, -7, -2, -1, 0, 1, 2, 3, 5, 64, 1000, 2**16, 2**31, 2**40, 2**62, 2**63 - 1]
FLOATS = [0.0, -0.0, -1.0, 1e-45, 1e-30, 1e30, -1e38, float("inf"), float("-inf"), float("nan")]
TEXTS = [
    *(b"", b"constant", b"edge", b"reflect", b"wrap", b"SAME_UPPER", b"SAME_LOWER", b"VALID", b"NOTSET", b"linear"),
    *(b"cubic", b"nearest", b"align_corners", b"\xff\xfe", b"a\nb", b"ij,jk->ik", b"...->", b"CRD", b"x" * 100_000),
]
OPS = [
    *("Abs", "Add", "ArgMax", "AveragePool", "BatchNormalization", "Cast", "Ceil", "Clip", "Concat", "Constant"),
    *("ConstantOfShape", "Conv", "ConvTranspose", "CumSum", "DepthToSpace", "Div", "Dropout", "Einsum", "Elu", "Equal"),
    *("Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm"),
    *(
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Greater",
        "GroupNormalization",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "If",
    ),
    *("InstanceNormalization", "LRN", "LSTM", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "Loop", "LpPool"),
    *("MatMul", "Max", "MaxPool", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "OneHot", "PRelu", "Pad", "Pow"),
    *("Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Relu"),
    *("Reshape", "Resize", "Round", "ScatterND", "Selu", "Shape", "Shrink", "Sigmoid", "Sign", "Sin", "Size", "Slice"),
    *("Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tan", "Tanh"),
    *("ThresholdedRelu", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze", "Upsample", "Where", "Xor", "Nonsense"),
]
NAMES = ["", "nowhere", "a\nb", "\x1b[2J", "é", "x", "y", " ", "\0", "n" * 1_000_000]


def pick(random: Random, options: Iterable[Any]) -> Any:
    found = list(options)
    if not found:
        raise Nothing
    return found[int(random.integers(len(found)))]


def place(random: Random, repeated: Any) -> int:
    """An index into a field that may not be empty."""
    if not len(repeated):
        raise Nothing
    return int(random.integers(len(repeated)))


def graphs(draft: Draft) -> Iterator[Any]:
    """The graph, the functions and every subgraph: all that hold nodes."""
    waiting: list[Any] = [draft.proto.graph, *draft.proto.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += [a.g for n in graph.node for a in n.attribute if a.type == AttributeProto.GRAPH]


def nodes(draft: Draft) -> list[onnx.NodeProto]:
    return [n for g in graphs(draft) for n in g.node]


def attributes(draft: Draft, *kinds: int) -> list[AttributeProto]:
    return [a for n in nodes(draft) for a in n.attribute if not kinds or a.type in kinds]


def tensors(draft: Draft) -> list[TensorProto]:
    stored = [t for g in graphs(draft) if isinstance(g, onnx.GraphProto) for t in g.initializer]
    return stored + [a.t for a in attributes(draft, AttributeProto.TENSOR)]


def names(draft: Draft) -> list[str]:
    return [name for n in nodes(draft) for name in (*n.input, *n.output)] + [
        t.name for t in draft.proto.graph.initializer
    ]


def replaced(repeated: Any, messages: list[Any]) -> None:
    copies = []
    for message in messages:
        copy = type(message)()
        copy.CopyFrom(message)
        copies.append(copy)
    del repeated[:]
    repeated.extend(copies)


# ---------------------------------------------------------------------------- attributes


@of_fields
def attribute_integer(draft: Draft, random: Random) -> None:
    found = pick(random, attributes(draft, AttributeProto.INT, AttributeProto.INTS))
    if found.type == AttributeProto.INT:
        found.i = pick(random, INTEGERS)
    else:
        found.ints[place(random, found.ints)] = pick(random, INTEGERS)


@of_fields
def attribute_length(draft: Draft, random: Random) -> None:
    found = pick(random, attributes(draft, AttributeProto.INTS))
    if random.random() < 0.5:
        del found.ints[place(random, found.ints) :]
    else:
        found.ints.extend([pick(random, INTEGERS)] * int(random.integers(1, 200)))


@of_fields
def attribute_float(draft: Draft, random: Random) -> None:
    pick(random, attributes(draft, AttributeProto.FLOAT)).f = pick(random, FLOATS)


@of_fields
def attribute_text(draft: Draft, random: Random) -> None:
    pick(random, attributes(draft, AttributeProto.STRING)).s = pick(random, TEXTS)


@of_fields
def attribute_type(draft: Draft, random: Random) -> None:
    pick(random, attributes(draft)).type = int(random.integers(0, 15))


@of_fields
def attribute_name(draft: Draft, random: Random) -> None:
    pick(random, attributes(draft)).name = pick(random, ["axis", "alpha", "to", "surprise", "", "mode"])


@of_fields
def attribute_dropped(draft: Draft, random: Random) -> None:
    node = pick(random, [n for n in nodes(draft) if n.attribute])
    del node.attribute[place(random, node.attribute)]


@of_fields
def attribute_twice(draft: Draft, random: Random) -> None:
    node = pick(random, [n for n in nodes(draft) if n.attribute])
    replaced(node.attribute, [*node.attribute, pick(random, node.attribute)])


@of_fields
def attribute_added(draft: Draft, random: Random) -> None:
    add_attribute(pick(random, nodes(draft)), random)


def add_attribute(node: onnx.NodeProto, random: Random) -> None:
    """One that the op defines, mostly, with a random value."""
    try:
        defined = onnx.defs.get_schema(node.op_type, 20).attributes
    except onnx.defs.SchemaError:
        raise Nothing from None
    name = pick(random, [*defined, "surprise"])
    kind = int(defined[name].type) if name in defined else AttributeProto.INT
    added = node.attribute.add(name=name, type=kind)
    added.i, added.f, added.s = pick(random, INTEGERS), pick(random, FLOATS), pick(random, TEXTS)
    if kind == AttributeProto.INTS:
        added.ints.extend(pick(random, INTEGERS) for _ in range(int(random.integers(5))))


@of_fields
def attribute_is_a_graph(draft: Draft, random: Random) -> None:
    pick(random, nodes(draft)).attribute.append(
        helper.make_attribute("body", branch("t", helper.make_node("Relu", ["x"], ["t"])))
    )


@of_fields
def attribute_reference(draft: Draft, random: Random) -> None:
    pick(random, attributes(draft)).ref_attr_name = pick(random, ["slope", "nowhere", "axis"])


# ---------------------------------------------------------------------------- nodes


@of_fields
def op_type(draft: Draft, random: Random) -> None:
    pick(random, nodes(draft)).op_type = pick(random, OPS)


@of_fields
def op_domain(draft: Draft, random: Random) -> None:
    pick(random, nodes(draft)).domain = pick(random, ["ai.onnx", "ai.onnx.ml", "com.microsoft", "local", "x", "\n"])


@of_fields
def node_inserted(draft: Draft, random: Random) -> None:
    """Another op between a tensor and its readers, with integer constants as its further inputs."""
    graph = draft.proto.graph
    position = place(random, graph.node)
    source = pick(random, graph.node[position].input)
    given = [f"inserted{k}" for k in range(int(random.integers(4)))]
    for name in given:
        values = [pick(random, [*INTEGERS, 1, 1, 2, 2, 3]) for _ in range(int(random.integers(4)))]
        array = np.array(values, dtype=pick(random, [np.int64, np.int64, np.float32]))
        graph.initializer.append(numpy_helper.from_array(array, name))
    new = helper.make_node(pick(random, OPS), [source, *given], ["inserted"], name="inserted")
    for k, name in enumerate(graph.node[position].input):
        if name == source:
            graph.node[position].input[k] = "inserted"
    graph.node.insert(position, new)
    if random.random() < 0.7:
        add_attribute(graph.node[position], random)


@of_fields
def node_dropped(draft: Draft, random: Random) -> None:
    graph = pick(random, graphs(draft))
    del graph.node[place(random, graph.node)]


@of_fields
def node_twice(draft: Draft, random: Random) -> None:
    graph = pick(random, graphs(draft))
    copy = onnx.NodeProto()
    copy.CopyFrom(pick(random, graph.node))
    graph.node.insert(place(random, graph.node), copy)


@of_fields
def nodes_shuffled(draft: Draft, random: Random) -> None:
    graph = pick(random, graphs(draft))
    replaced(graph.node, [graph.node[i] for i in random.permutation(len(graph.node))])


@of_fields
def nodes_reversed(draft: Draft, random: Random) -> None:
    graph = pick(random, graphs(draft))
    replaced(graph.node, list(reversed(graph.node)))


@of_fields
def chain_of_nodes(draft: Draft, random: Random) -> None:
    """Thousands of nodes between the first node and its input."""
    graph = draft.proto.graph
    first = graph.node[place(random, graph.node[:1])]
    source, op = pick(random, first.input), pick(random, ["Relu", "Identity", "Neg", "Add", "Concat"])
    last = source
    count = int(pick(random, [10, 1000, 3000]))
    chain = []
    for k in range(count):
        inputs = [last, last] if op in ("Add", "Concat") else [last]
        attributes = {"axis": 0} if op == "Concat" else {}
        chain.append(helper.make_node(op, inputs, [f"chain{k}"], **attributes))
        last = f"chain{k}"
    first.input[list(first.input).index(source)] = last
    replaced(graph.node, [*chain, *graph.node])


@of_fields
def input_renamed(draft: Draft, random: Random) -> None:
    node = pick(random, nodes(draft))
    node.input[place(random, node.input)] = pick(random, [*names(draft), *NAMES])


@of_fields
def output_renamed(draft: Draft, random: Random) -> None:
    node = pick(random, nodes(draft))
    node.output[place(random, node.output)] = pick(random, [*names(draft), *NAMES])


@of_fields
def tensor_renamed(draft: Draft, random: Random) -> None:
    pick(random, tensors(draft)).name = pick(random, [*names(draft), *NAMES])


@of_fields
def node_renamed(draft: Draft, random: Random) -> None:
    pick(random, nodes(draft)).name = pick(random, NAMES)


@of_fields
def input_dropped(draft: Draft, random: Random) -> None:
    node = pick(random, nodes(draft))
    del node.input[place(random, node.input)]


@of_fields
def input_twice(draft: Draft, random: Random) -> None:
    node = pick(random, nodes(draft))
    node.input.extend([pick(random, node.input)] * pick(random, [1, 2, 30]))


@of_fields
def inputs_swapped(draft: Draft, random: Random) -> None:
    node = pick(random, [n for n in nodes(draft) if len(n.input) > 1])
    order = random.permutation(len(node.input))
    given = [node.input[i] for i in order]
    del node.input[:]
    node.input.extend(given)


@of_fields
def outputs_added(draft: Draft, random: Random) -> None:
    pick(random, nodes(draft)).output.extend([f"more{k}" for k in range(pick(random, [1, 1, 2, 40]))])


@of_fields
def outputs_dropped(draft: Draft, random: Random) -> None:
    node = pick(random, nodes(draft))
    del node.output[place(random, node.output) :]


@of_fields
def cycle(draft: Draft, random: Random) -> None:
    graph = pick(random, graphs(draft))
    node = graph.node[place(random, graph.node)]
    later = pick(random, [name for n in graph.node for name in n.output])
    node.input[place(random, node.input)] = later
