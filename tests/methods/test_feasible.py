"""An input that is found is in the region and inside the planes, and multipliers prove that there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from lipcert.methods.local.feasible import Found, decide
from lipcert.methods.propagation import Planes
from lipcert.problem import Ball, Box, Norm, Problem, Query, dual, pose
from tests.helpers.inequalities import Builder

CPU = torch.device("cpu")

NORMS: dict[str, Norm | None] = {"box": None, "linf": math.inf, "l2": 2.0, "l1": 1.0}

CLEAR = {"box": 1e-4, "linf": 1e-4, "l2": 0.01, "l1": 0.02}
"""How far inside or behind its planes a piece is decided, on the scale of what they say over the region."""

ROUNDING = 1e-5
"""Of single precision, on that scale."""


def region_of(rng: np.random.Generator, kind: str, n: int) -> Ball | Box:
    center, size, norm = rng.normal(size=n), float(10 ** rng.uniform(-2, 1)), NORMS[kind]
    return Box(center, center + size * rng.random(n)) if norm is None else Ball(center, size, norm)


def over(region: Ball | Box) -> Problem:
    """Any network over it."""
    n = len(region.center if isinstance(region, Ball) else region.lower)
    build = Builder(np.random.default_rng(0), inputs=n)
    build.affine(2, 0)
    return pose(build.graph(), Query(region=region))


def decided(
    region: Ball | Box, planes: Sequence[Planes], box: tuple[np.ndarray, np.ndarray] | None = None
) -> list[Found]:
    """`box` (pieces, n) where it is not that of the region."""
    problem = over(region)
    low, high = region.bounds(problem.size_in)
    return decide(problem, planes, (low[None], high[None]) if box is None else box, CPU)


def parts(region: Ball | Box) -> tuple[np.ndarray, np.ndarray, Norm]:
    """Center, reach and norm: the region is center + reach u, |u| <= 1."""
    if isinstance(region, Ball):
        return region.center, np.full(len(region.center), region.eps), region.norm
    return (region.lower + region.upper) / 2, (region.upper - region.lower) / 2, math.inf


def highest(region: Ball | Box, slopes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The most that slopes x + offsets is over the region, of each row."""
    center, reach, norm = parts(region)
    return slopes @ center + offsets + np.linalg.norm(slopes * reach, ord=dual(norm), axis=-1)


def scales(region: Ball | Box, planes: Planes) -> np.ndarray:
    """By how much each plane moves over half of the region."""
    _, reach, norm = parts(region)
    return np.linalg.norm(planes.slopes * reach, ord=dual(norm), axis=1)


def depth(region: Ball | Box, planes: Planes) -> float:
    """The largest of the least of the planes over the region, each divided by its scale."""
    center, reach, norm = parts(region)
    size = scales(region, planes)
    rows, offsets = planes.slopes * reach / size[:, None], (planes.slopes @ center + planes.offsets) / size
    k, n = rows.shape
    if norm == 2:
        found = minimize(
            lambda v: -v[n],
            np.append(np.zeros(n), offsets.min()),
            jac=lambda v: np.append(np.zeros(n), -1.0),
            constraints=[
                {
                    "type": "ineq",
                    "fun": lambda v: rows @ v[:n] + offsets - v[n],
                    "jac": lambda v: np.c_[rows, -np.ones(k)],
                },
                {"type": "ineq", "fun": lambda v: 1 - v[:n] @ v[:n], "jac": lambda v: np.append(-2 * v[:n], 0)},
            ],
            method="SLSQP",
            options={"ftol": 1e-10, "maxiter": 500},
        )
        u = found.x[:n] / max(1.0, float(np.linalg.norm(found.x[:n])))
        return float(np.min(rows @ u + offsets))
    # u = p - q with p, q >= 0
    cost = np.append(np.zeros(2 * n), -1.0)
    behind = np.c_[-rows, rows, np.ones(k)]
    total = np.append(np.ones(2 * n), 0.0)[None] if norm == 1 else np.zeros((0, 2 * n + 1))
    result = linprog(
        cost,
        A_ub=np.r_[behind, total],
        b_ub=np.append(offsets, np.ones(len(total))),
        bounds=[*[(0, 1)] * (2 * n), (None, None)],
        method="highs",
    )
    assert result.status == 0
    return -float(result.fun)


