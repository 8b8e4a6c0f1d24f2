"""No sample in high precision ever leaves the bounds that an activation gives for its values and slopes."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
import torch
from mpmath import mpf

import lipcert.activations
from lipcert.activations import Activation, LeakyRelu, Relu
from tests.helpers.activations import REFERENCES, Reference

each = pytest.mark.parametrize("reference", REFERENCES, ids=str)

ENDS = [-math.inf, -1e300, -800.0, -40.0, -20.0, -5.0, -1.0, -1e-3, -1e-20, -1e-310, -5e-324]
ENDS += [0.0, *(-end for end in reversed(ENDS))]


def intervals() -> tuple[np.ndarray, np.ndarray]:
    """Every pair of the ends above (degenerate and infinite ones too), and random intervals of every size."""
    rng = np.random.default_rng(0)
    pairs = [(a, b) for a in ENDS for b in ENDS if a <= b and not (a == b and math.isinf(a))]
    for scale in (1e-8, 0.1, 1.0, 5.0, 30.0):
        pairs += [tuple(sorted(ends)) for ends in rng.normal(size=(25, 2)) * scale]
        pairs += [(x, x + 1e-9 * scale) for x in rng.normal(size=10) * scale]
        pairs += [(x, x) for x in rng.normal(size=10) * scale]
    lower, upper = np.array(pairs).T
    return lower, upper


LOWER, UPPER = intervals()


def samples(rng: np.random.Generator, lower: float, upper: float, count: int) -> list[float]:
    """Points of [lower, upper]: the finite ends, zero, and points between, uniform and by magnitude."""
    low, high = max(lower, -1e308), min(upper, 1e308)
    points = [low, high, low / 2 + high / 2, 0.0, 5e-324, -5e-324]
    points += ((1 - t) * low + t * high for t in rng.random(count).tolist())
    points += (10.0 ** rng.uniform(-12, 3, size=count) * rng.choice([-1, 1], size=count)).tolist()
    return [x for x in points if lower <= x <= upper]


def slopes_at(reference: Reference, x: mpf) -> list[mpf]:
    """The derivative, and at a kink those of both sides: the ends of the Clarke derivative."""
    if any(x == kink for kink in reference.activation.kinks):
        tiny = mpf(2) ** -200
        return [reference.derivative(x - tiny), reference.derivative(x + tiny)]
    return [reference.derivative(x)]


def test_every_activation_has_a_reference() -> None:
    known = {getattr(lipcert.activations, name) for name in lipcert.activations.__all__} - {Activation}
    assert known == {type(reference.activation) for reference in REFERENCES}


@each
def test_no_sampled_value_leaves_the_enclosure(reference: Reference) -> None:
    rng = np.random.default_rng(1)
    low, high = reference.activation.enclose(LOWER, UPPER)
    with mpmath.workprec(250):
        for i in range(len(LOWER)):
            for x in samples(rng, LOWER[i], UPPER[i], 12):
                assert mpf(low[i]) <= reference.value(mpf(x)) <= mpf(high[i]), (LOWER[i], UPPER[i], x)


@each
def test_no_sampled_slope_leaves_the_bounds(reference: Reference) -> None:
    rng = np.random.default_rng(2)
    low, high = reference.activation.slopes(LOWER, UPPER)
    with mpmath.workprec(250):
        for i in range(len(LOWER)):
            for x in samples(rng, LOWER[i], UPPER[i], 12):
                for slope in slopes_at(reference, mpf(x)):
                    assert mpf(low[i]) <= slope <= mpf(high[i]), (LOWER[i], UPPER[i], x)


@each
def test_no_difference_quotient_leaves_the_slopes(reference: Reference) -> None:
    rng = np.random.default_rng(3)
    low, high = reference.activation.slopes(LOWER, UPPER)
    with mpmath.workprec(500):
        for i in range(len(LOWER)):
            points = [mpf(x) for x in samples(rng, LOWER[i], UPPER[i], 8) if abs(x) < 100]
            for a, b in itertools.pairwise(points):
                if abs(b - a) > 1e-30:
                    quotient = (reference.value(b) - reference.value(a)) / (b - a)
                    error = mpf(10) ** -100  # of this line, in 500 bits
                    assert mpf(low[i]) - error <= quotient <= mpf(high[i]) + error, (LOWER[i], UPPER[i])


@each
def test_bounds_are_tight(reference: Reference) -> None:
    """Values at ends and zero, slopes at ends and next to zero, are extreme for every activation so far."""
    ordinary = (np.abs(LOWER) < 1e3) & (np.abs(UPPER) < 1e3)
    lower, upper = LOWER[ordinary], UPPER[ordinary]
    values, slopes = reference.activation.enclose(lower, upper), reference.activation.slopes(lower, upper)
    with mpmath.workprec(250):
        for i in range(len(lower)):
            points = [mpf(x) for x in (lower[i], upper[i], 0.0) if lower[i] <= x <= upper[i]]
            seen = [reference.value(x) for x in points]
            assert abs(min(seen) - mpf(values[0][i])) <= 1e-14 * abs(min(seen)) + mpf(10) ** -300
            assert abs(max(seen) - mpf(values[1][i])) <= 1e-14 * abs(max(seen)) + mpf(10) ** -300
            steep = [slope for x in points for slope in slopes_at(reference, x)]
            assert abs(min(steep) - mpf(slopes[0][i])) <= 1e-14
            assert abs(max(steep) - mpf(slopes[1][i])) <= 1e-14


@each
def test_the_whole_line_has_the_known_ranges(reference: Reference) -> None:
    line = np.array([-math.inf]), np.array([math.inf])
    for (low, high), (known_low, known_high) in (
        (reference.activation.enclose(*line), reference.values),
        (reference.activation.slopes(*line), reference.slopes),
    ):
        assert low[0] <= known_low
        assert high[0] >= known_high
        assert low[0] == known_low or known_low - low[0] <= 1e-12
        assert high[0] == known_high or high[0] - known_high <= 1e-12


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


def test_relu_on_an_interval_that_ends_at_the_kink_has_all_slopes_between() -> None:
    low, high = Relu().slopes(np.array([-1.0]), np.array([0.0]))
    assert (low[0], high[0]) == (0.0, 1.0)


@each
@pytest.mark.parametrize("ends", [(math.nan, math.nan), (-math.inf, math.nan), (math.nan, math.inf)])
def test_nothing_is_claimed_about_nan(reference: Reference, ends: tuple[float, float]) -> None:
    """Bounds for an interval with an unknown end are NaN themselves, or those of the whole line."""
    box = np.array([ends[0]]), np.array([ends[1]])
    for (low, high), (known_low, known_high) in (
        (reference.activation.enclose(*box), reference.values),
        (reference.activation.slopes(*box), reference.slopes),
    ):
        assert not low[0] > known_low
        assert not high[0] < known_high


@each
def test_values_and_derivatives_are_those_of_the_definition(reference: Reference) -> None:
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.normal(size=300) * 3, 10.0 ** rng.uniform(-300, 300, size=100), [0.0, 700.0, -700.0]])
    with np.errstate(under="ignore"):
        value, derivative = reference.activation.value(x), reference.activation.derivative(x)
    with mpmath.workprec(250):
        np.testing.assert_allclose(value, [float(reference.value(mpf(t))) for t in x], rtol=1e-14)
        for t, slope in zip(x, derivative, strict=True):
            exact = slopes_at(reference, mpf(t))
            assert float(min(exact)) - 1e-14 <= slope <= float(max(exact)) + 1e-14


@each
def test_the_torch_function_and_its_gradient_agree(reference: Reference) -> None:
    x = np.random.default_rng(5).normal(size=200) * 3
    point = torch.from_numpy(x).requires_grad_()
    result = reference.activation.torch(point)
    (gradient,) = torch.autograd.grad(result.sum(), point)
    np.testing.assert_allclose(result.detach().numpy(), reference.activation.value(x), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(gradient.numpy(), reference.activation.derivative(x), rtol=1e-12, atol=1e-15)


@each
def test_bounds_have_the_shape_of_the_box(reference: Reference) -> None:
    lower = np.linspace(-3, 3, 12).reshape(2, 3, 2)
    for low, high in (
        reference.activation.enclose(lower, lower + 0.5),
        reference.activation.slopes(lower, lower + 0.5),
    ):
        assert low.shape == high.shape == (2, 3, 2)
        assert np.all(low <= high)
