"""The models that the fuzzer damages: samples, ONNX's own node tests, and small networks of every construction."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from lipcert.frontend.fixed_point_form import define_functions
from tests.helpers import loop_models
from tests.helpers.onnx_models import integers, model, random_weights
from tests.helpers.paths import MODELS

LARGEST_SAMPLE = 64 * 1024
"""Bytes: of the sample networks, the small ones."""

NODE_TESTS = {
    "batch_normalization": "BatchNormalization",
    "clip": "Clip",
    "concat": "Concat",
    "conv": "Conv",
    "convtranspose": "ConvTranspose",
    "einsum": "Einsum",
    "expand": "Expand",
    "gather": "Gather",
    "gemm": "Gemm",
    "groupnormalization": "GroupNormalization",
    "instance_normalization": "InstanceNormalization",
    "layernormalization": "LayerNormalization",
    "lstm": "LSTM",
    "matmul": "MatMul",
    "max": "Max",
    "pad": "Pad",
    "prelu": "PRelu",
    "reducemean": "ReduceMean",
    "reshape": "Reshape",
    "resize": "Resize",
    "slice": "Slice",
    "softmax": "Softmax",
    "split": "Split",
    "tile": "Tile",
    "topk": "TopK",
    "transpose": "Transpose",
    "where": "Where",
}
"""Modules of the onnx package whose tests are quick to load, and the op that each is of."""

node = helper.make_node


@dataclass
class Draft:
    """A model under edit, the files beside it, and symbolic links beside it."""

    proto: onnx.ModelProto
    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)


def info(name: str, element: int = TensorProto.FLOAT, shape: list[int] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def convolutional() -> Draft:
    nodes = [
        node("Conv", ["x", "k", "c"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2], name="conv"),
        node("BatchNormalization", ["a", "s", "b", "m", "v"], ["n"], name="norm"),
        node("Relu", ["n"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("AveragePool", ["r"], ["q"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Concat", ["p", "q"], ["j"], axis=1),
        node("Shape", ["j"], ["shape"]),
        node("Gather", ["shape", "zero"], ["batch"], axis=0),
        node("Unsqueeze", ["batch", "zero1"], ["batch1"]),
        node("Concat", ["batch1", "minus"], ["wanted"], axis=0),
        node("Reshape", ["j", "wanted"], ["f"]),
        node("Gemm", ["f", "w", "d"], ["y"], transB=1, name="head"),
    ]
    statistics = {n: np.abs(random_weights(3, seed=i)) + 1 for i, n in enumerate("sbmv")}
    weights = {
        "k": random_weights(3, 2, 3, 3),
        "c": random_weights(3),
        "w": random_weights(4, 24),
        "d": random_weights(4),
    }
    shapes = {"zero": np.array(0), "zero1": integers(0), "minus": integers(-1)}
    return Draft(model(nodes, {"x": ("n", 2, 8, 8)}, ["y"], {**weights, **statistics, **shapes}))


def averaging() -> Draft:
    nodes = [
        node("Conv", ["x", "k"], ["a"], auto_pad="SAME_UPPER", group=2, name="conv"),
        node("LeakyRelu", ["a"], ["r"], alpha=0.1),
        node("AveragePool", ["r"], ["p"], kernel_shape=[3, 2], pads=[1, 0, 1, 0], count_include_pad=1),
        node("GlobalAveragePool", ["p"], ["g"]),
        node("Flatten", ["g"], ["f"], axis=1),
        node("MatMul", ["f", "w"], ["m"]),
        node("Add", ["m", "d"], ["y"], name="bias"),
    ]
    weights = {"k": random_weights(4, 1, 3, 3), "w": random_weights(4, 3), "d": random_weights(3)}
    return Draft(model(nodes, {"x": (1, 2, 6, 6)}, ["y"], weights))


def maxmin() -> Draft:
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Split", ["a"], ["l", "r"], axis=1, num_outputs=2),
        node("Max", ["l", "r"], ["up"]),
        node("Min", ["l", "r"], ["low"]),
        node("Concat", ["up", "low"], ["c"], axis=-1),
        node("Sub", ["c", "x6"], ["d"]),
        node("Clip", ["d", "low_limit", "high_limit"], ["y"]),
    ]
    weights = {"w": random_weights(4, 6), "x6": random_weights(6)}
    limits = {"low_limit": np.array(-1, np.float32), "high_limit": np.array(2, np.float32)}
    return Draft(model(nodes, {"x": (2, 4)}, ["y"], {**weights, **limits}))


def transformer() -> Draft:
    nodes = [
        node("LayerNormalization", ["x", "gain", "shift"], ["n"], axis=-1),
        node("MatMul", ["n", "w"], ["h"]),
        node("Transpose", ["h"], ["t"], perm=[0, 2, 1]),
        node("Softmax", ["t"], ["s"], axis=-1),
        node("Transpose", ["s"], ["b"], perm=[0, 2, 1]),
        node("Add", ["b", "x"], ["r"]),
        node("ReduceMean", ["r", "axes"], ["y"], keepdims=0),
    ]
    weights = {"gain": random_weights(4), "shift": random_weights(4), "w": random_weights(4, 4), "axes": integers(1)}
    return Draft(model(nodes, {"x": (1, 3, 4)}, ["y"], weights))


def shapes() -> Draft:
    """Shape arithmetic of every kind around one product."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Slice", ["s", "one", "two"], ["columns"]),
        node("Mul", ["columns", "factor"], ["product"]),
        node("Div", ["product", "factor"], ["quotient"]),
        node("Concat", ["minus", "quotient"], ["wanted"], axis=0),
        node("Reshape", ["x", "wanted"], ["a"]),
        node("ConstantOfShape", ["columns"], ["zeros"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.5])),
        node("Add", ["a", "zeros"], ["b"]),
        node("Range", ["start", "limit", "step"], ["range"]),
        node("Cast", ["range"], ["float_range"], to=TensorProto.FLOAT),
        node("Tile", ["float_range", "two"], ["tiled"]),
        node("Mul", ["b", "tiled"], ["c"]),
        node("Expand", ["quarter", "columns"], ["spread"]),
        node("Add", ["c", "spread"], ["d"]),
        node("Pad", ["d", "pads"], ["e"], mode="reflect"),
        node("Squeeze", ["e", "axis"], ["y"]),
    ]
    weights = {"one": integers(1), "two": integers(2), "factor": integers(2**20), "minus": integers(-1)}
    scalars = {"start": np.array(0), "limit": np.array(3), "step": np.array(1)}
    others = {"quarter": np.full(1, 0.25, np.float32), "pads": integers(0, 2, 0, 1), "axis": integers(0)}
    return Draft(model(nodes, {"x": (1, 6)}, ["y"], {**weights, **scalars, **others}))


