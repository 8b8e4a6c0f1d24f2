"""What group functions claim about themselves, against their definitions in 400 bits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from flint import arb

from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.householder import Householder
from lipcert.activations.jacobian import BlockBound
from lipcert.activations.lp_norm import LpNorm, LpNormalise
from lipcert.activations.softmax import LogSoftmax, LogSumExp, Softmax
from lipcert.activations.sorting import GroupMax, GroupSort
from lipcert.activations.standardise import RootMeanSquare, Standardise
from lipcert.arithmetic.enclosure import Enclosure, exact, hull
from tests.helpers.balls import is_within, of_group, precision
from tests.helpers.graphs import ALL_FUNCTIONS, GROUP_FUNCTIONS

BITS = 400
MANY_BITS = 3000
"""For differences of functions of numbers of any size."""

CLOSE = 1e-9
"""Relative error of Jacobians by differences, beside which bounds are not compared."""

SIZES = (1e-300, 1e-160, 1e-20, 1.0, 1e20, 1e150, 1.1e154, 1e160, 1e300)

each = pytest.mark.parametrize("name", ALL_FUNCTIONS)
each_global = pytest.mark.parametrize("name", GROUP_FUNCTIONS)

Box = tuple[np.ndarray, np.ndarray]


def case(name: str, seed: int) -> tuple[np.random.Generator, GroupFunction, int]:
    """A random function of this name, for so many groups."""
    rng = np.random.default_rng([seed, *name.encode()])
    groups = int(rng.integers(1, 4))
    return rng, ALL_FUNCTIONS[name](rng, groups), groups


def settled(rng: np.random.Generator, function: GroupFunction) -> GroupFunction:
    """One of the functions that one with radii stands for."""
    if not isinstance(function, Householder):
        return function
    within = [
        k.value + k.full_radius() * rng.uniform(-0.99, 0.99, k.shape) for k in (function.normals, function.shifts)
    ]
    return Householder(*map(exact, within))


def boxes(rng: np.random.Generator, n: int) -> Iterator[Box]:
    """Of all widths, some sides without any, around tied entries and others; half-infinite and infinite ones."""
    for width in (0.0, 1e-12, 1e-3, 0.3, 3.0, 100.0):
        for tied in (False, True):
            center = rng.normal(size=n) * rng.choice([0.1, 1.0, 10.0])
            center = np.full(n, center[0]) if tied else center
            half = width * rng.random(n) * (rng.random(n) < 0.8)
            yield center - half, center + half
    center = rng.normal(size=n)
    yield np.where(rng.random(n) < 0.5, -math.inf, center), center + rng.random(n)
    yield center, np.where(rng.random(n) < 0.5, math.inf, center)
    yield np.full(n, -math.inf), np.full(n, math.inf)


def members(rng: np.random.Generator, box: Box, count: int) -> np.ndarray:
    """Points of the box, corners among them; where an end is infinite, of any size."""
    lower, upper = box
    far = 10.0 ** rng.uniform(-1, 3, (count, len(lower)))
    low = np.where(np.isinf(lower), np.where(np.isinf(upper), 0.0, upper) - far, lower)
    high = np.where(np.isinf(upper), low + 2 * far, upper)
    part = np.clip(rng.uniform(-0.5, 1.5, (count, len(lower))), 0, 1)
    return np.clip(low + part * (high - low), lower, upper)


def in_groups(function: GroupFunction, x: np.ndarray) -> list[list[arb]]:
    return [[arb(v) for v in group] for group in x.reshape(-1, function.width).tolist()]


def exact_values(function: GroupFunction, x: np.ndarray) -> list[arb]:
    return [v for g, group in enumerate(in_groups(function, x)) for v in of_group(function, group, g)]


def true_jacobians(rng: np.random.Generator, function: GroupFunction, x: np.ndarray) -> np.ndarray:
    """(G, out_width, width) at x, moved by 2^-60 of its size off kinks, by differences."""
    found = []
    for g, group in enumerate(in_groups(function, x)):
        size = max((abs(v) for v in group), key=lambda v: v.mid())
        size = size if size > 0 else arb(2) ** -60
        at = [v + size * arb(2) ** -60 * arb(float(t)) for v, t in zip(group, rng.random(len(group)), strict=True)]
        step = size * arb(2) ** -200
        here = of_group(function, at, g)
        columns = []
        for j in range(len(at)):
            there = of_group(function, [v + step if i == j else v for i, v in enumerate(at)], g)
            columns.append([float(((b - a) / step).mid()) for a, b in zip(here, there, strict=True)])
        found.append(np.transpose(columns))
    return np.array(found)


def jacobian_bound(function: GroupFunction, box: Box) -> BlockBound:
    with np.errstate(all="ignore"):
        bound = function.jacobian(*box)
    sizes = [bound.norms, bound.rows, bound.columns] + ([] if bound.entries is None else [bound.entries])
    assert all(np.all(size >= 0) for size in sizes), "a bound is negative or not a number"
    assert bound.rows.shape == (len(bound.norms), function.out_width)
    assert bound.columns.shape == (len(bound.norms), function.width)
    assert bound.entries is None or bound.entries.shape == (len(bound.norms), function.out_width, function.width)
    return bound


def assert_obeys(bound: BlockBound, jacobian: np.ndarray) -> None:
    sizes = np.abs(jacobian)
    slack = CLOSE * sizes.max(axis=(1, 2))
    assert np.all(np.linalg.norm(jacobian, 2, axis=(1, 2)) <= bound.norms + slack)
    assert np.all(sizes.sum(axis=2) <= bound.rows + slack[:, None])
    assert np.all(sizes.sum(axis=1) <= bound.columns + slack[:, None])
    assert bound.entries is None or np.all(sizes <= bound.entries + slack[:, None, None])


def moved(jacobian: np.ndarray, d: np.ndarray) -> np.ndarray:
    return np.einsum("gij,gj->gi", jacobian, d.reshape(len(jacobian), -1)).reshape(-1)


# values


@each
@pytest.mark.parametrize("seed", range(3))
def test_no_value_leaves_the_enclosure(name: str, seed: int) -> None:
    rng, function, groups = case(name, seed)
    with precision(BITS):
        for box in boxes(rng, groups * function.width):
            low, high = function.enclose(*box)
            assert low.shape == high.shape == (groups * function.out_width,)
            for x in members(rng, box, 12):
                found = exact_values(settled(rng, function), x)
                assert all(map(is_within, found, low.tolist(), high.tolist())), (box, x)


@each
@pytest.mark.parametrize("size", SIZES)
def test_no_value_leaves_the_enclosure_at_any_size(name: str, size: float) -> None:
    for seed in range(3):
        rng, function, groups = case(name, seed)
        center = size * rng.normal(size=groups * function.width)
        with precision(MANY_BITS):
            for width in (0.0, 1e-10, 0.1, 2.0):
                box = center - width * np.abs(center), center + width * np.abs(center)
                low, high = function.enclose(*box)
                for x in members(rng, box, 3):
                    found = exact_values(settled(rng, function), x)
                    assert all(map(is_within, found, low.tolist(), high.tolist())), (box, x)


@each
def test_enclosures_of_points_are_narrow(name: str) -> None:
    """And so not vacuous. Where a point may have any sign, x over |x| has any value: zero is left out."""
    for seed in range(5):
        rng, function, groups = case(name, seed)
        x = rng.normal(size=groups * function.width)
        low, high = settled(rng, function).enclose(x, x)
        assert np.all(high - low <= 1e-6 * (1 + np.abs(low)) * (1 if "without" not in name else 1e3))


@each
def test_enclosures_are_monotone(name: str) -> None:
    """A box within another has an enclosure within the other's, but for roundings."""
    rng, function, groups = case(name, 9)
    center, half = rng.normal(size=groups * function.width), rng.random(groups * function.width)
    inner = function.enclose(center - half / 2, center + half / 2)
    outer = function.enclose(center - half, center + half)
    assert np.all(inner[0] >= outer[0] - 1e-9)
    assert np.all(inner[1] <= outer[1] + 1e-9)


