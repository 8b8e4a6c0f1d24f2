"""ONNX Loops that run a fixed-point iteration, read as the fixed point (docs/implicit-onnx.md), or step by step.

A Loop is read if one carried tensor, the state z, is all that is used of it and all that its step depends on. The step
may be damped, c z + (1 - c) f(z): its fixed points are those of f, whatever c is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.errors import ModelError, UnsupportedModelError
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.templated import templated
from lipcert.frontend.tensors import MALFORMED
from lipcert.frontend.values import Integers, Known, Live, Refused, Value
from lipcert.graph import Affine, FixedPoint, Graph, Input, Iteration, State, linear_terms
from lipcert.graph.nodes import renumbered
from lipcert.graph.stretch import bias_of
from lipcert.operators import Diagonal, Identity, LinearOperator, Product, Sum, compose

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

CONVERGED = "lipcert.converged"
"""Metadata of a Loop that defines a lipcert.FixedPoint: the fixed point is what its file means."""

STATE = "lipcert.state"
"""Metadata of a Loop that is read as a fixed point: a name for its state, in the self-check."""

MAX_STEPS = 10_000
"""Nodes of steps that are read one by one, of all Loops."""


@dataclass(frozen=True, eq=False)
class LoopNode:
    """A Loop whose state is the carried tensor number `carried`."""

    node: ir.Node
    label: str
    carried: int
    start: Live | Known
    trips: int | None
    """How many steps are run; None where the data decide."""

    body: ir.Graph
    step: tuple[ir.Node, ...]
    """The nodes that the next state needs, in order."""

    @property
    def state(self) -> str:
        return self.body.inputs[2 + self.carried].name or ""

    @property
    def following(self) -> str:
        return self.body.outputs[1 + self.carried].name or ""

    @property
    def result(self) -> str:
        return self.node.outputs[self.carried].name or ""


def read_loop(node: ir.Node, value: Callable[[str], Value | None], used: Callable[[str], bool]) -> LoopNode:
    """Which carried tensor is the state, and what its step is. `value` gives tensors by name."""
    outputs = [v.name or "" for v in node.outputs]
    label = f"Loop node {node.name or next(iter(outputs), '')!r}"
    body = _body(node, label)
    carried = len(node.inputs) - 2
    if carried < 0 or len(body.inputs) != 2 + carried or len(body.outputs) != len(outputs) + 1:
        raise ModelError(f"{label}: its body does not have its inputs and outputs", hint=MALFORMED)
    wanted = [i for i, name in enumerate(outputs) if name and used(name)]
    if len(wanted) != 1 or wanted[0] >= carried:
        which = "the values of each step" if any(i >= carried for i in wanted) else f"{len(wanted)} of its results"
        raise UnsupportedModelError(
            f"{label}: {which} are used", hint="a fixed-point iteration is read, of one state: use its last value only"
        )
    index = wanted[0]
    step, sources = _needed(body, index)
    names = [v.name or "" for v in body.inputs]
    others = [name for i, name in enumerate(names) if name in sources and i != 2 + index]
    if others:
        what = "the number of the step" if others[0] == names[0] else f"{others[0]!r}, which changes from step to step"
        raise UnsupportedModelError(
            f"{label}: its step depends on {what}, beside the state", hint="lipcert reads iterations of one state"
        )
    given = node.inputs[2 + index]
    start = value(given.name or "") if given is not None else None
    if not isinstance(start, Live | Known):
        raise UnsupportedModelError(f"{label}: its state does not start as a float tensor")
    return LoopNode(node, label, index, start, _trips(node, body, value, label), body, step)


def _body(node: ir.Node, label: str) -> ir.Graph:
    spare = sorted(set(node.attributes) - {"body"})
    if spare:
        raise ModelError(f"{label}: it has no attribute {spare[0]!r}", hint=MALFORMED)
    body = node.attributes.get("body")
    if body is None or body.type.name != "GRAPH":
        raise ModelError(f"{label}: its attribute body is no graph", hint=MALFORMED)
    return body.value


def _needed(body: ir.Graph, index: int) -> tuple[tuple[ir.Node, ...], set[str]]:
    """The nodes behind output 1 + index of a body, and the names of all that they read."""
    wanted = {body.outputs[1 + index].name}
    step = []
    for node in reversed(list(body)):
        if wanted.intersection(v.name for v in node.outputs):
            step.append(node)
            wanted.update(v.name for v in node.inputs if v is not None)
            for attribute in node.attributes.values():
                if attribute.type.name == "GRAPH":
                    wanted |= _captured(attribute.value)
    return tuple(reversed(step)), {name for name in wanted if name}


def _captured(graph: ir.Graph) -> set[str]:
    """The names that a graph reads from outside of it."""
    own = {v.name for v in graph.inputs} | set(graph.initializers)
    read = {v.name for v in graph.outputs if v.name}
    for node in graph:
        own.update(v.name for v in node.outputs)
        read.update(v.name for v in node.inputs if v is not None and v.name)
        for attribute in node.attributes.values():
            if attribute.type.name == "GRAPH":
                read |= _captured(attribute.value)
    return read - own


def names_read(graph: ir.Graph) -> set[str]:
    """Every name that the nodes of a graph read, those of graphs inside them too, or that it returns."""
    found = {v.name for v in graph.outputs if v.name}
    for node in graph:
        found.update(v.name for v in node.inputs if v is not None and v.name)
        for attribute in node.attributes.values():
            if attribute.type.name == "GRAPH":
                found |= names_read(attribute.value)
    return found


def _trips(node: ir.Node, body: ir.Graph, value: Callable[[str], Value | None], label: str) -> int | None:
    """The number of steps, where it does not depend on the data."""
    given = [v.name if v is not None else None for v in node.inputs[:2]]
    first, condition = (value(name) if name else None for name in given)
    for name, found in zip(given, (first, condition), strict=True):
        if name and found is None:
            raise ModelError(f"{label}: reads {name!r}, which no earlier node produces", hint=MALFORMED)
    if first is not None and not (
        isinstance(first, Integers) and first.data.dtype == np.int64 and first.data.size == 1
    ):
        raise UnsupportedModelError(f"{label}: its number of steps is no constant integer")
    if condition is not None and not (isinstance(condition, Integers) and bool(np.all(condition.data))):
        raise UnsupportedModelError(f"{label}: whether it begins at all is not certain")
    most = int(first.data.reshape(-1)[0]) if isinstance(first, Integers) else None
    if most is not None and most < 0:
        raise ModelError(f"{label}: its number of steps is {most}", hint=MALFORMED)
    goes_on = _goes_on(body, value)
    if goes_on and most is None:
        raise ModelError(f"{label}: it never ends", hint="give it a number of steps, or a condition to stop at")
    if goes_on is False:
        return 1 if most is None else min(1, most)
    return most if goes_on else None


def _goes_on(body: ir.Graph, value: Callable[[str], Value | None]) -> bool | None:
    """What a body says at the end of each step, whatever the data; None where it depends on them."""
    produced = {v.name or "": node for node in body for v in node.outputs}
    name, seen = body.outputs[0].name or "", set[str]()
    while name in produced and name not in seen and produced[name].op_type == "Identity" and produced[name].inputs:
        seen.add(name)
        source = produced[name].inputs[0]
        name = (source.name if source is not None else None) or ""
    if name == body.inputs[1].name:
        return True  # as it was before the first step
    stored = body.initializers[name].const_value if name in body.initializers else None
    if name in produced:
        node = produced[name]
        held = node.attributes.get("value") if node.op_type == "Constant" else None
        stored = held.value if held is not None and held.type.name == "TENSOR" else None
    elif stored is None:
        outside = value(name)
        return bool(np.all(outside.data)) if isinstance(outside, Integers) else None
    return bool(np.all(stored.numpy())) if stored is not None and stored.dtype.name == "BOOL" else None


def close(build: GraphBuilder, loop: LoopNode, state: Live, following: Value | None) -> tuple[Live, float]:
    """Append the fixed point of a step, given the next state; and how much of the state the step keeps."""
    if not isinstance(following, Live) or following.shape != state.shape:
        shape = "a constant" if not isinstance(following, Live) else f"of shape {list(following.shape)}"
        raise UnsupportedModelError(
            f"{loop.label}: the state has shape {list(state.shape)}, and the next one is {shape}",
            hint="a fixed point is of one shape",
        )
    body, kept = _undamped(build, loop, state, following)
    iteration = None
    if CONVERGED not in loop.node.metadata_props:
        start = _start(build, loop.start)
        iteration = Iteration(loop.trips, kept, start)
        count = "steps" if loop.trips is None else f"{loop.trips} step{'s' * (loop.trips != 1)} (--unrolled)"
        build.notes.append(f"{loop.label} is read as the fixed point that it tends to, not as its {count}")
    origin = loop.node.name if iteration is not None else ""  # a function's Loop is named where it is inlined
    return build.fixed_point(state, body, iteration, origin or loop.result), kept


def _start(build: GraphBuilder, start: Live | Known) -> np.ndarray | None:
    """Where the state begins, if that is the same for every input: such as at u - u."""
    bias = start.data if isinstance(start, Known) else None
    node = build.nodes[start.node] if isinstance(start, Live) else None
    if isinstance(node, Affine):
        sums: dict[int, Fraction | None] = {}
        for source, op in zip(node.inputs, node.operators, strict=True):
            before, share = sums.get(source, Fraction(0)), _multiple(op)
            sums[source] = None if before is None or share is None else before + share
        bias = node.bias if all(total == 0 for total in sums.values()) else None
    return bias.value.reshape(-1) if bias is not None and bias.is_exact else None


def _undamped(build: GraphBuilder, loop: LoopNode, state: Live, following: Live) -> tuple[Live, float]:
    """f and c of a step that is c z + (1 - c) f(z); c is 0 where the state is not passed on."""
    graph, places = _alone(build, state, following)
    found = linear_terms(graph, places.index(following.node), frozenset())
    terms = {places[position]: op for position, op in found.items()}
    if state.node not in terms:
        return following, 0.0
    kept = _multiple(terms.pop(state.node))
    if kept is None:
        raise UnsupportedModelError(
            f"{loop.label}: its step passes the state on through a matrix, without an activation",
            hint="leave [linear] out of the template"
            if templated(graph)
            else "write the step as c z + (1 - c) activation(...), c a number",
        )
    if kept == 1:
        raise UnsupportedModelError(f"{loop.label}: its step adds to the state: it has no fixed point of its own")
    bias = bias_of(graph, places.index(following.node))
    shares = {source: _multiple(op) for source, op in terms.items()}
    if len(terms) == 1 and bias.is_exact and not bias.value.any() and next(iter(shares.values())) == 1 - kept:
        return Live(next(iter(terms)), state.shape), float(kept)
    scale = _enclosed(1 / (1 - kept))
    sized = Diagonal(np.full(state.size, scale.value), np.full(state.size, scale.full_radius()))
    body = Affine(
        tuple(terms),
        tuple(compose(sized, op) for op in terms.values()),
        bias * Enclosure(np.full(state.size, scale.value), np.full(state.size, scale.full_radius())),
        state.shape,
        loop.result,
    )
    return build.affine_node(body), float(kept)


def summed(build: GraphBuilder, state: Value, following: Value) -> Value:
    """The next state as one sum of the state and of what activations gave, where steps are read one by one.

    In the sum of z and (f(z) - z) / 2 intervals would count z twice, and stretches through many steps be long.
    """
    if not (isinstance(state, Live) and isinstance(following, Live) and following.node > state.node):
        return following
    if not isinstance(last := build.nodes[following.node], Affine):
        return following
    graph, places = _alone(build, state, following)
    place = places.index(following.node)
    terms = linear_terms(graph, place, frozenset(), rounded=True)
    sources = tuple(places[source] for source in terms)
    body = Affine(sources, tuple(terms.values()), bias_of(graph, place), last.shape, last.origin)
    return Live(build.affine_node(body).node, following.shape)


def _alone(build: GraphBuilder, state: Live, following: Live) -> tuple[Graph, list[int]]:
    """The nodes of a step, with inputs in place of the earlier ones that it reads; and where each is in the whole."""
    unknown = isinstance(build.nodes[state.node], State)
    inside = range(state.node + (not unknown), len(build.nodes))
    read = {following.node, *(source for position in inside for source in build.nodes[position].inputs)}
    places = [*sorted(read - set(inside)), *inside]
    new = {old: position for position, old in enumerate(places)}
    nodes = [
        renumbered(build.nodes[old], new) if old in inside else Input(str(old), build.nodes[old].shape)
        for old in places
    ]
    ends = (FixedPoint(new[state.node], new[following.node], state.shape),) if unknown else ()
    return Graph((*nodes, *ends), ()), places


def _multiple(op: LinearOperator) -> Fraction | None:
    """t where the operator is exactly t times the identity."""
    if isinstance(op, Identity):
        return Fraction(1)
    if isinstance(op, Diagonal) and not np.any(op.radius) and np.all(op.weights == op.weights[:1]):
        return Fraction(float(op.weights[0]))
    parts = [_multiple(part) for part in (op.factors if isinstance(op, Product) else getattr(op, "terms", ()))]
    if not parts or any(part is None for part in parts):
        return None
    total = Fraction(1 if isinstance(op, Product) else 0)
    for part in parts:
        assert part is not None
        total = total * part if isinstance(op, Product) else total + part
    return total if isinstance(op, Product | Sum) else None


def _enclosed(number: Fraction) -> Enclosure:
    value = float(number)
    return exact(np.array(value)) if Fraction(value) == number else Enclosure(np.array(value), np.spacing(abs(value)))


def step_count(loop: LoopNode) -> int:
    """How many steps to read one by one."""
    if loop.trips is None:
        raise UnsupportedModelError(
            f"{loop.label}: the data decide how many steps it runs",
            hint="leave --unrolled out: its fixed point is read",
        )
    if loop.trips * max(1, len(loop.step)) > MAX_STEPS:
        raise UnsupportedModelError(
            f"{loop.label}: {loop.trips} steps of {len(loop.step)} nodes are too many to read one by one",
            hint="leave --unrolled out: its fixed point is read",
        )
    return loop.trips


def element_of(loop: LoopNode, values: Mapping[str, Value | Refused], module: ir.Model) -> int:
    """The state's element type: as declared, or else that of the model's inputs."""
    given = loop.node.inputs[2 + loop.carried]
    formats = {v.name: v.dtype for v in module.graph.inputs}
    kind = next(d for name, d in formats.items() if d is not None and isinstance(values.get(name or ""), Live))
    return int(loop.body.inputs[2 + loop.carried].dtype or (given.dtype if given is not None else None) or kind)


def body_model(loop: LoopNode, values: Mapping[str, Value | Refused], module: ir.Model) -> onnx.ModelProto:
    """The step as a model of its own, from the state and what else it reads that depends on the input."""
    import onnx
    import onnx_ir as ir

    element = element_of(loop, values, module)
    body = ir.to_proto(loop.body)
    kept = {output.name for node in loop.step for output in node.outputs}
    nodes = [node for node in body.node if kept.intersection(node.output)]
    inside = kept | {t.name for t in body.initializer}
    _, read = _needed(loop.body, loop.carried)
    inputs = [onnx.helper.make_tensor_value_info(loop.state, element, loop.start.shape)]
    stored = list(body.initializer)
    for name in sorted(read - inside - {loop.state}):
        value = values[name]
        if isinstance(value, Live):
            inputs.append(onnx.helper.make_tensor_value_info(name, element, value.shape))
        elif isinstance(value, Known):
            array = value.data.value.astype(onnx.helper.tensor_dtype_to_np_dtype(element))
            stored.append(onnx.numpy_helper.from_array(array, name))
        elif isinstance(value, Integers):
            stored.append(onnx.numpy_helper.from_array(np.asarray(value.data), name))
    outputs = [onnx.helper.make_tensor_value_info(loop.following, element, loop.start.shape)]
    graph = onnx.helper.make_graph(nodes, "step", inputs, outputs, initializer=stored)
    opsets = [onnx.helper.make_opsetid(domain, version) for domain, version in module.opset_imports.items()]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=module.ir_version)
