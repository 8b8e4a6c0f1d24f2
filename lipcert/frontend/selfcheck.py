"""The import checked against onnxruntime: every tensor at several inputs, every activation at kinks and extremes.

A difference beyond the tolerance (that of the model's float format) is an error of the import and refuses the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from lipcert.activations.templated import TemplatedGroups
from lipcert.errors import ModelError, UnsupportedModelError
from lipcert.frontend.convert import Converted, convert
from lipcert.frontend.loops import STATE, body_model, element_of
from lipcert.frontend.model import SelfCheck
from lipcert.frontend.templated import template_of
from lipcert.frontend.values import Known, Live
from lipcert.graph import Affine, Elementwise, FixedPoint, Groupwise, Input, Node, Product, State
from lipcert.operators import size_of
from lipcert.operators.enclosed import magnitude_up

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

_TOLERANCE = {"DOUBLE": 1e-9, "FLOAT": 1e-4, "FLOAT16": 2e-2, "BFLOAT16": 1e-1}
"""Permitted difference, relative to the largest entry of the tensor."""

_UNIT = {"DOUBLE": 2.0**-53, "FLOAT": 2.0**-24, "FLOAT16": 2.0**-11, "BFLOAT16": 2.0**-8}
"""Unit roundoff."""

_EXTREMES = np.array([0.0, 1e-38, 1e-6, 0.5, 1.0, 3.0, 6.0, 10.0, 20.0, 50.0, 100.0, 1e4, 1e30])


_MANY = 2**22
"""Networks whose values are more than these are checked at fewer points."""

_SMALL = 1e-2
"""Entries of a tensor that are this small in it have few correct digits: onnxruntime's sigmoid is 0 below -18."""

_LARGE = 1e38
"""Beyond this, float32 may have overflowed."""


def check_import(converted: Converted, module: ir.Model, path: str) -> SelfCheck:
    """Compare the Graph with onnxruntime, or raise ModelError naming the first tensor that differs."""
    import onnx_ir as ir

    proto = ir.to_proto(ir.external_data.load_to_model(module))
    states = _one_step(proto, converted, module)
    foreign = _without_templated(converted, proto)
    formats = {v.dtype.name for v in module.graph.inputs if v.dtype is not None and v.name in converted.graph.inputs}
    formats |= _inner_formats(proto)
    tolerance = max(_TOLERANCE[f] for f in formats)
    unit = max(_UNIT[f] for f in formats)
    # NumPy multiplies many small matrices here: more threads only wait for each other, for long on a busy machine
    with threadpool_limits(limits=1, user_api="blas"):
        _check_activations(converted, proto, tolerance, path)
        return _check_tensors(converted, proto, foreign, states, tolerance, unit, path)


def check_loops(converted: Converted, module: ir.Model, path: str) -> list[SelfCheck]:
    """The same for the steps of Loops that are read as fixed points, each as a model of its own."""
    import onnx_ir as ir

    found = []
    for loop in converted.loops.values():
        step = ir.from_proto(body_model(loop, converted.values, module))
        read = convert(step, converted.templates)
        found += [check_import(read, step, path), *check_loops(read, step, path)]
    return found


def _one_step(proto: onnx.ModelProto, converted: Converted, module: ir.Model) -> dict[str, int]:
    """Loops that are read as fixed points run one step, from states that become inputs; others that are not read, too.

    Names of those inputs, with the fixed points: files may have Loops that run for hours, or do not end.
    """
    import onnx

    states = {loop.node.metadata_props[STATE]: (position, loop) for position, (loop, _) in converted.fixed.items()}
    read = {name for name, value in converted.values.items() if isinstance(value, Live | Known)}
    ends = [node for node in proto.graph.node if not read.intersection(node.output)]
    ends += [node for node in proto.graph.node if converted.loops.keys() & set(node.output)]
    loops = [n for node in ends for n in (node, *_inside(node)) if n.op_type == "Loop" and len(n.input) > 1]
    for node in loops:
        node.input[0] = "lipcert.one"
        name = next((p.value for p in node.metadata_props if p.key == STATE), "")
        if name in states:
            _, loop = states[name]
            node.input[2 + loop.carried] = name
    if loops:
        proto.graph.initializer.append(onnx.helper.make_tensor("lipcert.one", onnx.TensorProto.INT64, [], [1]))
    for name, (_, loop) in states.items():
        element = element_of(loop, converted.values, module)
        proto.graph.input.append(onnx.helper.make_tensor_value_info(name, element, loop.start.shape))
    return {name: position for name, (position, _) in states.items()}