@each
def test_torch_computes_the_value(name: str) -> None:
    import torch

    rng, function, groups = case(name, 3)
    x = rng.normal(size=(50, groups * function.width))
    expected = function.value(x)
    assert expected.shape == (50, groups * function.out_width)
    np.testing.assert_allclose(function.torch(torch.tensor(x)).numpy(), expected, rtol=1e-9, atol=1e-12)


@each
def test_value_is_that_of_the_definition(name: str) -> None:
    rng, function, groups = case(name, 4)
    with precision(BITS):
        for x in rng.normal(size=(20, groups * function.width)):
            found = [float(v.mid()) for v in exact_values(function, x)]
            np.testing.assert_allclose(function.value(x), found, rtol=1e-9, atol=1e-12)


# Jacobians


@each
@pytest.mark.parametrize("seed", range(3))
def test_no_jacobian_exceeds_its_bounds(name: str, seed: int) -> None:
    """Nor does the mean of several: the Jacobian along a segment."""
    rng, function, groups = case(name, seed)
    with precision(BITS):
        for box in boxes(rng, groups * function.width):
            bound = jacobian_bound(function, box)
            one = settled(rng, function)
            found = [true_jacobians(rng, one, x) for x in members(rng, box, 4)]
            for jacobian in (*found, np.mean(found, axis=0)):
                assert_obeys(bound, jacobian)
                d, f = rng.normal(size=bound.columns.size), np.abs(rng.normal(size=bound.rows.size))
                d *= rng.random(d.size) < 0.7  # entries that do not move
                f *= rng.random(f.size) < 0.7
                change = moved(jacobian, d)
                assert np.all(np.abs(change) <= bound.forward(np.abs(d)) * (1 + CLOSE) + CLOSE * np.abs(change).max())
                pulled = bound.backward(f) @ np.abs(d) if np.all(np.isfinite(bound.backward(f))) else math.inf
                assert f @ np.abs(change) <= pulled * (1 + CLOSE) + CLOSE * np.abs(change).max() * f.max()
                with np.errstate(invalid="ignore"):
                    reach = np.where(d == 0, 0.0, bound.spectral * d)
                assert np.linalg.norm(change) <= np.linalg.norm(reach) * (1 + CLOSE) + 1e-300


