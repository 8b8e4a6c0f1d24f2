"""An ONNX node as an OpNode: its definition looked up, inputs and attributes checked against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lipcert.errors import ModelError, UnsupportedModelError
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.tensors import MALFORMED, check_size
from lipcert.frontend.values import Refused, Value

if TYPE_CHECKING:
    import onnx_ir as ir

_HARMLESS = frozenset(
    (
        *("momentum", "consumed_inputs", "is_test"),  # of training
        *("ratio", "seed"),  # of dropout
        *("saturate", "round_mode", "stash_type", "softmax_precision", "storage_order"),  # of number formats
        "qk_matmul_output_mode",  # of an output that is not read
    )
)


_NUMBERS = ("INT", "INTS", "FLOAT", "FLOATS")

_JUMPS = frozenset(
    ("ArgMax", "ArgMin", "Ceil", "Equal", "Floor", "Hardmax", "IsInf", "IsNaN", "NonZero", "OneHot", "Round", "Unique")
)


def read_node(node: ir.Node, opsets: dict[str, int], values: Mapping[str, Value | Refused]) -> OpNode:
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
            hint="replace the custom op by standard ones, state what it obeys (--template), or update the onnx package",
        ) from None
    inputs = _inputs(node, values, label)
    if len(inputs) > schema.max_input:
        raise ModelError(f"{label}: {len(inputs)} inputs, at most {schema.max_input} are defined", hint=MALFORMED)
    if not inputs and schema.min_input:
        raise ModelError(f"{label}: input 0 is missing", hint=MALFORMED)
    attributes = {name: _attribute(label, a, schema) for name, a in node.attributes.items()}
    since = schema.since_version
    return OpNode(node.op_type, domain, node.name or "", opset, since, tuple(inputs), outputs, attributes)


def read_custom_node(node: ir.Node, opsets: dict[str, int], values: Mapping[str, Value | Refused]) -> OpNode:
    """A node of an op that nothing defines, with the attributes that it has."""
    outputs = tuple(v.name or "" for v in node.outputs)
    label = f"{node.domain}.{node.op_type} node {node.name or (outputs[0] if outputs else '')!r}".lstrip(".")
    if not outputs or not outputs[0]:
        raise ModelError(f"{label}: its result has no name", hint=MALFORMED)
    attributes = {name: a.value for name, a in node.attributes.items() if a.type.name in _NUMBERS}
    if odd := sorted(set(node.attributes) - set(attributes)):
        raise UnsupportedModelError(f"{label}: attribute {odd[0]} is no number, nor a list of them")
    for name, given in attributes.items():
        if not np.all(np.isfinite(np.asarray(given, dtype=float))):
            raise ModelError(f"{label}: attribute {name} holds NaN or Inf", hint=MALFORMED)
    inputs = _inputs(node, values, label)
    opset = node.version or opsets.get(node.domain, 0)
    return OpNode(node.op_type, node.domain, node.name or "", opset, 0, tuple(inputs), outputs, attributes)


def _inputs(node: ir.Node, values: Mapping[str, Value | Refused], label: str) -> list[Value | None]:
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
    return inputs


def _attribute(label: str, attribute: Any, schema: Any) -> Any:
    """The value, of the type that the op defines."""
    kind, name = attribute.type.name, attribute.name
    defined = schema.attributes.get(name)
    if defined is None:
        raise ModelError(f"{label}: it has no attribute {name!r}", hint=MALFORMED)
    if attribute.is_ref():
        raise ModelError(f"{label}: attribute {name} refers to a function's, outside one", hint=MALFORMED)
    if kind != defined.type.name:
        raise ModelError(
            f"{label}: attribute {name} is of kind {kind.lower()}, not {defined.type.name.lower()}", hint=MALFORMED
        )
    if kind in ("FLOAT", "FLOATS") and not np.all(np.isfinite(attribute.value)):
        raise ModelError(f"{label}: attribute {name} holds NaN or Inf", hint=MALFORMED)
    if kind == "STRING" and not isinstance(attribute.value, str):
        raise ModelError(f"{label}: attribute {name} is no text", hint=MALFORMED)
    if kind == "TENSOR":
        check_size(label, tuple(attribute.value.shape.numpy()))
        try:
            return attribute.value.numpy()
        except Exception as error:  # onnx-ir raises many kinds for damaged tensor data
            raise ModelError(f"{label}: attribute {name} cannot be read: {error}", hint=MALFORMED) from error
    if kind in ("INT", "FLOAT", "STRING", "INTS", "FLOATS"):
        return attribute.value
    raise UnsupportedModelError(f"{label}: attribute {attribute.name} of kind {kind.lower()}", hint="not supported")


def refuse_unread(op: OpNode) -> None:
    """An attribute that its converter does not know, set to something else than its default."""
    import onnx.defs
    import onnx.helper

    defined = onnx.defs.get_schema(op.op_type, op.opset, op.domain).attributes
    for name in sorted(set(op.attributes) - op.read - _HARMLESS):
        default = defined[name].default_value
        if not default.name or onnx.helper.get_attribute_value(default) != op.attributes[name]:
            op.refuse(f"attribute {name}", "lipcert does not know what it does; export without it")


def advice(op: OpNode) -> str:
    from lipcert.frontend.registry import supported_ops

    if op.op_type in _JUMPS:
        return "its result jumps, so it has no Lipschitz constant: bound the scores before it"
    known = supported_ops().get(op.op_type)
    if known:
        return f"it reads {op.op_type} as defined at opset {', '.join(map(str, known))}, not {op.since}"
    return "`lipcert inspect --ops` lists the ops that it reads; rewrite this one with them"
