"""Exact evaluation of ops on integer constants (shape arithmetic) by ONNX's own reference implementation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lipcert.errors import ModelError
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.values import Integers

_EXACT = frozenset(
    (
        *("Abs", "Add", "And", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Flatten", "Gather"),
        *("Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not"),
        *("Or", "Pad", "Range", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Shape", "Sign"),
        *("Size", "Slice", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where", "Xor"),
    )
)


def evaluate_integers(op: OpNode) -> Integers | None:
    """The result of an op whose inputs are all integer constants; None where it is not shape arithmetic."""
    if op.domain or op.op_type not in _EXACT:
        return None
    import onnx
    from onnx.reference import ReferenceEvaluator

    names = [f"i{k}" if value is not None else "" for k, value in enumerate(op.inputs)]
    arrays = {n: v.data for n, v in zip(names, op.inputs, strict=True) if isinstance(v, Integers)}
    attributes = {
        name: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in op.attributes.items()
    }
    _refuse_large(op)
    if op.op_type in ("Div", "Mod") and not np.all(np.asarray(list(arrays.values())[-1])):
        op.malformed("shape arithmetic divides by zero")
    node = onnx.helper.make_node(op.op_type, names, ["o"], **attributes)
    types = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in arrays.items()
    ]
    result_type = onnx.helper.make_empty_tensor_value_info("o")
    graph = onnx.helper.make_graph([node], "shape arithmetic", types, [result_type])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", op.opset)])
    try:
        (result,) = ReferenceEvaluator(model).run(None, arrays)
    except Exception as error:  # the reference implementation raises whatever NumPy does
        reason = " ".join(str(error).split())
        raise ModelError(f"{op.label}: shape arithmetic fails: {reason}", hint="the file is malformed") from error
    result = np.asarray(result)
    _refuse_overflow(op, result)
    return Integers(result) if result.dtype.kind in "iub" else None


_IN_INTEGERS: dict[str, Callable[..., Any]] = {
    "Abs": np.abs,
    "Add": np.add,
    "Cast": lambda x: x,
    "Mul": np.multiply,
    "Neg": np.negative,
    "Sub": np.subtract,
    "Div": lambda a, b: (a * b >= 0) * (abs(a) // abs(b)) - (a * b < 0) * (abs(a) // abs(b)),
}
"""Ops whose result may not fit its type, on Python's integers, which have no size."""


def _refuse_overflow(op: OpNode, result: np.ndarray) -> None:
    """Shape arithmetic that wraps around gives a likely size that is not the one meant."""
    if result.dtype.kind not in "iu":
        return
    given = [v.data.astype(object) for v in op.inputs if isinstance(v, Integers)]
    if op.op_type in _IN_INTEGERS:
        wanted = _IN_INTEGERS[op.op_type](*given)
    elif op.op_type in ("ReduceProd", "ReduceSum"):
        # largest possible magnitude, whatever the axes
        size = [abs(int(v)) for v in given[0].reshape(-1)]
        bound = math.prod(max(1, v) for v in size) if op.op_type == "ReduceProd" else sum(size)
        if bound > np.iinfo(result.dtype).max:
            op.malformed("shape arithmetic overflows")
        return
    else:
        return
    if not np.array_equal(np.asarray(wanted, dtype=object), result.astype(object)):
        op.malformed("shape arithmetic overflows")


def _refuse_large(op: OpNode) -> None:
    """Refuse ops whose result is as large as their input says, before anything is allocated."""
    data = [v.data.reshape(-1).tolist() if isinstance(v, Integers) else [] for v in op.inputs]
    if op.op_type == "ConstantOfShape":
        op.sized(data[0])
    elif op.op_type in ("Expand", "Tile") and len(data) > 1:
        op.sized([len(data[0]), *data[1]])
    elif op.op_type == "Concat":
        op.sized([sum(len(d) for d in data)])
    elif op.op_type == "Pad" and len(data) > 1:
        op.sized([len(data[0]) + sum(abs(p) for p in data[1])])
    elif op.op_type == "Range" and len(data) == 3 and data[2] and data[2][0]:
        op.sized([(data[1][0] - data[0][0]) // data[2][0]])
