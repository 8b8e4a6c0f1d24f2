"""The ONNX form of an implicit layer, z = phi(A z + u): a node lipcert.FixedPoint, defined by a function that iterates.

docs/implicit-onnx.md describes it. torch exports the node with attributes and without a function; here the function is
built from them: one Loop of z <- z + step (phi(A z + u) - z), whose fixed points are exactly those of phi(A z + u).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lipcert.errors import ModelError, UnsupportedModelError

if TYPE_CHECKING:
    import onnx

DOMAIN = "lipcert"
OP = "FixedPoint"
VERSION = 1
FUNCTIONS_SINCE_IR = 8
LEAST_OPSET = 13

ACTIVATIONS = {
    "Identity": 1,
    "Relu": 6,
    "LeakyRelu": 6,
    "Elu": 6,
    "Selu": 6,
    "Celu": 12,
    "Softplus": 1,
    "Softsign": 1,
    "Tanh": 6,
    "Sigmoid": 6,
    "HardSigmoid": 6,
    "Atan": 7,
    "Erf": 9,
}
"""The ONNX ops that `activation` may name, and the opset that has them."""

TAKES_ALPHA = ("LeakyRelu", "Elu", "Celu", "HardSigmoid")

GENERAL = {"kind", "activation", "activation_alpha", "step", "iterations", "tolerance"}
OF_KIND = {"linear": GENERAL, "conv": GENERAL | {"pads", "dilations", "group"}}


@dataclass(frozen=True)
class Definition:
    """What a node's function depends on: nodes of equal definition share one."""

    kind: str
    activation: str
    alpha: float | None
    step: float
    iterations: int
    tolerance: float
    convolution: tuple[tuple[str, Any], ...]
    element: int
    opset: int


