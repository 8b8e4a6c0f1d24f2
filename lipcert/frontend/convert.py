"""The walk over an ONNX graph that turns it into ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lipcert.arithmetic.enclosure import exact
from lipcert.errors import ModelError, UnsupportedModelError
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.integers import evaluate_integers
from lipcert.frontend.model import TensorInfo
from lipcert.frontend.opnode import MAX_ELEMENTS, OpNode
from lipcert.frontend.precise import PreciseConstants
from lipcert.frontend.registry import find_converter
from lipcert.frontend.values import Condition, Integers, Known, Live, Value
from lipcert.graph import Affine, Graph, Node, Output
from lipcert.graph.nodes import renumbered
from lipcert.operators import Selection, Shape, size_of

if TYPE_CHECKING:
    import onnx_ir as ir

MAX_LIVE = 2**22
"""Entries of one tensor that depends on the input ..."""

MAX_LIVE_TOTAL = 2**26
"""... and of all of them, with the indices that move them: each takes eight bytes, and more while it is checked."""

MAX_CONSTANTS = 2**24
"""Entries that constants computed in the graph may have in all, beside sixteen times those stored."""

MAX_AXES = 32

MAX_OPSET = 10_000

_FLOATS = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")


_MALFORMED = "the file is malformed; export it again"


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


def convert(module: ir.Model) -> Converted:
    """Build the Graph of an inlined model.

    A node that is not understood spoils the outputs that depend on it. If some are left, the model is those, and a note
    names the others; if none is, the error has all such nodes.
    """
    graph = module.graph
    opset = _check_opset(module)
    walk = _Walk(module)
    parameters = _read_initializers(graph, walk.values)
    walk.constants = MAX_CONSTANTS + 16 * parameters
    inputs = _read_inputs(graph, walk.build, walk.values)
    for node in graph:
        walk.convert(node)
    if not graph.outputs:
        raise ModelError("the model has no outputs")
    outputs, lost = walk.outputs()
    if not outputs:
        raise _first(walk.refusals, list(lost.values()))
    notes = [*_pinned_batch(graph), *walk.build.notes]
    notes += [f"output {name} is not read: {error.message}" for name, error in lost.items()]
    results = tuple(Output(info.name, walk.live(info.name).node) for info in outputs)
    complete = Graph(tuple(walk.build.nodes), results)
    values = {name: value for name, value in walk.values.items() if not isinstance(value, Refused)}
    if walk.stand_ins:
        complete, values = _without_stand_ins(complete, values, walk.stand_ins)
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
    )


def _first(refusals: list[ModelError], lost: list[ModelError]) -> ModelError:
    """One error that stands for all: a malformed file before what is merely not supported."""
    every = list(dict.fromkeys([*refusals, *lost]))
    every.sort(key=lambda error: isinstance(error, UnsupportedModelError))
    every[0].others = tuple(every[1:])
    return every[0]


@dataclass(frozen=True, eq=False)
class Refused:
    """A tensor that is not known, since a node before it is not understood."""

    because: ModelError


class _Walk:
    """The conversion under way: node after node, going on behind the ones that are refused."""

    def __init__(self, module: ir.Model) -> None:
        self.module = module
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
            op = self._node(node)
            if any(isinstance(value, Live) for value in op.inputs):
                op = self._refined(op)
            self._store(op, self._results(op))
        except ModelError as error:
            self.refusals.append(error)
            for output in node.outputs:
                self._stand_in(output.name or "", error)

    def _node(self, node: ir.Node) -> OpNode:
        op = _as_opnode(node, self.module.opset_imports, self.values)
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
            op.refuse("lipcert does not support this op", _advice(op))
        try:
            result = convert_op(self.build, op)
        except ModelError:
            closer = self._refined(op)
            if closer.inputs == op.inputs:
                raise
            result = convert_op(self.build, closer)  # a divisor, say, whose loose enclosure contains zero
        _refuse_unread(op)
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
            _check_size(op.label, value.shape)
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
            self._shapes = _inferred_shapes(self.module)
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


_HARMLESS = frozenset(
    (
        *("momentum", "consumed_inputs", "is_test"),  # of training
        *("ratio", "seed"),  # of dropout
        *("saturate", "round_mode", "stash_type", "softmax_precision", "storage_order"),  # of number formats
        "qk_matmul_output_mode",  # of an output that is not read
    )
)


def _refuse_unread(op: OpNode) -> None:
    """An attribute that its converter does not know, set to something else than its default."""
    import onnx.defs
    import onnx.helper

    defined = onnx.defs.get_schema(op.op_type, op.opset, op.domain).attributes
    for name in sorted(set(op.attributes) - op.read - _HARMLESS):
        default = defined[name].default_value
        if not default.name or onnx.helper.get_attribute_value(default) != op.attributes[name]:
            op.refuse(f"attribute {name}", "lipcert does not know what it does; export without it")


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


def _inferred_shapes(module: ir.Model) -> dict[str, Shape]:
    """Static shapes of float tensors by ONNX's own shape inference, the batch axis read as 1."""
    import onnx
    import onnx_ir as ir

    try:
        proto = onnx.shape_inference.infer_shapes(ir.to_proto(module))
    except Exception:  # only a help for listing more problems; onnx raises whatever its C++ does
        return {}
    shapes: dict[str, Shape] = {}
    for info in (*proto.graph.value_info, *proto.graph.output):
        kind = info.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim]
        if dims and not dims[0]:
            dims[0] = 1
        usable = kind.HasField("shape") and all(dims) and math.prod(dims) <= MAX_LIVE and len(dims) <= MAX_AXES
        if kind.elem_type in (1, 10, 11, 16) and usable:
            shapes[info.name] = tuple(dims)
    return shapes


