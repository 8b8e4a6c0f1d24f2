"""The walk over an ONNX graph that turns it into ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from lipcert.errors import ModelError, UnsupportedModelError
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.integers import evaluate_integers
from lipcert.frontend.loops import (
    CONVERGED,
    MAX_STEPS,
    STATE,
    LoopNode,
    close,
    names_read,
    read_loop,
    step_count,
    summed,
)
from lipcert.frontend.model import TensorInfo
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.precise import PreciseConstants
from lipcert.frontend.read_node import advice, read_custom_node, read_node, refuse_unread
from lipcert.frontend.registry import find_converter, is_known
from lipcert.frontend.templated import convert_templated, template_of
from lipcert.frontend.tensors import (
    MAX_LIVE,
    check_size,
    inferred_shapes,
    pinned_batch,
    read_initializers,
    read_inputs,
)
from lipcert.frontend.values import Condition, Integers, Known, Live, Refused, Value
from lipcert.graph import Affine, Graph, Node, Output
from lipcert.graph.nodes import renumbered
from lipcert.operators import Selection, Shape, size_of
from lipcert.templates import Template

if TYPE_CHECKING:
    import onnx_ir as ir


MAX_LIVE_TOTAL = 2**26
"""Entries of all tensors that depend on the input, with the indices that move them: each takes eight bytes or more."""

MAX_CONSTANTS = 2**24
"""Entries that constants computed in the graph may have in all, beside sixteen times those stored."""

MAX_OPSET = 10_000


@dataclass(frozen=True, eq=False)
class Converted:
    """A graph, where each ONNX tensor went, and what the model declares."""

    graph: Graph
    values: dict[str, Value]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    parameters: int
    opset: int
    folded: tuple[str, ...]
    notes: tuple[str, ...]
    rewritten: frozenset[str] = frozenset()
    """Tensors computed from further back than their own ONNX node's inputs (GraphBuilder.rewritten)."""
    unrecognised: tuple[str, ...] = ()
    lost_outputs: dict[str, str] = field(default_factory=dict)
    templates: Mapping[str, Template] = field(default_factory=dict)
    """The user's, by op."""
    loops: dict[str, LoopNode] = field(default_factory=dict)
    """Loops that are read as fixed points, by their results."""
    fixed: dict[int, tuple[LoopNode, float]] = field(default_factory=dict)
    """Those and the ones inside of them by their FixedPoint nodes, and how much of the state their steps keep."""


def convert(
    module: ir.Model, templates: Mapping[str, Template] = MappingProxyType({}), *, unrolled: bool = False
) -> Converted:
    """Build the Graph of an inlined model; `templates` stand for ops that are not known otherwise, by op.

    A node that is not understood spoils the outputs that depend on it. If some are left, the model is those, and a note
    names the others; if none is, the error has all such nodes.
    """
    graph = module.graph
    opset = _check_opset(module)
    walk = _Walk(module, templates, unrolled)
    parameters = read_initializers(graph, walk.values)
    walk.constants = MAX_CONSTANTS + 16 * parameters
    inputs = read_inputs(graph, walk.build, walk.values)
    for node in graph:
        walk.convert(node)
    if not graph.outputs:
        raise ModelError("the model has no outputs")
    outputs, lost = walk.outputs()
    if not outputs:
        raise _first(walk.refusals, list(lost.values()))
    notes = [*pinned_batch(graph), *walk.build.notes]
    notes += [f"output {name} is not read: {error.message}" for name, error in lost.items()]
    results = tuple(Output(info.name, walk.live(info.name).node) for info in outputs)
    complete = Graph(tuple(walk.build.nodes), results)
    values = {name: value for name, value in walk.values.items() if not isinstance(value, Refused)}
    fixed = walk.fixed
    if walk.stand_ins:
        complete, values, new = _without_stand_ins(complete, values, walk.stand_ins)
        fixed = {new[position]: found for position, found in fixed.items() if position in new}
    return Converted(
        complete,
        values,
        inputs,
        tuple(outputs),
        parameters,
        opset,
        tuple(walk.folded),
        tuple(dict.fromkeys(notes)),
        frozenset(walk.build.rewritten),
        tuple(walk.build.unrecognised),
        {name: error.message for name, error in lost.items()},
        templates,
        walk.loops,
        fixed,
    )


