"""The walk over an ONNX graph that turns it into ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lipcert.arithmetic.enclosure import exact
from lipcert.errors import ModelError, UnsupportedModelError
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.integers import evaluate_integers
from lipcert.frontend.model import TensorInfo
from lipcert.frontend.opnode import MAX_ELEMENTS, OpNode
from lipcert.frontend.registry import find_converter
from lipcert.frontend.values import Integers, Known, Live, Value
from lipcert.graph import Graph, Output
from lipcert.operators import Shape

if TYPE_CHECKING:
    import onnx_ir as ir

MAX_NODES = 100_000

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


def convert(module: ir.Model) -> Converted:
    """Build the Graph of an inlined model, or refuse with the first thing that is not understood."""
    graph = module.graph
    if len(graph) > MAX_NODES:
        raise ModelError(f"{len(graph)} nodes, over the limit of {MAX_NODES}", hint="simplify the model")
    build = GraphBuilder()
    values: dict[str, Value] = {}
    parameters = _read_initializers(graph, values)
    inputs = _read_inputs(graph, build, values)
    opset = module.opset_imports.get("", 0)
    if opset > MAX_OPSET:
        raise UnsupportedModelError(f"the model imports ONNX opset {opset}, which does not exist", hint="export again")
    if opset < 7:
        raise UnsupportedModelError(
            f"the model imports ONNX opset {opset or 'none'}; lipcert reads 7 and up",
            hint="convert it with onnx.version_converter, or export it again",
        )
    folded: list[str] = []
    for node in graph:
        _convert_node(node, module.opset_imports, build, values, folded)
    notes = tuple(_pinned_batch(graph))
    outputs = tuple(_read_output(value, values) for value in graph.outputs)
    if not outputs:
        raise ModelError("the model has no outputs")
    results = tuple(Output(info.name, _live(values[info.name], info.name).node) for info in outputs)
    return Converted(
        Graph(tuple(build.nodes), results), values, inputs, outputs, parameters, opset, tuple(folded), notes
    )


def _pinned_batch(graph: ir.Graph) -> list[str]:
    """A note for each input whose symbolic first axis was read as 1."""
    return [
        f"input {value.name}: the batch axis {value.shape[0]} is read as 1"
        for value in graph.inputs
        if value.name not in graph.initializers and value.shape and not isinstance(value.shape[0], int)
    ]


def _read_initializers(graph: ir.Graph, values: dict[str, Value]) -> int:
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


def _read_inputs(graph: ir.Graph, build: GraphBuilder, values: dict[str, Value]) -> tuple[TensorInfo, ...]:
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
    _check_size(f"input {name!r}", tuple(sizes))
    return tuple(sizes)


def _convert_node(
    node: ir.Node, opsets: dict[str, int], build: GraphBuilder, values: dict[str, Value], folded: list[str]
) -> None:
    op = _as_opnode(node, opsets, values)
    present = [v for v in op.inputs if v is not None]
    result: Value | None = None
    if present and all(isinstance(v, Integers) for v in present):
        result = evaluate_integers(op)
    if result is None:
        convert_op = find_converter(op.domain, op.op_type, op.since)
        if convert_op is None:
            op.refuse("lipcert does not support this op", _advice(op))
        result = convert_op(build, op)
    _check_size(op.label, result.shape)
    if isinstance(result, Live) and not result.size:
        op.malformed(f"its result of shape {list(result.shape)} has no entries")
    if any(name for name in op.outputs[1:]):
        op.refuse(f"{len(op.outputs)} outputs", "only its first output is supported")
    if isinstance(result, Known) and op.op_type != "Constant":
        folded.append(op.outputs[0])
    if op.outputs[0] in values:
        raise ModelError(f"{op.label}: tensor {op.outputs[0]!r} is produced twice", hint="the file is malformed")
    values[op.outputs[0]] = result


def _as_opnode(node: ir.Node, opsets: dict[str, int], values: dict[str, Value]) -> OpNode:
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
            inputs.append(values[value.name])
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


def _read_output(value: Any, values: dict[str, Value]) -> TensorInfo:
    name = value.name or ""
    if name not in values:
        raise ModelError(f"output {name!r} is produced by no node", hint="the file is malformed; export it again")
    return TensorInfo(name, _live(values[name], name).shape)


def _live(value: Value, name: str) -> Live:
    if not isinstance(value, Live):
        raise ModelError(f"output {name!r} depends on no input", hint="its Lipschitz constant is 0")
    return value


def _check_size(what: str, shape: Shape) -> None:
    if any(d < 0 for d in shape):
        raise ModelError(f"{what} has shape {list(shape)}", hint=_MALFORMED)
    size = 1
    for d in shape:
        size *= int(d)
    if size > MAX_ELEMENTS:
        raise ModelError(f"{what} has {size} entries, over the limit of {MAX_ELEMENTS}", hint="use a smaller model")


def _advice(op: OpNode) -> str:
    from lipcert.frontend.registry import supported_ops

    known = supported_ops().get(op.op_type)
    if known:
        return f"it reads {op.op_type} as defined at opset {', '.join(map(str, known))}, not {op.since}"
    return "`lipcert inspect --ops` lists the ops that it reads; rewrite this one with them"
