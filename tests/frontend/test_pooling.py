"""AveragePool, GlobalAveragePool and ReduceMean."""

from __future__ import annotations

from typing import Any

import pytest

from lipcert.frontend import load_proto
from tests.helpers.onnx_models import (
    assert_agrees,
    assert_malformed,
    integers,
    one_op,
    random_weights,
    session_or_skip,
    with_negatives_from_11,
)

MAPS = (1, 3, 7, 6)


@pytest.mark.parametrize("opset", [7, 10, 11, 19, 22])
@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"strides": [2, 3]},
        {"pads": [1, 0, 1, 2]},
        {"pads": [0, 1, 1, 0], "strides": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "VALID", "strides": [3, 1]},
    ],
)
def test_average_pool(attributes: dict[str, Any], include: int, opset: int) -> None:
    assert_agrees(
        one_op("AveragePool", MAPS, opset=opset, kernel_shape=[2, 3], count_include_pad=include, **attributes)
    )


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 2, 0, 1]])
def test_average_pool_with_dilations(include: int, pads: list[int]) -> None:
    proto = one_op(
        "AveragePool", MAPS, kernel_shape=[2, 3], dilations=[3, 2], strides=[2, 1], pads=pads, count_include_pad=include
    )
    assert_agrees(proto, run=session_or_skip(proto))


@pytest.mark.parametrize(
    ("shape", "kernel"),
    [((1, 2, 9), [3]), ((1, 2, 5, 4, 6), [2, 3, 2]), ((3, 2, 6, 5), [2, 2]), ((1, 1, 4, 4), [4, 4])],
)
def test_average_pool_in_other_dimensions(shape: tuple[int, ...], kernel: list[int]) -> None:
    assert_agrees(one_op("AveragePool", shape, kernel_shape=kernel, pads=[1] * (2 * len(kernel))))


@pytest.mark.parametrize("op", ["AveragePool", "MaxPool"])
@pytest.mark.parametrize("opset", [10, 19, 22])
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 3], "strides": [3, 2]},
        {"kernel_shape": [2, 3], "strides": [2, 4]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1]},
        {"kernel_shape": [3, 2], "strides": [3, 3], "pads": [1, 1, 1, 1]},
    ],
)
def test_pooling_with_ceil_mode(op: str, opset: int, attributes: dict[str, Any]) -> None:
    proto = one_op(op, MAPS, opset=opset, ceil_mode=1, **attributes)
    assert_agrees(proto, run=session_or_skip(proto))


@pytest.mark.parametrize("opset", [19, 22])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1]])
def test_windows_beyond_the_padding_count_what_is_inside(opset: int, pads: list[int]) -> None:
    proto = one_op(
        "AveragePool",
        MAPS,
        opset=opset,
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=pads,
        ceil_mode=1,
        count_include_pad=1,
    )
    assert_agrees(proto, run=session_or_skip(proto))


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"kernel_shape": [2]},
        {"kernel_shape": [0, 2]},
        {"kernel_shape": [8, 2]},
        {"kernel_shape": [2, 2], "strides": [1, 0]},
        {"kernel_shape": [2, 2], "pads": [1, 1]},
        {"kernel_shape": [1, 1], "pads": [1, 1, 1, 1]},
    ],
)
def test_average_pool_that_breaks_the_specification_is_malformed(attributes: dict[str, Any]) -> None:
    assert_malformed(one_op("AveragePool", MAPS, **attributes), "AveragePool", "the_node", "opset 20")


@pytest.mark.parametrize("shape", [(1, 3, 5), MAPS, (2, 3, 2, 3, 4), (1, 1, 1, 1)])
@pytest.mark.parametrize("opset", [7, 20, 22])
def test_global_average_pool(shape: tuple[int, ...], opset: int) -> None:
    assert_agrees(one_op("GlobalAveragePool", shape, opset=opset))


def test_global_average_pool_of_a_matrix_is_malformed() -> None:
    assert_malformed(one_op("GlobalAveragePool", (2, 3)), "GlobalAveragePool", "the_node", "opset 20")


@pytest.mark.parametrize("keepdims", [None, 0, 1])
@pytest.mark.parametrize(
    ("opset", "axes"),
    with_negatives_from_11((7, 11, 13, 18), (None, [0], [1], [2, 0], [-1], [-1, 1], [0, 1, 2, 3])),
)
def test_reduce_mean(axes: list[int] | None, keepdims: int | None, opset: int) -> None:
    attributes: dict[str, Any] = {} if keepdims is None else {"keepdims": keepdims}
    if opset >= 18:
        rest = [] if axes is None else [integers(*axes)]
        assert_agrees(one_op("ReduceMean", (2, 3, 4, 5), *rest, opset=opset, **attributes))
    else:
        attributes |= {} if axes is None else {"axes": axes}
        assert_agrees(one_op("ReduceMean", (2, 3, 4, 5), opset=opset, **attributes))


@pytest.mark.parametrize("noop", [0, 1])
@pytest.mark.parametrize("axes", [None, [], [1]])
def test_reduce_mean_with_noop_with_empty_axes(axes: list[int] | None, noop: int) -> None:
    rest = [] if axes is None else [integers(*axes)]
    imported = assert_agrees(one_op("ReduceMean", (2, 3), *rest, noop_with_empty_axes=noop, keepdims=1))
    empty = not axes
    assert imported.outputs[0].shape == ((2, 3) if empty and noop else (1, 1) if empty else (2, 1))


def test_the_mean_of_a_constant_is_folded() -> None:
    proto = one_op("ReduceMean", (2, 3), integers(1))
    proto.graph.node[0].input[0] = "w"
    proto.graph.node.add(op_type="Add", input=["x", "y"], output=["z"])
    proto.graph.output[0].name = "z"
    proto.graph.initializer.add().CopyFrom(
        one_op("Add", (2, 3), random_weights(2, 3)).graph.initializer[0],
    )
    proto.graph.initializer[-1].name = "w"
    assert load_proto(proto).folded == ("y",)


@pytest.mark.parametrize("axes", [[2], [-3], [0, 0], [0, -2]])
def test_reduce_mean_over_axes_that_do_not_exist_or_repeat_is_malformed(axes: list[int]) -> None:
    assert_malformed(one_op("ReduceMean", (2, 3), integers(*axes)), "ReduceMean", "the_node", "opset 20")
