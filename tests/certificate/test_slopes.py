"""Slopes below ramps: any in [0, 1] leave every value inside, those searched for tighten, others are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lipcert.activations import Relu
from lipcert.certificate import BoxClaim, verify_box
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import RampSlopes, Slopes
from lipcert.certificate.linear_bounds import in_ramps, whole_net
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Elementwise, Graph
from lipcert.methods import Progress
from lipcert.methods.boxes import choose_net
from lipcert.problem import Ball, Problem, Query, pose
from tests.certificate.test_linear_bounds import GRAPHS
from tests.helpers.inequalities import Builder
from tests.helpers.sampling import random_points, values

Edit = Callable[[Slopes], Slopes]


def problem_of(graph: Graph, rng: np.random.Generator) -> Problem:
    size = graph.size(next(iter(graph.inputs.values())))
    return pose(graph, Query(region=Ball(rng.normal(size=size), 0.5, np.inf)))


def layers(seed: int) -> Problem:
    rng = np.random.default_rng(seed)
    build = Builder(rng, 6)
    at = build.active(build.affine(10, 0), Relu())
    build.affine(2, build.active(build.affine(10, at), Relu()))
    return problem_of(build.graph(), rng)


def any_slopes(rng: np.random.Generator, problem: Problem) -> tuple[Slopes, ...]:
    """Random ones for every row of every affine node and every ramp behind it."""
    graph = in_ramps(problem, Arithmetic()).graph
    found = []
    for node, body in enumerate(graph.nodes):
        rows, parts = np.arange(graph.size(node), dtype=float), []
        for at, ramp in enumerate(graph.nodes[:node]):
            if isinstance(body, Affine) and isinstance(ramp, Elementwise) and ramp.activation.name == "relu":
                below, above = rng.uniform(0, 1, (2, len(rows), graph.size(at)))
                parts.append(RampSlopes(at, np.arange(graph.size(at), dtype=float), below, above))
        if parts:
            found.append(Slopes(node, rows, tuple(parts)))
    return tuple(found)


@pytest.mark.parametrize("name", GRAPHS)
def test_no_value_leaves_the_boxes_by_random_slopes(name: str) -> None:
    for seed in range(4):
        rng = np.random.default_rng([seed, 7])
        problem = problem_of(GRAPHS[name](rng), rng)
        by = Arithmetic()
        net = whole_net(problem, by, any_slopes(rng, problem))
        points = random_points(problem.query.region, problem.size_in, rng, 400)
        graph = in_ramps(problem, by).graph
        found = values(graph, {graph.nodes[problem.x].origin: points})
        for (low, high), value in zip(net.boxes, found, strict=True):
            room = 1e-12 * (1 + np.abs(value).max(initial=0.0))
            assert np.all(low[0] - room <= value)
            assert np.all(value <= high[0] + room)


@pytest.mark.parametrize("seed", range(5))
def test_slopes_that_are_searched_for_tighten(seed: int) -> None:
    problem, by = layers(seed), Arithmetic()
    plain, chosen = whole_net(problem, by), choose_net(problem, Progress(arithmetic=by))
    assert chosen.slopes
    y = in_ramps(problem, by).y
    before, after = (net.boxes[y][1] - net.boxes[y][0] for net in (plain, chosen.net))
    assert np.all(after <= before * (1 + 1e-9))
    assert after.sum() < 0.999 * before.sum()
    again = whole_net(problem, Arithmetic(), chosen.slopes)
    assert all(np.array_equal(a, b) for a, b in zip(again.boxes[y], chosen.net.boxes[y], strict=True))


def test_slopes_are_chosen_once_for_a_region() -> None:
    problem, progress = layers(3), Progress()
    assert choose_net(problem, progress) is choose_net(problem, progress)


EDITS: dict[str, Edit] = {
    "below zero": lambda s: with_ramp(s, lambda r: replace(r, above=r.above - 1.5)),
    "above one": lambda s: with_ramp(s, lambda r: replace(r, below=r.below + 1.5)),
    "not a number": lambda s: with_ramp(s, lambda r: replace(r, below=r.below * np.nan)),
    "too few": lambda s: with_ramp(s, lambda r: replace(r, above=r.above[:-1])),
    "no such entry": lambda s: with_ramp(s, lambda r: replace(r, entries=r.entries + 1000)),
    "half an entry": lambda s: with_ramp(s, lambda r: replace(r, entries=r.entries + 0.5)),
    "no ramp": lambda s: with_ramp(s, lambda r: replace(r, ramp=r.ramp - 1)),
    "a later ramp": lambda s: with_ramp(s, lambda r: replace(r, ramp=s.node + 1)),
    "no such node": lambda s: with_ramp(s, lambda r: replace(r, ramp=-1)),
    "no such row": lambda s: replace(s, rows=s.rows - 1000),
    "half a row": lambda s: replace(s, rows=s.rows + 0.5),
    "rows in a matrix": lambda s: replace(s, rows=s.rows[None]),
}


def with_ramp(slopes: Slopes, edit: Callable[[RampSlopes], RampSlopes]) -> Slopes:
    return replace(slopes, ramps=tuple(edit(ramp) for ramp in slopes.ramps))


@pytest.mark.parametrize("name", EDITS)
def test_tampered_slopes_are_refused(name: str) -> None:
    problem = layers(1)
    chosen = choose_net(problem, Progress())
    low, high = (side[0] for side in chosen.net.boxes[in_ramps(problem, Arithmetic()).y])
    claim = BoxClaim(low - 1e-9, high + 1e-9, True, slopes=chosen.slopes)
    verify_box(problem, claim)
    edited = (*chosen.slopes[:-1], EDITS[name](chosen.slopes[-1]))
    with pytest.raises(NotProvedError, match=r"slopes|ramp"):
        verify_box(problem, replace(claim, slopes=edited))


def test_slopes_of_a_node_given_twice_are_refused() -> None:
    problem = layers(1)
    chosen = choose_net(problem, Progress())
    with pytest.raises(NotProvedError, match="twice"):
        whole_net(problem, Arithmetic(), (*chosen.slopes, chosen.slopes[0]))


def test_without_the_slopes_the_box_is_not_proven() -> None:
    problem = layers(1)
    chosen = choose_net(problem, Progress())
    low, high = (side[0] for side in chosen.net.boxes[in_ramps(problem, Arithmetic()).y])
    with pytest.raises(NotProvedError, match="is claimed"):
        verify_box(problem, BoxClaim(low - 1e-9, high + 1e-9, True))
