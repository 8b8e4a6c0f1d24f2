"""Multiples of the identity in a row: one factor that has all of what they can be."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce

import numpy as np
import pytest

from lipcert.operators import Dense, Diagonal, Identity, LinearOperator, Product, Sum, compose
from lipcert.operators.multiples import multiple_of_identity, shortened
from tests.helpers.operators import matrix_by_definition

SIZE = 3


def number(rng: np.random.Generator, depth: int = 2) -> LinearOperator:
    """A random multiple of the identity, of diagonals, products and sums."""
    kind = int(rng.integers(4 if depth else 2))
    if kind == 0:
        return Identity(SIZE)
    if kind == 1:
        return Diagonal(np.full(SIZE, rng.normal()), np.full(SIZE, 10.0 ** rng.integers(-18, -3) * rng.integers(2)))
    parts = [number(rng, depth - 1) for _ in range(2 + int(rng.integers(2)))]
    return reduce(compose, parts) if kind == 2 else Sum(parts)


def ends(op: LinearOperator) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest diagonal entries of what a multiple of the identity can be, by Fractions."""
    if isinstance(op, Identity):
        return np.full(SIZE, Fraction(1)), np.full(SIZE, Fraction(1))
    if isinstance(op, Diagonal):
        weights, radius = (
            np.array([Fraction(float(v)) for v in np.broadcast_to(a, SIZE)]) for a in (op.weights, op.radius)
        )
        return weights - radius, weights + radius
    assert isinstance(op, Product | Sum)
    low, high = ends(op.parts[0])
    for part in op.parts[1:]:
        other = ends(part)
        if isinstance(op, Sum):
            low, high = low + other[0], high + other[1]
        else:
            corners = [a * b for a in (low, high) for b in other]
            low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)
    return low, high


@pytest.mark.parametrize("seed", range(40))
def test_the_one_factor_encloses_the_product(seed: int) -> None:
    rng = np.random.default_rng(seed)
    front = Dense(rng.normal(size=(2, SIZE)))
    back = reduce(compose, [number(rng) for _ in range(3 + seed % 3)])
    found = shortened(compose(front, back))
    factors = found.factors if isinstance(found, Product) else (found, Identity(SIZE))
    assert factors[0] is front
    assert len(factors) == 2
    low, high = ends(back)
    least, most = ends(factors[1])
    assert np.all(least <= low)
    assert np.all(high <= most)


def test_halves_are_exact_and_what_is_rounded_is_not() -> None:
    half, tenth = Diagonal(np.full(SIZE, 0.5)), Diagonal(np.full(SIZE, 0.1))
    for op, radius in (
        (Product([half] * 50), False),
        (Sum([Identity(SIZE), half]), False),
        (Product([tenth] * 5), True),
    ):
        found = multiple_of_identity(op)
        assert found is not None
        assert np.any(found.radius) == radius
        assert found.value == pytest.approx(float(matrix_by_definition(op)[0, 0]), rel=1e-14)


def test_others_stay_as_they_are() -> None:
    unequal, half = Diagonal(np.array([0.5, 0.5, 0.25])), Diagonal(np.full(SIZE, 0.5))
    spread = Diagonal(np.full(SIZE, 0.5), np.array([0.0, 0.0, 1e-3]))
    dense = Dense(np.ones((SIZE, SIZE)))
    for op in (unequal, half, dense, Product([half, dense]), Product([dense, half]), Sum([half, unequal])):
        assert shortened(op) is op
    for op in (Product([dense, half, unequal]), Product([dense, half, spread]), Product([half, half, dense])):
        assert shortened(op) is op
