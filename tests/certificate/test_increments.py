"""How increments are split into linear parts and what is left: exactly, and sound for what a network does."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from lipcert.activations import Abs, Activation, LeakyRelu, Relu, Tanh
from lipcert.activations.jacobian import BlockBound, DiagonalBound, SlopeBound
from lipcert.activations.sorting import GroupMax, GroupSort
from lipcert.arithmetic.enclosure import Enclosure
from lipcert.certificate.boxes import Bounds
from lipcert.certificate.claim import AbsoluteChain, Claim, Inequality
from lipcert.certificate.increments import IncrementGraph, Split, increment_graph
from lipcert.certificate.inequality import inequality_bound
from lipcert.certificate.verify import verify
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Increment, Input, Output
from lipcert.methods.product import ProductMethod
from lipcert.operators import Identity, Leaf, LinearOperator
from lipcert.problem import Query, pose
from tests.helpers.claims import claims_of
from tests.helpers.exact import encloses
from tests.helpers.inequalities import REGIONS, SCALES, attained, layered, setting_of, tight, with_norms
from tests.helpers.operators import map_leaves, matrix_by_definition

WIDTHS = (3, 4, 5)
SPLIT: tuple[Split, ...] = ("centered", "open")
MARGIN = 1 + 1e-9


def of_node(body: Groupwise | Elementwise, box: Bounds, how: Split) -> IncrementGraph:
    """The increments of a single nonlinear node that reads the input."""
    graph = Graph((Input("x", (box[0].size,)), body), (Output("y", 1),))
    return increment_graph(graph, 0, 1, [box, box], how)


def anywhere(n: int) -> Bounds:
    return np.full(n, -np.inf), np.full(n, np.inf)


def sorted_groups(width: int, groups: int, how: Split) -> IncrementGraph:
    n = width * groups
    return of_node(Groupwise(0, GroupSort(width), (n,)), anywhere(n), how)


def leaves_of(op: LinearOperator) -> list[Leaf]:
    found: list[Leaf] = []

    def keep(leaf: Leaf) -> Leaf:
        found.append(leaf)
        return leaf

    map_leaves(op, keep)
    return found


def mean_of_permutations(rng: np.random.Generator, width: int, groups: int) -> np.ndarray:
    """Block diagonal in Fractions; each block a mean of a few permutations, with any weights."""
    found = np.full((width * groups, width * groups), Fraction(0), dtype=object)
    for g in range(groups):
        shares = [Fraction(int(v)) for v in rng.integers(1, 100, size=int(rng.integers(1, 5)))]
        for share in shares:
            for i, j in enumerate(rng.permutation(width)):
                found[g * width + i, g * width + int(j)] += share / sum(shares)
    return found


def propagated(found: IncrementGraph, jacobian: np.ndarray | None) -> list[np.ndarray]:
    """The increment of every node from those of x, in Fractions; None: what is nonlinear does not move."""
    moved: list[np.ndarray] = []
    for body in found.graph.nodes:
        if isinstance(body, Input):
            moved.append(matrix_by_definition(Identity(body.shape[0])))
        elif isinstance(body, Increment):
            read = moved[body.input]
            moved.append(0 * read if jacobian is None else jacobian @ read)
        else:
            assert isinstance(body, Affine)
            parts = [matrix_by_definition(op) @ moved[s] for s, op in zip(body.inputs, body.operators, strict=True)]
            moved.append(sum(parts[1:], parts[0]))
    return moved


@pytest.mark.parametrize("how", SPLIT)
@pytest.mark.parametrize("width", WIDTHS)
def test_sorted_groups_are_their_mean_and_the_rest_of_any_mean_of_permutations(width: int, how: Split) -> None:
    """M = c (2 - g c) J + D M D with J = 1 1', D = I - c J, exactly, at the c near 1 / g that is stored."""
    for seed in range(40):
        rng = np.random.default_rng([seed, width])
        groups = int(rng.integers(1, 4))
        found = sorted_groups(width, groups, how)
        source, before, nonlinear, after = found.graph.nodes
        assert isinstance(source, Input)
        assert isinstance(before, Affine)
        assert isinstance(nonlinear, Increment)
        assert isinstance(after, Affine)
        assert (before.inputs, nonlinear.input, after.inputs) == ((0,), 1, (0, 2))
        c = Fraction(1 / width)
        ones = np.kron(matrix_by_definition(Identity(groups)), np.full((width, width), Fraction(1)))
        off = matrix_by_definition(Identity(width * groups)) - c * ones
        for op in (before.operators[0], after.operators[1]):
            assert np.array_equal(matrix_by_definition(op), off)
            assert not any(np.any(leaf.radius) for leaf in leaves_of(op))
        (weighted,) = [leaf for leaf in leaves_of(after.operators[0]) if leaf.weights is not None]
        share = c * (2 - width * c)
        stored = Enclosure(np.asarray(weighted.weights), weighted.radius)
        assert encloses(stored, np.full(stored.shape, share, dtype=object))
        assert np.all(stored.full_radius() <= 1e-16)
        weights = np.full(width * groups, share, dtype=object)
        linear = matrix_by_definition(after.operators[0], lambda leaf, weights=weights: weights)  # type: ignore[misc]
        assert np.array_equal(linear, share * ones)
        jacobian = mean_of_permutations(rng, width, groups)
        assert np.array_equal(linear + off @ jacobian @ off, jacobian)


