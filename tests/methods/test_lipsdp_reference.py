"""Reference solvers: what they answer is repaired, and only then believed."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipcert.certificate import Claim, verify
from lipcert.errors import UsageError
from lipcert.methods import OutOfTime, Progress, Unsuitable
from lipcert.methods.lipsdp import LipSdpMethod, reference
from lipcert.methods.lipsdp.interior_point import Iterate, feasible_start, solve
from lipcert.methods.lipsdp.program import build
from lipcert.methods.lipsdp.reference import (
    Answer,
    check_solver,
    cvxpy_problem,
    data_matrices,
    has_mosek_licence,
    least_inputs,
    reference_iterates,
    repaired,
)
from lipcert.methods.lipsdp.structure import Structured
from lipcert.problem import Norm, Problem, Query, pose
from tests.helpers.inequalities import NETWORKS, attained, setting_of, with_norms
from tests.helpers.sampling import steepest_jacobians

SOLVERS = ("clarabel", "scs")
SMALL = ("relu", "leaky relu", "maxmin", "groupsort of 3", "max of 3", "residual", "forked")
small = pytest.mark.parametrize(("name", "p"), [(name, p) for name in SMALL for p in (2.0, math.inf)])


def problem_of(name: str, p: Norm) -> Problem:
    return pose(NETWORKS[name](np.random.default_rng([*name.encode(), 51])), Query(norm_in=p))


def start_of(name: str, p: Norm) -> Structured:
    scaled = feasible_start(build(with_norms(setting_of(problem_of(name, p)), p, 2.0)))
    assert scaled is not None
    return scaled


def is_feasible(scaled: Structured, iterate: Iterate) -> bool:
    matrix = scaled.program.matrix(iterate.inputs, iterate.multipliers)
    shrink = 1 / np.sqrt(np.abs(np.diag(matrix)))
    least = np.linalg.eigvalsh(shrink[:, None] * matrix * shrink)[0]
    positive = np.all(iterate.inputs > 0) and np.all(iterate.multipliers > 0)
    return bool(least >= -1e-13 and positive)  # the least inputs are on the boundary


def claimed(problem: Problem, solver: str) -> tuple[Claim, list[str]]:
    progress = Progress(time.monotonic() + 60, solver=solver)
    return next(LipSdpMethod().claims(problem, progress)), progress.notes


@small
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_solvers_multipliers_prove_about_the_native_optimum(
    monkeypatch: pytest.MonkeyPatch, name: str, p: Norm, solver: str
) -> None:
    """That of the same program: the native solver has forms of sorted groups besides."""
    monkeypatch.setattr("lipcert.methods.lipsdp.method.quadratic_iterates", lambda *_: iter(()))
    problem = problem_of(name, p)
    least = math.sqrt(max(i.dual for i in solve(build(with_norms(setting_of(problem), p, 2.0)))))
    native, _ = claimed(problem, "native")
    claim, notes = claimed(problem, solver)
    proven = verify(problem, claim)
    assert least * (1 - 1e-9) <= proven <= native.value * (1 + 1e-4)
    assert proven >= native.value * (1 - 1e-6)
    assert attained(problem, np.random.default_rng(0))[p, 2.0] <= proven * (1 + 1e-9)
    assert any(note.startswith(f"{solver} says optimal after ") for note in notes)
    assert any("its own value, which nothing proves, is" in note for note in notes)


@small
@pytest.mark.parametrize("solver", SOLVERS)
def test_iterates_of_a_solver_are_feasible_and_the_best_comes_first(name: str, p: Norm, solver: str) -> None:
    scaled = start_of(name, p)
    iterates = list(reference_iterates(scaled.program, solver, 60.0, []))
    assert iterates
    assert all(is_feasible(scaled, iterate) for iterate in iterates)
    objectives = [iterate.objective for iterate in iterates]
    assert objectives == sorted(objectives)
    assert objectives[0] <= scaled.objective


@small
def test_infeasible_multipliers_are_repaired(name: str, p: Norm) -> None:
    """Too small, zero in places or negative, or anything at all: what comes out is feasible."""
    scaled, rng = start_of(name, p), np.random.default_rng(52)
    ones = np.ones(scaled.variables)
    *_, best = solve(scaled.program)
    optimal = np.concatenate([best.inputs / scaled.inputs, best.multipliers / scaled.multipliers])
    for broken in (
        0 * ones,
        -ones,
        1e-3 * ones,
        0.5 * optimal,
        optimal * (1 - 1e-6),
        optimal * rng.uniform(0.9, 1.1, scaled.variables),
        np.where(rng.random(scaled.variables) < 0.3, 0.0, optimal),
        rng.normal(size=scaled.variables),
        np.exp(5 * rng.normal(size=scaled.variables)),
    ):
        iterates = list(repaired(scaled, broken))
        assert iterates
        assert all(is_feasible(scaled, iterate) for iterate in iterates)
        assert all(i.objective == pytest.approx(float(i.inputs.sum())) for i in iterates)
        objectives = [iterate.objective for iterate in iterates]
        assert objectives == sorted(objectives)
        assert objectives[0] >= best.dual * (1 - 1e-9)
        assert objectives[0] <= scaled.objective * (1 + 1e-9)  # the start is among what is tried
    nearly = next(repaired(scaled, optimal * (1 - 1e-6)))
    assert nearly.objective <= best.objective * (1 + 1e-4)


@small
def test_inputs_are_no_larger_than_the_others_need(name: str, p: Norm) -> None:
    scaled = start_of(name, p)
    iterate = least_inputs(scaled, np.ones(scaled.variables))
    assert iterate is not None
    assert iterate.objective <= scaled.objective
    np.testing.assert_allclose(iterate.inputs / scaled.inputs, iterate.inputs[0] / scaled.inputs[0])
    matrix = scaled.program.matrix(iterate.inputs * (1 - 1e-6), iterate.multipliers)
    assert np.linalg.eigvalsh(matrix)[0] < 0
    for bad in (0.0, -1.0, math.nan):
        for place in (scaled.first, -1):
            y = np.ones(scaled.variables)
            y[place] = bad
            assert least_inputs(scaled, y) is None


@small
@pytest.mark.parametrize("solver", ["CLARABEL", "SCS"])
def test_the_problem_of_cvxpy_has_data_for_every_solver(name: str, p: Norm, solver: str) -> None:
    """What MOSEK would get, too, if it had a licence: one semidefinite cone, and signs."""
    scaled = start_of(name, p)
    problem, y = cvxpy_problem(scaled)
    assert problem.is_dcp()
    assert y.shape == (scaled.variables,)
    data, _, _ = problem.get_problem_data(solver)
    assert data["c"].size >= scaled.variables
    assert list(data["dims"].psd) == [scaled.program.size]
    assert data["dims"].nonneg >= scaled.variables
    y.value = np.ones(scaled.variables)
    (constraint,) = problem.constraints
    np.testing.assert_allclose(constraint.args[0].value, scaled.matrix(np.ones(scaled.variables)), rtol=0, atol=1e-12)
    assert problem.objective.value == pytest.approx(1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_solver_may_have_any_time(solver: str) -> None:
    scaled = start_of("relu", 2.0)
    for seconds in (math.inf, 1e12, 10.0):
        assert reference.solve_by_cvxpy(scaled, solver, seconds).status == "optimal"


def test_solvers_that_find_nothing_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import cvxpy

    scaled = start_of("relu", 2.0)

    def fails(self: Any, **settings: Any) -> None:
        raise cvxpy.error.SolverError("a long story\nof two lines")

    monkeypatch.setattr(cvxpy.Problem, "solve", fails)
    with pytest.raises(Unsuitable, match=r"^clarabel failed: a long story$"):
        reference.solve_by_cvxpy(scaled, "clarabel", 10.0)
    monkeypatch.setattr(cvxpy.Problem, "solve", lambda self, **settings: None)
    with pytest.raises(Unsuitable, match="ended as None, without multipliers"):
        reference.solve_by_cvxpy(scaled, "scs", 10.0)
    monkeypatch.setattr(cvxpy.Problem, "solve", lambda self, **settings: time.sleep(1.1))
    with pytest.raises(OutOfTime):
        reference.solve_by_cvxpy(scaled, "scs", 0.0)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 1e-300, 1e300])
def test_lies_of_a_solver_prove_nothing_false(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever multipliers and value it returns, what is claimed is proven."""
    for turn, name in enumerate(SMALL):
        problem = problem_of(name, 2.0)
        rng = np.random.default_rng([turn, 53])

        def lie(scaled: Structured, *_: object, rng: np.random.Generator = rng) -> Answer:
            return Answer(value * np.exp(rng.normal(size=scaled.variables)), -value, "optimal", 0.0)

        monkeypatch.setattr(reference, "solve_by_cvxpy", lie)
        claim, notes = claimed(problem, "clarabel")
        steepest = steepest_jacobians(problem, rng, 100)[2.0, 2.0]
        assert steepest <= verify(problem, claim) * (1 + 1e-9)
        assert notes


