"""A lipcert.FixedPoint node with attributes gets a function that onnxruntime runs to the fixed point."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from lipcert.errors import ModelError, UnsupportedModelError
from lipcert.frontend.fixed_point_form import ACTIVATIONS, LEAST_OPSET, define_functions
from tests.helpers.onnx_models import random_weights

LINEAR = {"kind": "linear", "activation": "Relu", "step": 0.5, "iterations": 2000, "tolerance": 1e-6}
CONV = {**LINEAR, "kind": "conv", "pads": [1, 1, 1, 1]}
SCRIPT = Path(__file__).resolve().parents[2] / "models" / "export_implicit.py"


def call(attributes: dict[str, object], inputs: tuple[str, ...] = ("u", "A"), output: str = "z") -> onnx.NodeProto:
    return helper.make_node("FixedPoint", list(inputs), [output], f"call_{output}", domain="lipcert", **attributes)


def model(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    shape: tuple[int | str, ...] = ("batch", 4),
    opset: int = 20,
    ir_version: int = 10,
) -> onnx.ModelProto:
    element = helper.np_dtype_to_tensor_dtype(weights["A"].dtype)
    values = [helper.make_tensor_value_info(name, element, shape) for name in ("u", nodes[-1].output[0])]
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def weight(dtype: type = np.float32) -> np.ndarray:
    return (0.4 * np.random.default_rng(0).standard_normal((4, 4))).astype(dtype)


def run(proto: onnx.ModelProto, u: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"u": u})[0]


def inputs(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("opset", range(LEAST_OPSET, min(onnx.defs.onnx_opset_version(), 24) + 1))
@pytest.mark.parametrize("ir_version", [7, 10])
def test_onnxruntime_finds_the_fixed_point(opset: int, ir_version: int) -> None:
    a, u = weight(), inputs(3, 4)
    z = run(define_functions(model([call(LINEAR)], {"A": a}, opset=opset, ir_version=ir_version)), u)
    np.testing.assert_allclose(z, np.maximum(z @ a.T + u, 0), atol=1e-4)


@pytest.mark.parametrize("shape", [(4,), (1, 4), (2, 3, 4)])
def test_any_batch_runs(shape: tuple[int, ...]) -> None:
    a, u = weight(), inputs(*shape)
    z = run(define_functions(model([call(LINEAR)], {"A": a}, shape)), u)
    np.testing.assert_allclose(z, np.maximum(z @ a.T + u, 0), atol=1e-4)


def test_float64_is_kept() -> None:
    a, u = weight(np.float64), inputs(3, 4, dtype=np.float64)
    z = run(define_functions(model([call({**LINEAR, "tolerance": 1e-14})], {"A": a})), u)
    np.testing.assert_allclose(z, np.maximum(z @ a.T + u, 0), atol=1e-12)


def test_a_step_of_two_hundredths_converges() -> None:
    a, u = -40 * np.eye(4, dtype=np.float32) + weight(), inputs(3, 4)
    z = run(define_functions(model([call({**LINEAR, "step": 0.02, "tolerance": 1e-7})], {"A": a})), u)
    np.testing.assert_allclose(z, np.maximum(z @ a.T + u, 0), atol=1e-5)


def test_a_convolution_runs() -> None:
    kernel, u = random_weights(4, 2, 3, 3) * np.float32(0.1), inputs(2, 4, 6, 5)
    attributes = {**CONV, "group": 2, "pads": [2, 2, 2, 2], "dilations": [2, 2]}
    z = run(define_functions(model([call(attributes)], {"A": kernel}, (2, 4, 6, 5))), u)
    product = torch.nn.functional.conv2d(torch.from_numpy(z), torch.from_numpy(kernel), padding=2, dilation=2, groups=2)
    np.testing.assert_allclose(z, np.maximum(product.numpy() + u, 0), atol=1e-4)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_runs(activation: str) -> None:
    proto = define_functions(model([call({**LINEAR, "activation": activation})], {"A": weight() / 2}))
    assert np.isfinite(run(proto, inputs(3, 4))).all()


def test_the_parameter_of_an_activation_is_kept() -> None:
    a, u = weight() / 2, inputs(3, 4)
    attributes = {**LINEAR, "activation": "LeakyRelu", "activation_alpha": 0.3}
    z = run(define_functions(model([call(attributes)], {"A": a})), u)
    argument = z @ a.T + u
    np.testing.assert_allclose(z, np.where(argument > 0, argument, 0.3 * argument), atol=1e-4)


def test_nodes_of_equal_definition_share_a_function_and_others_have_their_own() -> None:
    nodes = [
        call(LINEAR, output="z1"),
        call(LINEAR, ("z1", "A"), "z2"),
        call({**LINEAR, "step": 0.25}, ("z2", "A"), "z"),
    ]
    proto = define_functions(model(nodes, {"A": weight()}))
    assert [f.name for f in proto.functions] == ["FixedPoint", "FixedPoint_2"]
    assert [n.op_type for n in proto.graph.node] == ["FixedPoint", "FixedPoint", "FixedPoint_2"]
    assert not any(n.attribute for n in proto.graph.node)
    assert np.isfinite(run(proto, inputs(3, 4))).all()


def test_what_has_functions_is_left_as_it_is_and_the_given_model_is_not_changed() -> None:
    given = model([call(LINEAR)], {"A": weight()})
    before = given.SerializeToString(deterministic=True)
    proto = define_functions(given)
    assert given.SerializeToString(deterministic=True) == before
    assert define_functions(proto) is proto


def test_a_function_and_attributes_are_one_definition_too_many() -> None:
    proto = define_functions(model([call(LINEAR)], {"A": weight()}))
    proto.graph.node.append(call({**LINEAR, "step": 0.25}, ("z", "A"), "again"))
    with pytest.raises(ModelError, match="not both"):
        define_functions(proto)


def test_a_node_within_a_function_or_a_branch_gets_one() -> None:
    inner = helper.make_function(
        "local", "Twice", ["v", "W"], ["w"], [call(LINEAR, ("v", "W"), "w")], [helper.make_opsetid("", 20)]
    )
    value = helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, None)
    branch = helper.make_graph([call(LINEAR, output="b")], "branch", [], [value])
    yes = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("t", onnx.TensorProto.BOOL, [], [True]))
    nodes = [
        yes,
        helper.make_node("If", ["yes"], ["c"], then_branch=branch, else_branch=branch),
        helper.make_node("Identity", ["c"], ["z"]),
    ]
    proto = define_functions(model(nodes, {"A": weight()}))
    assert [f.name for f in proto.functions] == ["FixedPoint"]
    assert np.isfinite(run(proto, inputs(3, 4))).all()
    called = model([helper.make_node("Twice", ["u", "A"], ["z"], domain="local")], {"A": weight()})
    called.opset_import.append(helper.make_opsetid("local", 1))
    called.functions.append(inner)
    with pytest.raises(UnsupportedModelError, match="declared"):  # a function's inputs have no types
        define_functions(called)


@pytest.mark.parametrize(
    ("attributes", "error", "message"),
    [
        ({}, ModelError, "'kind' is missing"),
        ({**LINEAR, "kind": "dense"}, UnsupportedModelError, "unknown kind 'dense'"),
        ({**LINEAR, "activation": "Sign"}, UnsupportedModelError, "unknown activation 'Sign'"),
        ({**LINEAR, "activation_alpha": 0.1}, UnsupportedModelError, "takes none"),
        ({**LINEAR, "group": 2}, UnsupportedModelError, "unknown attribute 'group'"),
        ({**CONV, "strides": [2, 2]}, UnsupportedModelError, "unknown attribute 'strides'"),
        ({**CONV, "pads": [-1, 1, 1, 1]}, ModelError, "pads"),
        ({**CONV, "group": 0}, ModelError, "group 0"),
        ({**LINEAR, "step": 0.0}, ModelError, "step 0"),
        ({**LINEAR, "step": float("nan")}, ModelError, "step nan"),
        ({**LINEAR, "tolerance": -1.0}, ModelError, "tolerance -1"),
        ({**LINEAR, "iterations": 0}, ModelError, "iterations 0"),
        *[
            ({key: value for key, value in LINEAR.items() if key != name}, ModelError, name)
            for name in ("activation", "step", "iterations", "tolerance")
        ],
    ],
)
def test_attributes_that_define_nothing_are_refused(
    attributes: dict[str, object], error: type[ModelError], message: str
) -> None:
    with pytest.raises(error, match=f"call_z.*{message}"):
        define_functions(model([call(attributes)], {"A": weight()}))


def test_other_element_types_old_opsets_and_missing_inputs_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="FLOAT16"):
        define_functions(model([call(LINEAR)], {"A": weight(np.float16)}))
    with pytest.raises(UnsupportedModelError, match="opset 12"):
        define_functions(model([call(LINEAR)], {"A": weight()}, opset=12))
    with pytest.raises(ModelError, match="inputs"):
        define_functions(model([call(LINEAR, ("u",))], {"A": weight()}))


def test_a_network_of_arrays_is_written_in_this_form(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    skew = rng.standard_normal((6, 6))
    arrays = {"W": 3 * (skew - skew.T), "U": rng.standard_normal((6, 3)), "b": rng.standard_normal(6)}
    arrays |= {"Wo": rng.standard_normal((2, 6)), "bo": rng.standard_normal(2)}
    np.savez(tmp_path / "in.npz", **arrays)
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path / "in.npz"), str(tmp_path / "out.onnx")], check=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "out.onnx"), providers=["CPUExecutionProvider"])
    x = rng.standard_normal((1, 3))
    y = session.run(None, {"x": x})[0]
    injection, z = x @ arrays["U"].T + arrays["b"], np.zeros((1, 6))
    for _ in range(20_000):
        z = z + 0.005 * (np.maximum(z @ arrays["W"].T + injection, 0) - z)
    np.testing.assert_allclose(y, z @ arrays["Wo"].T + arrays["bo"], atol=1e-10)
