"""Ball arithmetic proves all that float64 with error terms proves, and the same numbers."""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from lipcert.certificate import Claim, SpectralChain, Witness, verify, verify_witness
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.claim import Group, Spectral, Step
from lipcert.certificate.encoding import encode
from lipcert.errors import NotProvedError
from lipcert.problem import Problem, Query, pose
from tests.helpers.graphs import random_graph
from tests.helpers.reports import ENOUGH, nearly_exact
from tests.helpers.sampling import NORM_PAIRS, random_points
from tests.soundness.test_bounds import MARGIN, REGIONS, all_claims, linear, random_query, sampled, with_norms

AGREEMENT = 1e-9
"""Permitted relative difference."""


def rests_on_rounding(claim: Claim) -> bool:
    """Whether a number in it is infinite, or so small that it bounds what cancels but for rounding."""
    numbers = [claim.value, *(float.fromhex(text) for text in re.findall(r"0x[0-9a-fp.+-]+|inf", str(encode(claim))))]
    return not all(1e-9 <= number < math.inf for number in numbers)


def random_problem(seed: int, kind: str) -> tuple[Problem, np.random.Generator]:
    rng = np.random.default_rng([seed, REGIONS.index(kind), 21])
    graph = nearly_exact(random_graph(rng, inputs=1 + seed % 2, depth=2 + seed % 4, width=3 + seed % 3))
    p, q = NORM_PAIRS[(seed + 2 * REGIONS.index(kind)) % 9]
    return pose(graph, with_norms(random_query(rng, graph, kind), p, q)), rng


@pytest.mark.one_in(3)
@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("seed", range(5))
def test_balls_verify_every_claim(seed: int, kind: str) -> None:
    problem, _ = random_problem(seed, kind)
    for name, claim in all_claims(problem):
        if not rests_on_rounding(claim):
            usual, strict = verify(problem, claim), verify(problem, claim, BallArithmetic())
            assert strict == pytest.approx(usual, rel=AGREEMENT), f"{name}: {claim.evidence}"


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("seed", range(3))
def test_no_sampled_ratio_exceeds_what_balls_prove(seed: int, kind: str) -> None:
    """About networks whose weights are uncertain, too."""
    rng = np.random.default_rng([seed, REGIONS.index(kind), 22])
    graph = random_graph(rng, inputs=1 + seed % 2, depth=2 + seed, width=4)
    query = random_query(rng, graph, kind)
    p, q = NORM_PAIRS[(2 * seed + REGIONS.index(kind)) % 9]
    problem, steepest = pose(graph, with_norms(query, p, q)), sampled(graph, query, rng)[p, q]
    for _, claim in all_claims(problem):
        with contextlib.suppress(NotProvedError):  # where radii are wide, balls may enclose a little more
            proven = verify(problem, Claim(ENOUGH, claim.evidence), BallArithmetic())
            assert steepest <= proven * MARGIN, claim.evidence


@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("seed", range(5))
def test_balls_attain_what_float64_attains(seed: int, kind: str) -> None:
    problem, rng = random_problem(seed, kind)
    for point in random_points(problem.query.region, problem.size_in, rng, 10):
        if problem.query.region.contains(point):
            witness = Witness(point, rng.standard_normal(problem.size_in))
            usual, strict = verify_witness(problem, witness), verify_witness(problem, witness, BallArithmetic())
            assert strict == pytest.approx(usual, rel=AGREEMENT, abs=1e-12)


def spectral_claim(problem: Problem, sigma: float) -> Claim:
    """That a linear map has this l2 norm."""
    return Claim(1e9, SpectralChain(False, (Step(problem.y, (), (Group((problem.x,), Spectral(sigma)),)),)))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    "factor", [-1e9, -2.0, -1.0, -0.0, 0.0, 0.5, 1 - 1e-9, 1 - 1e-12, math.nan, math.inf, -math.inf]
)
def test_a_sigma_that_is_no_bound_is_refused(factor: float, strict: bool) -> None:
    weights = np.random.default_rng(5).standard_normal((4, 6))
    problem = pose(linear(weights), Query())
    claim = spectral_claim(problem, factor * float(np.linalg.norm(weights, 2)))
    with pytest.raises(NotProvedError, match="sigma"):
        verify(problem, claim, BallArithmetic() if strict else None)


@pytest.mark.parametrize("strict", [False, True])
def test_a_sigma_just_above_the_norm_is_proven(strict: bool) -> None:
    weights = np.random.default_rng(5).standard_normal((4, 6))
    problem = pose(linear(weights), Query())
    claim = spectral_claim(problem, float(np.linalg.norm(weights, 2)) * (1 + 1e-12))
    by = BallArithmetic() if strict else Arithmetic()
    proven = verify(problem, claim, by)
    assert proven == pytest.approx(float(np.linalg.norm(weights, 2)), rel=2e-12)
    with pytest.raises(NotProvedError, match="above the claimed"):
        verify(problem, replace(claim, value=proven / 2), by)