def define_functions(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a function for each lipcert.FixedPoint node that has attributes in its place: a copy.

    A model without such nodes is returned as it is. Raises ModelError or UnsupportedModelError, naming the node.
    """
    import onnx

    defined = {(f.domain, f.name) for f in proto.functions}
    _refuse_two_definitions(proto)
    if not any(_lacks_function(n, defined) for part in (proto.graph, *proto.functions) for n in _nodes(part.node)):
        return proto
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    types = _Types(model)
    names: dict[Definition, str] = {}
    for part in (model, *model.functions):
        body = model.graph if part is model else part
        nodes = [node for node in _nodes(body.node) if _lacks_function(node, defined)]
        if not nodes:
            continue
        opset = _opset(part, nodes[0])
        for node in nodes:
            definition = _definition(node, types, opset)
            if definition not in names:
                names[definition] = _free_name(defined)
                defined.add((DOMAIN, names[definition]))
            node.op_type = names[definition]
            del node.attribute[:]
        if DOMAIN not in {entry.domain for entry in part.opset_import}:
            part.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
    model.functions.extend(_function(name, definition) for definition, name in names.items())
    model.ir_version = max(model.ir_version, FUNCTIONS_SINCE_IR)
    return model


def _refuse_two_definitions(proto: onnx.ModelProto) -> None:
    """A node with a function takes the attributes that the function declares, and no others."""
    taken = {
        f.name: {*f.attribute, *(a.name for a in f.attribute_proto)} for f in proto.functions if f.domain == DOMAIN
    }
    for part in (proto.graph, *proto.functions):
        for node in _nodes(part.node):
            if node.domain == DOMAIN and node.op_type in taken:
                spare = sorted({a.name for a in node.attribute} - taken[node.op_type])
                if spare:
                    raise ModelError(
                        f"{_label(node)}: it has a function, which takes no attribute {spare[0]!r}",
                        hint="define the node by a function or by attributes, not both",
                    )


def _lacks_function(node: onnx.NodeProto, defined: set[tuple[str, str]]) -> bool:
    named = node.op_type == OP or node.op_type.startswith(f"{OP}_")
    return node.domain == DOMAIN and named and (node.domain, node.op_type) not in defined


def _nodes(nodes: Any) -> Iterator[onnx.NodeProto]:
    """The nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def _free_name(defined: set[tuple[str, str]]) -> str:
    names = {name for domain, name in defined if domain == DOMAIN}
    return OP if OP not in names else next(f"{OP}_{k}" for k in range(2, len(names) + 3) if f"{OP}_{k}" not in names)


def _opset(part: Any, node: onnx.NodeProto) -> int:
    opset = next((entry.version for entry in part.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < LEAST_OPSET:
        raise UnsupportedModelError(
            f"{_label(node)}: opset {opset}", hint=f"export with opset {LEAST_OPSET} or later, or store its function"
        )
    return opset


def _label(node: onnx.NodeProto) -> str:
    return f"{DOMAIN}.{node.op_type} {node.name or ', '.join(node.output)!r}"


def _definition(node: onnx.NodeProto, types: _Types, opset: int) -> Definition:
    import onnx

    label = _label(node)
    if len([name for name in node.input if name]) != 2 or len(node.input) != 2 or len(node.output) != 1:
        raise ModelError(f"{label}: it has {len(node.input)} inputs", hint="its inputs are u and A, its output is z")
    references = [a.name for a in node.attribute if a.ref_attr_name]
    if references:
        raise UnsupportedModelError(f"{label}: {references[0]} refers to an attribute of the function around it")
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    kind = _text(label, given, "kind", OF_KIND)
    activation = _text(label, given, "activation", ACTIVATIONS)
    unknown = sorted(set(given) - OF_KIND[kind])
    if unknown:
        raise UnsupportedModelError(f"{label}: unknown attribute {unknown[0]!r} for kind {kind!r}")
    if opset < ACTIVATIONS[activation]:
        raise UnsupportedModelError(f"{label}: opset {opset} has no {activation}")
    alpha = _number(label, given, "activation_alpha", -math.inf) if "activation_alpha" in given else None
    if alpha is not None and activation not in TAKES_ALPHA:
        raise UnsupportedModelError(f"{label}: activation_alpha with activation {activation}, which takes none")
    step = _number(label, given, "step", 0)
    if not 0 < step <= 1:
        raise ModelError(f"{label}: step {step:g}", hint="use a step above 0, at most 1")
    iterations = given.get("iterations")
    if not isinstance(iterations, int) or iterations < 1:
        raise ModelError(f"{label}: iterations {_shown(iterations)}", hint="use a positive integer")
    return Definition(
        kind=kind,
        activation=activation,
        alpha=alpha,
        step=step,
        iterations=iterations,
        tolerance=_number(label, given, "tolerance", 0),
        convolution=_convolution(label, given),
        element=_element(label, node, types),
        opset=opset,
    )


def _shown(value: Any) -> str:
    return "missing" if value is None else repr(value)


def _text(label: str, given: dict[str, Any], name: str, known: Any) -> str:
    value = given.get(name)
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    if text is None:
        raise ModelError(f"{label}: attribute {name!r} is missing, and there is no function that defines the node")
    if not isinstance(text, str) or text not in known:
        raise UnsupportedModelError(f"{label}: unknown {name} {text!r}", hint=f"known: {', '.join(known)}")
    return text


def _number(label: str, given: dict[str, Any], name: str, least: float) -> float:
    value = given.get(name)
    if not isinstance(value, float | int) or not math.isfinite(value) or value < least:
        raise ModelError(f"{label}: {name} {_shown(value)}", hint="use a finite number of the right sign")
    return float(value)


def _convolution(label: str, given: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The attributes of Conv, as its node takes them."""
    found: list[tuple[str, Any]] = []
    for name, least in (("pads", 0), ("dilations", 1)):
        values = given.get(name)
        if values is None:
            continue
        if not isinstance(values, list) or not all(isinstance(v, int) and v >= least for v in values):
            raise ModelError(f"{label}: {name} {values!r}", hint=f"use integers, {least} or more")
        found.append((name, tuple(values)))
    group = given.get("group", 1)
    if not isinstance(group, int) or group < 1:
        raise ModelError(f"{label}: group {group!r}", hint="use a positive integer")
    return (*found, ("group", group)) if "group" in given else tuple(found)


class _Types:
    """Element types of a model's tensors, inferred only when the file does not say."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._stated: dict[str, int] = {}
        for part in (model.graph, *model.functions):
            self._read(part)
        self._inferred = False

    def _read(self, part: Any) -> None:
        values = [*part.value_info, *getattr(part, "output", []), *getattr(part, "input", [])]
        self._stated |= {v.name: v.type.tensor_type.elem_type for v in values if not isinstance(v, str)}
        self._stated |= {t.name: t.data_type for t in getattr(part, "initializer", [])}
        for node in part.node:
            if node.op_type == "Constant" and not node.domain:
                stated = [a.t.data_type for a in node.attribute if a.name == "value"]
                self._stated |= dict(zip(node.output, stated, strict=False))
            for attribute in node.attribute:
                for graph in (attribute.g, *attribute.graphs):
                    self._read(graph)

    def of(self, names: Any) -> int:
        """That of the first name that has one; 0 (undefined) for none."""
        import onnx

        found = next((self._stated[name] for name in names if self._stated.get(name)), 0)
        if not found and not self._inferred:
            self._inferred = True
            try:
                inferred = onnx.shape_inference.infer_shapes(self._model)
            except Exception:  # a malformed model: whoever reads it says what is wrong
                return 0
            for part in (inferred.graph, *inferred.functions):
                self._read(part)
            return self.of(names)
        return found


def _element(label: str, node: onnx.NodeProto, types: _Types) -> int:
    import onnx

    element = types.of([node.input[1], node.input[0]])
    if element not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE):
        kind = onnx.TensorProto.DataType.Name(element)
        raise UnsupportedModelError(
            f"{label}: weights of type {kind}", hint="use float32 or float64, declared in the file's value_info"
        )
    return element


def _function(name: str, definition: Definition) -> onnx.FunctionProto:
    """(u, A) -> z: constants, zeros of u's shape, one Loop."""
    import onnx
    from onnx import helper

    def constant(output: str, value: Any, kind: int) -> onnx.NodeProto:
        return helper.make_node("Constant", [], [output], value=helper.make_tensor(output, kind, [], [value]))

    element = definition.element
    nodes = [
        constant("step", definition.step, element),
        constant("tolerance", definition.tolerance, element),
        constant("one", 1.0, element),
        constant("iterations", definition.iterations, onnx.TensorProto.INT64),
        constant("start", True, onnx.TensorProto.BOOL),
        helper.make_node("Shape", ["u"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["z0"], value=helper.make_tensor("zero", element, [1], [0.0])),
    ]
    if definition.kind == "linear":
        nodes.append(helper.make_node("Transpose", ["A"], ["At"], perm=[1, 0]))
    nodes.append(helper.make_node("Loop", ["iterations", "start", "z0"], ["z"], body=_body(definition)))
    opsets = [helper.make_opsetid("", definition.opset)]
    return helper.make_function(DOMAIN, name, ["u", "A"], ["z"], nodes, opsets)


def _body(definition: Definition) -> onnx.GraphProto:
    """One step, and whether it changed the state by more than the tolerance."""
    import onnx
    from onnx import helper

    node = helper.make_node
    if definition.kind == "linear":
        product = node("MatMul", ["state", "At"], ["Az"])
    else:
        product = node("Conv", ["state", "A"], ["Az"], **dict(definition.convolution))
    alpha: dict[str, Any] = {} if definition.alpha is None else {"alpha": definition.alpha}
    nodes = [
        product,
        node("Add", ["Az", "u"], ["argument"]),
        node(definition.activation, ["argument"], ["value"], **alpha),
        node("Sub", ["value", "state"], ["difference"]),
        node("Mul", ["step", "difference"], ["move"]),
        node("Add", ["state", "move"], ["state_next"]),
        node("Sub", ["state_next", "state"], ["moved"]),
        node("Abs", ["moved"], ["moved_abs"]),
        node("ReduceMax", ["moved_abs"], ["change"], keepdims=0),
        node("Abs", ["state"], ["state_abs"]),
        node("ReduceMax", ["state_abs"], ["size"], keepdims=0),
        node("Add", ["one", "size"], ["scale"]),
        node("Mul", ["tolerance", "scale"], ["limit"]),
        node("Greater", ["change", "limit"], ["go_on"]),
    ]
    value = helper.make_tensor_value_info
    inputs = [
        value("iteration", onnx.TensorProto.INT64, []),
        value("go_on_before", onnx.TensorProto.BOOL, []),
        value("state", definition.element, None),
    ]
    outputs = [value("go_on", onnx.TensorProto.BOOL, []), value("state_next", definition.element, None)]
    return helper.make_graph(nodes, "step", inputs, outputs)
