"""Small ONNX models built in memory, what onnxruntime makes of them, and what lipcert must agree with or refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from lipcert.errors import LipcertError, ModelError, UnsupportedModelError
from lipcert.frontend import Model, load_proto
from lipcert.graph import evaluate

Shape = Sequence[int | str | None]

OPSET = 20
POINTS = 3
TOLERANCE = 2e-6
"""Largest difference from float32 onnxruntime that a right import may have, relative to the output's size."""


def random_weights(*shape: int, seed: int = 1) -> np.ndarray:
    """Float32 normal weights."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def integers(*values: int) -> np.ndarray:
    """An int64 vector."""
    return np.array(values, dtype=np.int64)


def with_negatives_from_11(opsets: Sequence[int], axes: Sequence[Any]) -> list[tuple[int, Any]]:
    """Pairs of an opset and an axis (or axes, or None); negative ones came with opset 11."""
    return [(o, a) for o in opsets for a in axes if o >= 11 or a is None or np.min(a) >= 0]


def model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Shape],
    outputs: Sequence[str],
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = OPSET,
    element: int = TensorProto.FLOAT,
    ir_version: int | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of these nodes; outputs declare a type and no shape."""
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in (domains or {}).items())]
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, element, list(shape)) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, element, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    proto = helper.make_model(graph, opset_imports=imports, functions=list(functions), producer_name="tests")
    proto.ir_version = ir_version or max(4, helper.find_min_ir_version_for([imports[0]], ignore_unknown=True))
    return proto


def one_op(
    op: str,
    shape: Shape,
    *rest: np.ndarray | None,
    opset: int = OPSET,
    live: int = 0,
    **attributes: Any,
) -> onnx.ModelProto:
    """`op` with the model's input in place `live` and these constants around it (None: an absent optional input)."""
    names = ["" if array is None else f"c{i}" for i, array in enumerate(rest)]
    weights = {name: array for name, array in zip(names, rest, strict=True) if array is not None}
    names.insert(live, "x")
    return model(
        [helper.make_node(op, names, ["y"], name="the_node", **attributes)], {"x": shape}, ["y"], weights, opset=opset
    )


def session(proto: onnx.ModelProto | bytes | str) -> onnxruntime.InferenceSession:
    """onnxruntime without graph optimisations, on one thread."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = proto.SerializeToString() if isinstance(proto, onnx.ModelProto) else proto
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def session_or_skip(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """As `session`; skips the test where this onnxruntime has no kernel for the op at this opset."""
    try:
        return session(proto)
    except Exception as error:
        reason = str(error).splitlines()[0]
        if "NOT_IMPLEMENTED" in reason or "under development" in reason:
            pytest.skip(f"onnxruntime {onnxruntime.__version__} does not run it: {reason[:150]}")
        raise


def random_points(imported: Model, count: int = POINTS, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Float32 inputs by name, the first of them zero."""
    random = np.random.default_rng(seed)
    return [
        {i.name: np.asarray(scale * random.standard_normal(i.shape), dtype=np.float32) for i in imported.inputs}
        for scale in np.linspace(0.0, 2.0, count)
    ]


def lipcert_outputs(imported: Model, point: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every output of the imported Graph at one point, in the shape that the import declares."""
    values = evaluate(imported.graph, {name: x.reshape(-1).astype(np.float64) for name, x in point.items()})
    shapes = {info.name: info.shape for info in imported.outputs}
    return {output.name: values[output.node].reshape(shapes[output.name]) for output in imported.graph.outputs}


def relative_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference over the largest entry."""
    assert ours.shape == theirs.shape
    theirs = theirs.astype(np.float64)
    return float(np.max(np.abs(ours - theirs), initial=0.0) / max(1e-6, np.max(np.abs(theirs), initial=0.0)))


def assert_agrees(
    proto: onnx.ModelProto,
    *,
    tolerance: float = TOLERANCE,
    run: onnxruntime.InferenceSession | None = None,
) -> Model:
    """Import without the self-check, and compare every output with onnxruntime at random points."""
    imported = load_proto(proto, check=False)
    assert_same(imported, run or session(proto), random_points(imported), tolerance)
    return imported


def assert_same(
    imported: Model,
    run: onnxruntime.InferenceSession,
    points: Sequence[Mapping[str, np.ndarray]],
    tolerance: float = TOLERANCE,
) -> None:
    """The imported Graph and onnxruntime give the same outputs, with the same shapes, at these points."""
    types = {"tensor(double)": np.float64, "tensor(float16)": np.float16}
    kinds = {i.name: types.get(i.type, np.float32) for i in run.get_inputs()}
    names = [o.name for o in run.get_outputs()]
    assert [info.name for info in imported.outputs] == names
    for point in points:
        theirs = run.run(names, {name: x.astype(kinds[name]) for name, x in point.items()})
        ours = lipcert_outputs(imported, point)
        for name, reference in zip(names, theirs, strict=True):
            assert ours[name].shape == reference.shape, f"output {name}"
            assert relative_difference(ours[name], reference) <= tolerance, f"output {name}"


def assert_refused(act: Callable[[], Any], error: type[LipcertError], *words: str) -> LipcertError:
    """`act` raises exactly this class, exit status 3, one line, naming every word."""
    with pytest.raises(LipcertError) as caught:
        act()
    found = caught.value
    message = str(found)
    assert type(found) is error, message
    assert found.exit_status == 3
    assert message == message.strip()
    assert "\n" not in message
    assert "\r" not in message
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in: {message}"
    return found


def outcome(act: Callable[[], Model]) -> Model | LipcertError:
    """The model that `act` imports, or lipcert's refusal; any other exception is a failure."""
    try:
        return act()
    except LipcertError as refusal:
        return refusal


def assert_unsupported(proto: onnx.ModelProto, *words: str) -> LipcertError:
    """A valid model that lipcert does not understand."""
    return assert_refused(lambda: load_proto(proto), UnsupportedModelError, *words)


def assert_malformed(proto: onnx.ModelProto, *words: str) -> LipcertError:
    """A model that is no valid ONNX, or cannot be certified."""
    return assert_refused(lambda: load_proto(proto), ModelError, *words)


def save(proto: onnx.ModelProto | bytes, folder: Path, name: str = "model.onnx") -> Path:
    """Write a model to a file of this folder."""
    path = folder / name
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return path