def _without_stand_ins(
    graph: Graph, values: dict[str, Value], stand_ins: dict[int, ModelError]
) -> tuple[Graph, dict[str, Value]]:
    """The graph of the outputs that are read, and the tensors that it still has."""
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
    return Graph(nodes, tuple(Output(o.name, new[o.node]) for o in graph.outputs)), kept


def _pinned_batch(graph: ir.Graph) -> list[str]:
    """A note for each input whose symbolic first axis was read as 1."""
    return [
        f"input {value.name}: the batch axis {value.shape[0]} is read as 1"
        for value in graph.inputs
        if value.name not in graph.initializers and value.shape and not isinstance(value.shape[0], int)
    ]


def _read_initializers(graph: ir.Graph, values: dict[str, Value | Refused]) -> int:
    parameters = 0
    for name, initializer in graph.initializers.items():
        tensor = initializer.const_value
        if tensor is None:
            raise ModelError(f"initializer {name!r} has no data", hint="export the model again")
        _check_size(f"initializer {name!r}", tuple(tensor.shape.numpy()))
        try:
            data = np.asarray(tensor.numpy())
        except Exception as error:  # onnx-ir raises many kinds for damaged tensor data
            raise ModelError(f"initializer {name!r} cannot be read: {error}", hint="export the model again") from error
        if tensor.dtype.name in _FLOATS:
            with np.errstate(invalid="ignore"):  # a signalling NaN
                stored = data.astype(np.float64)
            if not np.all(np.isfinite(stored)):
                raise ModelError(f"initializer {name!r} holds NaN or Inf", hint="a bound of it would mean nothing")
            values[name] = Known(exact(stored))
            parameters += stored.size
        elif data.dtype.kind in "iub":
            values[name] = Integers(data)
        else:
            raise UnsupportedModelError(f"initializer {name!r} has type {tensor.dtype.name}", hint="use float weights")
    return parameters


def _read_inputs(graph: ir.Graph, build: GraphBuilder, values: dict[str, Value | Refused]) -> tuple[TensorInfo, ...]:
    found = []
    for value in graph.inputs:
        name = value.name or ""
        if name in graph.initializers:
            continue  # old IR versions list weights among the inputs
        if value.dtype is None or value.dtype.name not in _FLOATS:
            kind = "unknown" if value.dtype is None else value.dtype.name
            raise UnsupportedModelError(f"input {name!r} has type {kind}", hint="only float inputs have a slope")
        shape = _static_shape(name, value.shape)
        values[name] = build.input(name, shape)
        found.append(TensorInfo(name, shape))
    if not found:
        raise ModelError("the model has no inputs", hint="a constant has no slope to bound")
    return tuple(found)


def _static_shape(name: str, shape: Any) -> Shape:
    """The input's shape with a symbolic first axis, the batch, pinned to 1."""
    if shape is None:
        raise UnsupportedModelError(f"input {name!r} has no shape", hint="export the model with a static shape")
    sizes: list[int] = []
    for axis, dim in enumerate(shape):
        if isinstance(dim, int):
            sizes.append(dim)
        elif axis == 0:
            sizes.append(1)
        else:
            raise UnsupportedModelError(
                f"input {name!r}: axis {axis} has no fixed size ({dim})",
                hint="only the batch axis may be dynamic; export with fixed sizes",
            )
    if any(d < 1 for d in sizes):
        raise ModelError(f"input {name!r} has shape {sizes}", hint="every axis needs at least one entry")
    if len(sizes) > MAX_AXES or math.prod(sizes) > MAX_LIVE:
        raise ModelError(
            f"input {name!r} has {len(sizes)} axes and {math.prod(sizes)} entries, over the limit of {MAX_AXES} axes "
            f"and {MAX_LIVE} entries",
            hint="use a smaller input",
        )
    return tuple(sizes)


