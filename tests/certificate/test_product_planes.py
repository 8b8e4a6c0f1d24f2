"""Planes in a and v hold phi'(v) a and v a between them, over boxes of any size, and see how the slope moves with v."""

from __future__ import annotations

import numpy as np
import pytest

from lipcert.activations import Tanh
from lipcert.activations.piecewise import PiecewiseLinear
from lipcert.certificate.derivative import chords
from lipcert.certificate.relaxation import Lines, derivative_cells, ends_of, product_planes
from tests.activations.cases import CASES, Case

SMOOTH = [case for case in CASES if not isinstance(case.activation, PiecewiseLinear) and not case.activation.kinks]
COUNT = 60


def boxes(rng: np.random.Generator, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of every size, some of them points."""
    width = 10.0 ** rng.uniform(-7, 0.5, center.size) * (rng.random(center.size) < 0.9)
    return center - width * rng.random(center.size), center + width * rng.random(center.size)


def far(n: int) -> Lines:
    """Lines that any plane is nearer than."""
    return Lines(np.zeros(n), np.full(n, -1e300), np.zeros(n), np.full(n, 1e300))


@np.errstate(invalid="ignore")  # where nothing is known
def excess(found: tuple[Lines, Lines], a: np.ndarray, v: np.ndarray, product: np.ndarray) -> np.ndarray:
    """By how much the product is outside, in units of what is rounded here; at most 1 is none."""
    in_a, in_v = found
    low = [in_a.low_slope * a, in_a.low_offset, in_v.low_slope * v, in_v.low_offset]
    high = [in_a.high_slope * a, in_a.high_offset, in_v.high_slope * v, in_v.high_offset]
    room = 1e-11 * (np.abs(product) + sum(np.abs(part) for part in (*low, *high))) + 1e-290
    return np.asarray(np.maximum(sum(low) - product, product - sum(high)) / room)


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_the_slope_of_a_smooth_activation_times_anything_is_between(case: Case) -> None:
    rng = np.random.default_rng([*str(case).encode()])
    v, box = boxes(rng, rng.normal(size=COUNT)), boxes(rng, rng.normal(size=COUNT) * (rng.random(COUNT) < 0.8))
    cells = derivative_cells(case.activation, v)
    low, high = case.activation.slopes(*v)
    for chord in (far(COUNT), chords((low, high), box)):
        found = product_planes(cells, box, chord)
        used = np.isfinite(low) & np.isfinite(high)
        for _ in range(100):
            point, a = (
                side[0] + rng.choice([0.0, 1.0, rng.random()], COUNT) * (side[1] - side[0]) for side in (v, box)
            )
            with np.errstate(all="ignore"):
                product = case.activation.derivative(point) * a
            assert np.all(excess(found, a, point, product)[used & np.isfinite(product)] <= 1)


def test_a_product_of_two_is_between() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        v, box = boxes(rng, rng.normal(size=COUNT)), boxes(rng, rng.normal(size=COUNT))
        for chord in (far(COUNT), chords(v, box)):
            found = product_planes(ends_of(v), box, chord)
            for _ in range(50):
                point, a = (s[0] + rng.choice([0.0, 1.0, rng.random()], COUNT) * (s[1] - s[0]) for s in (v, box))
                assert np.all(excess(found, a, point, point * a) <= 1)


def test_planes_of_a_product_are_as_near_as_can_be() -> None:
    """At the middle half the product of the widths apart in all (McCormick, with the slopes of the middle)."""
    v, box = (np.array([1.0]), np.array([1.5])), (np.array([-2.0]), np.array([0.5]))
    in_a, _ = product_planes(ends_of(v), box, far(1))
    assert (in_a.high_offset - in_a.low_offset)[0] == pytest.approx(0.5 * 2.5 / 2, rel=1e-9)


def test_planes_see_that_the_slope_moves_with_the_value() -> None:
    """A chord must allow for all slopes at once; a plane leaves what bends only."""
    v, box = (np.array([0.5]), np.array([1.5])), (np.array([1.0]), np.array([1.1]))
    low, high = Tanh().slopes(*v)
    in_a, in_v = product_planes(derivative_cells(Tanh(), v), box, chords((low, high), box))
    assert in_v.high_slope[0] < 0
    assert in_v.low_slope[0] < 0
    assert (in_a.high_offset - in_a.low_offset)[0] < 0.5 * (high - low)[0]


def test_lines_that_are_nearer_are_kept() -> None:
    """Of a ramp's kind: a sign that is open and slopes that hardly move."""
    v, box = (np.array([0.1]), np.array([0.2])), (np.array([0.0]), np.array([0.0]))
    chord = chords(Tanh().slopes(*v), box)
    in_a, in_v = product_planes(derivative_cells(Tanh(), v), box, chord)
    assert np.array_equal(in_a.high_offset, chord.high_offset)
    assert not in_v.high_slope.any()