@each
@pytest.mark.parametrize("size", SIZES)
def test_no_jacobian_exceeds_its_bounds_at_any_size(name: str, size: float) -> None:
    for seed in range(3):
        rng, function, groups = case(name, seed)
        center = size * rng.normal(size=groups * function.width)
        with precision(MANY_BITS):
            for width in (0.0, 1e-10, 0.1):
                box = center - width * np.abs(center), center + width * np.abs(center)
                bound = jacobian_bound(function, box)
                for x in members(rng, box, 2):
                    assert_obeys(bound, true_jacobians(rng, settled(rng, function), x))


@each_global
def test_what_is_lipschitz_everywhere_has_a_finite_bound(name: str) -> None:
    for seed in range(5):
        _, function, groups = case(name, seed)
        n = groups * function.width
        bound = jacobian_bound(function, (np.full(n, -math.inf), np.full(n, math.inf)))
        assert all(np.all(np.isfinite(size)) for size in (bound.norms, bound.rows, bound.columns))


@pytest.mark.parametrize(
    "function", [LpNormalise(3, 1), LpNormalise(3, 2), Standardise(3, 0.0), RootMeanSquare(3, 0.0)]
)
def test_what_is_not_lipschitz_has_none(function: GroupFunction) -> None:
    for box in ((-np.ones(3), np.ones(3)), (np.zeros(3), np.zeros(3)), (np.full(3, -math.inf), np.full(3, math.inf))):
        bound = jacobian_bound(function, box)
        assert np.all(np.isinf(bound.norms))
        assert np.all(np.isinf(bound.forward(np.ones(3))))
        assert np.all(np.isinf(bound.backward(np.ones(3))))


@each
def test_bounds_shrink_with_the_box(name: str) -> None:
    rng, function, groups = case(name, 5)
    center, half = rng.normal(size=groups * function.width), rng.random(groups * function.width)
    inner, outer = (jacobian_bound(function, (center - t * half, center + t * half)) for t in (0.1, 1.0))
    for part in ("norms", "rows", "columns", "spectral"):
        assert np.all(getattr(inner, part) <= getattr(outer, part) * (1 + CLOSE))
    e = rng.random(center.size)
    assert np.all(inner.forward(e) <= outer.forward(e) * (1 + CLOSE))


@each
def test_the_bounds_at_a_point_are_not_vacuous(name: str) -> None:
    """Norms, rows and columns within a factor of 2.5 of the truth, entries of 5, for groups of three and more."""
    for seed in range(20):
        rng, function, groups = case(name, seed)
        if function.width < 3:
            continue
        one = settled(rng, function)
        x = rng.normal(size=groups * function.width)
        bound = jacobian_bound(one, (x, x))
        with precision(BITS):
            jacobian = true_jacobians(rng, one, x)
        assert np.all(bound.norms <= 1e-12 + 2.5 * np.linalg.norm(jacobian, 2, axis=(1, 2)))
        if bound.entries is not None and not isinstance(function, LpNorm):
            assert np.all(bound.entries <= 1e-9 + 5 * np.abs(jacobian).max(axis=(1, 2), keepdims=True))
        assert np.all(bound.rows.max(axis=1) <= 1e-9 + 2.5 * np.abs(jacobian).sum(axis=2).max(axis=1))
        assert np.all(bound.columns.max(axis=1) <= 1e-9 + 2.5 * np.abs(jacobian).sum(axis=1).max(axis=1))


ANYWHERE = (-math.inf, math.inf)
FLOOR, EPSILON = 0.01, 1e-5

