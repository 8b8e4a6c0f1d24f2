"""Flatten, Reshape, Transpose, Concat, Squeeze, Unsqueeze: entries move, and nothing else."""

from __future__ import annotations

import itertools

import pytest
from onnx import helper

from lipcert.graph import Affine
from tests.helpers.onnx_models import (
    assert_agrees,
    assert_malformed,
    assert_unsupported,
    integers,
    model,
    one_op,
    random_weights,
    with_negatives_from_11,
)


@pytest.mark.parametrize(("opset", "axis"), with_negatives_from_11((7, 11, 21), (None, 0, 1, 2, 3, -1, -2, -3)))
def test_flatten(axis: int | None, opset: int) -> None:
    attributes = {} if axis is None else {"axis": axis}
    assert_agrees(one_op("Flatten", (2, 3, 4), opset=opset, **attributes))


@pytest.mark.parametrize("axis", [4, -4])
def test_flatten_at_an_axis_that_does_not_exist_is_malformed(axis: int) -> None:
    assert_malformed(one_op("Flatten", (2, 3, 4), axis=axis), "Flatten", "the_node", "opset 20", str(axis))


@pytest.mark.parametrize("wanted", [(24,), (4, 6), (-1,), (2, -1), (0, 12), (0, 0, -1), (0, -1, 2, 1), (1, 24, 1, 1)])
@pytest.mark.parametrize("opset", [7, 13, 14, 20])
def test_reshape(wanted: tuple[int, ...], opset: int) -> None:
    assert_agrees(one_op("Reshape", (2, 3, 4), integers(*wanted), opset=opset))


@pytest.mark.parametrize("wanted", [(24,), (4, -1), (3, 8)])
def test_reshape_with_allowzero_and_no_zero(wanted: tuple[int, ...]) -> None:
    assert_agrees(one_op("Reshape", (2, 3, 4), integers(*wanted), allowzero=1))


def test_reshape_with_allowzero_takes_zero_literally() -> None:
    assert_malformed(one_op("Reshape", (2, 3), integers(0, 3), allowzero=1), "Reshape", "the_node", "opset 20")


def test_reshape_to_a_scalar_and_back() -> None:
    nodes = [helper.make_node("Reshape", ["x", "none"], ["h"]), helper.make_node("Reshape", ["h", "one"], ["y"])]
    assert_agrees(model(nodes, {"x": (1, 1)}, ["y"], {"none": integers(), "one": integers(1)}))


@pytest.mark.parametrize("wanted", [(5,), (5, -1), (-1, -1), (2, -2), (0, 0, 0, 0), (2, 3, 5), (-1, 0, 0, 0), ()])
def test_reshape_that_does_not_fit_is_malformed(wanted: tuple[int, ...]) -> None:
    assert_malformed(one_op("Reshape", (2, 3, 4), integers(*wanted)), "Reshape", "the_node", "opset 20")


def test_reshape_to_a_shape_that_is_an_input_is_refused() -> None:
    refused = one_op("Reshape", (1,), random_weights(2, 3), live=1)
    assert_unsupported(refused, "Reshape", "the_node", "shape")


@pytest.mark.parametrize("perm", [None, *itertools.permutations(range(3))])
def test_transpose(perm: tuple[int, ...] | None) -> None:
    attributes = {} if perm is None else {"perm": perm}
    assert_agrees(one_op("Transpose", (2, 3, 4), **attributes))


@pytest.mark.parametrize("perm", [(0, 1), (0, 1, 1), (0, 1, 3), (0, 1, 2, 3), (-1, 0, 1)])
def test_transpose_by_no_permutation_is_malformed(perm: tuple[int, ...]) -> None:
    assert_malformed(one_op("Transpose", (2, 3, 4), perm=perm), "Transpose", "the_node", "opset 20")


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("live", [0, 1])
def test_concat_with_a_constant_part(axis: int, live: int) -> None:
    shape = [2, 3, 4]
    shape[axis] = 5
    assert_agrees(one_op("Concat", (2, 3, 4), random_weights(*shape), live=live, axis=axis))


