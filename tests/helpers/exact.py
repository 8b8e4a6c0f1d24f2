"""Exact arithmetic that tests compare with: Fractions, members of enclosures, strategies for floats."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from lipcert.arithmetic.enclosure import Enclosure
from lipcert.operators import Leaf, LinearOperator
from tests.helpers.operators import as_fractions, map_leaves, matrix_by_definition

many = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""For property tests: machines may be slow."""

# Every magnitude from the smallest subnormal to the largest number, with full mantissas and with simple ones.
magnitudes = st.one_of(
    st.floats(min_value=0, allow_nan=False, allow_infinity=False),
    st.builds(math.ldexp, st.integers(0, 2**53 - 1), st.integers(-1130, 970)),
    st.integers(0, 2**31).map(float),
    st.sampled_from([0.0, 5e-324, 2.0**-1022, 1.0, 1 + 2.0**-52, 1 - 2.0**-53, 1.7976931348623157e308]),
)
numbers = st.builds(math.copysign, magnitudes, st.sampled_from([1.0, -1.0]))

moderate = st.builds(
    lambda mantissa, exponent, sign: sign * math.ldexp(mantissa, exponent),
    st.integers(0, 2**53 - 1),
    st.integers(-80, -20),
    st.sampled_from([1.0, -1.0]),
)
"""Numbers of ordinary size, all mantissa bits in use."""


def alike(exponents: st.SearchStrategy[int], size: int = 12) -> st.SearchStrategy[list[float]]:
    """Non-negative numbers of one order of magnitude, whose roundings matter to their sum."""
    mantissas = st.lists(st.integers(0, 2**53 - 1), min_size=1, max_size=size)
    return st.builds(lambda ms, e: [math.ldexp(m, e) for m in ms], mantissas, exponents)


vectors = st.one_of(
    st.lists(magnitudes, min_size=1, max_size=8), alike(st.integers(-1130, 960)), alike(st.just(-53), 40)
).map(np.array)
"""Non-negative vectors."""


def is_upper_bound(bound: float, value: Fraction) -> bool:
    """Whether bound >= value, compared exactly; plus infinity is above everything, NaN above nothing."""
    return bound == math.inf or (math.isfinite(bound) and Fraction(bound) >= value)


def is_lower_bound(bound: float, value: Fraction) -> bool:
    return is_upper_bound(-bound, -value)


def encloses(enclosure: Enclosure, member: np.ndarray) -> bool:
    """Whether the exact array lies within the enclosure, entry by entry."""
    assert enclosure.shape == member.shape
    value, radius = enclosure.value.reshape(-1).tolist(), enclosure.full_radius().reshape(-1).tolist()
    entries = zip(value, radius, member.reshape(-1), strict=True)
    return all(r == math.inf or (math.isfinite(v) and abs(Fraction(v) - m) <= Fraction(r)) for v, r, m in entries)


def member(rng: np.random.Generator, enclosure: Enclosure) -> np.ndarray:
    """A random array of the enclosure in Fractions: at the ends of the radius mostly, inside it elsewhere."""
    return as_fractions(enclosure.value) + _steps(rng, enclosure.shape) * as_fractions(enclosure.full_radius())


def member_weights(rng: np.random.Generator, op: LinearOperator) -> dict[int, np.ndarray]:
    """Weights within the radius of each leaf, in Fractions, by the id of the leaf."""
    found: dict[int, np.ndarray] = {}

    def draw(leaf: Leaf) -> Leaf:
        if leaf.weights is not None and id(leaf) not in found:
            found[id(leaf)] = member(rng, Enclosure(leaf.weights, leaf.radius))
        return leaf

    map_leaves(op, draw)
    return found


def member_matrix(rng: np.random.Generator, op: LinearOperator) -> np.ndarray:
    """A matrix that the operator may be, its leaves within their radii, in Fractions."""
    weights = member_weights(rng, op)
    return matrix_by_definition(op, lambda leaf: weights[id(leaf)])


def is_semidefinite(matrix: np.ndarray, *, strictly: bool = False) -> bool:
    """Whether a symmetric matrix of Fractions is positive (semi)definite, by Bareiss's elimination in integers."""
    scale = math.lcm(*(entry.denominator for entry in matrix.reshape(-1)))
    rest = matrix * scale
    rest.reshape(-1)[:] = [int(entry) for entry in rest.reshape(-1)]
    last = 1
    while len(rest):
        pivot, row = rest[0, 0], rest[0, 1:]
        if pivot < 0 or (pivot == 0 and (strictly or any(row))):
            return False
        rest = rest[1:, 1:]
        if pivot:
            rest = (rest * pivot - np.outer(row, row)) // last
            last = pivot
    return True


def norm_is_at_most(matrix: np.ndarray, p: float, q: float, bound: float) -> bool:
    """Whether |A|_{p->q} <= bound, decided exactly for a small matrix of Fractions (2^n signs are tried)."""
    if bound == math.inf:
        return True
    if not bound >= 0:
        return False
    if p == q == 2:
        gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        return is_semidefinite(np.diag([Fraction(bound) ** 2] * len(gram)) - gram)
    if p == 1:
        return all(_length_is_at_most(column, q, bound) for column in matrix.T)
    if p == math.inf:
        signs = itertools.product((1, -1), repeat=max(matrix.shape[1] - 1, 0))
        return all(_length_is_at_most(matrix @ np.array([1, *s], dtype=object), q, bound) for s in signs)
    return norm_is_at_most(matrix.T, _dual(q), 2, bound)


def _dual(q: float) -> float:
    return {1: math.inf, 2: 2, math.inf: 1}[q]


def _length_is_at_most(v: np.ndarray, q: float, bound: float) -> bool:
    sizes = abs(v)
    if q == math.inf:
        return bool(max(sizes, default=0) <= Fraction(bound))
    return bool(sum(sizes) <= Fraction(bound)) if q == 1 else bool(sum(sizes * sizes) <= Fraction(bound) ** 2)


def _steps(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    steps = np.empty(shape, dtype=object)
    inside = [Fraction(int(t), 64) for t in rng.integers(-64, 65, size=steps.size)]
    ends = rng.choice([-1, 1], size=steps.size)
    steps.reshape(-1)[:] = [
        Fraction(int(e)) if u < 0.7 else t for e, t, u in zip(ends, inside, rng.random(steps.size), strict=True)
    ]
    return steps


def random_enclosure(rng: np.random.Generator, shape: tuple[int, ...], scale: Any = 1.0) -> Enclosure:
    """Exact, known to roundings, or known to a few digits; some entries zero, some exact."""
    value = rng.normal(size=shape) * scale * (rng.random(shape) < 0.9)
    kind = rng.integers(3)
    if kind == 0:
        return Enclosure(value)
    relative = (1e-16, 0.1)[kind - 1] * rng.random(shape)
    return Enclosure(value, relative * np.abs(value) * (rng.random(shape) < 0.8))
