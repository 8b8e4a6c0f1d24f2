"""Radii are below the true quotients; whatever is changed in a claim, the kernel refuses what is then not true."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipcert.activations.sorting import GroupSort
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.balls import BallArithmetic
from lipcert.certificate.claim import Attack, RobustnessClaim, SampleClaim
from lipcert.certificate.robustness import (
    Classifier,
    margins_of,
    misclassified,
    outputs_at,
    radii_of,
    verify_robustness,
)
from lipcert.certificate.verify import value_at
from lipcert.errors import NotProvedError
from lipcert.graph import Affine, Graph, Groupwise, Input, Output
from lipcert.operators import Identity
from lipcert.planning.robustness import Asked, solve_robustness
from lipcert.problem import AllOutputs
from tests.helpers.classifiers import classes_at, random_classifier
from tests.helpers.exact import magnitudes, many, numbers

Samples = tuple[SampleClaim, ...]


@many
@given(margin=magnitudes, constant=magnitudes)
def test_a_radius_is_below_the_quotient(margin: float, constant: float) -> None:
    """Strictly, so that closed balls are proven; 0 where nothing is."""
    radius = float(radii_of(np.array([margin, math.inf]), np.array([constant, 0.0])))
    assert 0 <= radius < math.inf
    assert radius == 0 or constant == 0 or Fraction(radius) * Fraction(constant) < Fraction(margin)
    assert margin > 0 or radius == 0
    if margin > 0 and constant > 0 and 1e-290 < Fraction(margin) / Fraction(constant) < 1e290:
        assert radius >= float(Fraction(margin) / Fraction(constant)) * (1 - 2.0**-51)


@pytest.mark.parametrize("margin", [0.0, -1.0, -math.inf, math.nan])
@pytest.mark.parametrize("constant", [0.0, 1.0, math.inf, math.nan])
def test_nothing_follows_from_no_margin(margin: float, constant: float) -> None:
    assert radii_of(np.array([[margin, 1.0]]), np.array([[constant, 1.0]])).tolist() == [0.0]


def test_nothing_follows_from_no_constant() -> None:
    assert radii_of(np.array([[1.0, 1.0]]), np.array([[math.inf, 1.0], [math.nan, 1.0]])).tolist() == [0.0, 0.0]


@many
@given(st.lists(numbers, min_size=3, max_size=3), st.integers(0, 2))
def test_margins_are_below_the_differences(outputs: list[float], chosen: int) -> None:
    point = np.array([outputs])
    (found,) = margins_of((point, point), np.array([chosen]))
    for j, margin in enumerate(found.tolist()):
        difference = Fraction(outputs[chosen]) - Fraction(outputs[j])
        assert margin == math.inf if j == chosen else margin == -math.inf or Fraction(margin) <= difference
    tied = any(other >= outputs[chosen] for j, other in enumerate(outputs) if j != chosen)
    assert misclassified((point, point), np.array([chosen]))[0] == tied


@pytest.fixture(scope="module")
def honest() -> tuple[Classifier, np.ndarray, RobustnessClaim]:
    """Samples with proofs of every kind: constants everywhere and over balls, boxes, attacks."""
    rng = np.random.default_rng(8)
    classifier = random_classifier(rng, 2.0)
    points = rng.standard_normal((7, 3))
    labels = classes_at(classifier.graph, points)
    labels[0] = (labels[0] + 1) % 4
    asked = Asked(2.0, (0.1, 0.3, 0.6), local=True, timeout=10, local_seconds=0.4, device="cpu", steps=10)
    claim = solve_robustness(classifier, points, labels, 0, asked).claim()
    assert any(s.balls for s in claim.samples)
    assert any(a.eps > 0 for s in claim.samples for a in s.attacks)
    assert claim.shared
    assert claim.margins
    return classifier, points, claim


@pytest.mark.parametrize("by", [Arithmetic, BallArithmetic])
def test_the_claim_holds_before_it_is_changed(
    honest: tuple[Classifier, np.ndarray, RobustnessClaim], by: type[Arithmetic]
) -> None:
    verify_robustness(*honest, by())


def test_many_points_are_enclosed_as_one_by_one(honest: tuple[Classifier, np.ndarray, RobustnessClaim]) -> None:
    classifier, points, _ = honest
    problem = classifier.posed(AllOutputs())
    low, high = outputs_at(problem, points, [()] * len(points), Arithmetic())
    for k, point in enumerate(points):
        one = value_at(problem, point, Arithmetic())
        assert np.allclose((low[k], high[k]), one, rtol=1e-12, atol=1e-12)
        assert np.all(low[k] <= one[1])
        assert np.all(one[0] <= high[k])


def test_what_does_not_depend_on_the_sample_is_enclosed_as_well() -> None:
    """Sorted constants, beside an input of as many entries as there are samples."""
    both = Affine((0, 2), (Identity(2), Identity(2)), exact(np.zeros(2)), (2,))
    nodes = (
        Input("x", (2,)),
        Affine((), (), exact(np.array([3.0, 1.0])), (2,)),
        Groupwise(1, GroupSort(2), (2,)),
        both,
    )
    problem = Classifier(Graph(nodes, (Output("y", 3),)), 2.0).posed(AllOutputs())
    low, high = outputs_at(problem, np.zeros((2, 2)), [()] * 2, Arithmetic())
    assert np.all(low <= [1.0, 3.0])
    assert np.all(high >= [1.0, 3.0])


def with_radius(change: Callable[[SampleClaim], float]) -> Callable[[Samples], Samples]:
    return lambda samples: tuple(replace(s, radius=change(s)) for s in samples)


def attacked(change: Callable[[Attack], Attack]) -> Callable[[Samples], Samples]:
    return lambda samples: tuple(replace(s, attacks=tuple(map(change, s.attacks))) for s in samples)


FALSE: dict[str, Callable[[Samples], Samples]] = {
    "radii a bit larger": with_radius(lambda s: s.radius * (1 + 1e-6)),
    "radii NaN": with_radius(lambda s: math.nan),
    "radii infinite": with_radius(lambda s: math.inf),
    "no balls": lambda samples: tuple(replace(s, balls=()) for s in samples),
    "larger balls": lambda samples: tuple(
        replace(s, radius=2 * s.radius, balls=tuple(replace(b, eps=2 * b.eps) for b in s.balls)) for s in samples
    ),
    "balls that say more": lambda samples: tuple(
        replace(s, balls=tuple(replace(b, box=replace(b.box, lower=b.box.lower + 0.5)) for b in s.balls))
        for s in samples
    ),
    "margins over balls that say less": lambda samples: tuple(
        replace(s, balls=tuple(replace(b, box=replace(b.box, lower=-b.box.lower)) for b in s.balls)) for s in samples
    ),
    "another class": lambda samples: tuple(replace(s, predicted=(s.predicted + 1) % 4) for s in samples),
    "no class": lambda samples: tuple(replace(s, predicted=4) for s in samples),
    "a class below zero": lambda samples: tuple(replace(s, predicted=-1) for s in samples),
    "a label that there is not": lambda samples: tuple(replace(s, label=7) for s in samples),
    "another order": lambda samples: samples[::-1],
    "one less": lambda samples: samples[1:],
    "attacks that are outside": attacked(lambda a: replace(a, eps=a.eps * 0.999)),
    "attacks at the sample": lambda samples: tuple(replace(s, attacks=(Attack(0.1, np.zeros(3)),)) for s in samples),
    "attacks that are none": lambda samples: tuple(replace(s, label=s.predicted, attacks=s.attacks) for s in samples),
    "attacks of another shape": attacked(lambda a: replace(a, point=a.point[:-1])),
    "attacks NaN": attacked(lambda a: replace(a, point=np.full(3, np.nan))),
}


@pytest.mark.parametrize("label", FALSE)
def test_false_samples_are_refused(honest: tuple[Classifier, np.ndarray, RobustnessClaim], label: str) -> None:
    classifier, points, claim = honest
    with pytest.raises(NotProvedError):
        verify_robustness(classifier, points, replace(claim, samples=FALSE[label](claim.samples)))


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_false_constants_are_refused(honest: tuple[Classifier, np.ndarray, RobustnessClaim], share: float) -> None:
    classifier, points, claim = honest
    smaller = [replace(m, claim=replace(m.claim, value=share * m.claim.value)) for m in claim.margins]
    for changed in (
        replace(claim, margins=(smaller[0], *claim.margins[1:])),
        replace(claim, shared=tuple(replace(s, value=share * s.value) for s in claim.shared)),
        replace(claim, margins=(replace(claim.margins[0], second=claim.margins[0].first), *claim.margins[1:])),
        replace(claim, shared=claim.shared * 2),
        replace(claim, margins=()),
    ):
        with pytest.raises(NotProvedError):
            verify_robustness(classifier, points, changed)


def test_other_norms_and_other_data_are_refused(honest: tuple[Classifier, np.ndarray, RobustnessClaim]) -> None:
    classifier, points, claim = honest
    for changed in (points + 0.05, points * np.nan, points[:, :2]):
        with pytest.raises(NotProvedError):
            verify_robustness(classifier, changed, claim)
    with pytest.raises(NotProvedError):
        verify_robustness(replace(classifier, norm=math.inf), points, claim)
