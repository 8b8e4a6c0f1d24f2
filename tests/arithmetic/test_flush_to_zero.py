"""Libraries built with -ffast-math, and torch on request, flush subnormal numbers to zero for the whole thread.

Then 1e-310 reads as zero: what is proved must not rest on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from lipcert.activations import Relu
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate import Claim, verify
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import AbsoluteChain, Attack
from lipcert.certificate.robustness import Classifier, attacks_hold
from lipcert.errors import LipcertError
from lipcert.graph import Affine, Elementwise, Graph, Input, Output
from lipcert.operators import Dense
from lipcert.problem import AllOutputs, Problem, Query, pose


@contextmanager
def flushing() -> Iterator[None]:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush to zero")
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def layer(source: int, weight: float) -> Affine:
    return Affine((source,), (Dense(np.array([[weight]])),), exact(np.zeros(1)), (1,))


def tiny_then_huge() -> Problem:
    """x -> 1e300 relu(1e-310 x), of Lipschitz constant 1e-10."""
    nodes = (Input("in", (1,)), layer(0, 1e-310), Elementwise(1, Relu(), (1,)), layer(2, 1e300))
    return pose(Graph(nodes, (Output("y", 3),)), Query())


def test_flushing_ends_with_the_block() -> None:
    small = np.float64(1e-310)
    with flushing():
        assert small * 1.0 == 0
    assert small * 1.0 > 0


@pytest.mark.parametrize("center", [False, True])
def test_a_bound_below_the_truth_is_not_certified_where_underflow_is_flushed(center: bool) -> None:
    problem = tiny_then_huge()
    assert verify(problem, Claim(1.001e-10, AbsoluteChain(center))) >= 0.999e-10
    with flushing(), pytest.raises(LipcertError):
        verify(problem, Claim(1e-12, AbsoluteChain(center)))


def test_no_attack_is_proven_where_subnormals_are_flushed() -> None:
    classifier = Classifier(tiny_then_huge().graph, 2.0)
    point = np.zeros(classifier.posed(AllOutputs()).size_in)
    with flushing(), pytest.raises(LipcertError, match="flushes subnormal"):
        attacks_hold(classifier, point[None], np.zeros(1, dtype=int), [Attack(1.0, point)], Arithmetic())
