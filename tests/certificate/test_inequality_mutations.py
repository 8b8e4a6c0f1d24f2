"""Scales that were tampered with: what is accepted is never below the optimum that no scales can beat."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import lipcert
from lipcert.certificate import Claim, verify
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.claim import Inequality
from lipcert.certificate.encoding import decode_claim, encode, encode_array
from lipcert.errors import CertificateError, NotProvedError
from lipcert.methods import Progress
from lipcert.methods.lipsdp import LipSdpMethod
from lipcert.problem import Ball, Problem, Query, pose
from lipcert.report import parse_report
from tests.helpers.claims import through_json
from tests.helpers.inequalities import NETWORKS
from tests.helpers.reports import model_of, report_of

ENOUGH = 1e308

OPTIMAL = 1e-6
"""How far above the optimum the solver's value is, at most; small changes of scales move the value by their square."""

QUERIES = {
    "l2 to l2": Query(),
    "linf to l1": Query(math.inf, 1.0),
    "l2 to linf": Query(2.0, math.inf, Ball(np.full(3, 0.1), 0.5, 2.0)),
}
SOLVED = [
    ("relu", "l2 to l2"),
    ("leaky relu", "l2 to l2"),
    ("groupsort of 3", "l2 to l2"),
    ("residual", "linf to l1"),
    ("relu", "l2 to linf"),
]
PARTS = ("inputs", "hidden", "outputs")
solved = pytest.mark.parametrize(("network", "asked"), SOLVED)
in_both = pytest.mark.parametrize("arithmetic", [Arithmetic, BallArithmetic], ids=["float64", "balls"])


@cache
def optimum(network: str, asked: str) -> tuple[Problem, Claim]:
    """A problem and the solver's claim about it."""
    problem = pose(NETWORKS[network](np.random.default_rng([*network.encode()])), QUERIES[asked])
    return problem, list(LipSdpMethod().claims(problem, Progress(linear=False)))[-1]


def accepted(problem: Problem, evidence: Inequality, value: float, arithmetic: type[Arithmetic] = Arithmetic) -> float:
    """What is proven, infinity where nothing is."""
    try:
        return verify(problem, Claim(value, evidence), arithmetic())
    except NotProvedError:
        return math.inf


def edited(evidence: Inequality, part: str, edit: Any) -> Inequality:
    """The same edit of one part of every scaling."""
    return replace(
        evidence, scalings=tuple(replace(s, **{part: edit(getattr(s, part).copy())}) for s in evidence.scalings)
    )


@solved
@in_both
def test_what_the_solver_claims_is_accepted_and_nothing_below_it(
    network: str, asked: str, arithmetic: type[Arithmetic]
) -> None:
    problem, claim = optimum(network, asked)
    proven = verify(problem, claim, arithmetic())
    assert claim.value * (1 - 1e-9) <= proven <= claim.value
    for factor in (1 - 1e-8, 1 - 1e-6, 0.99, 0.5, 0.0):
        with pytest.raises(NotProvedError, match="above the claimed"):
            verify(problem, replace(claim, value=claim.value * factor), arithmetic())


@solved
@in_both
@pytest.mark.parametrize("factor", [1 + 1e-6, 1.01, 2.0])
def test_larger_scales_of_inputs_or_outputs_are_refused(
    network: str, asked: str, factor: float, arithmetic: type[Arithmetic]
) -> None:
    """They would prove a smaller value, which is claimed."""
    problem, claim = optimum(network, asked)
    assert isinstance(claim.evidence, Inequality)
    for part in ("inputs", "outputs"):
        evidence = edited(claim.evidence, part, lambda a: a * factor)
        for value in (claim.value / factor * (1 + 1e-9), claim.value, ENOUGH):
            assert accepted(problem, evidence, value, arithmetic) >= claim.value * (1 - OPTIMAL)
        if factor > 1.005:
            with pytest.raises(NotProvedError, match="not proven positive definite"):
                verify(problem, Claim(ENOUGH, evidence), arithmetic())


