"""The interior-point method in torch: it finds what the structured one finds, on whatever device."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from lipcert.activations import Relu
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate import verify
from lipcert.graph import Affine, Elementwise, Graph, Input, Node, Output
from lipcert.methods import Progress
from lipcert.methods.lipsdp import LipSdpMethod
from lipcert.methods.lipsdp.interior_point import LANCZOS, solve
from lipcert.methods.lipsdp.on_device import SMALL, solve_on
from lipcert.methods.lipsdp.program import build
from lipcert.operators import Dense
from lipcert.problem import Norm, Query, pose
from tests.helpers.inequalities import NETWORKS, setting_of, with_norms

torch = pytest.importorskip("torch")
CPU = torch.device("cpu")


@pytest.mark.parametrize("p", [2.0, math.inf])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_optimum_is_that_of_the_structured_method(name: str, p: Norm) -> None:
    problem = pose(NETWORKS[name](np.random.default_rng(3)), Query())
    program = build(with_norms(setting_of(problem), p, 2.0))
    *_, expected = solve(program)
    iterates = list(solve_on(program, CPU))
    assert iterates[-1].objective == pytest.approx(expected.objective, rel=1e-5)
    assert iterates[-1].gap < 1e-5
    for iterate in iterates:  # each is feasible
        form = program.matrix(iterate.inputs, iterate.multipliers)
        assert np.linalg.eigvalsh(form)[0] > -1e-9 * np.abs(form).max()
        assert iterate.objective >= expected.dual * (1 - 1e-9)


def test_lanczos_finds_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    sizes = (20, 40, 40, 40, 5)
    nodes: list[Node] = [Input("x", (20,))]
    for k, (n, m) in enumerate(pairwise(sizes)):
        if k:
            nodes.append(Elementwise(len(nodes) - 1, Relu(), (n,)))
        weights = Dense(rng.normal(size=(m, n)) / np.sqrt(n))
        nodes.append(Affine((len(nodes) - 1,), (weights,), exact(np.zeros(m)), (m,)))
    problem = pose(Graph(tuple(nodes), (Output("y", len(nodes) - 1),)), Query())
    program = build(setting_of(problem))
    assert LANCZOS < program.size <= SMALL
    *_, expected = solve_on(program, CPU)
    monkeypatch.setattr("lipcert.methods.lipsdp.on_device.SMALL", 0)
    *_, found = solve_on(program, CPU)
    assert found.objective == pytest.approx(expected.objective, rel=1e-6)


@pytest.mark.parametrize("name", ["relu", "maxmin", "residual"])
def test_what_a_device_finds_is_proven(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As with a GPU, were there one: the same certificate but for rounding."""
    problem = pose(NETWORKS[name](np.random.default_rng(4)), Query())
    expected = next(LipSdpMethod().claims(problem, Progress()))
    used = []

    def on_device(program: object, device: object, tick: object, close: object) -> object:
        used.append(device)
        return solve_on(program, CPU, tick, close)  # type: ignore[arg-type]

    monkeypatch.setattr("lipcert.methods.lipsdp.method._gpu", lambda neurons, progress: CPU)
    monkeypatch.setattr("lipcert.methods.lipsdp.on_device.solve_on", on_device)
    claim = next(LipSdpMethod().claims(problem, Progress()))
    assert used == [CPU]
    assert verify(problem, claim) == pytest.approx(expected.value, rel=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_gpu_finds_the_optimum(name: str) -> None:
    problem = pose(NETWORKS[name](np.random.default_rng(5)), Query())
    program = build(setting_of(problem))
    *_, expected = solve(program)
    *_, found = solve_on(program, torch.device("cuda"))
    assert found.objective == pytest.approx(expected.objective, rel=1e-5)


def test_small_networks_and_the_cpu_need_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from lipcert.methods.lipsdp import method

    monkeypatch.setattr("lipcert.methods.device.choose_device", lambda name: torch.device("meta"))
    assert method._gpu(method.LARGE - 1, Progress(device="cuda")) is None
    assert method._gpu(method.LARGE, Progress(device="cpu")) is None
    assert method._gpu(method.LARGE, Progress(device="auto")) is None
    assert method._gpu(method.LARGE, Progress(device="cuda", solver="scs")) is None
    assert method._gpu(method.LARGE, Progress(device="cuda")) is not None
    assert method._most(method.MAX_NEURONS + 1, Progress(device="cuda")) == method.MAX_ON_GPU
    assert method._most(method.MAX_NEURONS + 1, Progress(device="cpu")) == method.MAX_NEURONS