def _inside(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a node's graphs."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield inner
                yield from _inside(inner)


def _without_templated(converted: Converted, proto: onnx.ModelProto) -> dict[str, int]:
    """Make inputs of what nodes return that a template stands for, or Loops with such nodes: nothing runs them.

    Our nodes, by their names.
    """
    import onnx

    def templated(node: onnx.NodeProto) -> bool:
        inner = (node, *_inside(node))
        return any(template_of(converted.templates, n.domain, n.op_type) is not None for n in inner)

    names = [name for node in proto.graph.node if templated(node) for name in node.output]
    foreign = {n: v.node for n in names if isinstance(v := converted.values.get(n), Live)}
    if names:
        kept = [node for node in proto.graph.node if not templated(node)]
        kinds = {i.name: i.type.tensor_type.elem_type for i in proto.graph.input}
        kind = next(kinds[info.name] for info in converted.inputs)
        del proto.graph.node[:], proto.functions[:]
        proto.graph.node.extend(kept)
        shapes = {name: converted.values[name].shape for name in foreign}
        proto.graph.input.extend(onnx.helper.make_tensor_value_info(n, kind, s) for n, s in shapes.items())
    return foreign


def _inner_formats(proto: onnx.ModelProto) -> set[str]:
    """Float formats coarser than float32 that the model computes in somewhere."""
    import onnx

    coarse = {onnx.TensorProto.FLOAT16: "FLOAT16", onnx.TensorProto.BFLOAT16: "BFLOAT16"}
    kinds = {t.data_type for t in proto.graph.initializer}
    kinds |= {a.i for node in proto.graph.node if node.op_type == "Cast" for a in node.attribute if a.name == "to"}
    return {name for kind, name in coarse.items() if kind in kinds}


def _check_tensors(
    converted: Converted,
    proto: onnx.ModelProto,
    foreign: dict[str, int],
    states: dict[str, int],
    tolerance: float,
    unit: float,
    path: str,
) -> SelfCheck:
    import onnx

    names = [n for node in proto.graph.node for n in node.output if isinstance(converted.values.get(n), Live | Known)]
    if not names:  # there is nothing but what templates stand for
        return SelfCheck(0.0, tolerance, 0, 0, "")
    declared = {o.name for o in proto.graph.output}
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names if n not in declared)
    session = _session(proto, path)
    types = {i.name: i.type for i in session.get_inputs()}
    points = _points(converted, foreign, states)
    worst, worst_name = 0.0, names[0]
    unseen = set(names)
    constants = [n for n in names if isinstance(converted.values[n], Known)]
    by_node: dict[int, list[str]] = {}
    for name in names:
        if isinstance(value := converted.values[name], Live):
            by_node.setdefault(value.node, []).append(name)
    reads = {node.output[0]: node.input for node in proto.graph.node if node.output[0] in converted.rewritten}
    for point in points:
        feed: dict[str, np.ndarray] = {name: np.asarray(x, dtype=_numpy_type(types[name])) for name, x in point.items()}
        try:
            theirs = session.run(names, feed)
        except Exception as error:  # as in _session
            raise _cannot_run(error, path) from error
        references = {n: np.asarray(r) for n, r in zip(names, theirs, strict=True)}
        given = {n: x.astype(np.float64) for n, x in feed.items()}
        begun = {converted.graph.nodes[place].inputs[0]: n for n, place in states.items()}
        places = {place: n for n, place in foreign.items()}
        comparison = _Comparison(converted, given, places, begun, references, unit)
        for name in constants:
            value = converted.values[name]
            assert isinstance(value, Known)
            unseen -= {name} if np.any(np.isfinite(references[name])) else set()
            size, gap = _largest(np.abs(value.data.value)), float("inf")
            if value.shape == references[name].shape:
                gap = _largest(np.abs(value.data.value - references[name]))
            if not gap <= tolerance * size:
                raise _differs(path, name, gap / size if size else gap)
        for position, ours in comparison.values():
            for name in by_node.get(position, ()):
                unseen -= {name} if np.any(np.isfinite(references[name])) else set()
                difference, permitted = _difference(comparison, name, ours, references, reads.get(name, ()), tolerance)
                if difference > worst:
                    worst, worst_name = difference, name
                if not permitted:
                    raise _differs(path, name, difference)
    if unseen:
        raise ModelError(
            f"{path}: tensor {min(unseen)!r} overflows in onnxruntime, or is not a number, at all {len(points)} inputs "
            "tried, so the import cannot be checked",
            hint="its weights are too large for its float format, or its inputs outside the domain of a function",
        )
    return SelfCheck(worst, tolerance, len(names), len(points), worst_name)