def random_planes(rng: np.random.Generator, region: Ball | Box, k: int) -> Planes:
    """Of many scales, now with room between them and now without."""
    center, reach, norm = parts(region)
    slopes = rng.normal(size=(k, len(center))) * 10 ** rng.uniform(-3, 3, size=(k, 1))
    size = np.linalg.norm(slopes * reach, ord=dual(norm), axis=1)
    return Planes(slopes, size * (0.4 * rng.normal(size=k) + rng.uniform(-0.4, 0.4)) - slopes @ center)


def assert_inside(region: Ball | Box, x: np.ndarray) -> None:
    center, reach, norm = parts(region)
    u = np.divide(x - center, reach, out=np.zeros_like(x), where=reach > 0)
    assert np.linalg.norm(u, ord=norm) <= 1 + ROUNDING
    assert np.all(x[reach == 0] == center[reach == 0])


def assert_within_planes(region: Ball | Box, planes: Planes, x: np.ndarray) -> None:
    assert np.all(planes.slopes @ x + planes.offsets >= -ROUNDING * scales(region, planes))


def assert_proven(region: Ball | Box, planes: Planes, found: Found) -> None:
    """A sum of planes, none of them subtracted, is negative all over the region: analytically."""
    weights = found.multipliers
    assert found.x is None
    assert weights.shape == planes.offsets.shape
    assert np.all(weights >= 0)
    used = weights > 0
    assert highest(region, weights[used] @ planes.slopes[used], weights[used] @ planes.offsets[used]) < 0


def assert_answer(region: Ball | Box, planes: Planes, found: Found) -> None:
    """Either an input of the region, or a proof that the piece has none."""
    if found.x is None:
        assert_proven(region, planes, found)
    else:
        assert_inside(region, found.x)
        assert np.all(found.multipliers == 0)


@pytest.mark.parametrize("kind", NORMS)
def test_random_planes_are_decided_where_they_are_clear(kind: str) -> None:
    """Many pieces in one call, each of other planes: by linear programs, or by a search over a ball."""
    rng = np.random.default_rng([*kind.encode()])
    inside = behind = 0
    for n in (1, 2, 3, 5, 8, 30):
        region = region_of(rng, kind, n)
        pieces = [random_planes(rng, region, int(rng.integers(1, 12))) for _ in range(40)]
        for planes, found in zip(pieces, decided(region, pieces), strict=True):
            assert_answer(region, planes, found)
            value = depth(region, planes)
            if value > CLEAR[kind]:
                inside += 1
                assert found.x is not None
                if kind != "l1":
                    assert_within_planes(region, planes, found.x)
            elif value < -CLEAR[kind]:
                behind += 1
                assert_proven(region, planes, found)
    assert min(inside, behind) > 20


@pytest.mark.parametrize("kind", ["box", "linf", "l2"])
def test_planes_that_nearly_meet(kind: str) -> None:
    """A slab that is thin or turned inside out, cut by planes that all inputs in the middle are inside of."""
    rng = np.random.default_rng([*kind.encode(), 1])
    region = region_of(rng, kind, 6)
    center, _, _ = parts(region)
    for gap in (2 * CLEAR[kind], -2 * CLEAR[kind]):
        pieces = []
        for _ in range(10):
            normal = rng.normal(size=6)
            more = rng.normal(size=(3, 6))
            slopes = np.array([normal, -normal, *more])
            size = scales(region, Planes(slopes, np.zeros(5)))
            offsets = size * np.array([gap, gap, 0.3, 0.3, 0.3]) - slopes @ center
            offsets[:2] += size[:2] * np.array([-0.1, 0.1])  # not through the middle
            pieces.append(Planes(slopes, offsets))
        for planes, found in zip(pieces, decided(region, pieces), strict=True):
            if gap > 0:
                assert found.x is not None
                assert_inside(region, found.x)
                assert_within_planes(region, planes, found.x)
            else:
                assert_proven(region, planes, found)


@pytest.mark.parametrize("kind", NORMS)
def test_one_plane_alone_is_decided_to_the_last(kind: str) -> None:
    """It is behind all of the region, or some of the region is inside of it."""
    rng = np.random.default_rng([*kind.encode(), 2])
    region = region_of(rng, kind, 4)
    slopes = rng.normal(size=(1, 4))
    top = highest(region, slopes, np.zeros(1))
    size = scales(region, Planes(slopes, top))
    empty, full = decided(region, [Planes(slopes, share * size - top) for share in (-1e-4, 0.1)])
    assert_proven(region, Planes(slopes, -1e-4 * size - top), empty)
    assert full.x is not None
    assert_inside(region, full.x)
    assert slopes @ full.x - top + 0.1 * size >= 0


