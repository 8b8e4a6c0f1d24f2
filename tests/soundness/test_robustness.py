"""No sampled perturbation within a certified radius changes the class; no certified ball is attacked."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from lipcert.activations import Activation, Relu, Tanh
from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.sorting import GroupSort
from lipcert.certificate.robustness import Classifier, verify_robustness
from lipcert.errors import NotProvedError
from lipcert.graph import Elementwise, Graph, Input, Output
from lipcert.planning.robustness import Asked, RobustnessOutcome, solve_robustness
from lipcert.problem import Ball, Norm
from tests.helpers.classifiers import SIZES, classes_at, random_classifier
from tests.helpers.implicit import random_implicit
from tests.helpers.sampling import random_points

EPS = (0.05, 0.2, 1.0)
SAMPLES = 8
PERTURBATIONS = 2000
"""Of each sample."""


def data(rng: np.random.Generator, classifier: Classifier) -> tuple[np.ndarray, np.ndarray]:
    """Samples, most with their class as label."""
    points = rng.standard_normal((SAMPLES, SIZES[0]))
    labels = classes_at(classifier.graph, points)
    labels[0] = (labels[0] + 1) % SIZES[-1]
    return points, labels


def check(classifier: Classifier, points: np.ndarray, labels: np.ndarray, outcome: RobustnessOutcome) -> None:
    """Sampling finds nothing within a radius, and the kernel agrees with all that is claimed."""
    rng, n = np.random.default_rng(0), points.shape[1]
    assert sorted(outcome.samples) == list(range(len(points)))
    for k, sample in outcome.samples.items():
        if sample.radius > 0:
            ball = Ball(points[k], min(sample.radius, 1e3), classifier.norm)
            around = random_points(ball, n, rng, PERTURBATIONS)
            assert np.all(classes_at(classifier.graph, around) == sample.predicted)
        for attack in sample.attacks:
            assert np.linalg.norm(attack.point - points[k], ord=classifier.norm) <= attack.eps * (1 + 1e-12)
            assert classes_at(classifier.graph, attack.point[None])[0] != labels[k]
    verify_robustness(classifier, points, outcome.claim())


@pytest.mark.one_in(2)
@pytest.mark.parametrize("norm", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("body", [None, Tanh(), GroupSort(2)], ids=["relu", "tanh", "maxmin"])
@pytest.mark.parametrize("local", [False, True], ids=["everywhere", "ball by ball"])
def test_no_sampled_perturbation_within_a_radius_changes_the_class(
    norm: Norm, body: Activation | GroupFunction | None, local: bool
) -> None:
    rng = np.random.default_rng([int(local), SAMPLES, 4])
    classifier = random_classifier(rng, norm, body)
    points, labels = data(rng, classifier)
    asked = Asked(norm, EPS, local=local, timeout=5, local_seconds=0.2, device="cpu", steps=10, restarts=3)
    outcome = solve_robustness(classifier, points, labels, 0, asked)
    check(classifier, points, labels, outcome)
    assert outcome.samples[0].attacks[0].eps == 0  # misclassified as it is
    assert any(sample.radius >= EPS[0] for sample in outcome.samples.values())
    assert any(sample.attacks for k, sample in outcome.samples.items() if k)


@pytest.mark.parametrize("local", [False, True], ids=["everywhere", "ball by ball"])
def test_implicit_networks(local: bool) -> None:
    rng = np.random.default_rng(5)
    network = random_implicit(rng, 5, SIZES[0], SIZES[-1])
    points = rng.standard_normal((6, SIZES[0]))
    labels = network.value(points).argmax(axis=1)
    classifier = Classifier(network.graph(), math.inf)
    asked = Asked(math.inf, (0.01, 0.1), local=local, timeout=0.0 if local else 1.0, device="cpu", steps=5, restarts=2)
    outcome = solve_robustness(classifier, points, labels, 0, asked)
    verify_robustness(classifier, points, outcome.claim())
    assert sum(sample.radius >= 0.01 for sample in outcome.samples.values()) >= 4
    for k, sample in outcome.samples.items():
        if sample.radius > 0:
            around = random_points(Ball(points[k], min(sample.radius, 10.0), math.inf), SIZES[0], rng, 300)
            assert np.all(network.value(around).argmax(axis=1) == labels[k])


def test_branching_decides_what_linear_bounds_leave_open() -> None:
    """Of three inputs, every ball is decided: certified, or attacked."""
    rng = np.random.default_rng(3)
    classifier = random_classifier(rng, math.inf)
    points, labels = data(rng, classifier)
    asked = Asked(math.inf, (0.2, 0.4), local=True, timeout=0.0, device="cpu", steps=1, restarts=1)
    outcome = solve_robustness(classifier, points, labels, 0, asked)
    check(classifier, points, labels, outcome)
    claims = [ball for sample in outcome.samples.values() for ball in sample.balls]
    assert any(len(tree.splits) > 1 for ball in claims for tree in ball.box.trees)
    for eps in asked.eps:
        for sample in outcome.samples.values():
            assert (sample.radius >= eps) != any(attack.eps <= eps for attack in sample.attacks)


def test_a_tie_is_not_certified() -> None:
    """Two outputs that are the same everywhere."""
    rng = np.random.default_rng(0)
    network = random_implicit(rng, 2, 2, 3)
    out, c = network.out.copy(), network.c.copy()
    out[1], c[1], c[2] = out[0], c[0], -100.0
    graph = type(network)(network.w, network.u, network.b, out, c).graph()
    asked = Asked(2.0, (0.1,), local=True, timeout=1.0, device="cpu", steps=2, restarts=1)
    classifier, points = Classifier(graph, 2.0), np.zeros((1, 2))
    outcome = solve_robustness(classifier, points, np.zeros(1, dtype=int), 0, asked)
    claim, (sample,) = outcome.claim(), outcome.samples.values()
    assert sample.radius == 0
    assert sample.predicted == 1
    verify_robustness(classifier, points, claim)
    for changed in (replace(sample, predicted=0), replace(sample, label=2, predicted=2, equilibria=())):
        with pytest.raises(NotProvedError, match="not proven to be above"):
            verify_robustness(classifier, points, replace(claim, samples=(changed,)))


def test_a_tie_of_exact_outputs_is_none_of_either() -> None:
    """Nothing is rounded: the outputs are those of relu, zero."""
    graph = Graph((Input("x", (2,)), Elementwise(0, Relu(), (2,))), (Output("y", 1),))
    classifier, points = Classifier(graph, 2.0), np.full((2, 2), -1.0)
    asked = Asked(2.0, (0.1,), timeout=0.0, device="cpu", steps=1, restarts=1)
    outcome = solve_robustness(classifier, points, np.array([0, 1]), 0, asked)
    verify_robustness(classifier, points, outcome.claim())
    assert [sample.predicted for sample in outcome.samples.values()] == [1, 0]