@solved
@pytest.mark.parametrize("factor", [0.5, 0.99, 1 - 1e-6])
def test_smaller_scales_of_inputs_or_outputs_prove_larger_values(network: str, asked: str, factor: float) -> None:
    problem, claim = optimum(network, asked)
    assert isinstance(claim.evidence, Inequality)
    for part in ("inputs", "outputs"):
        evidence = edited(claim.evidence, part, lambda a: a * factor)
        assert accepted(problem, evidence, ENOUGH) == pytest.approx(claim.value / factor, rel=1e-8)
        for value in (claim.value, claim.value * factor, claim.value / factor * (1 - 1e-7)):
            with pytest.raises(NotProvedError, match="above the claimed"):
                verify(problem, Claim(value, evidence))


@pytest.mark.one_in(2)
@solved
def test_no_changed_scales_prove_less_than_the_optimum(network: str, asked: str) -> None:
    """One of them or all, by a little or much, the others adjusted so that something may be proven."""
    rng = np.random.default_rng(21)
    problem, claim = optimum(network, asked)
    assert isinstance(claim.evidence, Inequality)
    proven = 0
    for turn in range(120):
        evidence, size = claim.evidence, 10.0 ** rng.uniform(-7, -0.5)
        for part in PARTS if turn % 4 == 0 else [PARTS[turn % 3]]:
            alone = rng.random() < 0.5

            def edit(a: np.ndarray, alone: bool = alone, size: float = size) -> np.ndarray:
                by = size * rng.uniform(-1, 1, a.shape)
                place = rng.integers(a.size)
                return a * (1 + np.where(np.arange(a.size) == place, by, 0.0) if alone else 1 + by)

            evidence = edited(evidence, part, edit)
        for shrink in (1.0, 1 - size, 1 - 2 * size):
            shrunk = edited(evidence, "outputs", lambda a, shrink=shrink: a * shrink)
            value = accepted(problem, shrunk, ENOUGH)
            proven += value < math.inf
            assert value >= claim.value * (1 - OPTIMAL)
    assert proven > 20


@solved
@pytest.mark.parametrize("part", PARTS)
def test_each_scale_alone_proves_no_less_when_it_is_changed(network: str, asked: str, part: str) -> None:
    """By 1% or by a factor of two, either way; a group's scales are changed together."""
    problem, claim = optimum(network, asked)
    assert isinstance(claim.evidence, Inequality)
    refused = 0
    for place in range(getattr(claim.evidence.scalings[0], part).size):
        for factor in (0.5, 0.99, 1.01, 2.0):

            def edit(a: np.ndarray, place: int = place, factor: float = factor) -> np.ndarray:
                together = a == a[place] if part == "hidden" else np.arange(a.size) == place
                return np.where(together, a * factor, a)

            value = accepted(problem, edited(claim.evidence, part, edit), ENOUGH)
            assert value >= claim.value * (1 - OPTIMAL)
            refused += value == math.inf
    assert refused


@solved
def test_evidence_and_claim_survive_json(network: str, asked: str) -> None:
    problem, claim = optimum(network, asked)
    again = through_json(claim)
    assert isinstance(again.evidence, Inequality)
    assert isinstance(claim.evidence, Inequality)
    for ours, theirs in zip(claim.evidence.scalings, again.evidence.scalings, strict=True):
        for part in PARTS:
            assert np.array_equal(getattr(ours, part), getattr(theirs, part))
    assert verify(problem, again) == verify(problem, claim)