TIGHT = [
    # function, ends of the box, a point, norms of its Jacobian in l2, linf (rows), l1 (columns): docs/groupwise.md
    (Softmax(2), ANYWHERE, [0, 0], (0.5, 0.5, 0.5)),
    (Softmax(3), ANYWHERE, [0, 0, -80], (0.5, 0.5, 0.5)),
    (LogSoftmax(4), ANYWHERE, [80, 0, 0, 0], (2.0, 2.0, 3.0)),
    (LogSumExp(3), ANYWHERE, [80, 0, 0], (1.0, 1.0, 1.0)),
    (GroupSort(3), ANYWHERE, [3, 1, 2], (1.0, 1.0, 1.0)),
    (GroupMax(3), ANYWHERE, [3, 1, 2], (1.0, 1.0, 1.0)),
    (Standardise(3, EPSILON), ANYWHERE, [0, 0, 0], (EPSILON**-0.5, 4 / 3 * EPSILON**-0.5, 4 / 3 * EPSILON**-0.5)),
    (RootMeanSquare(3, EPSILON), ANYWHERE, [0, 0, 0], (EPSILON**-0.5, None, None)),
    (LpNormalise(3, 2, FLOOR), ANYWHERE, [0, 0, 0], (1 / FLOOR, None, None)),
    (LpNormalise(3, 1, FLOOR), ANYWHERE, [FLOOR * (1 + 1e-9), 1e-15, 1e-15], (3**0.5 / FLOOR, 2 / FLOOR, 2 / FLOOR)),
    (LpNorm(4, 2), ANYWHERE, [1, 1, 1, 1], (1.0, 2.0, None)),
    (LpNorm(4, 1), ANYWHERE, [1, 1, 1, 1], (2.0, 4.0, 1.0)),
    (Householder(exact(np.array([[0.6, 0.8]])), exact(np.array([[1.2, 1.6]]))), ANYWHERE, [3, 4], (1.0, 1.24, 1.24)),
    # and over a small box, the bound of its point
    (Softmax(3), (-1e-9, 1e-9), [0, 0, 0], (None, 4 / 9, 4 / 9)),
    (LogSoftmax(3), (-1e-9, 1e-9), [0, 0, 0], (1.0, 4 / 3, 4 / 3)),
    (LogSumExp(4), (-1e-9, 1e-9), [0, 0, 0, 0], (0.5, 1.0, 0.25)),
    (Standardise(3, EPSILON), (-1e-9, 1e-9), [0, 0, 0], (EPSILON**-0.5, 4 / 3 * EPSILON**-0.5, 4 / 3 * EPSILON**-0.5)),
    (RootMeanSquare(3, EPSILON), (-1e-9, 1e-9), [0, 0, 0], (EPSILON**-0.5, EPSILON**-0.5, EPSILON**-0.5)),
    (LpNormalise(3, 2, FLOOR), (-1e-11, 1e-11), [0, 0, 0], (1 / FLOOR, 1 / FLOOR, 1 / FLOOR)),
]


@pytest.mark.parametrize(("function", "ends", "point", "norms"), TIGHT, ids=lambda v: getattr(v, "name", ""))
def test_the_bounds_are_attained(function: GroupFunction, ends: tuple[float, float], point: list, norms: tuple) -> None:
    """What docs/groupwise.md calls exact: at this point the Jacobian is as large as the bound, to six digits."""
    n = function.width
    bound = jacobian_bound(function, (np.full(n, ends[0]), np.full(n, ends[1])))
    with precision(BITS):
        jacobian = true_jacobians(np.random.default_rng(0), function, np.array(point, dtype=float))
    sizes = np.abs(jacobian)
    truth = np.linalg.norm(jacobian, 2, axis=(1, 2)).max(), sizes.sum(axis=2).max(), sizes.sum(axis=1).max()
    for found, expected, there in zip((bound.norms, bound.rows, bound.columns), norms, truth, strict=True):
        if expected is not None:
            assert there == pytest.approx(expected, rel=1e-5)
            if not (isinstance(function, Standardise) and math.isinf(ends[0])):
                assert found.max() == pytest.approx(expected, rel=1e-5)
    if norms[0] is not None:
        assert bound.norms.max() == pytest.approx(norms[0], rel=1e-5)


