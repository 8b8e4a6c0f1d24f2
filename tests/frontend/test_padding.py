"""Pad: all modes, negative pads, axes as an input, the old attribute form."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.onnx_models import (
    assert_agrees,
    assert_malformed,
    assert_unsupported,
    integers,
    one_op,
    random_weights,
    session_or_skip,
)

FIRST_OPSET = {"constant": 11, "edge": 11, "reflect": 11, "wrap": 19}
SHAPE = (2, 4, 5)


def modes_at(*opsets: int) -> list[tuple[int, str]]:
    """Each opset with the modes that it has."""
    return [(opset, mode) for opset in opsets for mode, first in FIRST_OPSET.items() if opset >= first]


@pytest.mark.parametrize(("opset", "mode"), modes_at(11, 13, 18, 19, 21, 23, 25))
@pytest.mark.parametrize(
    "pads",
    [
        (0, 0, 0, 0, 0, 0),
        (0, 1, 2, 1, 3, 0),
        (1, 2, 3, 1, 1, 4),
        (0, -1, 0, 0, -1, -2),
        (0, -1, 1, 0, 2, -1),
        (0, 1, -2, 1, -1, 1),
    ],
)
def test_pad(pads: tuple[int, ...], mode: str, opset: int) -> None:
    proto = one_op("Pad", SHAPE, integers(*pads), opset=opset, mode=mode)
    assert_agrees(proto, run=session_or_skip(proto))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("pads", [(0, 1, 2, 1, 3, 0), (0, -1, 1, 0, 2, -1)])
def test_pad_with_attributes_as_before_opset_11(pads: tuple[int, ...], mode: str) -> None:
    assert_agrees(one_op("Pad", SHAPE, opset=10, pads=pads, mode=mode, value=1.5))


def test_pad_without_a_mode_or_value_attribute_pads_zeros() -> None:
    assert_agrees(one_op("Pad", SHAPE, opset=7, pads=(0, 1, 2, 1, 3, 0)))


@pytest.mark.parametrize("value", [np.array(0.5, np.float32), np.array([-2.0], np.float32)])
def test_pad_with_a_constant_value(value: np.ndarray) -> None:
    assert_agrees(one_op("Pad", SHAPE, integers(1, 0, 2, 0, 1, 1), value))
    assert_agrees(one_op("Pad", SHAPE, integers(1, 0, 2, 0, 1, 1), value, mode="edge"))


@pytest.mark.parametrize(("opset", "mode"), modes_at(18, 20))
@pytest.mark.parametrize(
    ("axes", "pads"),
    [((1,), (2, 1)), ((-1,), (1, 2)), ((2, 1), (1, 2, 3, 0)), ((-2, 0), (3, 1, 0, 0)), ((2,), (-1, 2))],
)
def test_pad_with_axes(axes: tuple[int, ...], pads: tuple[int, ...], mode: str, opset: int) -> None:
    assert_agrees(one_op("Pad", SHAPE, integers(*pads), None, integers(*axes), opset=opset, mode=mode))


def test_wrap_and_edge_may_exceed_the_tensor() -> None:
    for mode in ("wrap", "edge"):
        assert_agrees(one_op("Pad", (2, 3), integers(0, 7, 0, 8), mode=mode))


@pytest.mark.parametrize("mode", ["edge", "wrap"])
def test_a_single_entry_can_be_copied(mode: str) -> None:
    assert_agrees(one_op("Pad", (1, 1), integers(2, 1, 0, 3), mode=mode))


@pytest.mark.parametrize(
    ("shape", "pads", "mode"),
    [
        ((2, 3), (1, 1, 1), "constant"),
        ((2, 3), (0, 0, 0), "edge"),
        ((2, 3), (0, 1, 0, 1, 0, 0), "constant"),
        ((2, 3), (0, 3, 0, 0), "reflect"),
        ((2, 3), (2, 0, 0, 0), "reflect"),
        ((2, 3), (0, -2, 0, -1), "constant"),
        ((2, 3), (-2, 0, 1, 0), "constant"),
        ((2, 3), (-3, 0, 5, 0), "constant"),
        ((2, 3), (-2, 0, 1, 0), "edge"),
    ],
)
def test_pads_that_do_not_fit_are_malformed(shape: tuple[int, ...], pads: tuple[int, ...], mode: str) -> None:
    assert_malformed(one_op("Pad", shape, integers(*pads), mode=mode), "Pad", "the_node", "opset 20")


@pytest.mark.parametrize("axes", [(2,), (-3,)])
def test_axes_that_do_not_exist_are_malformed(axes: tuple[int, ...]) -> None:
    assert_malformed(one_op("Pad", (2, 3), integers(1, 1), None, integers(*axes)), "Pad", "the_node", "opset 20")


def test_unknown_mode_is_refused() -> None:
    assert_unsupported(one_op("Pad", (2, 3), integers(0, 1, 0, 1), mode="mirror"), "Pad", "the_node", "mirror")


def test_several_constant_values_are_refused() -> None:
    refused = one_op("Pad", (2, 3), integers(0, 1, 0, 1), random_weights(2))
    assert_unsupported(refused, "Pad", "the_node", "constant value")


def test_pads_that_are_computed_from_the_input_are_refused() -> None:
    refused = one_op("Pad", (4,), random_weights(2, 3), live=1)
    assert_unsupported(refused, "Pad", "the_node", "pads")