def _check_activations(converted: Converted, proto: onnx.ModelProto, tolerance: float, path: str) -> None:
    seen: set[bytes] = set()
    for node in proto.graph.node:
        value = converted.values.get(node.output[0])
        if not isinstance(value, Live) or len(node.input) != 1:
            continue
        graph_node = converted.graph.nodes[value.node]
        key = node.op_type.encode() + b"".join(a.SerializeToString() for a in node.attribute)
        if (
            not isinstance(graph_node, Elementwise)
            or graph_node.origin not in (node.name, node.output[0])
            or key in seen
        ):
            continue
        seen.add(key)
        kinks = np.array(graph_node.activation.kinks)
        points = np.concatenate([_EXTREMES, -_EXTREMES, kinks, kinks - 1e-6, kinks + 1e-6])
        points = points.astype(np.float64 if tolerance <= _TOLERANCE["DOUBLE"] else np.float32)
        theirs = np.asarray(_run_alone(node, proto, points, path), dtype=np.float64)
        with np.errstate(all="ignore"):
            ours = graph_node.activation.value(points.astype(np.float64))
        with np.errstate(invalid="ignore"):
            bad = ~(np.abs(ours - theirs) <= tolerance * np.maximum(1e-3, np.abs(ours)))
        # nothing is claimed where a function is not defined, or onnxruntime's format overflows
        bad &= np.isfinite(theirs) | (np.isfinite(ours) & (np.abs(ours) < _LARGE))
        bad &= ~np.isnan(ours) | np.isfinite(theirs)
        if np.any(bad):
            i = int(np.argmax(bad))
            raise ModelError(
                f"{path}: {node.op_type} node {node.name or node.output[0]!r} gives {theirs[i]:.9g} at {points[i]:.9g} "
                f"in onnxruntime, {ours[i]:.9g} here",
                hint="please report it",
            )