def test_standardise_everywhere_is_bounded_by_the_two_arguments_for_its_rows() -> None:
    """sqrt(n - 1) / s, and 2 - 2 / n + |z_i| / s for small z."""
    for n in (2, 3, 10, 1000):
        bound = jacobian_bound(Standardise(n, EPSILON), (np.full(n, -math.inf), np.full(n, math.inf)))
        assert bound.norms[0] == pytest.approx(EPSILON**-0.5, rel=1e-12)
        expected = min(math.sqrt(n - 1), 2 - 2 / n + math.sqrt(n - 1)) * EPSILON**-0.5
        np.testing.assert_allclose(bound.rows, expected, rtol=1e-12)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_the_norm_of_any_householder_activation(width: int) -> None:
    """max(1, |I - c s'|), exactly where c and s are parallel, and close to it where they nearly are."""
    rng = np.random.default_rng(width)
    for off in (0.0, 1e-7, 1e-3, 0.3):
        s = rng.normal(size=(1, width))
        c = rng.uniform(0, 3) * s + off * rng.normal(size=(1, width))
        bound = jacobian_bound(Householder(exact(s), exact(c)), (np.full(width, -math.inf), np.full(width, math.inf)))
        truth = max(1.0, np.linalg.norm(np.eye(width) - c.T @ s, 2))
        assert (
            truth * (1 - 1e-12) <= bound.norms[0] <= truth + 2 * off * np.linalg.norm(s) * math.sqrt(width) * 2 + 1e-9
        )
        sums = np.maximum(1.0, np.abs(np.eye(width) - c.T @ s).sum(axis=1))
        np.testing.assert_allclose(bound.rows[0], sums, rtol=1e-9)


def test_a_householder_activation_of_one_side_is_linear() -> None:
    function = Householder(exact(np.array([[0.6, 0.8]])), exact(np.array([[1.2, 1.6]])))
    turned = np.abs(np.eye(2) - np.outer([1.2, 1.6], [0.6, 0.8]))
    stays = jacobian_bound(function, (np.array([-2.0, -2.0]), np.array([-1.0, -1.0])))
    turns = jacobian_bound(function, (np.array([1.0, 1.0]), np.array([2.0, 2.0])))
    np.testing.assert_array_equal(stays.entries, [np.eye(2)])
    np.testing.assert_array_equal(stays.norms, [1.0])
    np.testing.assert_allclose(turns.entries, [turned], rtol=1e-12)
    both = jacobian_bound(function, (np.array([0.0, 0.0]), np.array([0.0, 0.0])))
    np.testing.assert_allclose(both.entries, [np.maximum(np.eye(2), turned)], rtol=1e-12)


# bounds as such


def random_bound(rng: np.random.Generator) -> tuple[BlockBound, np.ndarray]:
    """The exact bounds of random blocks, and the blocks."""
    groups, m, k = (int(v) for v in rng.integers(1, 4, size=3))
    blocks = rng.normal(size=(groups, m, k)) * (rng.random((groups, m, k)) < 0.6)
    sizes = np.abs(blocks)
    norms = np.linalg.norm(blocks, 2, axis=(1, 2)) * (1 + 1e-12)
    rows, columns = sizes.sum(axis=2) * (1 + 1e-12), sizes.sum(axis=1) * (1 + 1e-12)
    return BlockBound(norms, rows, columns, sizes if rng.random() < 0.7 else None), blocks