def test_programs_that_are_too_large_for_cvxpy_are_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    scaled = start_of("relu", 2.0)
    entries = data_matrices(scaled)
    assert entries.shape == (scaled.program.size**2, scaled.variables)
    monkeypatch.setattr(reference, "MAX_NONZEROS", 10)
    with pytest.raises(Unsuitable, match="too many for cvxpy: use the native solver"):
        data_matrices(scaled)


def test_a_solver_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for solver in ("native", "clarabel", "scs"):
        check_solver(solver)
    with pytest.raises(UsageError, match="there is no solver 'magic'") as raised:
        check_solver("magic")
    assert raised.value.hint == "use native, clarabel, scs, mosek"
    monkeypatch.delenv("MOSEKLM_LICENSE_FILE", raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert not has_mosek_licence()
    with pytest.raises(UsageError, match="no licence of MOSEK was found") as raised:
        check_solver("mosek")
    for word in ("MOSEKLM_LICENSE_FILE", "~/mosek/mosek.lic", "--solver clarabel"):
        assert word in str(raised.value.hint)
    (tmp_path / "mosek").mkdir()
    (tmp_path / "mosek" / "mosek.lic").touch()
    check_solver("mosek")
    (tmp_path / "mosek" / "mosek.lic").unlink()
    monkeypatch.setenv("MOSEKLM_LICENSE_FILE", "27000@somewhere")
    check_solver("mosek")