def _first(refusals: list[ModelError], lost: list[ModelError]) -> ModelError:
    """One error that stands for all: a malformed file before what is merely not supported."""
    every = list(dict.fromkeys([*refusals, *lost]))
    every.sort(key=lambda error: isinstance(error, UnsupportedModelError))
    every[0].others = tuple(every[1:])
    return every[0]


class _Walk:
    """The conversion under way: node after node, going on behind the ones that are refused."""

    def __init__(self, module: ir.Model, templates: Mapping[str, Template], unrolled: bool) -> None:
        self.module, self.templates, self.unrolled = module, templates, unrolled
        self.loops: dict[str, LoopNode] = {}
        """Those that are read as fixed points, by their results."""
        self.fixed: dict[int, tuple[LoopNode, float]] = {}
        self.read_names = names_read(module.graph)
        self._inside = self._repeated = 0
        """How many Loops are around the node; and nodes that were read in steps one by one."""
        self._stored: dict[ir.Graph, dict[str, Value | Refused]] = {}
        """The initializers of Loops' bodies, which are read once."""
        self.build = GraphBuilder()
        self.values: dict[str, Value | Refused] = {}
        self.folded: list[str] = []
        self.precise = PreciseConstants()
        self.constants = MAX_CONSTANTS
        self.live_entries = 0
        self._counted = 0
        self.refusals: list[ModelError] = []
        self.stand_ins: dict[int, ModelError] = {}
        """Inputs made up for results of refused nodes, so that what reads them is looked at too."""
        self._shapes: dict[str, Shape] | None = None

    def convert(self, node: ir.Node) -> None:
        known = [self.values.get(v.name) for v in node.inputs if v is not None and v.name]
        spoilt = next((v for v in known if isinstance(v, Refused)), None)
        if spoilt is not None:
            for output in node.outputs:
                self._mark(output.name or "", spoilt)
            return
        try:
            self._read(node)
        except ModelError as error:
            self.refusals.append(error)
            for output in node.outputs:
                self._stand_in(output.name or "", error)

    def _read(self, node: ir.Node) -> None:
        template = self._template(node)
        if template is not None:
            custom = read_custom_node(node, self.module.opset_imports, self.values)
            self._store(custom, (convert_templated(self.build, custom, template),))
            return
        if node.op_type == "Loop" and node.domain in ("", "ai.onnx"):
            self._loop(node)
            return
        op = self._node(node)
        if any(isinstance(value, Live) for value in op.inputs):
            op = self._refined(op)
        self._store(op, self._results(op))

    def _loop(self, node: ir.Node) -> None:
        """A fixed point in place of the Loop; or, where they are asked for, its steps."""
        loop = read_loop(node, self._value, self._is_used)
        if loop.result in self.values:
            raise ModelError(f"{loop.label}: tensor {loop.result!r} is produced twice", hint="the file is malformed")
        if self.unrolled and CONVERGED not in node.metadata_props:
            state: Value = loop.start
            for _ in range(step_count(loop)):
                self._repeated += max(1, len(loop.step))
                if self._repeated > MAX_STEPS:
                    raise UnsupportedModelError(
                        f"{loop.label}: the steps of all Loops are more than {MAX_STEPS} nodes",
                        hint="leave --unrolled out: fixed points are read",
                    )
                state = summed(self.build, state, self._step(loop, state))
            self.values[loop.result] = state
            return
        if self.unrolled and self._inside:
            raise UnsupportedModelError(
                f"{loop.label}: a fixed point inside of steps that are read one by one", hint="leave --unrolled out"
            )
        unknown = self.build.state(loop.start.shape, loop.result)
        try:
            result, kept = close(self.build, loop, unknown, self._step(loop, unknown))
        except ModelError:
            self.build.fixed_point(unknown, unknown, None, loop.result)  # a state is closed, whatever reads it
            raise
        self.values[loop.result] = result
        self.fixed[result.node] = loop, kept
        node.metadata_props[STATE] = f"{STATE}.{result.node}"
        if not self._inside:
            self.loops[loop.result] = loop

    def _step(self, loop: LoopNode, state: Value) -> Value:
        """The next state: the names inside the Loop are its own."""
        if loop.body not in self._stored:
            read_initializers(loop.body, self._stored.setdefault(loop.body, {}))
        outside = self.values
        self.values = {**outside, loop.state: state, **self._stored[loop.body]}
        self._inside += 1
        try:
            for node in loop.step:
                spoilt = [self.values.get(v.name) for v in node.inputs if v is not None and v.name]
                for value in spoilt:
                    if isinstance(value, Refused):
                        raise value.because
                self._read(node)
            found = self.values.get(loop.following)
        finally:
            self.values = outside
            self._inside -= 1
        if not isinstance(found, Live | Known | Integers | Condition):
            raise ModelError(f"{loop.label}: its next state is produced by no node", hint="the file is malformed")
        return found

    def _value(self, name: str) -> Value | None:
        found = self.values.get(name)
        if isinstance(found, Refused):
            raise found.because
        return found

    def _is_used(self, name: str) -> bool:
        return name in self.read_names

    def _template(self, node: ir.Node) -> Template | None:
        """The user's template of an op that lipcert does not know."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        return None if is_known(domain, node.op_type) else template_of(self.templates, domain, node.op_type)

    def _node(self, node: ir.Node) -> OpNode:
        op = read_node(node, self.module.opset_imports, self.values)
        live = any(isinstance(value, Live | Condition) for value in op.inputs)
        room = min(MAX_LIVE, MAX_LIVE_TOTAL - self.live_entries) if live else self.constants
        return replace(op, room=max(0, room))

    def _results(self, op: OpNode) -> tuple[Value | None, ...]:
        present = [v for v in op.inputs if v is not None]
        if present and all(isinstance(v, Integers) for v in present):
            folded = evaluate_integers(op)
            if folded is not None:
                return (folded,)
        convert_op = find_converter(op.domain, op.op_type, op.since)
        if convert_op is None:
            op.refuse("lipcert does not support this op", advice(op))
        try:
            result = convert_op(self.build, op)
        except ModelError:
            closer = self._refined(op)
            if closer.inputs == op.inputs:
                raise
            result = convert_op(self.build, closer)  # a divisor, say, whose loose enclosure contains zero
        refuse_unread(op)
        return result if isinstance(result, tuple) else (result,)

    def _refined(self, op: OpNode) -> OpNode:
        """The node with constants that were computed in the graph enclosed as closely as they can be."""
        inputs = tuple(self.precise.refined(v) if isinstance(v, Known) else v for v in op.inputs)
        return replace(op, inputs=inputs)

    def _store(self, op: OpNode, results: tuple[Value | None, ...]) -> None:
        for i, name in enumerate(op.outputs):
            if not name:
                continue
            if name in self.values:
                raise ModelError(f"{op.label}: tensor {name!r} is produced twice", hint="the file is malformed")
            value = results[i] if i < len(results) else None
            if value is None:
                error = UnsupportedModelError(f"{op.label}: its output {i} is not supported", hint="do not use it")
                self._mark(name, Refused(error))
                continue
            check_size(op.label, value.shape)
            if isinstance(value, Live | Condition) and not value.size:
                op.malformed(f"its result of shape {list(value.shape)} has no entries")
            if isinstance(value, Known) and op.op_type != "Constant":
                self.folded.append(name)
                if len(op.outputs) == 1:
                    self.precise.record(op, value)
            if not isinstance(value, Live | Condition):
                self.constants -= math.prod(value.shape)
            self.values[name] = value
        self.live_entries += sum(_cost(node) for node in self.build.nodes[self._counted :])
        self._counted = len(self.build.nodes)

    def _mark(self, name: str, refused: Refused) -> None:
        if name and name not in self.values:
            self.values[name] = refused

    def _stand_in(self, name: str, error: ModelError) -> None:
        """An input in place of a tensor whose shape the model tells; unknown where it does not."""
        if not name or name in self.values:
            return
        if self._shapes is None:
            self._shapes = inferred_shapes(self.module)
        shape = self._shapes.get(name)
        if shape is None:
            self.values[name] = Refused(error)
            return
        self.values[name] = self.build.input(f"{name} (refused)", shape)
        self.stand_ins[len(self.build.nodes) - 1] = error

    def live(self, name: str) -> Live:
        value = self.values[name]
        assert isinstance(value, Live)
        return value

    def outputs(self) -> tuple[list[TensorInfo], dict[str, ModelError]]:
        """The outputs that are read, and why the others are not."""
        spoilt: dict[int, ModelError] = dict(self.stand_ins)
        for position, node in enumerate(self.build.nodes):
            for source in node.inputs:
                if source in spoilt and position not in spoilt:
                    spoilt[position] = spoilt[source]
        found: list[TensorInfo] = []
        lost: dict[str, ModelError] = {}
        for output in self.module.graph.outputs:
            name = output.name or ""
            value = self.values.get(name)
            if value is None:
                raise ModelError(f"output {name!r} is produced by no node", hint="the file is malformed")
            if isinstance(value, Refused):
                lost[name] = value.because
            elif isinstance(value, Live) and value.node in spoilt:
                lost[name] = spoilt[value.node]
            elif isinstance(value, Live):
                found.append(TensorInfo(name, value.shape))
            elif isinstance(value, Condition):
                lost[name] = UnsupportedModelError(
                    f"output {name!r} is a condition", hint="it has no Lipschitz constant"
                )
            else:
                lost[name] = ModelError(f"output {name!r} depends on no input", hint="its Lipschitz constant is 0")
        broken = [error for error in self.refusals if not isinstance(error, UnsupportedModelError)]
        return ([], lost) if broken else (found, lost)


def _cost(node: Node) -> int:
    """Entries of a node and of the indices that its operators hold."""
    indices = [op.index.size for op in node.operators if isinstance(op, Selection)] if isinstance(node, Affine) else []
    return size_of(node.shape) + sum(indices)


def _check_opset(module: ir.Model) -> int:
    opset = module.opset_imports.get("", 0)
    if opset > MAX_OPSET:
        raise UnsupportedModelError(f"the model imports ONNX opset {opset}, which does not exist", hint="export again")
    if opset < 7:
        raise UnsupportedModelError(
            f"the model imports ONNX opset {opset or 'none'}; lipcert reads 7 and up",
            hint="convert it with onnx.version_converter, or export it again",
        )
    return opset


def _without_stand_ins(
    graph: Graph, values: dict[str, Value], stand_ins: dict[int, ModelError]
) -> tuple[Graph, dict[str, Value], dict[int, int]]:
    """The graph of the outputs that are read, the tensors that it still has, and where its nodes are now."""
    needed = {o.node for o in graph.outputs} | {i for i in graph.inputs.values() if i not in stand_ins}
    for position in reversed(range(len(graph.nodes))):
        if position in needed:
            needed.update(graph.nodes[position].inputs)
    new = {old: position for position, old in enumerate(sorted(needed))}
    nodes = tuple(renumbered(graph.nodes[old], new) for old in sorted(needed))
    kept: dict[str, Value] = {}
    for name, value in values.items():
        if isinstance(value, Live):
            if value.node in new:
                kept[name] = Live(new[value.node], value.shape)
        elif not isinstance(value, Condition):
            kept[name] = value
    return Graph(nodes, tuple(Output(o.name, new[o.node]) for o in graph.outputs)), kept, new
