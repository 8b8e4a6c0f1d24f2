"""Lines below and above activations hold over the whole box, to the last rounding, and are not much wider than needed.

What is compared are the float64 lines as they are: exactly where phi is piecewise linear, else in so many digits that
no rounding of the comparison could hide a violation.
"""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from mpmath import mpf

import lipcert.activations as acts
from lipcert.activations import Activation, LeakyRelu, Relu
from lipcert.arithmetic.enclosure import Enclosure
from lipcert.certificate.relaxation import Lines, lines
from tests.activations.cases import CASES, Case
from tests.activations.intervals import fill, intervals

each = pytest.mark.parametrize("case", CASES, ids=str)

COARSE, FINE = 200, 4500
"""Bits; products of float64 numbers, and their sums, are exact in the latter."""

ALPHAS = (0.0, 0.01, 0.3, 1.0, 1.7, -0.6, -3.1)


def rows(found: Lines) -> list[tuple[float, float, float, float]]:
    """(low slope, low offset, high slope, high offset) of every entry."""
    sides = (found.low_slope, found.low_offset, found.high_slope, found.high_offset)
    return list(zip(*(side.tolist() for side in sides), strict=True))


def boxes_of(case: Case, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of every kind, and such around kinks and edges of the domain: subnormal ones, ulps, huge ones."""
    lower, upper = intervals(case, count, seed)
    special = {0.0, *case.kinks, *case.poles, *case.verticals, *case.jumps, *case.activation.kinks}
    special |= {end for end in case.domain if math.isfinite(end)}
    pairs = [
        (point - left, point + right)
        for point in special
        for left, right in ((0.0, 1e-9), (1e-9, 0.0), (1e-5, 3e-5), (0.7, 1.1), (4.0, 0.3), (1e12, 1e5), (0.0, 1e200))
    ]
    pairs += [(math.nextafter(p, -math.inf), math.nextafter(p, math.inf)) for p in special]
    return np.append(lower, [a for a, _ in pairs]), np.append(upper, [b for _, b in pairs])


def points_of(case: Case, lower: float, upper: float, rng: np.random.Generator) -> set[float]:
    """Ends, kinks, their neighbours and points that fill the interval."""
    special = [lower, upper, 0.0, *case.kinks, *case.activation.kinks]
    near = [x for p in special for x in (p, math.nextafter(p, math.inf), math.nextafter(p, -math.inf))]
    filled = fill(np.array([lower]), np.array([upper]), 300)[0]
    return {x for x in (*near, *rng.choice(filled, 8).tolist()) if lower <= x <= upper and math.isfinite(x)}


def is_between(case: Case, x: float, row: tuple[float, float, float, float]) -> bool:
    """Whether phi(x) lies between the finite lines of a row: in few digits where that is clear, else in many."""
    for bits in (COARSE, FINE):
        with mpmath.workprec(bits):
            value, certain, holds = case.value(mpf(x)), True, True
            for sign, slope, offset in ((-1, *row[:2]), (1, *row[2:])):
                if math.isfinite(offset):
                    gap = sign * (mpf(slope) * mpf(x) + mpf(offset) - value)
                    scale = 1 + abs(value) + abs(mpf(slope) * mpf(x)) + abs(mpf(offset))
                    holds &= bool(gap >= (0 if bits == COARSE else -(mpf(2) ** -(FINE - 100)) * scale))
                    certain &= bool(abs(gap) > mpf(2) ** -(COARSE - 60) * scale)
        if certain:
            break
    return holds


@pytest.mark.one_in(3)
@each
def test_phi_is_between_the_lines(case: Case) -> None:
    lower, upper = boxes_of(case, 110, seed=1)
    found = rows(lines(case.activation, lower, upper))
    rng = np.random.default_rng(2)
    checked = 0
    for a, b, row in zip(lower.tolist(), upper.tolist(), found, strict=True):
        if not (math.isfinite(row[1]) or math.isfinite(row[3])):
            continue
        assert not case.undefined(a, b), (a, b)
        for x in points_of(case, a, b, rng):
            assert is_between(case, x, row), (a, b, x, row)
            checked += 1
    assert checked > 140


TINY = ("power(2)", 1.1e-162), ("power(2)", 1e-200), ("cosh", 1e-200), ("cos", 1e-200)


@pytest.mark.parametrize(("name", "x"), TINY)
def test_phi_is_between_the_lines_where_products_underflow(name: str, x: float) -> None:
    (case,) = (c for c in CASES if str(c) == name)
    (row,) = rows(lines(case.activation, np.array([x]), np.array([x])))
    assert is_between(case, x, row)


@each
def test_no_line_is_wrong_where_nothing_is_known(case: Case) -> None:
    """Offsets that are not finite never read as a bound of the wrong sign, and no number is claimed about jumps."""
    lower, upper = boxes_of(case, 200, seed=3)
    found = lines(case.activation, lower, upper)
    assert not np.any(found.low_offset == math.inf)
    assert not np.any(found.high_offset == -math.inf)
    for side in (found.low_slope, found.high_slope):
        assert np.all(np.isfinite(side))
    for a, b, row in zip(lower.tolist(), upper.tolist(), rows(found), strict=True):
        if case.undefined(a, b):
            assert not math.isfinite(row[1]), (a, b)
            assert not math.isfinite(row[3]), (a, b)


@each
def test_nothing_is_said_about_nan_and_the_shape_is_that_of_the_box(case: Case) -> None:
    ends = np.array([math.nan, math.nan, 0.5]), np.array([math.nan, 1.0, math.nan])
    with np.errstate(all="ignore"):
        found = lines(case.activation, *ends)
    for side in (found.low_offset, found.high_offset):
        assert side.shape == (3,)
        assert not np.any(np.isfinite(side))
    assert lines(case.activation, np.zeros(0), np.zeros(0)).low_slope.shape == (0,)


def leaky(alpha: float, x: Fraction) -> Fraction:
    return x if x >= 0 else Fraction(alpha) * x


def random_boxes(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """On both sides of 0 mostly; of all magnitudes, ends far apart and next to each other."""
    size = 10.0 ** np.where(rng.random((2, count)) < 0.5, rng.uniform(-3, 3, (2, count)), rng.uniform(-323, 307, 1))
    ends = rng.choice([-1.0, 1.0, 1.0], (2, count)) * rng.uniform(0.1, 1, (2, count)) * size
    ends[0] = np.where(rng.random(count) < 0.6, -np.abs(ends[0]), ends[0])
    near = rng.random(count) < 0.1
    ends[1] = np.where(near, np.nextafter(ends[0], math.inf), np.where(rng.random(count) < 0.05, ends[0], ends[1]))
    ends[:, rng.random(count) < 0.03] = [[0.0], [5e-324]]
    return ends.min(axis=0), ends.max(axis=0)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_lines_of_leaky_relus_hold_exactly(alpha: float) -> None:
    """In Fractions, at both ends and the kink, which is all that matters, and around them."""
    rng = np.random.default_rng(4)
    lower, upper = random_boxes(rng, 1500)
    found = rows(lines(LeakyRelu(alpha) if alpha else Relu(), lower, upper))
    for a, b, row in zip(lower.tolist(), upper.tolist(), found, strict=True):
        assert all(math.isfinite(v) for v in row) or max(abs(a), abs(b)) > 1e290
        around = (a, b, 0.0, -5e-324, 5e-324, a / 2 + b / 2, math.nextafter(a, b), math.nextafter(b, a))
        for x in {Fraction(x) for x in around if a <= x <= b}:
            value = leaky(alpha, x)
            if math.isfinite(row[1]):
                assert Fraction(row[0]) * x + Fraction(row[1]) <= value, (a, b, x)
            if math.isfinite(row[3]):
                assert Fraction(row[2]) * x + Fraction(row[3]) >= value, (a, b, x)


def test_lines_of_alphas_within_a_radius_hold_for_all_of_them() -> None:
    alpha = Enclosure(np.array([0.3, -0.2, 1.0]), np.array([0.1, 0.3, 0.5]))
    lower, upper = np.array([-2.0, -1.0, -3.0]), np.array([1.0, 0.5, 2.0])
    found = rows(lines(acts.PRelu(alpha), lower, upper))
    for i, row in enumerate(found):
        for a in (alpha.lower()[i], alpha.value[i], alpha.upper()[i]):
            for x in (lower[i], 0.0, upper[i], lower[i] / 2):
                value = leaky(float(a), Fraction(float(x)))
                assert Fraction(row[0]) * Fraction(float(x)) + Fraction(row[1]) <= value
                assert Fraction(row[2]) * Fraction(float(x)) + Fraction(row[3]) >= value


def test_the_lines_of_relu_are_the_triangle() -> None:
    """Above it is the chord, below it 0 or the identity, whichever cuts off more."""
    rng = np.random.default_rng(5)
    lower, upper = -rng.uniform(0.01, 5, 500), rng.uniform(0.01, 5, 500)
    found = lines(Relu(), lower, upper)
    chord = upper / (upper - lower)
    np.testing.assert_allclose(found.high_slope, chord, rtol=1e-12)
    np.testing.assert_allclose(found.high_offset, -chord * lower, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(found.low_slope, (upper > -lower).astype(float))
    np.testing.assert_allclose(found.low_offset, 0.0, atol=1e-12)


@pytest.mark.parametrize(("ends", "slope"), [((0.5, 2.0), 1.0), ((-2.0, -0.5), 0.0)])
def test_the_lines_of_relu_on_one_side_are_relu(ends: tuple[float, float], slope: float) -> None:
    found = lines(Relu(), np.array([ends[0]]), np.array([ends[1]]))
    np.testing.assert_array_equal([found.low_slope[0], found.high_slope[0]], [slope, slope])
    np.testing.assert_allclose([found.low_offset[0], found.high_offset[0]], 0.0, atol=1e-15)


def best_gap(activation: Activation, lower: float, upper: float, tangents: int) -> float:
    """Between lines at the middle, by samples: the best of those with the slopes of the chord and so many tangents."""
    x = np.linspace(lower, upper, 801)
    value, middle = activation.value(x), lower / 2 + upper / 2
    at = activation.derivative(np.linspace(lower, upper, tangents))
    slopes = np.array([*at, (value[-1] - value[0]) / (upper - lower), 0.0])[:, None]
    rest = value - slopes * x
    return float(np.min(slopes[:, 0] * middle + rest.max(axis=1)) - np.max(slopes[:, 0] * middle + rest.min(axis=1)))


def moderate_boxes(case: Case, count: int, seed: int) -> list[tuple[float, float]]:
    """Boxes on which phi is defined, continuous and not very steep."""
    rng = np.random.default_rng(seed)
    far = [*case.poles, *case.verticals, *(end for end in case.domain if math.isfinite(end))]
    pairs = []
    for _ in range(count):
        a = float(rng.uniform(*np.clip(case.domain, -4, 4)))
        b = a + float(rng.uniform(0.1, 2.5))
        tame = not (case.undefined(a, b) or case.jumps_on(a, b) or any(a - 0.05 <= p <= b + 0.05 for p in far))
        pairs += [(a, b)] if tame else []
    return pairs


@each
def test_lines_are_nearly_as_near_as_chords_and_tangents(case: Case) -> None:
    """Gaps at the middle, against the chord and tangents at three points, and at many."""
    pairs = moderate_boxes(case, 60, seed=6)[:25]
    assert len(pairs) >= 10
    found = lines(case.activation, *np.array(pairs).T)
    for (a, b), row in zip(pairs, rows(found), strict=True):
        assert all(math.isfinite(v) for v in row)
        middle = a / 2 + b / 2
        gap = (row[2] * middle + row[3]) - (row[0] * middle + row[1])
        for tangents, factor in ((3, 1.3), (41, 1.7)):
            best = best_gap(case.activation, a, b, tangents)
            assert gap <= factor * best + 1e-4 * (b - a), (a, b, gap, best)