DAMAGE: dict[str, Any] = {
    "no scalings field": lambda evidence: evidence.pop("scalings"),
    "a scaling that is none": lambda evidence: evidence["scalings"].append({"is": "Spectral", "sigma": "0x1p0"}),
    "a scaling without outputs": lambda evidence: evidence["scalings"][0].pop("outputs"),
    "scales as a list": lambda evidence: evidence["scalings"][0].update(inputs=["0x1p0"] * 3),
    "scalings that are one": lambda evidence: evidence.update(scalings=evidence["scalings"][0]),
    "a field of another kind of evidence": lambda evidence: evidence.update(center=True),
    "one more field": lambda evidence: evidence.update(steps=[]),
    "another kind": lambda evidence: evidence.update({"is": "Scaling"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_evidence_is_not_read(damage: str) -> None:
    _, claim = optimum("relu", "l2 to l2")
    data = json.loads(json.dumps(encode(claim)))
    DAMAGE[damage](data["evidence"])
    with pytest.raises(CertificateError):
        decode_claim(data)


@solved
def test_reports_are_checked_and_tampered_ones_refused(network: str, asked: str) -> None:
    """In both arithmetics; scales are edited in the file, and the claim and result lowered to what they would prove."""
    _, claim = optimum(network, asked)
    graph = NETWORKS[network](np.random.default_rng([*network.encode()]))
    model = model_of(graph, network)
    report = report_of(model, QUERIES[asked], claim)
    for strict in (False, True):
        result = lipcert.check(parse_report(report.to_json(), "report.json"), model, strict=strict)
        assert result.upper == pytest.approx(claim.value, rel=1e-9)
    assert isinstance(claim.evidence, Inequality)
    for part in ("inputs", "outputs"):
        data = json.loads(report.to_json())
        for scaling, own in zip(data["certificate"]["evidence"]["scalings"], claim.evidence.scalings, strict=True):
            scaling[part] = encode_array(getattr(own, part) * 1.01)
        data["certificate"]["value"] = (claim.value / 1.01 * (1 + 1e-9)).hex()
        data["result"]["upper"] = claim.value / 1.01 * (1 + 1e-9)
        if data["result"]["gap"] is not None:
            data["result"]["gap"] = data["result"]["upper"] / data["result"]["lower"]
        for strict in (False, True):
            with pytest.raises(CertificateError, match="not proven positive definite"):
                lipcert.check(parse_report(json.dumps(data), "report.json"), model, strict=strict)


def test_scales_of_one_network_prove_nothing_false_about_another() -> None:
    _, claim = optimum("relu", "l2 to l2")
    assert isinstance(claim.evidence, Inequality)
    for seed in range(20):
        other = pose(NETWORKS["relu"](np.random.default_rng(seed)), Query())
        least = list(LipSdpMethod().claims(other, Progress(linear=False)))[-1].value if seed < 3 else 0.0
        assert accepted(other, claim.evidence, ENOUGH) >= least * (1 - OPTIMAL)


def test_scalings_of_single_outputs_may_not_be_passed_off_as_all() -> None:
    """Outputs left out have no bound, however the others are scaled."""
    problem, claim = optimum("relu", "l2 to linf")
    assert isinstance(claim.evidence, Inequality)
    several = claim.evidence.scalings
    assert len(several) == 3
    for kept in (several[1:2], several[2:], several[1:2] * 2):
        assert accepted(problem, Inequality(kept), ENOUGH) == math.inf
    assert accepted(problem, Inequality(several[1:]), ENOUGH) <= claim.value
    as_l2 = replace(problem, query=replace(problem.query, norm_out=2.0))
    for kept in (several, several[1:], several[1:2]):
        assert accepted(as_l2, Inequality(kept), ENOUGH) == math.inf


def test_scales_found_elsewhere_prove_nothing_false_where_other_neurons_are_open() -> None:
    problem, claim = optimum("relu", "l2 to l2")
    assert isinstance(claim.evidence, Inequality)
    ball = pose(problem.graph, Query(region=Ball(np.zeros(3), 1e-3, 2.0)))
    assert accepted(ball, claim.evidence, ENOUGH) == math.inf  # there are fewer
    assert verify(ball, replace(claim, anywhere=True)) <= claim.value
