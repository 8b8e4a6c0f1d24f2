"""Ops that lipcert does not read: one error that names the op, the node and the opset."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lipcert.errors import LipcertError, ModelError, UnsupportedModelError, UsageError
from lipcert.frontend import load_proto
from lipcert.frontend.registry import supported_ops
from tests.helpers.onnx_models import (
    assert_agrees,
    assert_refused,
    assert_unsupported,
    integers,
    model,
    one_op,
    outcome,
    random_weights,
    session,
)

node = helper.make_node

VECTOR = (2, 3)
MAP = (1, 2, 4, 4)
GRID = np.zeros((1, 2, 2, 2), np.float32)
LSTM = [random_weights(1, 8, 3), random_weights(1, 8, 2)]

OTHERS: list[tuple[str, tuple[int, ...], list[np.ndarray], dict[str, Any]]] = [
    ("ArgMax", VECTOR, [], {}),
    ("Ceil", VECTOR, [], {}),
    ("Hardmax", VECTOR, [], {}),
    ("Det", (3, 3), [], {}),
    ("Floor", VECTOR, [], {}),
    ("GRU", (2, 1, 3), [random_weights(1, 6, 3), random_weights(1, 6, 2)], {"hidden_size": 2}),
    ("GatherND", VECTOR, [np.array([[0, 1]])], {}),
    ("GridSample", MAP, [GRID], {}),
    ("Hardmax", VECTOR, [], {}),
    ("IsNaN", VECTOR, [], {}),
    ("LRN", MAP, [], {"size": 3}),
    ("LSTM", (2, 1, 3), LSTM, {"hidden_size": 2}),
    ("LpPool", MAP, [], {"kernel_shape": [2, 2]}),
    ("Mod", VECTOR, [random_weights(3)], {"fmod": 1}),
    ("Multinomial", VECTOR, [], {}),
    ("NonZero", VECTOR, [], {}),
    ("OneHot", VECTOR, [np.array(3), np.array([0, 1], np.float32)], {}),
    ("ReduceProd", VECTOR, [], {}),
    ("Round", VECTOR, [], {}),
    ("ScatterND", VECTOR, [np.array([[0]]), random_weights(1, 3)], {}),
    ("Unique", VECTOR, [], {}),
]


@pytest.mark.parametrize(("op", "shape", "rest", "attributes"), OTHERS, ids=[o[0] for o in OTHERS])
@pytest.mark.parametrize("opset", [16, 20])
def test_an_op_without_a_converter_is_refused(
    op: str, shape: tuple[int, ...], rest: list[np.ndarray], attributes: dict[str, Any], opset: int
) -> None:
    assert op not in supported_ops(), f"{op} is supported by now: name one here that is not"
    refusal = assert_unsupported(one_op(op, shape, *rest, opset=opset, **attributes), op, "the_node", f"opset {opset}")
    assert refusal.hint


def test_a_node_without_a_name_is_named_by_its_output() -> None:
    nodes = [node("Relu", ["x"], ["h"]), node("Round", ["h"], ["steps"])]
    assert_unsupported(model(nodes, {"x": (2, 3)}, ["steps"]), "Round", "'steps'", "opset 20")


STEPS = [
    node("Relu", ["x"], ["a"], name="first"),
    node("Round", ["a"], ["b"], name="second"),
    node("Exp", ["b"], ["c"]),
    node("Floor", ["c"], ["d"], name="third"),
    node("Relu", ["d"], ["e"]),
    node("Hardmax", ["e"], ["y"], name="fourth"),
]


def test_the_first_op_that_is_not_understood_is_named_and_the_others_are_counted() -> None:
    proto = model(STEPS, {"x": (2, 3)}, ["y"], {"axis": np.array(1)})
    refusal = assert_unsupported(proto, "Round", "second", "2 more problems", "lipcert inspect")
    assert "third" not in str(refusal)
    assert isinstance(refusal, UnsupportedModelError)
    for other, words in zip(refusal.others, (("Floor", "third"), ("Hardmax", "fourth")), strict=True):
        assert all(word in str(other) for word in words)


def test_a_node_behind_a_refused_one_of_unknown_shape_is_no_problem_of_its_own() -> None:
    """What NonZero gives has a shape that depends on the input, so nothing behind it can be looked at."""
    nodes = [
        node("NonZero", ["x"], ["i"], name="first"),
        node("Cast", ["i"], ["f"], to=TensorProto.FLOAT, name="second"),
        node("Round", ["f"], ["y"], name="third"),
    ]
    refusal = assert_unsupported(model(nodes, {"x": (2, 3)}, ["y"]), "NonZero", "first")
    assert isinstance(refusal, UnsupportedModelError)
    assert refusal.others == ()


def test_a_malformed_node_comes_before_one_that_is_not_understood() -> None:
    nodes = [node("Round", ["x"], ["a"], name="first"), node("Relu", ["a"], ["y"], name="second", slope=1.0)]
    refusal = assert_refused(lambda: load_proto(model(nodes, {"x": (2, 3)}, ["y"])), ModelError, "Relu", "second")
    assert isinstance(refusal, ModelError)
    assert [type(other) for other in refusal.others] == [UnsupportedModelError]


def test_an_op_that_no_output_reads_may_be_unsupported() -> None:
    nodes = [node("Relu", ["x"], ["y"]), node("Round", ["x"], ["unused"], name="aside")]
    imported = assert_agrees(model(nodes, {"x": (2, 3)}, ["y"]))
    assert len(imported.graph.nodes) == 2


def labelled(*outputs: str) -> onnx.ModelProto:
    """A classifier with scores, a label by ArgMax, and rounded scores: two refused outputs."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("ArgMax", ["h"], ["label"], axis=1, name="pick"),
        node("Round", ["h"], ["rounded"], name="round"),
        node("Relu", ["rounded"], ["steps"]),
        node("Softmax", ["h"], ["scores"]),
    ]
    proto = model(nodes, {"x": (1, 3)}, outputs, {"w": random_weights(3, 4)})
    for output in proto.graph.output:
        output.type.tensor_type.elem_type = TensorProto.INT64 if output.name == "label" else TensorProto.FLOAT
    return proto