def functions() -> Draft:
    standard, local = helper.make_opsetid("", 20), helper.make_opsetid("local", 1)
    body = [node("MatMul", ["x", "w"], ["m"]), node("Add", ["m", "b"], ["a"]), node("LeakyRelu", ["a"], ["y"])]
    reference = body[2].attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT)
    reference.ref_attr_name = "slope"
    dense = helper.make_function("local", "Dense", ["x", "w", "b"], ["y"], body, [standard], ["slope"])
    outer = [node("Dense", ["x", "w", "b"], ["f"], domain="local", slope=0.25), node("Add", ["x", "f"], ["y"])]
    residual = helper.make_function("local", "Residual", ["x", "w", "b"], ["y"], outer, [standard, local])
    nodes = [node("Residual", [f"x{k}", "w", "b"], [f"x{k + 1}"], name=f"call{k}", domain="local") for k in range(2)]
    weights = {"w": random_weights(3, 3), "b": random_weights(3)}
    proto = model(nodes, {"x0": (2, 3)}, ["x2"], weights, functions=[dense, residual], domains={"local": 1})
    return Draft(proto)


def branch(name: str, *nodes: NodeProto) -> onnx.GraphProto:
    return helper.make_graph(list(nodes), name, [], [info(name)])


def conditional() -> Draft:
    inner = node("If", ["no"], ["inner"], then_branch=branch("a", node("Neg", ["x"], ["a"])),
                 else_branch=branch("b", node("Identity", ["x"], ["b"])))  # fmt: skip
    then = branch("t", inner, node("Relu", ["inner"], ["t"]))
    nodes = [
        node("If", ["yes"], ["h"], then_branch=then, else_branch=branch("e", node("Neg", ["x"], ["e"])), name="if"),
        node("MatMul", ["h", "w"], ["y"]),
    ]
    weights = {"yes": np.array(True), "no": np.array(False), "w": random_weights(3, 2)}
    return Draft(model(nodes, {"x": (2, 3)}, ["y"], weights))


def loop() -> Draft:
    body = helper.make_graph(
        [node("Identity", ["go"], ["still"]), node("MatMul", ["h", "w"], ["m"]), node("Relu", ["m"], ["next"])],
        "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("h")],
        [info("still", TensorProto.BOOL, []), info("next")],
    )
    nodes = [node("Loop", ["count", "go_on", "x"], ["y"], body=body, name="loop")]
    weights = {"count": np.array(3), "go_on": np.array(True), "w": random_weights(3, 3)}
    return Draft(model(nodes, {"x": (2, 3)}, ["y"], weights))


