"""Kinks, jumps and parameters for each entry, exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lipcert.activations import Clip, HardSigmoid, LeakyRelu, PRelu, Relu, Scaled, Shrink, Sign, ThresholdedRelu
from lipcert.arithmetic.enclosure import Enclosure


@pytest.mark.parametrize("alpha", [0.0, 0.01, 1.0, 1.7, -0.6])
@pytest.mark.parametrize(
    ("lower", "upper", "sides"),
    [
        (-1.0, 0.0, "both"),
        (0.0, 1.0, "both"),
        (0.0, 0.0, "both"),
        (-0.0, -0.0, "both"),
        (-1.0, 1.0, "both"),
        (-5e-324, 5e-324, "both"),
        (-2.0, -5e-324, "left"),
        (-math.inf, -1.0, "left"),
        (5e-324, 2.0, "right"),
        (1.0, math.inf, "right"),
    ],
)
def test_an_interval_that_touches_the_kink_has_the_slopes_of_both_sides(
    alpha: float, lower: float, upper: float, sides: str
) -> None:
    expected = {"both": (min(alpha, 1.0), max(alpha, 1.0)), "left": (alpha, alpha), "right": (1.0, 1.0)}[sides]
    for activation in (LeakyRelu(alpha), Relu()) if alpha == 0 else (LeakyRelu(alpha),):
        low, high = activation.slopes(np.array([lower]), np.array([upper]))
        assert (low[0], high[0]) == expected


def test_prelu_has_one_slope_for_each_entry_as_far_as_it_is_known() -> None:
    alpha = Enclosure(np.array([0.25, -0.5, 2.0]), np.array([0.0, 0.125, 0.0]))
    activation = PRelu(alpha)
    lower, upper = np.array([[-2.0] * 3, [1.0] * 3, [-1.0] * 3]), np.array([[-1.0] * 3, [2.0] * 3, [1.0] * 3])
    low, high = activation.slopes(lower, upper)
    np.testing.assert_allclose(low, [[0.25, -0.625, 2.0], [1, 1, 1], [0.25, -0.625, 1.0]], rtol=1e-15)
    np.testing.assert_allclose(high, [[0.25, -0.375, 2.0], [1, 1, 1], [1.0, 1.0, 2.0]], rtol=1e-15)
    assert np.all(low[:, 1] <= [-0.625, 1, -0.625])
    low, high = activation.enclose(lower, upper)
    np.testing.assert_allclose(low, [[-0.5, 0.375, -4.0], [1, 1, 1], [-0.25, 0.0, -2.0]], rtol=1e-15)
    np.testing.assert_allclose(high, [[-0.25, 1.25, -2.0], [2, 2, 2], [1.0, 1.0, 1.0]], rtol=1e-15)
    x = np.array([[-1.0, -2.0, 3.0], [4.0, 5.0, -6.0]])
    np.testing.assert_array_equal(activation.value(x), [[-0.25, 1.0, 3.0], [4.0, 5.0, -12.0]])
    np.testing.assert_array_equal(activation.derivative(x), [[0.25, -0.5, 1.0], [1.0, 1.0, 2.0]])
    np.testing.assert_array_equal(activation.torch(torch.from_numpy(x)).numpy(), activation.value(x))


def test_clip_has_bounds_for_each_entry() -> None:
    activation = Clip(np.array([-1.0, -math.inf, 3.0]), np.array([1.0, 0.5, 2.0]))
    lower, upper = np.full((2, 3), -0.5), np.array([[0.75] * 3, [5.0] * 3])
    low, high = activation.slopes(lower, upper)
    np.testing.assert_array_equal(low, [[1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(high, [[1, 1, 0], [1, 1, 0]])
    low, high = activation.enclose(lower, upper)
    np.testing.assert_array_equal(low, [[-0.5, -0.5, 2.0], [-0.5, -0.5, 2.0]])
    np.testing.assert_array_equal(high, [[0.75, 0.5, 2.0], [1.0, 0.5, 2.0]])
    x = np.array([-7.0, -7.0, -7.0])
    np.testing.assert_array_equal(activation.value(x), [-1.0, -7.0, 2.0])
    np.testing.assert_array_equal(activation.torch(torch.from_numpy(x)).numpy(), activation.value(x))
    assert activation.kinks == (-1.0, 0.5, 1.0, 2.0)
    assert activation.describe() == "clip(per entry)"


def test_at_most_a_hundred_kinks_are_listed() -> None:
    assert len(Clip(np.arange(-200.0, 0), 1e3).kinks) == 100


def test_lines_whose_products_are_exact_are_not_rounded() -> None:
    """Next to its kinks at -2 and 2, hard_sigmoid(1/4, 1/2) keeps its sides apart."""
    activation = HardSigmoid(0.25, 0.5)
    inside, outside = np.nextafter(-2.0, 0), np.nextafter(-2.0, -3)
    low, high = activation.slopes(np.array([inside, outside, -2.0]), np.array([inside, outside, -2.0]))
    np.testing.assert_array_equal(low, [0.25, 0.0, 0.0])
    np.testing.assert_array_equal(high, [0.25, 0.0, 0.25])
    low, high = LeakyRelu(0.5).enclose(np.array([-3.0]), np.array([5.0]))
    assert (low[0], high[0]) == (-1.5, 5.0)
    low, high = LeakyRelu(0.1).enclose(np.array([-3.0]), np.array([5.0]))
    assert low[0] < -3 * 0.1 < -0.3 < high[0]  # 3 times the float next to 0.1 is no float


@pytest.mark.parametrize(
    ("activation", "jumps", "said"),
    [
        (Sign(), [0.0], "it jumps at 0"),
        (ThresholdedRelu(1.5), [1.5], "it jumps at 1.5"),
        (ThresholdedRelu(-0.25), [-0.25], "it jumps at -0.25"),
        (Shrink(0.5, 0.0), [-0.5, 0.5], "it jumps at -0.5 and 0.5"),
        (Shrink(0.0, 0.5), [0.0], "it jumps at 0"),
    ],
)
def test_only_intervals_that_touch_a_jump_have_infinite_slopes(
    activation: Sign | ThresholdedRelu | Shrink, jumps: list[float], said: str
) -> None:
    for jump in jumps:
        before, after = np.nextafter(jump, -9), np.nextafter(jump, 9)
        lower = np.array([jump, before, jump - 0.1, jump, after, jump - 0.1])
        upper = np.array([jump, after, jump, jump + 0.1, jump + 0.1, before])
        low, high = activation.slopes(lower, upper)
        assert np.all(low[:4] == -math.inf)
        assert np.all(high[:4] == math.inf)
        assert np.all(np.isfinite(low[4:]) & np.isfinite(high[4:]))
    assert activation.obstacle(lower[:1], upper[:1]) == said


def test_scaled_takes_its_obstacle_from_the_base() -> None:
    activation = Scaled(Sign(), 2.0)
    assert activation.obstacle(np.array([-1.0]), np.array([1.0])).startswith("it jumps at 0 (")
    assert Scaled(Relu(), 2.0).obstacle(np.array([-1.0]), np.array([1.0])) == ""


def test_a_scale_that_is_a_power_of_two_adds_no_rounding() -> None:
    low, high = Scaled(LeakyRelu(0.25), -4.0).enclose(np.array([-0.3]), np.array([0.7]))
    assert (low[0], high[0]) == (-0.3, 0.7 * 0.25)


@pytest.mark.parametrize("factor", [0.0, math.inf, math.nan])
def test_a_scale_that_is_no_scale_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="factor"):
        Scaled(Relu(), factor)
