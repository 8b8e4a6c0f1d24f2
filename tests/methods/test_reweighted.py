"""Weights of inputs in l-infinity, found by turns: feasible, and near the optimum of a multiplier for each input."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lipcert.activations import Relu
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import propagate
from lipcert.certificate.chains import prepare_split
from lipcert.graph import Graph
from lipcert.methods.lipsdp.interior_point import solve
from lipcert.methods.lipsdp.program import Program, build
from lipcert.methods.lipsdp.reweighted import reweighted, worth_it
from lipcert.problem import Query, pose
from tests.helpers.inequalities import Builder


def wide(seed: int, inputs: int = 48, neurons: int = 6) -> Program:
    """Many inputs, few neurons, one output."""
    build_up = Builder(np.random.default_rng(seed), inputs)
    at = build_up.active(build_up.affine(neurons, 0), Relu())
    build_up.affine(1, build_up.active(build_up.affine(neurons, at), Relu()))
    return program_of(build_up.graph())


def program_of(graph: Graph) -> Program:
    by = Arithmetic()
    problem = pose(graph, Query(norm_in=math.inf, norm_out=math.inf))
    return build(prepare_split(problem, propagate(problem, by), "open", by))


@pytest.mark.parametrize("seed", range(6))
def test_the_bound_is_near_that_of_a_multiplier_for_each_input(seed: int) -> None:
    program = wide(seed)
    assert worth_it(program)
    iterates = list(reweighted(program, lambda: None))
    best = min(iterates, key=lambda iterate: iterate.objective)
    optimum = min(iterate.objective for iterate in solve(program))
    assert optimum * (1 - 1e-5) <= best.objective <= 1.03 * optimum


@pytest.mark.parametrize("seed", range(3))
def test_every_iterate_is_feasible(seed: int) -> None:
    program = wide(seed)
    for iterate in reweighted(program, lambda: None):
        matrix = program.matrix(iterate.inputs, iterate.multipliers)
        assert np.linalg.eigvalsh(matrix)[0] > -1e-9 * np.abs(matrix).max()
        assert iterate.objective == pytest.approx(iterate.inputs.sum())


def test_few_inputs_have_multipliers_of_their_own() -> None:
    assert not worth_it(wide(0, inputs=8))