def _as_opnode(node: ir.Node, opsets: dict[str, int], values: Mapping[str, Value | Refused]) -> OpNode:
    import onnx.defs

    domain = "" if node.domain == "ai.onnx" else node.domain
    opset = node.version or opsets.get(domain, 0)
    outputs = tuple(v.name or "" for v in node.outputs)
    label = f"{node.op_type} node {node.name or (outputs[0] if outputs else '')!r} (opset {opset})"
    if not outputs or not outputs[0]:
        raise ModelError(f"{label}: its result has no name", hint="the file is malformed; export it again")
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, domain)
    except (onnx.defs.SchemaError, TypeError):  # TypeError: a version beyond 32 bits
        place = f"domain {domain!r}" if domain else f"ONNX opset {opset}"
        raise UnsupportedModelError(
            f"{label}: {place} has no op {node.op_type} that this program knows",
            hint="replace the custom op by standard ones, or update the onnx package",
        ) from None
    inputs: list[Value | None] = []
    for value in node.inputs:
        if value is None or not value.name:
            inputs.append(None)
        elif value.name not in values:
            raise ModelError(
                f"{label}: reads {value.name!r}, which no earlier node produces", hint="sort the graph, or export again"
            )
        else:
            given = values[value.name]
            assert not isinstance(given, Refused)
            inputs.append(given)
    if len(inputs) > schema.max_input:
        raise ModelError(f"{label}: {len(inputs)} inputs, at most {schema.max_input} are defined", hint=_MALFORMED)
    if not inputs and schema.min_input:
        raise ModelError(f"{label}: input 0 is missing", hint=_MALFORMED)
    attributes = {name: _attribute(label, a, schema) for name, a in node.attributes.items()}
    since = schema.since_version
    return OpNode(node.op_type, domain, node.name or "", opset, since, tuple(inputs), outputs, attributes)


def _attribute(label: str, attribute: Any, schema: Any) -> Any:
    """The value, of the type that the op defines."""
    kind, name = attribute.type.name, attribute.name
    defined = schema.attributes.get(name)
    if defined is None:
        raise ModelError(f"{label}: it has no attribute {name!r}", hint=_MALFORMED)
    if attribute.is_ref():
        raise ModelError(f"{label}: attribute {name} refers to a function's, outside one", hint=_MALFORMED)
    if kind != defined.type.name:
        raise ModelError(
            f"{label}: attribute {name} is of kind {kind.lower()}, not {defined.type.name.lower()}", hint=_MALFORMED
        )
    if kind in ("FLOAT", "FLOATS") and not np.all(np.isfinite(attribute.value)):
        raise ModelError(f"{label}: attribute {name} holds NaN or Inf", hint=_MALFORMED)
    if kind == "STRING" and not isinstance(attribute.value, str):
        raise ModelError(f"{label}: attribute {name} is no text", hint=_MALFORMED)
    if kind == "TENSOR":
        _check_size(label, tuple(attribute.value.shape.numpy()))
        try:
            return attribute.value.numpy()
        except Exception as error:  # onnx-ir raises many kinds for damaged tensor data
            raise ModelError(f"{label}: attribute {name} cannot be read: {error}", hint=_MALFORMED) from error
    if kind in ("INT", "FLOAT", "STRING", "INTS", "FLOATS"):
        return attribute.value
    raise UnsupportedModelError(f"{label}: attribute {attribute.name} of kind {kind.lower()}", hint="not supported")


def _check_size(what: str, shape: Shape) -> None:
    if any(d < 0 for d in shape):
        raise ModelError(f"{what} has shape {list(shape)}", hint=_MALFORMED)
    size = 1
    for d in shape:
        size *= int(d)
    if size > MAX_ELEMENTS:
        raise ModelError(f"{what} has {size} entries, over the limit of {MAX_ELEMENTS}", hint="use a smaller model")


_JUMPS = frozenset(
    ("ArgMax", "ArgMin", "Ceil", "Equal", "Floor", "Hardmax", "IsInf", "IsNaN", "NonZero", "OneHot", "Round", "Unique")
)


def _advice(op: OpNode) -> str:
    from lipcert.frontend.registry import supported_ops

    if op.op_type in _JUMPS:
        return "its result jumps, so it has no Lipschitz constant: bound the scores before it"
    known = supported_ops().get(op.op_type)
    if known:
        return f"it reads {op.op_type} as defined at opset {', '.join(map(str, known))}, not {op.since}"
    return "`lipcert inspect --ops` lists the ops that it reads; rewrite this one with them"