def _run_alone(node: Any, proto: onnx.ModelProto, points: np.ndarray, path: str) -> np.ndarray:
    import onnx

    single = onnx.NodeProto()
    single.CopyFrom(node)
    single.input[0], single.output[0] = "i", "o"
    tensor = onnx.helper.np_dtype_to_tensor_dtype(points.dtype)
    graph = onnx.helper.make_graph(
        [single],
        "one node",
        [onnx.helper.make_tensor_value_info("i", tensor, points.shape)],
        [onnx.helper.make_tensor_value_info("o", tensor, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=list(proto.opset_import), ir_version=min(proto.ir_version, 10))
    return _session(model, path).run(None, {"i": points})[0]


def _session(proto: onnx.ModelProto, path: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # waiting threads that spin take the cores from whoever else computes, NumPy in this process first
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, without a common public base
        raise _cannot_run(error, path) from error


def _cannot_run(error: Exception, path: str) -> UnsupportedModelError:
    reason = " ".join(str(error).split())[:200]
    return UnsupportedModelError(
        f"{path}: onnxruntime cannot run it, so the import cannot be checked: {reason}",
        hint="update onnxruntime, or lower the model's opset",
    )


class _Comparison:
    """Every node at onnxruntime's own values of its inputs, beside onnxruntime's value of the node.

    Each node is so judged by itself: an error, or a cancellation, does not reach the nodes behind it.
    """

    def __init__(
        self,
        converted: Converted,
        inputs: dict[str, np.ndarray],
        foreign: dict[int, str],
        states: dict[int, str],
        theirs: dict[str, np.ndarray],
        unit: float,
    ) -> None:
        self.converted, self.inputs, self.foreign, self.unit = converted, inputs, foreign, unit
        self.states = states
        """The inputs that States begin at."""
        self.known = {
            v.node: theirs[n] for n in theirs if isinstance(v := converted.values[n], Live) and theirs[n].size == v.size
        }
        self.unknown: dict[int, np.ndarray] = {}
        """Our values of the nodes that onnxruntime does not show."""
        self.spread: dict[int, np.ndarray] = {}
        """How far rounding may take onnxruntime's value of such a node from ours."""

    def values(self) -> Iterator[tuple[int, np.ndarray]]:
        """Position and our value of one node after another; only what later nodes need is kept."""
        for position, node in enumerate(self.converted.graph.nodes):
            hidden = isinstance(node, Groupwise) and isinstance(node.function, TemplatedGroups)
            free = isinstance(node, Input | State) or hidden or position in self.foreign
            if position in self.foreign:
                value = self.inputs[self.foreign[position]].reshape(-1)
            elif isinstance(node, State):  # that of a Loop that is refused has no input
                begun = self.states.get(position)
                value = np.zeros(size_of(node.shape)) if begun is None else self.inputs[begun].reshape(-1)
            elif isinstance(node, FixedPoint):  # onnxruntime has run one step
                kept = self._kept(position)
                value = kept * self.given(node.state) + (1 - kept) * self.given(node.body)
            elif hidden:  # a part of what a template stands for
                value = np.zeros(size_of(node.shape))
            else:
                value = self._value(node, self.inputs)
            if position not in self.known:
                self.unknown[position] = value
                if not free:
                    self.spread[position] = self.margin(position, value)
            yield position, value

    def _kept(self, position: int) -> float:
        """How much of the state a step keeps."""
        return self.converted.fixed[position][1] if position in self.converted.fixed else 0.0

    def given(self, position: int) -> np.ndarray:
        if position in self.known:
            return self.known[position].reshape(-1).astype(np.float64)
        return self.unknown[position]

    def _value(self, node: Node, inputs: dict[str, np.ndarray]) -> np.ndarray:
        with np.errstate(all="ignore"):
            if isinstance(node, Input):
                return inputs[node.name].reshape(-1)
            if isinstance(node, Elementwise):
                return node.activation.value(self.given(node.input))
            if isinstance(node, Groupwise):
                return node.function.value(self.given(node.input))
            if isinstance(node, Product):
                return self.given(node.left) * self.given(node.right)
            assert isinstance(node, Affine)
            value = node.bias.value
            for source, operator in zip(node.inputs, node.operators, strict=True):
                value = value + operator.matvec(self.given(source))
            return value

    def margin(self, position: int, value: np.ndarray) -> np.ndarray:
        """How far rounding inside the node, and in its inputs, may take onnxruntime from our value.

        A sum of n products is allowed 4 sqrt(n) roundings: what random ones add up to, not the worst case.
        """
        node = self.converted.graph.nodes[position]
        if isinstance(node, Input | State):
            return np.zeros_like(value)
        with np.errstate(all="ignore"):
            if isinstance(node, Elementwise):
                low, high = self._around(node.input, 2)
                slopes = node.activation.slopes(low, high)
                # tails that tend to zero may be flushed: onnxruntime's sigmoid is 0 below -18
                floor = self.unit * (1 + np.abs(self.given(node.input)))
                return np.maximum(*np.abs(slopes)) * (high - low) + 4 * self.unit * np.abs(value) + floor
            if isinstance(node, Groupwise):
                low, high = self._around(node.input, 4 * np.sqrt(node.function.width))
                return node.function.jacobian(low, high).forward(high - low) + 4 * self.unit * np.abs(value)
            if isinstance(node, FixedPoint):
                kept = self._kept(position)
                size = np.abs(kept * self.given(node.state)) + np.abs((1 - kept) * self.given(node.body))
                return np.abs(1 - kept) * self._spread(node.body) + 4 * self.unit * (size + np.abs(value))
            if isinstance(node, Product):
                left, right = np.abs(self.given(node.left)), np.abs(self.given(node.right))
                return left * self._spread(node.right) + right * self._spread(node.left) + 4 * self.unit * np.abs(value)
            assert isinstance(node, Affine)
            size, margin = np.abs(node.bias.value), np.zeros(node.bias.shape)
            for source, operator in zip(node.inputs, node.operators, strict=True):
                size = size + np.sqrt(operator.fan_in + 2) * magnitude_up(operator, np.abs(self.given(source)))
                if source in self.spread:
                    margin = margin + magnitude_up(operator, self._spread(source))
            return margin + 4 * self.unit * size

    def _spread(self, source: int) -> np.ndarray:
        return self.spread[source] if source in self.spread else np.zeros_like(self.given(source))

    def _around(self, source: int, roundings: float) -> tuple[np.ndarray, np.ndarray]:
        """A box around the input: what rounding does inside a function is what moving its input a little does."""
        given = self.given(source)
        largest = np.max(np.abs(given), initial=0.0, where=~np.isnan(given))
        reach = self._spread(source) + roundings * self.unit * largest
        return np.where(np.isnan(given), -np.inf, given - reach), np.where(np.isnan(given), np.inf, given + reach)


def _points(converted: Converted, foreign: dict[str, int], states: dict[str, int]) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    shapes = {info.name: info.shape for info in converted.inputs}
    shapes |= {name: converted.values[name].shape for name in foreign}
    shapes |= {name: converted.graph.nodes[position].shape for name, position in states.items()}

    def draw(scale: float, shift: float) -> dict[str, np.ndarray]:
        return {
            name: np.asarray(shift + scale * random.standard_normal(shape), dtype=np.float32)
            for name, shape in shapes.items()
        }

    points = [draw(1.0, 0.0), draw(0.3, 0.5), draw(10.0, 0.0), draw(0.0, 0.0), draw(0.0, 1.0), draw(100.0, 0.0)]
    entries = sum(size_of(node.shape) for node in converted.graph.nodes)
    return points if entries <= _MANY else points[:3]


def _difference(
    comparison: _Comparison,
    name: str,
    ours: np.ndarray,
    references: dict[str, np.ndarray],
    reads: Sequence[str],
    tolerance: float,
) -> tuple[float, bool]:
    """The largest difference relative to the largest entry, and whether it is permitted.

    Entries that overflow in onnxruntime's float format, or are outside a function's domain, are not compared. A tensor
    that is read from further back than its node's own inputs (`reads`) differs by the rounding of those, too.
    """
    value, theirs = comparison.converted.values[name], references[name]
    assert isinstance(value, Live)
    if value.shape != theirs.shape:
        return float("inf"), False
    usable = np.isfinite(theirs)
    scale = 0.0
    for tensor in (references[i] for i in reads if i in references):
        scale = max(scale, _largest(np.abs(tensor[np.isfinite(tensor)])))
        if tensor.shape == theirs.shape:
            usable &= np.abs(tensor) >= _SMALL * scale
    usable = usable.reshape(-1)
    mine = ours[usable]
    size = max(scale, _largest(np.abs(mine)))
    with np.errstate(invalid="ignore"):
        difference = np.abs(mine - theirs.reshape(-1)[usable])
    largest = _largest(difference)
    permitted = bool(np.all(difference <= tolerance * size))  # false where NaN
    if not permitted:
        margin = comparison.margin(value.node, ours)[usable]
        permitted = bool(np.all(difference <= tolerance * size + margin))
    return (largest / size if size else float(largest > 0)), permitted


def _differs(path: str, name: str, difference: float) -> ModelError:
    return ModelError(
        f"{path}: tensor {name!r} differs from onnxruntime by {difference:.1e} of its size",
        hint="this is an error in lipcert's import of the node that produces it: please report it",
    )


def _largest(v: np.ndarray) -> float:
    return float(np.max(v, initial=0.0))


def _numpy_type(onnx_type: str) -> type:
    return {"tensor(double)": np.float64, "tensor(float16)": np.float16}.get(onnx_type, np.float32)