def equilibrium() -> Draft:
    """A fixed point by a function, a damped Loop, and a Loop inside of a Loop."""
    definition = {"kind": "linear", "activation": "Relu", "step": 0.5, "iterations": 50, "tolerance": 1e-6}
    draft = Draft(loop_models.nested(1))
    draft.proto.graph.node[0].output[0] = "n"
    nodes = [*loop_models.F, *loop_models.STEPS["average"], *loop_models.CONDITIONS["tolerance"]]
    damped = loop_models.body_graph(nodes)
    draft.proto.graph.node.extend(
        (
            node("Loop", ["trips", "true", "z0"], ["d"], body=damped, name="damped"),
            node("Add", ["n", "d"], ["s"]),
            node("FixedPoint", ["s", "At"], ["y"], domain="lipcert", **definition),
        )
    )
    draft.proto.opset_import.append(helper.make_opsetid("lipcert", 1))
    return Draft(define_functions(draft.proto))


def external() -> Draft:
    """Weights in one file beside the model, one after the other."""
    nodes = [node("Gemm", ["x", "w", "b"], ["h"]), node("Relu", ["h"], ["r"]), node("MatMul", ["r", "v"], ["y"])]
    weights = {"w": random_weights(3, 4), "b": random_weights(4), "v": random_weights(4, 2)}
    draft = Draft(model(nodes, {"x": (1, 3)}, ["y"], weights))
    data = b""
    for tensor in draft.proto.graph.initializer:
        stored = tensor.raw_data
        onnx.external_data_helper.set_external_data(tensor, "weights.bin", len(data), len(stored))
        tensor.ClearField("raw_data")
        data += stored
    draft.files["weights.bin"] = data
    return draft


def stored_in_fields() -> Draft:
    """Weights and constants in every way that ONNX has of storing them."""
    nodes = [
        node("Constant", [], ["c"], value_floats=[1.0, 2.0, 3.0]),
        node("Constant", [], ["shape"], value_ints=[1, 3]),
        node("Constant", [], ["half"], value=numpy_helper.from_array(random_weights(3).astype(np.float16))),
        node("Cast", ["half"], ["h"], to=TensorProto.FLOAT),
        node("Mul", ["x", "c"], ["a"]),
        node("Add", ["a", "h"], ["b"]),
        node("Reshape", ["b", "shape"], ["d"]),
        node("MatMul", ["d", "w"], ["y"]),
    ]
    proto = model(nodes, {"x": (3,)}, ["y"])
    proto.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [3, 2], np.arange(6.0)))
    return Draft(proto)


BUILDERS: tuple[Callable[[], Draft], ...] = (
    *(
        convolutional,
        averaging,
        maxmin,
        transformer,
        shapes,
        functions,
        conditional,
        loop,
        equilibrium,
        external,
        stored_in_fields,
    ),
)


@cache
def node_tests() -> dict[str, Any]:
    """ONNX's tests of a few ops by name, those with a float input and no expansion."""
    import onnx.backend.test.case.node as cases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in NODE_TESTS:
            importlib.import_module(f"{cases.__name__}.{name}")
    ops = set(NODE_TESTS.values())
    tests = (t for t in cases._NodeTestCases if t.model.graph.node[0].op_type in ops and "_expanded" not in t.name)
    return {t.name: t for t in tests if _has_float_input(t)}


def _has_float_input(test: Any) -> bool:
    inputs = test.data_sets[0][0]
    return all(isinstance(a, np.ndarray) for a in inputs) and any(a.dtype == np.float32 for a in inputs)


def from_node_test(name: str) -> Draft:
    """The first float input stays one, the others become initializers."""
    test = node_tests()[name]
    proto = onnx.ModelProto()
    proto.CopyFrom(test.model)
    arrays = dict(zip((i.name for i in proto.graph.input), test.data_sets[0][0], strict=True))
    live = next(i for i in proto.graph.input if arrays[i.name].dtype == np.float32)
    stored = [numpy_helper.from_array(a, n) for n, a in arrays.items() if n != live.name]
    kept = onnx.ValueInfoProto()
    kept.CopyFrom(live)
    proto.graph.ClearField("input")
    proto.graph.input.append(kept)
    proto.graph.initializer.extend(stored)
    return Draft(proto)


@cache
def names() -> tuple[str, ...]:
    """Of every base: folder/name. Half of them are networks, however many node tests there are."""
    samples = sorted(p.stem for p in MODELS.glob("*.onnx") if p.stat().st_size <= LARGEST_SAMPLE)
    own = [f"own/{b.__name__}" for b in BUILDERS]
    return (*(f"models/{s}" for s in samples), *own, *(f"onnx/{n}" for n in sorted(node_tests())))


def base(name: str) -> Draft:
    """A fresh copy."""
    folder, stem = name.split("/")
    if folder == "models":
        return Draft(onnx.load_model(MODELS / f"{stem}.onnx"))
    if folder == "onnx":
        return from_node_test(stem)
    return next(b for b in BUILDERS if b.__name__ == stem)()
