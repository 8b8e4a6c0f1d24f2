"""Each op that the registry lists, at each version of its definition: the import equals onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lipcert.frontend.registry import supported_ops
from tests.helpers.onnx_models import assert_agrees, integers, model, one_op, random_weights, session_or_skip

Example = Callable[[int], onnx.ModelProto]

node = helper.make_node

IMAGE = (1, 2, 5, 4)
NEWEST_IR = 13
"""Of the file format, that onnxruntime reads; it may know the ops of opsets that came with a newer one."""

CLASSICAL = ("LinearRegressor", "Scaler")
"""Ops of the ai.onnx.ml domain."""


def float32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def one(op: str, shape: tuple[int, ...], *rest: np.ndarray | None, **attributes: Any) -> Example:
    return lambda opset: one_op(op, shape, *rest, opset=opset, **attributes)


def within(op: str, low: float, high: float, **attributes: Any) -> Example:
    """The op where it is defined: on low + (high - low) sigmoid(x)."""
    nodes = [
        node("Sigmoid", ["x"], ["s"]),
        node("Mul", ["s", "span"], ["m"]),
        node("Add", ["m", "low"], ["a"]),
        node(op, ["a"], ["y"], **attributes),
    ]
    weights = {"span": float32(high - low), "low": float32(low)}
    return lambda opset: model(nodes, {"x": (2, 3)}, ["y"], weights, opset=opset)


def around(nodes: list[onnx.NodeProto], shape: tuple[int, ...], **weights: np.ndarray) -> Example:
    """Nodes from x to y, for an op that is none from floats to floats by itself."""
    return lambda opset: model(nodes, {"x": shape}, ["y"], weights, opset=opset)


def since(version: int, before: Example, after: Example) -> Example:
    """The example of the op as it is defined before, and from, an opset."""
    return lambda opset: (before if opset < version else after)(opset)


def listed(op: str, shape: tuple[int, ...], version: int, **lists: Any) -> Example:
    """Attributes before an opset, inputs in this order from it on."""
    as_inputs = [integers(*values) for values in lists.values()]
    return since(version, one(op, shape, **lists), one(op, shape, *as_inputs))


def compared(op: str) -> Example:
    """Leaky ReLU by Where: either branch may be taken at zero."""
    nodes = [
        node(op, ["x", "zero"], ["c"]),
        node("Mul", ["x", "slope"], ["s"]),
        node("Where", ["c", "x", "s"], ["y"]),
    ]
    where = around(nodes, (2, 3), zero=np.array(0, np.float32), slope=np.array(0.1, np.float32))
    fixed = [
        node(op, ["v", "w"], ["c"]),
        node("Cast", ["c"], ["mask"], to=TensorProto.FLOAT),
        node("Mul", ["x", "mask"], ["y"]),
    ]
    # before opset 9 there is no Where
    return since(9, around(fixed, (2, 3), v=random_weights(2, 3), w=random_weights(2, 3, seed=2)), where)


def negated(opset: int) -> onnx.ModelProto:
    proto = compared("Greater")(max(opset, 9))
    proto.graph.node[0].output[0] = "more"
    proto.graph.node.insert(1, node("Not", ["more"], ["c"]))
    return proto


def constant(opset: int) -> onnx.ModelProto:
    nodes = [
        node("Constant", [], ["c"], value=numpy_helper.from_array(random_weights(2, 3))),
        node("Add", ["x", "c"], ["y"]),
    ]
    return model(nodes, {"x": (2, 3)}, ["y"], opset=opset)


def group_normalization(opset: int) -> onnx.ModelProto:
    size = 2 if opset < 21 else 4
    parts = random_weights(size), random_weights(size, seed=2)
    return one_op("GroupNormalization", (1, 4, 3), *parts, opset=opset, num_groups=2)


def classical(op: str, shape: tuple[int, ...], **attributes: Any) -> Example:
    nodes = [node(op, ["x"], ["y"], domain="ai.onnx.ml", **attributes)]
    return lambda opset: model(nodes, {"x": shape}, ["y"], opset=opset, domains={"ai.onnx.ml": 1})


def times_float(op: str) -> Example:
    """x times an integer that the op makes of it."""
    nodes = [node(op, ["x"], ["i"]), node("Cast", ["i"], ["f"], to=TensorProto.FLOAT), node("Mul", ["x", "f"], ["y"])]
    return around(nodes, (3, 2) if op == "Shape" else (2, 3))


TWO_PARTS = [node("Split", ["x"], ["a", "b"], axis=1), node("Sub", ["a", "b"], ["y"])]
TWO_NUMBERED = [node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2), node("Sub", ["a", "b"], ["y"])]
FILL = [
    node("ConstantOfShape", ["dims"], ["o"], value=numpy_helper.from_array(float32(2))),
    node("Mul", ["x", "o"], ["y"]),
]
LARGEST = [node("TopK", ["x"], ["y", "i"], k=2, axis=1)]
LARGEST_OF = [node("TopK", ["x", "k"], ["y", "i"], axis=1)]
LIKE = [node("CastLike", ["x", "w"], ["y"])]
CHANNELS = [random_weights(2), random_weights(2, seed=2)]
STATISTICS = [*CHANNELS, random_weights(2, seed=3), float32(0.5, 2)]
SCALES = float32(1, 1, 2, 1.5)
NEAREST = [node("Resize", ["x", "scales"], ["y"])]
LINEAR = [node("Resize", ["x", "roi", "scales"], ["y"], mode="linear")]
UPSAMPLE = [node("Upsample", ["x", "scales"], ["y"])]
KERNEL = random_weights(3, 2, 2, 3)

ELEMENTWISE = (
    *("Abs", "Asinh", "Atan", "Cos", "Cosh", "Erf", "Exp", "HardSwish", "Identity", "Mish", "Neg", "Relu", "Sigmoid"),
    *("Sign", "Sin", "Sinh", "Softplus", "Softsign", "Swish", "Tanh"),
)
BINARY = ("Add", "Div", "Max", "Mean", "Min", "Mul", "Sub", "Sum")
PLAIN_REDUCTIONS = ("L1", "L2", "LogSumExp", "Max", "Mean", "Min", "SumSquare")

EXAMPLES: dict[str, Example] = {
    **{op: one(op, IMAGE) for op in ELEMENTWISE},
    **{op: one(op, (2, 3), random_weights(2, 3) + 4) for op in BINARY},
    **{op: compared(op) for op in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")},
    **{f"Reduce{r}": listed(f"Reduce{r}", IMAGE, 18, axes=[1, 3]) for r in PLAIN_REDUCTIONS},
    **{op: one(op, IMAGE) for op in ("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LogSoftmax", "Softmax")},
    "Acos": within("Acos", -0.9, 0.9),
    "Acosh": within("Acosh", 1.5, 4),
    "Asin": within("Asin", -0.9, 0.9),
    "Atanh": within("Atanh", -0.9, 0.9),
    "Attention": one("Attention", (1, 2, 3, 4), random_weights(1, 2, 5, 4), random_weights(1, 2, 5, 3)),
    "AveragePool": one("AveragePool", IMAGE, kernel_shape=[2, 3], strides=[2, 1]),
    "BatchNormalization": one("BatchNormalization", IMAGE, *STATISTICS),
    "Cast": one("Cast", (2, 3), to=TensorProto.FLOAT),
    "CastLike": around(LIKE, (2, 3), w=random_weights(1)),
    "Celu": one("Celu", IMAGE, alpha=0.7),
    "Clip": since(11, one("Clip", IMAGE, min=-0.5, max=0.5), one("Clip", IMAGE, *(np.float32(v) for v in (-0.5, 0.5)))),
    "Concat": one("Concat", (2, 3), random_weights(2, 2), axis=1),
    "Constant": constant,
    "ConstantOfShape": around(FILL, (2, 3), dims=integers(2, 3)),
    "Conv": one("Conv", IMAGE, KERNEL, random_weights(3)),
    "ConvTranspose": one("ConvTranspose", IMAGE, random_weights(2, 3, 2, 3), random_weights(3), strides=[2, 1]),
    "CumSum": one("CumSum", (2, 3, 4), np.array(1, np.int64), exclusive=1, reverse=1),
    "DepthToSpace": one("DepthToSpace", (1, 8, 2, 3), blocksize=2),
    "Dropout": one("Dropout", (2, 3)),
    "Einsum": one("Einsum", (2, 3), random_weights(3, 4), equation="ij,jk->ki"),
    "Elu": one("Elu", IMAGE, alpha=0.5),
    "Expand": one("Expand", (1, 3), integers(2, 1)),
    "Flatten": one("Flatten", IMAGE, axis=2),
    "Gather": one("Gather", (3, 4), integers(2, 0, 2), axis=1),
    "GatherElements": one("GatherElements", (2, 3), np.array([[2, 0], [1, 1]]), axis=1),
    "Gelu": one("Gelu", IMAGE),
    "Gemm": one("Gemm", (2, 3), random_weights(4, 3), random_weights(4), transB=1),
    "GroupNormalization": group_normalization,
    "HardSigmoid": one("HardSigmoid", IMAGE, alpha=0.3, beta=0.4),
    "InstanceNormalization": one("InstanceNormalization", IMAGE, *CHANNELS),
    "LayerNormalization": one("LayerNormalization", IMAGE, random_weights(4), random_weights(4, seed=2)),
    "LeakyRelu": one("LeakyRelu", IMAGE, alpha=0.2),
    "LinearRegressor": classical("LinearRegressor", (2, 3), coefficients=[1.0, -2.0, 0.5], intercepts=[0.5]),
    "Log": within("Log", 0.5, 3),
    "LpNormalization": within("LpNormalization", 0.5, 3, axis=1),
    "MatMul": one("MatMul", (2, 3), random_weights(3, 4)),
    "MaxPool": one("MaxPool", IMAGE, kernel_shape=[2, 3], strides=[2, 1]),
    "Not": negated,
    "PRelu": one("PRelu", IMAGE, random_weights(2, 1, 1)),
    "Pad": since(
        11,
        one("Pad", (2, 3), pads=[1, 0, 2, 1], value=0.5),
        one("Pad", (2, 3), integers(1, 0, 2, 1), np.array(0.5, np.float32)),
    ),
    "Pow": one("Pow", (2, 3), np.array(3, np.float32)),
    "RMSNormalization": one("RMSNormalization", IMAGE, random_weights(4)),
    "Reciprocal": within("Reciprocal", 0.5, 3),
    "ReduceSum": listed("ReduceSum", IMAGE, 13, axes=[1, 3]),
    "Resize": since(11, around(NEAREST, IMAGE, scales=SCALES), around(LINEAR, IMAGE, scales=SCALES, roi=float32())),
    "Reshape": one("Reshape", (2, 3, 4), integers(0, -1, 2)),
    "Scaler": classical("Scaler", (2, 3), offset=[1.0, 2.0, 3.0], scale=[0.5, 3.0, -1.0]),
    "Selu": one("Selu", IMAGE),
    "Shape": times_float("Shape"),
    "Shrink": one("Shrink", IMAGE, lambd=0.4, bias=0.1),
    "Size": times_float("Size"),
    "Slice": listed("Slice", IMAGE, 10, starts=[1, -3], ends=[9, -1], axes=[2, 3]),
    "SpaceToDepth": one("SpaceToDepth", (1, 2, 4, 6), blocksize=2),
    "Split": since(18, around(TWO_PARTS, (2, 6)), around(TWO_NUMBERED, (2, 6))),
    "Sqrt": within("Sqrt", 0.5, 3),
    "Squeeze": listed("Squeeze", (1, 3, 1), 13, axes=[0, 2]),
    "Tan": within("Tan", -1, 1),
    "ThresholdedRelu": one("ThresholdedRelu", IMAGE, alpha=0.3),
    "Tile": one("Tile", (2, 3), integers(2, 1)),
    "TopK": since(10, around(LARGEST, (2, 5)), around(LARGEST_OF, (2, 5), k=integers(3))),
    "Transpose": one("Transpose", (2, 3, 4), perm=[2, 0, 1]),
    "Trilu": one("Trilu", (2, 4, 3), upper=0),
    "Unsqueeze": listed("Unsqueeze", (3,), 13, axes=[0, 2]),
    "Upsample": since(9, one("Upsample", IMAGE, scales=[1.0, 1.0, 2.0, 3.0]), around(UPSAMPLE, IMAGE, scales=SCALES)),
    "Where": one("Where", (2, 3), np.array([True, False, True]), random_weights(2, 3), live=2),
}

VERSIONS = [(op, since) for op, versions in supported_ops().items() for since in versions]


def recent(op: str) -> onnx.ModelProto:
    """The example at opset 20, or the first one that has the op (Upsample: the last one)."""
    return EXAMPLES[op](9 if op == "Upsample" else max(20, supported_ops()[op][0]))


def test_every_supported_op_has_an_example() -> None:
    assert set(supported_ops()) == set(EXAMPLES)


@pytest.mark.parametrize(("op", "version"), VERSIONS)
def test_import_equals_onnxruntime(op: str, version: int) -> None:
    opset = max(version, 7)
    domain, at = ("ai.onnx.ml", 1) if op in CLASSICAL else ("", opset)
    assert onnx.defs.get_schema(op, at, domain).since_version == version
    proto = EXAMPLES[op](opset)
    proto.ir_version = min(proto.ir_version, NEWEST_IR)
    assert any(n.op_type == op for n in proto.graph.node)
    run = session_or_skip(proto)
    imported = assert_agrees(proto, run=run)
    assert imported.opset == next(o.version for o in proto.opset_import if not o.domain)


@pytest.mark.parametrize("op", sorted(EXAMPLES))
def test_an_op_on_a_constant_is_folded(op: str) -> None:
    """The same example with a stored tensor in place of the input, added to a new input."""
    example = recent(op)
    run = session_or_skip(example)
    graph = example.graph
    sizes = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    weights = {"x": random_weights(*sizes, seed=7)} | {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    shape = run.run(None, {"x": weights["x"]})[0].shape
    imports = {o.domain: o.version for o in example.opset_import}
    proto = model(
        [*graph.node, node("Add", ["y", "z"], ["sum"])],
        {"z": shape},
        ["sum"],
        weights,
        opset=imports.pop(""),
        domains=imports,
    )
    imported = assert_agrees(proto)
    assert len(imported.graph.nodes) == 2
    assert imported.folded or op == "Identity"


@pytest.mark.parametrize("op", sorted(set(EXAMPLES) - set(CLASSICAL)))
def test_ops_of_the_ai_onnx_domain_are_those_of_the_default_one(op: str) -> None:
    proto = recent(op)
    run = session_or_skip(proto)
    for each in proto.graph.node:
        each.domain = "ai.onnx"
    assert_agrees(proto, run=run)