@pytest.mark.parametrize("seed", range(60))
def test_forward_and_backward_bound_every_movement(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bound, blocks = random_bound(rng)
    for _ in range(20):
        e = np.abs(rng.normal(size=bound.columns.size)) * (rng.random(bound.columns.size) < 0.7)
        f = np.abs(rng.normal(size=bound.rows.size)) * (rng.random(bound.rows.size) < 0.7)
        d = e * rng.choice([-1.0, 1.0, 0.3], size=e.size)
        assert np.all(np.abs(moved(blocks, d)) <= bound.forward(e))
        assert f @ np.abs(moved(blocks, d)) <= bound.backward(f) @ np.abs(d) * (1 + 1e-12)
        if bound.entries is not None:  # never worse than the entries, nor than the sums
            apart = e.reshape(len(blocks), -1)
            np.testing.assert_array_less(bound.forward(e), moved(np.abs(blocks), e) * (1 + 1e-9) + 1e-290)
            assert np.all(
                bound.forward(e) <= (bound.rows * apart.max(axis=1, keepdims=True)).reshape(-1) * (1 + 1e-9) + 1e-290
            )


def test_the_row_sum_is_used_where_it_is_smaller_than_the_entries() -> None:
    """A sorted pair: each output moves by no more than the larger of both movements."""
    bound = GroupSort(2).jacobian(np.array([-1.0, -1.0]), np.array([1.0, 1.0]))
    np.testing.assert_array_equal(bound.forward(np.array([0.25, 1.0])), [1.0, 1.0])
    np.testing.assert_array_equal(bound.backward(np.array([0.25, 1.0])), [1.0, 1.0])


def test_some_of_the_groups() -> None:
    rng = np.random.default_rng(1)
    kept = np.array([True, False, True])
    lower = rng.normal(size=9)
    for function in (GroupSort(3), Softmax(3), LpNormalise(3, 2, 1.0)):
        bound = function.jacobian(lower, lower + 1).of_groups(kept)
        alone = function.jacobian(lower.reshape(3, 3)[kept].reshape(-1), (lower + 1).reshape(3, 3)[kept].reshape(-1))
        for part in ("norms", "rows", "columns", "entries"):
            np.testing.assert_array_equal(getattr(bound, part), getattr(alone, part))


@pytest.mark.parametrize("part", ["norms", "rows", "columns", "entries"])
def test_what_is_not_a_number_bounds_nothing(part: str) -> None:
    """Rule 4 of CONTRIBUTING.md: NaN does not pass for a small number."""
    ones = {"norms": np.ones(1), "rows": np.ones((1, 2)), "columns": np.ones((1, 2)), "entries": np.ones((1, 2, 2))}
    bound = BlockBound(**{**ones, part: np.full(ones[part].shape, math.nan)})
    used = {
        "norms": [bound.spectral],
        "rows": [bound.forward(np.ones(2))],
        "columns": [bound.backward(np.ones(2))],
        "entries": [bound.forward(np.ones(2)), bound.backward(np.ones(2))],
    }[part]
    for found in used:
        assert not np.any(found < 1)


# directional derivatives


@each
@pytest.mark.parametrize("seed", range(3))
def test_tangents_contain_every_directional_derivative(name: str, seed: int) -> None:
    """Of every function with radii, at every point of the box, along every direction enclosed."""
    rng, function, groups = case(name, seed)
    n = groups * function.width
    with precision(BITS), np.errstate(all="ignore"):
        for box in boxes(rng, n):
            d = Enclosure(rng.normal(size=n), rng.choice([0.0, 1e-12, 0.1]) * rng.random(n))
            found = function.tangent(*box, d)
            assert found.shape == (groups * function.out_width,)
            low, high = found.lower(), found.upper()
            assert np.all(low <= high)
            for x in members(rng, box, 3):
                along = d.value + d.full_radius() * rng.uniform(-0.99, 0.99, n)
                truth = moved(true_jacobians(rng, settled(rng, function), x), along)
                slack = CLOSE * (np.abs(truth).max() + 1e-3)
                assert np.all((low - slack <= truth) & (truth <= high + slack)), (box, x)


@each
def test_tangents_at_points_are_narrow(name: str) -> None:
    for seed in range(10):
        rng, function, groups = case(name, seed)
        function = settled(rng, function)
        n = groups * function.width
        x, d = rng.normal(size=n), rng.normal(size=n)
        for half in (0.0, 1e-12):
            with np.errstate(all="ignore"):
                found = function.tangent(x - half, x + half, exact(d))
            width = found.upper() - found.lower()
            with precision(BITS):
                steep = np.abs(true_jacobians(rng, function, x)).max() + 1
            assert np.all(width <= 1e-6 * steep**3), name


@each
@pytest.mark.parametrize("size", SIZES)
def test_tangents_are_sound_at_any_size(name: str, size: float) -> None:
    """Nor does the enclosure of a wide box raise an error."""
    for seed in range(3):
        rng, function, groups = case(name, seed)
        n = groups * function.width
        x, d = size * rng.normal(size=n), rng.normal(size=n)
        with precision(MANY_BITS), np.errstate(all="ignore"):
            truth = moved(true_jacobians(rng, settled(rng, function), x), d)
            for half in (0.0, 1e-12 * size, size, 1e5 * size, 1e17 * size):
                found = function.tangent(x - half, x + half, exact(d))
                slack = CLOSE * np.abs(truth).max() + 1e-300
                assert np.all((found.lower() - slack <= truth) & (truth <= found.upper() + slack))


@pytest.mark.parametrize("p", [1, 2])
def test_the_tangent_of_a_norm_at_zero_holds_all_its_clarke_derivatives(p: int) -> None:
    """Every row of the dual unit ball; zeros among other groups, and boxes that touch zero."""
    function, d = LpNorm(2, p), exact(np.array([1.0, 2.0, 1.0, 2.0]))
    for low, high in (((0, 0), (0, 0)), ((0, 0), (0.5, 1)), ((0, -1), (0, 1)), ((-0.0, -0.0), (0.0, 0.0))):
        found = function.tangent(np.array([*low, 1.0, 1.0]), np.array([*high, 1.0, 1.0]), d)
        reach = math.sqrt(5) if p == 2 else 3.0
        assert found.lower()[0] <= -reach
        assert found.upper()[0] >= reach


def test_a_tangent_at_a_tie_holds_those_of_both_orders() -> None:
    d = exact(np.array([1.0, 5.0]))
    for function, outputs in ((GroupSort(2), 2), (GroupMax(2), 1)):
        found = function.tangent(np.ones(2), np.ones(2), d)
        assert found.shape == (outputs,)
        assert np.all(found.lower() <= 1)
        assert np.all(found.upper() >= 5)


def test_a_certain_choice_passes_a_direction_on_exactly() -> None:
    d = Enclosure(np.array([0.1, 0.7, -3.0]), np.array([0.0, 0.125, 0.0]))
    found = GroupSort(3).tangent(np.array([3.0, 1.0, 2.0]), np.array([3.0, 1.0, 2.0]), d)
    np.testing.assert_array_equal(found.value, [0.7, -3.0, 0.1])
    np.testing.assert_array_equal(found.full_radius(), [0.125, 0.0, 0.0])


# searches


@each
def test_jvp_and_vjp_are_those_of_autograd_and_adjoint(name: str) -> None:
    import torch

    for seed in range(3):
        rng, function, groups = case(name, seed)
        x, d = rng.normal(size=(2, 30, groups * function.width))
        g = rng.normal(size=(30, groups * function.out_width))
        forward, backward = function.jvp(x, d), function.vjp(x, g)
        assert (forward.shape, backward.shape) == (g.shape, d.shape)
        np.testing.assert_allclose((forward * g).sum(axis=1), (d * backward).sum(axis=1), rtol=1e-8, atol=1e-8)
        at = torch.tensor(x, requires_grad=True)
        (pulled,) = torch.autograd.grad(function.torch(at), at, torch.tensor(g))
        np.testing.assert_allclose(backward, pulled.numpy(), rtol=1e-6, atol=1e-8)


# choices


@pytest.mark.parametrize("name", ["maxmin", "groupsort of 3", "groupsort of 4", "max", "max of some"])
def test_what_is_chosen_is_the_output(name: str) -> None:
    certain = 0
    for seed in range(10):
        rng, function, groups = case(name, seed)
        for box in boxes(rng, groups * function.width):
            chosen = function.chosen(*box)
            assert chosen is not None
            assert chosen.shape == (groups, function.out_width)
            certain += np.count_nonzero(chosen >= 0)
            for x in members(rng, box, 50):
                value, entries = function.value(x).reshape(chosen.shape), function.groups(x)
                picked = np.take_along_axis(entries, np.maximum(chosen, 0), axis=1)
                assert np.all((chosen < 0) | (picked == value))
    assert certain


def test_apart_intervals_have_a_certain_order() -> None:
    lower, upper = np.array([5.0, 0.0, 2.0, 0.0, 0.5, 9.0]), np.array([6.0, 1.0, 3.0, 1.0, 2.0, 9.5])
    np.testing.assert_array_equal(GroupSort(3).chosen(lower, upper), [[1, 2, 0], [-1, -1, 2]])
    np.testing.assert_array_equal(GroupMax(3).chosen(lower, upper), [[0], [2]])
    present = np.array([[False, True, True], [True, True, False]])
    np.testing.assert_array_equal(GroupMax(3, present).chosen(lower, upper), [[2], [-1]])


def test_intervals_that_touch_have_none() -> None:
    """At the tie both orders are possible, and so is every Clarke Jacobian between them."""
    assert GroupSort(2).chosen(np.array([0.0, 1.0]), np.array([1.0, 2.0])).tolist() == [[-1, -1]]
    assert GroupMax(2).chosen(np.array([0.0, 1.0]), np.array([1.0, 2.0])).tolist() == [[-1]]
    bound = GroupMax(2).jacobian(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
    assert bound.entries is not None
    assert bound.entries.tolist() == [[[1.0, 1.0]]]


def test_others_do_not_choose() -> None:
    assert all(f.chosen(np.zeros(2), np.ones(2)) is None for f in (Softmax(2), LpNorm(2, 1), Standardise(2, 0.1)))


# adversaries


@pytest.mark.parametrize("make", [Softmax, LogSoftmax, LogSumExp])
@pytest.mark.parametrize("top", [0.0, 700.0, 745.0, 1e4, 1e300])
def test_exponentials_that_overflow_or_underflow(make: type, top: float) -> None:
    with precision(BITS):
        for x in itertools.product((0.0, top, -top, 1e-300), repeat=3):
            function, at = make(3), np.array(x)
            low, high = function.enclose(at, at)
            assert all(map(is_within, exact_values(function, at), low.tolist(), high.tolist())), x
            jacobian_bound(function, (at, at))


WIDE = [
    GroupSort(1000),
    GroupMax(1000),
    Softmax(1000),
    LogSoftmax(1000),
    LogSumExp(1000),
    Standardise(1000, 1e-5),
    RootMeanSquare(1000, 1e-5),
    LpNormalise(1000, 2, 1e-12),
    LpNormalise(1000, 1, 1e-12),
    LpNorm(1000, 2),
    LpNorm(1000, 1),
]


@pytest.mark.parametrize("function", WIDE, ids=lambda f: f.name)
def test_a_group_of_a_thousand(function: GroupFunction) -> None:
    """Roundings of long sums are accounted for: of one size, of many, and with one entry above all others."""
    rng = np.random.default_rng(7)
    n = function.width
    points = (
        rng.normal(size=n),
        rng.random(n),
        10.0 ** rng.uniform(-12, 12, n),
        np.eye(n)[3] * 1e8 + 0.1,
        np.full(n, 0.1),
    )
    with precision(BITS):
        for x in points:
            for box in ((x, x), (x - 1e-9, x + 1e-9)):
                low, high = function.enclose(*box)
                assert np.all(low <= high)
                found = exact_values(function, x)
                assert all(map(is_within, found, low.tolist(), high.tolist()))
                bound = jacobian_bound(function, box)
                d = rng.normal(size=n)
                change = function.jvp(x, d)
                steep = bound.norms[0] * np.linalg.norm(d)
                assert np.linalg.norm(change) <= steep * (1 + CLOSE)
                assert np.all(np.abs(change) <= bound.forward(np.abs(d)) + CLOSE * steep)
                tangent = function.tangent(*box, exact(d))
                assert np.all((tangent.lower() <= change + 1e-6 * steep) & (change - 1e-6 * steep <= tangent.upper()))


@pytest.mark.parametrize("size", SIZES)
def test_standardise_of_entries_as_far_apart_as_their_squares_overflow(size: float) -> None:
    """1 / s is the norm of the Jacobian of three entries and more, exactly."""
    for n in (3, 10, 100):
        x = np.zeros(n)
        x[0], x[1] = size, -size
        for function, square in ((Standardise(n, 1e-5), 2 / n), (RootMeanSquare(n, 1e-5), 2 / n)):
            truth = 1 / math.hypot(size * math.sqrt(square), math.sqrt(1e-5))
            for box in ((x, x), (x * (1 - 1e-10), x), (x, np.nextafter(x, np.inf))):
                assert jacobian_bound(function, box).norms[0] >= truth * (1 - 1e-9)


@pytest.mark.parametrize("function", [Softmax(1), LogSoftmax(1), Standardise(1, 1e-5)], ids=lambda f: f.name)
def test_a_group_of_one_is_constant(function: GroupFunction) -> None:
    bound = jacobian_bound(function, (np.array([-math.inf, 0.0]), np.array([math.inf, 0.0])))
    assert not bound.norms.any()
    assert not bound.forward(np.ones(2)).any()
    tangent = function.tangent(np.zeros(2), np.ones(2), exact(np.ones(2)))
    assert np.all(np.abs(tangent.upper()) <= 1e-9)


def test_equal_entries_of_any_size_standardise_to_zero() -> None:
    for value in (0.0, 0.1, -1e-300, 1e150, 1e300):
        x = np.full(4, value)
        low, high = Standardise(4, 1e-5).enclose(x, x)
        assert np.all(low <= 0)
        assert np.all(high >= 0)
        bound = jacobian_bound(Standardise(4, 1e-5), (x, x))
        assert bound.norms[0] >= 1e-5**-0.5 * (1 - 1e-12)


def test_hulls_and_boxes_that_contain_zero_do_not_fool_a_division() -> None:
    """A huge spread above a tiny epsilon: the lower end of s must not be lost in the rounding of its upper end."""
    for function in (
        Standardise(2, 1e-12),
        RootMeanSquare(2, 1e-12),
        LpNormalise(2, 2, 1e-12),
        LpNormalise(2, 1, 1e-12),
    ):
        for reach in (1e3, 1e8, 1e10, 1e17, 1e150, 1e200, math.inf):
            low, high = function.enclose(np.full(2, -reach), np.full(2, reach))
            assert np.all(low <= -0.9)
            assert np.all(high >= 0.9)
            bound = jacobian_bound(function, (np.full(2, -reach), np.full(2, reach)))
            assert np.all(bound.norms >= 0.99e6)
            assert np.all(hull(low, high).magnitude() <= 2)


def test_a_floor_of_minus_zero_is_none() -> None:
    low, high = LpNormalise(2, 2, -0.0).enclose(-np.ones(2), np.ones(2))
    assert np.all(low <= -0.9)
    assert np.all(high >= 0.9)