@pytest.mark.parametrize("kind", NORMS)
def test_planes_that_meet_are_not_said_to_be_apart(kind: str) -> None:
    """They leave one slice of the region, which has no inside: no proof, or one that holds."""
    rng = np.random.default_rng([*kind.encode(), 10])
    region = region_of(rng, kind, 5)
    center, _, _ = parts(region)
    pieces = []
    for share in (0.01, 0.1, 0.5, 0.9):
        slopes = rng.normal(size=5) * np.array([[1.0], [-1.0]])
        shift = share * scales(region, Planes(slopes, np.zeros(2))) * np.array([-1.0, 1.0])
        pieces.append(Planes(slopes, shift - slopes @ center))
    for planes, found in zip(pieces, decided(region, pieces), strict=True):
        assert depth(region, planes) == pytest.approx(0, abs=1e-7)
        assert_answer(region, planes, found)


def test_an_input_of_an_l1_ball_is_inside_planes_that_leave_much_room() -> None:
    """x and y at least 3/10, |x| + |y| at most 1."""
    region = Ball(np.zeros(2), 1.0, 1.0)
    planes = Planes(np.eye(2), np.full(2, -0.3))
    assert depth(region, planes) == pytest.approx(0.2)
    (found,) = decided(region, [planes])
    assert found.x is not None
    assert_inside(region, found.x)
    assert_within_planes(region, planes, found.x)


@pytest.mark.parametrize("by_piece", [True, False])
def test_pieces_may_have_boxes_of_their_own(by_piece: bool) -> None:
    """Inside of them an input is looked for; one box stands for those of all."""
    rng = np.random.default_rng(3)
    region = Box(-np.ones(3), np.ones(3))
    low = rng.uniform(-1, 0, size=(12 if by_piece else 1, 3))
    high = low + rng.random(low.shape)
    pieces = [random_planes(rng, Box(low[b % len(low)], high[b % len(low)]), 5) for b in range(12)]
    answers = decided(region, pieces, (low, high))
    assert {found.x is None for found in answers} == {True, False}
    for b, (planes, found) in enumerate(zip(pieces, answers, strict=True)):
        part = Box(low[b % len(low)], high[b % len(low)])
        assert_answer(part, planes, found)
        value = depth(part, planes)
        assert abs(value) > CLEAR["box"]
        assert (found.x is None) == (value < 0)


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("share", [-1.0, 1.0], ids=["behind", "inside"])
def test_planes_of_which_nothing_is_known_are_left_out(kind: str, share: float) -> None:
    """The others decide, and what is unknown has no weight."""
    rng = np.random.default_rng([*kind.encode(), 4])
    region = region_of(rng, kind, 3)
    center, _, _ = parts(region)
    slopes = np.array([[1.0, 0.5, -1.0], [-1.0, -0.5, 1.0]])
    offsets = share * 0.3 * scales(region, Planes(slopes, np.zeros(2))) - slopes @ center
    known = Planes(slopes, offsets)
    unknown = [(np.ones(3), math.inf), (np.ones(3), math.nan), (np.full(3, math.nan), 0.0), (np.zeros(3), math.nan)]
    unknown += [(np.array([1.0, math.inf, 0.0]), -5.0), (np.array([math.nan, 1.0, 0.0]), math.inf)]
    mixed = Planes(
        np.array([unknown[0][0], slopes[0], *(s for s, _ in unknown[1:]), slopes[1]]),
        np.array([unknown[0][1], offsets[0], *(o for _, o in unknown[1:]), offsets[1]]),
    )
    plain, found = decided(region, [known, mixed])
    assert (plain.x is None) == (share < 0)
    assert_answer(region, known, plain)
    assert_answer(region, mixed, found)
    if found.x is None:
        assert np.all(found.multipliers[[0, *range(2, len(mixed.offsets) - 1)]] == 0)
        assert share < 0
    else:
        assert share > 0
        assert_within_planes(region, known, found.x)