def test_a_refused_node_spoils_only_the_outputs_that_depend_on_it() -> None:
    imported = load_proto(labelled("label", "scores", "steps"))
    assert [o.name for o in imported.outputs] == [o.name for o in imported.graph.outputs] == ["scores"]
    assert [type(n).__name__ for n in imported.graph.nodes] == ["Input", "Affine", "Groupwise"]
    for name, words in (("label", ("ArgMax", "pick")), ("steps", ("Round", "round"))):
        (note,) = [n for n in imported.notes if f"output {name} " in n]
        assert all(word in note for word in words)


def test_a_model_of_refused_outputs_only_is_refused_with_every_reason() -> None:
    refusal = assert_unsupported(labelled("label", "steps"), "ArgMax", "pick", "1 more problem:")
    assert isinstance(refusal, UnsupportedModelError)
    assert ["Round node" in str(other) for other in refusal.others] == [True]


def test_an_op_that_onnx_does_not_have_is_refused() -> None:
    assert_unsupported(one_op("Magic", (2, 3)), "Magic", "the_node", "opset 20")


def test_an_op_that_its_opset_does_not_have_yet_is_refused() -> None:
    assert_unsupported(one_op("Gelu", (2, 3), opset=13), "Gelu", "the_node", "opset 13")


@pytest.mark.parametrize(("domain", "op"), [("com.microsoft", "Gelu"), ("my.company", "Relu"), ("lipcert", "Unknown")])
def test_an_op_of_another_domain_is_refused(domain: str, op: str) -> None:
    nodes = [node(op, ["x"], ["y"], name="the_node", domain=domain)]
    assert_unsupported(model(nodes, {"x": (2, 3)}, ["y"], domains={domain: 1}), op, "the_node", domain)


def test_an_op_of_a_domain_that_the_model_does_not_import_is_refused() -> None:
    nodes = [node("Relu", ["x"], ["y"], name="the_node", domain="my.company")]
    assert_unsupported(model(nodes, {"x": (2, 3)}, ["y"]), "Relu", "the_node", "my.company")


def branch(name: str) -> onnx.GraphProto:
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    return helper.make_graph([node("Relu", ["x"], [name])], name, [], [output])


def test_control_flow_is_refused() -> None:
    nodes = [node("If", ["c"], ["y"], name="the_node", then_branch=branch("a"), else_branch=branch("b"))]
    proto = model(nodes, {"x": (2, 3)}, ["y"], {"c": np.array(True)})
    session(proto)
    assert_unsupported(proto, "If", "the_node", "opset 20")