@pytest.mark.parametrize("how", SPLIT)
@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_left_of_sorted_values_is_no_longer_than_what_is_left_of_the_differences(
    width: int, how: Split
) -> None:
    """Of pairs at every distance, with ties; and the mean passes through."""
    found = sorted_groups(width, 2, how)
    before, nonlinear, after = found.graph.nodes[1:]
    assert isinstance(before, Affine)
    assert isinstance(after, Affine)
    assert isinstance(nonlinear, Increment)
    assert isinstance(nonlinear.bound, BlockBound)
    rng = np.random.default_rng(width)
    x = rng.normal(size=(2000, 2 * width)).round(rng.integers(0, 3))
    dx = rng.normal(size=x.shape) * 10.0 ** rng.uniform(-3, 1, size=(2000, 1))
    sort = GroupSort(width)
    rest = sort.value(x + dx) - sort.value(x) - after.operators[0].matvec(dx)
    inner = before.operators[0].matvec(dx)
    for g in range(2):
        at = slice(g * width, (g + 1) * width)
        length = nonlinear.bound.norms[g] * np.linalg.norm(inner[:, at], axis=1)
        assert np.all(np.linalg.norm(rest[:, at], axis=1) <= length * MARGIN + 1e-14)
        assert np.all(np.abs(rest[:, at].sum(axis=1)) <= 1e-12)  # nothing of the mean is left


def test_only_functions_that_permute_are_split_and_only_where_asked() -> None:
    for width in WIDTHS:
        assert GroupSort(width).permutes
        assert not GroupMax(width).permutes
        assert len(sorted_groups(width, 2, "whole").graph.nodes) == 2
        for how in SPLIT:
            pooled = of_node(Groupwise(0, GroupMax(width), (2,)), anywhere(2 * width), how)
            if how != "open":
                assert [type(node) for node in pooled.graph.nodes] == [Input, Increment]
            else:  # a ramp for every entry but one
                ramps = [pooled.graph.size(i) for i in pooled.nonlinear]
                assert sum(ramps) == 2 * (width - 1)


@pytest.mark.parametrize("width", WIDTHS)
def test_groups_of_certain_order_are_linear_and_the_others_are_split(width: int) -> None:
    """Of three groups the middle one is in order: it becomes a selection."""
    low = np.concatenate([np.zeros(width), np.arange(width)[::-1] * 10.0, np.zeros(width)])
    high = low + 1
    for how in SPLIT:
        found = of_node(Groupwise(0, GroupSort(width), (3 * width,)), (low, high), how)
        (node,) = found.nonlinear
        assert found.graph.size(node) == 2 * width
        jacobian = mean_of_permutations(np.random.default_rng(width), width, 2)
        moved = propagated(found, jacobian)
        expected = np.full((3 * width, 3 * width), Fraction(0), dtype=object)
        ends = [*range(width), *range(2 * width, 3 * width)]
        expected[np.ix_(ends, ends)] = jacobian
        for i in range(width):
            expected[width + i, 2 * width - 1 - i] = Fraction(1)
        assert np.max(abs(moved[found.y] - expected)) <= Fraction(1, 2**50)


@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("width", WIDTHS)
def test_no_sampled_ratio_exceeds_what_is_proven_of_sorting_networks(width: int, kind: str) -> None:
    """By chains of norms and by inequalities, split and whole."""
    make = layered(lambda build, at: build.grouped(at, GroupSort(width)), 2 * width)
    for seed in range(2):
        rng = np.random.default_rng([width, seed, *kind.encode()])
        problem = pose(make(rng), Query(region=REGIONS[kind](rng)))
        steepest = attained(problem, rng)
        setting = setting_of(problem)
        for scales in SCALES:
            scaling = tight(setting, rng, scales)
            for norms in ((2.0, 2.0), (math.inf, math.inf)):
                assert steepest[norms] <= inequality_bound(with_norms(setting, *norms), Inequality((scaling,))) * MARGIN
        for center in (True, False):
            assert steepest[2.0, 2.0] <= verify(problem, Claim(1e300, AbsoluteChain(center))) * MARGIN
        for claim in claims_of(ProductMethod(), problem):
            assert steepest[2.0, 2.0] <= verify(problem, claim) * MARGIN


ACTIVATIONS: tuple[Activation, ...] = (Relu(), LeakyRelu(0.1), LeakyRelu(-0.5), Abs(), Tanh())


@pytest.mark.parametrize("how", ["whole", "centered", "open"])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.describe())
def test_slopes_of_what_is_left_of_activations_lie_within_their_bounds(activation: Activation, how: Split) -> None:
    """Secants between points of the box, less the linear part; entries of fixed slope have nothing left."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        middle, spread = rng.normal(size=12), 10.0 ** rng.uniform(-2, 1, size=12)
        low, high = middle - spread, middle + spread
        found = of_node(Elementwise(0, activation, (12,)), (low, high), how)
        moved = propagated(found, None)
        x, other = (low + rng.random((300, 12)) * (high - low) for _ in range(2))
        dx = other - x
        rest = activation.value(other) - activation.value(x) - dx @ moved[found.y].astype(float).T
        left = np.zeros(12, dtype=bool)
        for node in found.nonlinear:
            body, bound = found.graph.nodes[node], found.bound(node)
            assert isinstance(body, Increment)
            assert isinstance(bound, DiagonalBound)
            places = moved[body.input].astype(float).argmax(axis=1)
            left[places] = True
            slope, slack = rest[:, places] / dx[:, places], 1e-13 / np.abs(dx[:, places])
            assert np.all(np.abs(slope) <= bound.steepest + slack)
            assert isinstance(bound, SlopeBound) == (how == "open")
            if isinstance(bound, SlopeBound):
                assert np.all((bound.low - slack <= slope) & (slope <= bound.high + slack))
                assert np.array_equal(np.maximum(np.abs(bound.low), np.abs(bound.high)), bound.steepest)
        assert np.all(np.abs(rest[:, ~left]) <= 1e-13)
        assert how != "whole" or np.all(left)