@pytest.mark.parametrize(("opset", "axis"), with_negatives_from_11((7, 11, 13), (0, 1, -1)))
def test_concat_of_the_same_tensor_twice(axis: int, opset: int) -> None:
    nodes = [helper.make_node("Concat", ["x", "x"], ["y"], axis=axis)]
    assert_agrees(model(nodes, {"x": (2, 3)}, ["y"], opset=opset))


def test_concat_of_many_live_and_constant_parts() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Neg", ["x"], ["b"]),
        helper.make_node("Concat", ["a", "w", "b", "a", "x"], ["y"], axis=1),
    ]
    assert_agrees(model(nodes, {"x": (2, 3)}, ["y"], {"w": random_weights(2, 2)}))


def test_concat_of_one_tensor() -> None:
    assert_agrees(one_op("Concat", (2, 3), axis=1))


@pytest.mark.parametrize(("shape", "axis"), [((2, 4), 0), ((3, 3), 1), ((2,), 0), ((2, 3, 1), 1)])
def test_concat_of_shapes_that_differ_is_malformed(shape: tuple[int, ...], axis: int) -> None:
    refused = one_op("Concat", (2, 3), random_weights(*shape), axis=axis)
    assert_malformed(refused, "Concat", "the_node", "opset 20")


def test_concat_at_an_axis_that_does_not_exist_is_malformed() -> None:
    for axis in (2, -3):
        assert_malformed(one_op("Concat", (2, 3), random_weights(2, 3), axis=axis), "Concat", "the_node", str(axis))


def test_concat_without_an_axis_is_malformed() -> None:
    assert_malformed(one_op("Concat", (2, 3), random_weights(2, 3)), "Concat", "the_node", "axis is missing")


@pytest.mark.parametrize(
    ("opset", "axes"),
    with_negatives_from_11((7, 11, 13, 20), (None, [0], [2], [0, 2], [2, 0], [-2], [-4, 2])),
)
def test_squeeze(axes: list[int] | None, opset: int) -> None:
    if axes is None:
        assert_agrees(one_op("Squeeze", (1, 3, 1, 2), opset=opset))
    elif opset < 13:
        assert_agrees(one_op("Squeeze", (1, 3, 1, 2), opset=opset, axes=axes))
    else:
        assert_agrees(one_op("Squeeze", (1, 3, 1, 2), integers(*axes), opset=opset))


@pytest.mark.parametrize(
    ("opset", "axes"), with_negatives_from_11((7, 11, 13, 20), ([0], [1, 3], [3, 1], [-1], [0, -1], [-2, 1]))
)
def test_unsqueeze(axes: list[int], opset: int) -> None:
    if opset < 13:
        assert_agrees(one_op("Unsqueeze", (2, 3), opset=opset, axes=axes))
    else:
        assert_agrees(one_op("Unsqueeze", (2, 3), integers(*axes), opset=opset))


@pytest.mark.parametrize("op", ["Squeeze", "Unsqueeze"])
@pytest.mark.parametrize("axes", [[4], [-5], [0, 0]])
def test_axes_that_do_not_exist_or_repeat_are_malformed(op: str, axes: list[int]) -> None:
    assert_malformed(one_op(op, (1, 3, 2), integers(*axes)), op, "the_node", "opset 20")


def test_squeezing_an_axis_that_is_not_one_is_malformed() -> None:
    assert_malformed(one_op("Squeeze", (1, 3), integers(1)), "Squeeze", "the_node", "[1, 3]")


def test_reshapes_cost_no_node() -> None:
    nodes = [
        helper.make_node("Flatten", ["x"], ["a"]),
        helper.make_node("Unsqueeze", ["a", "axes"], ["b"]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[0, 2, 1]),
        helper.make_node("Squeeze", ["c", "axes"], ["d"]),
        helper.make_node("Reshape", ["d", "shape"], ["y"]),
    ]
    weights = {"axes": integers(0), "shape": integers(4, 3, 1)}
    imported = assert_agrees(model(nodes, {"x": (1, 3, 4)}, ["y"], weights))
    assert [n for n in imported.graph.nodes if isinstance(n, Affine)] == []