def loop() -> onnx.NodeProto:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Relu", ["v"], ["w"]), node("Identity", ["go"], ["on"])],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("v", TensorProto.FLOAT, [2, 3])],
        [value("on", TensorProto.BOOL, []), value("w", TensorProto.FLOAT, [2, 3])],
    )
    return node("Loop", ["times", "", "x"], ["y"], name="the_node", body=body)


def test_loops_whose_steps_are_used_one_by_one_are_refused() -> None:
    """Others: test_loops.py."""
    proto = model([loop()], {"x": (2, 3)}, ["y"], {"times": np.array(3)})
    body = proto.graph.node[0].attribute[0].g
    body.node.append(node("Cast", [body.input[0].name], ["number"], to=TensorProto.FLOAT))
    body.node.append(node("Add", [body.output[1].name, "number"], ["counted"]))
    body.output[1].name = "counted"
    session(proto)
    assert_unsupported(proto, "Loop", "the_node", "number of the step")


SECOND_OUTPUTS: list[tuple[str, list[np.ndarray], dict[str, Any]]] = [
    ("Dropout", [], {}),
    ("MaxPool", [], {"kernel_shape": [2]}),
    ("TopK", [integers(2)], {}),
]


@pytest.mark.parametrize(("op", "rest", "attributes"), SECOND_OUTPUTS, ids=[o[0] for o in SECOND_OUTPUTS])
def test_a_second_output_that_jumps_is_refused_where_it_is_read(
    op: str, rest: list[np.ndarray], attributes: dict[str, Any]
) -> None:
    weights = {f"c{i}": array for i, array in enumerate(rest)}
    nodes = [
        node(op, ["x", *weights], ["y", "second"], name="the_node", **attributes),
        node("Cast", ["second"], ["z"], to=TensorProto.FLOAT),
    ]
    proto = model(nodes, {"x": (1, 4, 3)}, ["y"], weights)
    assert_agrees(proto)
    proto.graph.output[0].name = "z"
    assert_unsupported(proto, op, "the_node", "opset 20", "output 1")


def test_quantised_networks_are_refused() -> None:
    nodes = [
        node("QuantizeLinear", ["x", "scale"], ["q"], name="the_node"),
        node("DequantizeLinear", ["q", "scale"], ["y"]),
    ]
    proto = model(nodes, {"x": (2, 3)}, ["y"], {"scale": np.array(0.1, np.float32)})
    session(proto)
    assert_unsupported(proto, "QuantizeLinear", "the_node", "opset 20")


@pytest.mark.parametrize("op", ["Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
@pytest.mark.parametrize(("limit", "other"), [(0.5, 0.0), (0.0, 1.0)])
def test_a_jump_is_refused(op: str, limit: float, other: float) -> None:
    """x where it is on one side of the limit, else another constant: not the limit, so the two do not meet."""
    nodes = [
        node(op, ["x", "limit"], ["c"]),
        node("Where", ["c", "x", "other"], ["y"], name="the_node"),
    ]
    weights = {"limit": np.array(limit, np.float32), "other": np.array(other, np.float32)}
    assert_unsupported(model(nodes, {"x": (2, 3)}, ["y"], weights), "Where", "the_node", "choice")


def test_a_condition_is_no_number() -> None:
    nodes = [
        node("Greater", ["x", "zero"], ["c"]),
        node("Cast", ["c"], ["y"], to=TensorProto.FLOAT, name="the_node"),
    ]
    proto = model(nodes, {"x": (2, 3)}, ["y"], {"zero": np.array(0, np.float32)})
    assert_unsupported(proto, "Cast", "the_node", "jumps")


def test_sparse_initializers_are_refused() -> None:
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": (2, 3)}, ["y"])
    values, where = numpy_helper.from_array(random_weights(2), "w"), numpy_helper.from_array(integers(0, 7))
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, where, [3, 4]))
    found = outcome(lambda: load_proto(proto))
    assert isinstance(found, ModelError)
    assert "'w'" in str(found)


def test_errors_of_a_model_have_exit_status_3_and_of_usage_2() -> None:
    assert (ModelError("m").exit_status, UnsupportedModelError("m").exit_status) == (3, 3)
    assert UsageError("m").exit_status == 2
    assert str(LipcertError("what", hint="do this")) == "what (do this)"
    assert str(LipcertError("what")) == "what"