@pytest.mark.parametrize("kind", NORMS)
def test_only_planes_of_which_nothing_is_known(kind: str) -> None:
    region = region_of(np.random.default_rng(5), kind, 2)
    (found,) = decided(region, [Planes(np.ones((3, 2)), np.array([math.inf, math.nan, math.inf]))])
    assert found.x is not None
    assert_inside(region, found.x)


@pytest.mark.parametrize("kind", NORMS)
def test_a_plane_that_no_input_moves_is_inside_or_empty(kind: str) -> None:
    """By its offset alone, whatever the others say."""
    rng = np.random.default_rng([*kind.encode(), 6])
    region = region_of(rng, kind, 4)
    center, _, _ = parts(region)
    slopes = np.array([rng.normal(size=4), np.zeros(4), rng.normal(size=4)])
    offsets = 0.1 * scales(region, Planes(slopes, np.zeros(3))) - slopes @ center
    pieces = [Planes(slopes, offsets + np.array([0.0, at, 0.0])) for at in (-1e-3, -1e9, 1e-3, 0.0)]
    first, second, *others = decided(region, pieces)
    for planes, found in zip(pieces, (first, second), strict=False):
        assert_proven(region, planes, found)
        assert found.multipliers[1] > 0
    for planes, found in zip(pieces[2:], others, strict=True):
        assert found.x is not None
        assert_within_planes(region, planes, found.x)


@pytest.mark.parametrize("kind", NORMS)
def test_without_planes_an_input_is_in_the_middle(kind: str) -> None:
    """Beside pieces that have some; and no pieces have no answers."""
    rng = np.random.default_rng([*kind.encode(), 7])
    region = region_of(rng, kind, 3)
    none = Planes(np.zeros((0, 3)), np.zeros(0))
    (alone,) = decided(region, [none])
    pieces = [none, *(random_planes(rng, region, k) for k in (1, 7, 2)), none]
    answers = decided(region, pieces)
    for found in (alone, answers[0], answers[-1]):
        assert found.x is not None
        np.testing.assert_allclose(found.x, parts(region)[0], rtol=1e-12)
        assert found.multipliers.shape == (0,)
    for planes, found in zip(pieces, answers, strict=True):
        assert_answer(region, planes, found)
    assert decided(region, []) == []


@pytest.mark.parametrize("kind", NORMS)
def test_an_answer_does_not_depend_on_the_other_pieces(kind: str) -> None:
    """Nor on their number of planes, where it is clear."""
    rng = np.random.default_rng([*kind.encode(), 8])
    region = region_of(rng, kind, 4)
    pieces = [random_planes(rng, region, k) for k in (1, 20, 3, 9, 2, 5)]
    for planes, together in zip(pieces, decided(region, pieces), strict=True):
        (alone,) = decided(region, [planes])
        if abs(depth(region, planes)) > CLEAR[kind]:
            assert (alone.x is None) == (together.x is None)


@pytest.mark.parametrize("norm", [1.0, 2.0, math.inf])
def test_a_point_is_inside_or_behind(norm: Norm) -> None:
    """Of a ball without a radius."""
    region = Ball(np.array([1.0, -2.0]), 0.0, norm)
    slopes = np.array([[1.0, 1.0], [3.0, 0.0]])
    pieces = [Planes(slopes, np.array(offsets)) for offsets in ([2.0, 0.0], [0.5, 0.0], [2.0, -4.0])]
    first, second, third = decided(region, pieces)
    assert first.x is not None
    assert first.x.tolist() == [1.0, -2.0]
    assert_proven(region, pieces[1], second)
    assert_proven(region, pieces[2], third)


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30, 1e150])
@pytest.mark.parametrize("kind", NORMS)
def test_planes_of_all_magnitudes(kind: str, scale: float) -> None:
    """Beyond what single precision holds: only their ratios matter."""
    rng = np.random.default_rng([*kind.encode(), 9])
    region = region_of(rng, kind, 3)
    seen = set()
    for _ in range(6):
        planes = random_planes(rng, region, 4)
        value = depth(region, planes)
        if abs(value) <= CLEAR[kind]:
            continue
        (found,) = decided(region, [Planes(planes.slopes * scale, planes.offsets * scale)])
        assert (found.x is None) == (value < 0)
        assert_answer(region, planes, found)
        seen.add(value < 0)
    assert seen == {True, False}
