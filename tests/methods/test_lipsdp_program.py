"""The program that LipSDP solves is the kernel's inequality, and its block arithmetic that of plain matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lipcert.certificate.chains import Setting
from lipcert.certificate.claim import Scaling
from lipcert.certificate.inequality import inequality
from lipcert.methods.lipsdp import program
from lipcert.methods.lipsdp.interior_point import CLOSE, feasible_start, solve
from lipcert.methods.lipsdp.program import Program, build
from lipcert.methods.lipsdp.reference import data_matrices
from lipcert.methods.lipsdp.structure import Structured
from lipcert.problem import Norm, Query, pose
from tests.helpers.inequalities import NETWORKS, REGIONS, setting_of, with_norms

NORMS: tuple[Norm, ...] = (2.0, math.inf)
every_network = pytest.mark.parametrize(("name", "p"), [(name, p) for name in NETWORKS for p in NORMS])


def setting_for(name: str, p: Norm, region: str = "everywhere") -> Setting:
    rng = np.random.default_rng([*name.encode(), 47])
    return with_norms(setting_of(pose(NETWORKS[name](rng), Query(region=REGIONS[region](rng)))), p, 2.0)


def scaled_program(name: str, p: Norm, region: str = "everywhere") -> Structured:
    """Around multipliers that differ by orders of magnitude."""
    found = build(setting_for(name, p, region))
    rng = np.random.default_rng(42)
    inputs = np.exp(rng.normal(size=found.inputs if found.each_input else 1))
    return Structured(found, inputs, np.exp(2 * rng.normal(size=found.groups)))


def matrices(scaled: Structured) -> list[np.ndarray]:
    """F_j, from the program: what one multiplier adds to P, in the coordinates of the scaled one."""
    found, multipliers = scaled.program, np.concatenate([scaled.inputs, scaled.multipliers])
    coordinate = np.concatenate([np.broadcast_to(scaled.inputs, found.inputs), scaled.multipliers[found.neuron_group]])
    shrink = 1 / np.sqrt(coordinate)
    nothing = found.matrix(0 * scaled.inputs, 0 * scaled.multipliers)
    units = np.diag(multipliers)
    return [
        np.outer(shrink, shrink) * (found.matrix(unit[: scaled.first], unit[scaled.first :]) - nothing)
        for unit in units
    ]


def symmetric(rng: np.random.Generator, size: int) -> np.ndarray:
    a = rng.normal(size=(size, size))
    return a + a.T


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-11 * np.abs(expected).max(initial=1e-300))


@every_network
@pytest.mark.parametrize("region", REGIONS)
def test_the_program_is_the_inequality_of_the_kernel(
    name: str, p: Norm, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any multipliers; directions of inputs that nothing sees are kept here."""
    monkeypatch.setattr(program, "_reduced", lambda found: found)
    setting = setting_for(name, p, region)
    found, rng = build(setting), np.random.default_rng(43)
    assert found.each_input == (p == math.inf)
    assert found.is_finite
    for _ in range(3):
        inputs = np.exp(rng.normal(size=found.inputs if found.each_input else 1))
        multipliers = np.exp(rng.normal(size=found.groups))
        a = np.broadcast_to(1 / np.sqrt(inputs), found.inputs)
        e = 1 / np.sqrt(multipliers[found.neuron_group])
        outputs = np.ones(setting.graph.size(setting.y))
        scale = np.concatenate([a, e])
        expected = inequality(setting, Scaling(a.copy(), e, outputs)).dense()[0]
        close(np.outer(scale, scale) * found.matrix(inputs, multipliers), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_program_of_one_output_leaves_out_the_others(name: str) -> None:
    setting = setting_for(name, math.inf)
    whole = build(setting)
    for k in range(setting.graph.size(setting.y)):
        one = build(setting, np.eye(len(whole.out))[k])
        inputs, multipliers = np.ones(whole.inputs), np.ones(whole.groups)
        others = np.delete(whole.out, k, axis=0)
        close(one.matrix(inputs, multipliers) - others.T @ others, whole.matrix(inputs, multipliers))


@every_network
def test_reduced_inputs_keep_the_form_on_what_is_seen(name: str, p: Norm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is proven positive of one program is so of the other: eigenvalues agree but for those of no use."""
    setting = setting_for(name, p)
    reduced = build(setting)
    monkeypatch.setattr(program, "_reduced", lambda found: found)
    whole = build(setting)
    inputs, multipliers = np.full(whole.inputs if whole.each_input else 1, 3.0), np.ones(whole.groups)
    sizes = (reduced.inputs if reduced.each_input else 1), whole.size - reduced.size
    found = np.linalg.eigvalsh(reduced.matrix(np.full(sizes[0], 3.0), multipliers))
    expected = np.linalg.eigvalsh(whole.matrix(inputs, multipliers))
    close(np.sort(np.concatenate([found, np.full(sizes[1], 3.0)])), expected)


@every_network
def test_the_scaled_program_is_the_program(name: str, p: Norm) -> None:
    for region in REGIONS:
        scaled = scaled_program(name, p, region)
        found, rng = scaled.program, np.random.default_rng(44)
        first = scaled.first
        shrink = 1 / np.sqrt(
            np.concatenate([np.broadcast_to(scaled.inputs, found.inputs), scaled.multipliers[found.neuron_group]])
        )
        y = np.exp(rng.normal(size=scaled.variables))
        expected = np.outer(shrink, shrink) * found.matrix(scaled.inputs * y[:first], scaled.multipliers * y[first:])
        close(scaled.matrix(y), expected)
        assert scaled.b @ y == pytest.approx(float((scaled.inputs * y[:first]).sum() / scaled.inputs.sum()))
        data = matrices(scaled)
        close(scaled.linear(y), sum((v * f for v, f in zip(y, data, strict=True)), np.zeros_like(data[0])))


@every_network
def test_products_with_the_data_are_those_of_plain_matrices(name: str, p: Norm) -> None:
    """tr(F_j X), tr(F_j Z F_k S), and (sum of y_j F_j) X, of symmetric matrices that need not be positive."""
    for region in REGIONS:
        scaled, rng = scaled_program(name, p, region), np.random.default_rng(45)
        size, data = scaled.program.size, matrices(scaled)
        x, z, s = (symmetric(rng, size) for _ in range(3))
        kept = z.copy(), s.copy()
        close(scaled.adjoint(x), np.array([np.vdot(f, x) for f in data]))
        close(scaled.schur(z, s), np.array([[np.vdot(f, s @ g @ z) for g in data] for f in data]))
        assert np.array_equal(z, kept[0])
        assert np.array_equal(s, kept[1])
        step = scaled.linear(rng.normal(size=scaled.variables))
        close(scaled.step_times(step, x), step @ x)
        flat = data_matrices(scaled).toarray()
        close(flat, np.stack([f.reshape(-1) for f in data], axis=1))


@every_network
def test_the_start_is_feasible_and_multipliers_are_one(name: str, p: Norm) -> None:
    for region in ("everywhere", "a ball"):
        scaled = feasible_start(build(setting_for(name, p, region)))
        assert scaled is not None
        form = scaled.matrix(np.ones(scaled.variables))
        assert np.linalg.eigvalsh(form)[0] > 0
        found = scaled.program.matrix(scaled.inputs, scaled.multipliers)
        close(
            np.diag(form)
            * np.concatenate(
                [np.broadcast_to(scaled.inputs, scaled.program.inputs), scaled.multipliers[scaled.program.neuron_group]]
            ),
            np.diag(found),
        )


@every_network
def test_the_dual_is_below_every_objective_and_close_at_the_end(name: str, p: Norm) -> None:
    iterates = list(solve(build(setting_for(name, p))))
    least = min(iterate.objective for iterate in iterates)
    assert iterates[0].dual == 0  # nothing is known
    for iterate in iterates:
        assert 0 <= iterate.dual <= least * (1 + 1e-9)
    assert iterates[-1].gap < 2 * CLOSE
    assert iterates[-1].dual >= least * (1 - 3 * CLOSE)


def test_a_program_that_overflows_has_no_start() -> None:
    found = build(setting_for("relu", math.inf))
    for size in (1e200, 1e308):
        rows = Program(**{**found.__dict__, "rows": found.rows * size})
        with np.errstate(all="ignore"):
            assert feasible_start(rows) is None or np.all(np.isfinite(feasible_start(rows).inputs))  # type: ignore[union-attr]
