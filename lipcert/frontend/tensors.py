"""What a model stores and declares: initializers, inputs, shapes; and how large they may be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lipcert.arithmetic.enclosure import exact
from lipcert.errors import ModelError, UnsupportedModelError
from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.model import TensorInfo
from lipcert.frontend.opnode import MAX_ELEMENTS
from lipcert.frontend.values import Integers, Known, Refused, Value
from lipcert.operators import Shape

if TYPE_CHECKING:
    import onnx_ir as ir

MALFORMED = "the file is malformed; export it again"

MAX_LIVE = 2**22
"""Entries of one tensor that depends on the input."""


MAX_AXES = 32


_FLOATS = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")


def pinned_batch(graph: ir.Graph) -> list[str]:
    """A note for each input whose symbolic first axis was read as 1."""
    return [
        f"input {value.name}: the batch axis {value.shape[0]} is read as 1"
        for value in graph.inputs
        if value.name not in graph.initializers and value.shape and not isinstance(value.shape[0], int)
    ]


def read_initializers(graph: ir.Graph, values: dict[str, Value | Refused]) -> int:
    parameters = 0
    for name, initializer in graph.initializers.items():
        tensor = initializer.const_value
        if tensor is None:
            raise ModelError(f"initializer {name!r} has no data", hint="export the model again")
        check_size(f"initializer {name!r}", tuple(tensor.shape.numpy()))
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


def read_inputs(graph: ir.Graph, build: GraphBuilder, values: dict[str, Value | Refused]) -> tuple[TensorInfo, ...]:
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
    if len(sizes) > MAX_AXES or math.prod(sizes) > MAX_LIVE:
        raise ModelError(
            f"input {name!r} has {len(sizes)} axes and {math.prod(sizes)} entries, over the limit of {MAX_AXES} axes "
            f"and {MAX_LIVE} entries",
            hint="use a smaller input",
        )
    return tuple(sizes)


def inferred_shapes(module: ir.Model) -> dict[str, Shape]:
    """Static shapes of float tensors by ONNX's own shape inference, the batch axis read as 1."""
    import onnx
    import onnx_ir as ir

    try:
        proto = onnx.shape_inference.infer_shapes(ir.to_proto(module))
    except Exception:  # only a help for listing more problems; onnx raises whatever its C++ does
        return {}
    shapes: dict[str, Shape] = {}
    for info in (*proto.graph.value_info, *proto.graph.output):
        kind = info.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim]
        if dims and not dims[0]:
            dims[0] = 1
        usable = kind.HasField("shape") and all(dims) and math.prod(dims) <= MAX_LIVE and len(dims) <= MAX_AXES
        if kind.elem_type in (1, 10, 11, 16) and usable:
            shapes[info.name] = tuple(dims)
    return shapes


def check_size(what: str, shape: Shape) -> None:
    if any(d < 0 for d in shape):
        raise ModelError(f"{what} has shape {list(shape)}", hint=MALFORMED)
    size = 1
    for d in shape:
        size *= int(d)
    if size > MAX_ELEMENTS:
        raise ModelError(f"{what} has {size} entries, over the limit of {MAX_ELEMENTS}", hint="use a smaller model")
