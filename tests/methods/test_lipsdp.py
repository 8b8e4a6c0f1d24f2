"""The optimum of LipSDP is reached, by feasible iterates only, and what cannot be bounded is said in words."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lipcert
from lipcert.activations import LeakyRelu, Relu, Sqrt
from lipcert.activations.sorting import GroupMax, GroupSort
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate import Claim, verify
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import propagate
from lipcert.certificate.chains import Setting, prepare_split
from lipcert.certificate.claim import Inequality
from lipcert.cli.main import run
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Input, Node, Output
from lipcert.methods import OutOfTime, Progress, Unsuitable
from lipcert.methods.lipsdp import LipSdpMethod, interior_point, method, program
from lipcert.methods.lipsdp.interior_point import closed_form_start, solve
from lipcert.methods.lipsdp.program import Program, build
from lipcert.operators import Dense, Identity
from lipcert.problem import Norm, Problem, Query, SomeOutputs, pose
from tests.helpers.sampling import steepest_jacobians

CLOSE = 1e-6


def network(rng: np.random.Generator, sizes: Sequence[int], layer: Callable[[int, int], Node] | None = None) -> Graph:
    """Matrices of these sizes, with a nonlinear node after each but the last (ReLU unless `layer` says)."""
    nodes: list[Node] = [Input("x", (sizes[0],))]
    for n, m in pairwise(sizes):
        if len(nodes) > 1:
            nodes.append(Elementwise(len(nodes) - 1, Relu(), (n,)) if layer is None else layer(n, len(nodes) - 1))
        weights = rng.normal(size=(m, n)) / math.sqrt(n)
        nodes.append(Affine((len(nodes) - 1,), (Dense(weights),), exact(rng.normal(size=m)), (m,)))
    return Graph(tuple(nodes), (Output("y", len(nodes) - 1),))


def setting_of(problem: Problem) -> Setting:
    by = Arithmetic()
    return prepare_split(problem, propagate(problem, by), "open", by)


def claims(problem: Problem, progress: Progress | None = None) -> list[Claim]:
    return list(LipSdpMethod().claims(problem, progress or Progress()))


def bound(problem: Problem) -> float:
    """The least that is claimed, verified."""
    claim = claims(problem)[-1]
    return verify(problem, claim)


SHAPES: dict[str, Graph] = {
    "one layer": network(np.random.default_rng(1), (3, 6, 2)),
    "three layers": network(np.random.default_rng(2), (4, 8, 7, 6, 3)),
    "wide input": network(np.random.default_rng(3), (20, 6, 6, 2)),
    "deep": network(np.random.default_rng(4), (4, *[5] * 8, 2)),
    "groups of 3": network(np.random.default_rng(5), (3, 6, 6, 2), lambda n, at: Groupwise(at, GroupSort(3), (n,))),
    "maxmin": network(np.random.default_rng(6), (3, 6, 6, 2), lambda n, at: Groupwise(at, GroupSort(2), (n,))),
}
SHAPE_NORMS = [(name, p) for name in SHAPES for p in (2.0, math.inf)]
shapes = pytest.mark.parametrize(("name", "p"), SHAPE_NORMS)


def program_of(name: str, p: Norm) -> Program:
    return build(setting_of(pose(SHAPES[name], Query(norm_in=p))))


# The optimum.


def digits(weights: Any) -> onnx.ModelProto:
    """ReLU between the matrices W1, W2 .. and biases b1, b2 .., in float64."""
    count = sum(key.startswith("W") for key in weights)
    nodes, constants, at = [], [], "x"
    for i in range(1, count + 1):
        for key in (f"W{i}", f"b{i}"):
            constants.append(numpy_helper.from_array(np.asarray(weights[key], dtype=np.float64), key))
        nodes.append(helper.make_node("Gemm", [at, f"W{i}", f"b{i}"], [f"v{i}"], transB=1))
        at = f"v{i}"
        if i < count:
            nodes.append(helper.make_node("Relu", [at], [f"w{i}"]))
            at = f"w{i}"
    shapes = (1, weights["W1"].shape[1]), (1, weights[f"W{count}"].shape[0])
    inputs, outputs = (
        helper.make_tensor_value_info(name, TensorProto.DOUBLE, shape)
        for name, shape in zip(("x", at), shapes, strict=True)
    )
    graph = helper.make_graph(nodes, "digits", [inputs], [outputs], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["fnn2", "fnn3"])
def test_the_published_optimum_of_the_digits_networks_is_reached(kind: str, seed: int, test_data: Path) -> None:
    name = f"{kind}_seed{seed}"
    reference = json.loads((test_data / "glipsdp" / "reference.json").read_text())["networks"][name]
    with np.load(test_data / "glipsdp" / f"{name}.npz") as weights:
        model = lipcert.load(digits(weights))
    value = bound(pose(model.graph, Query(outputs=SomeOutputs((7,)))))
    assert reference["lipsdp"] * (1 - 1e-7) <= value <= reference["lipsdp"] * (1 + 1e-4)
    assert value >= reference["sampled_lower"]


@pytest.mark.parametrize(("name", "optimum"), [("mlp_L5_W64", 18.522948), ("mlp_L17_W32", 3781.443)])
def test_the_optimum_of_deep_networks_is_reached(name: str, optimum: float, test_data: Path) -> None:
    model = lipcert.load(test_data / "models" / f"{name}.onnx")
    value = bound(pose(model.graph, Query()))
    assert optimum * (1 - 1e-7) <= value <= optimum * (1 + 1e-5)


@shapes
def test_every_iterate_is_feasible_and_the_last_one_nearly_optimal(name: str, p: Norm) -> None:
    found = program_of(name, p)
    iterates = list(solve(found))
    assert len(iterates) > 3
    for iterate in iterates:
        assert np.all(iterate.inputs > 0)
        assert np.all(iterate.multipliers > 0)
        matrix = found.matrix(iterate.inputs, iterate.multipliers)
        shrink = 1 / np.sqrt(np.diag(matrix))
        assert np.linalg.eigvalsh(shrink[:, None] * matrix * shrink)[0] > 0
        assert iterate.objective == pytest.approx(float(iterate.inputs.sum()))
    assert iterates[-1].gap < CLOSE
    assert iterates[-1].objective < iterates[0].objective


@shapes
@pytest.mark.parametrize("room", interior_point.ROOM)
def test_the_closed_form_start_is_feasible(name: str, p: Norm, room: float) -> None:
    found = program_of(name, p)
    inputs, multipliers = closed_form_start(found, room)
    assert np.all(inputs > 0)
    assert np.all(multipliers > 0)
    matrix = found.matrix(inputs, multipliers)
    shrink = 1 / np.sqrt(np.diag(matrix))
    assert np.linalg.eigvalsh(shrink[:, None] * matrix * shrink)[0] > 0


@pytest.mark.parametrize("p", [2.0, math.inf])
@pytest.mark.parametrize("seed", range(3))
def test_another_solver_finds_the_same_optimum(seed: int, p: Norm) -> None:
    """The program written out anew from the weights, two layers of six."""
    cvxpy = pytest.importorskip("cvxpy")
    rng = np.random.default_rng([seed, 31])
    graph = network(rng, (3, 6, 6, 2))
    problem = pose(graph, Query(norm_in=p))
    first, second, last = (node.operators[0].weights for node in graph.nodes if isinstance(node, Affine))  # type: ignore[union-attr]
    # over (dx, dw1, dw2) of the network itself: slopes in [0, 1]
    v1, w1 = np.hstack([first, np.zeros((6, 12))]), np.hstack([np.zeros((6, 3)), np.eye(6), np.zeros((6, 6))])
    v2, w2 = np.hstack([np.zeros((6, 3)), second, np.zeros((6, 6))]), np.hstack([np.zeros((6, 9)), np.eye(6)])
    y = np.hstack([np.zeros((2, 9)), last])
    rho, multipliers = cvxpy.Variable(3 if p == math.inf else 1, nonneg=True), cvxpy.Variable(12, nonneg=True)
    e = np.eye(3, 15)
    form = e.T @ (cvxpy.diag(rho) if p == math.inf else rho[0] * np.eye(3)) @ e - y.T @ y
    for v, w, part in ((v1, w1, multipliers[:6]), (v2, w2, multipliers[6:])):
        form = form + w.T @ cvxpy.diag(2 * part) @ w - w.T @ cvxpy.diag(part) @ v - v.T @ cvxpy.diag(part) @ w
    asked = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(rho)), [(form + form.T) / 2 >> 0])
    asked.solve(solver=cvxpy.CLARABEL, tol_gap_rel=1e-10, tol_gap_abs=1e-10, tol_feas=1e-10)
    assert bound(problem) == pytest.approx(math.sqrt(asked.value), rel=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_reduced_inputs_have_the_same_optimum(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = pose(SHAPES[name], Query())
    reduced = build(setting_of(problem)).inputs, bound(problem)
    monkeypatch.setattr(program, "_reduced", lambda found: found)
    whole = build(setting_of(problem)).inputs, bound(problem)
    assert reduced[0] <= whole[0] == problem.size_in
    assert (reduced[0] < whole[0]) == (name == "wide input")
    assert reduced[1] == pytest.approx(whole[1], rel=1e-6)


# What the bounds are worth.


@pytest.mark.parametrize("name", SHAPES)
def test_inputs_in_linf_have_scales_of_their_own(name: str) -> None:
    """Which never costs, and pays where inputs matter unequally."""
    l2, linf = (bound(pose(SHAPES[name], Query(norm_in=p))) for p in (2.0, math.inf))
    root = math.sqrt(SHAPES[name].size(0))
    assert l2 * (1 - 1e-6) <= linf <= l2 * root * (1 + 1e-6)
    unequal = replace_first(SHAPES[name], np.concatenate([[10.0], np.full(SHAPES[name].size(0) - 1, 0.1)]))
    l2, linf = (bound(pose(unequal, Query(norm_in=p))) for p in (2.0, math.inf))
    assert linf <= 0.95 * root * l2


def replace_first(graph: Graph, by: np.ndarray) -> Graph:
    """Inputs multiplied by these numbers first."""
    first = graph.nodes[1]
    assert isinstance(first, Affine)
    changed = replace(first, operators=(Dense(first.operators[0].weights * by),))  # type: ignore[attr-defined]
    return Graph((graph.nodes[0], changed, *graph.nodes[2:]), graph.outputs)


@pytest.mark.parametrize("layers", [2, 3])
def test_an_orthogonal_maxmin_network_has_constant_one(layers: int) -> None:
    rng = np.random.default_rng(layers)
    nodes: list[Node] = [Input("x", (6,))]
    for _ in range(layers):
        rotation = Dense(np.linalg.qr(rng.normal(size=(6, 6)))[0])
        nodes.append(Affine((len(nodes) - 1,), (rotation,), exact(np.zeros(6)), (6,)))
        nodes.append(Groupwise(len(nodes) - 1, GroupSort(2), (6,)))
    problem = pose(Graph(tuple(nodes), (Output("y", len(nodes) - 1),)), Query())
    attained = steepest_jacobians(problem, rng, 20)[2.0, 2.0]
    assert attained == pytest.approx(1, abs=1e-9)
    assert attained * (1 - 1e-9) <= bound(problem) <= 1 + 1e-5


def test_a_residual_network_is_bounded_by_less_than_its_blocks_by_themselves() -> None:
    rng = np.random.default_rng(32)
    nodes: list[Node] = [Input("x", (4,))]
    product, at = 1.0, 0
    for _ in range(3):
        inward, outward = rng.normal(size=(5, 4)) / 3, rng.normal(size=(4, 5)) / 3
        nodes.append(Affine((at,), (Dense(inward),), exact(rng.normal(size=5)), (5,)))
        nodes.append(Elementwise(len(nodes) - 1, LeakyRelu(0.2), (5,)))
        same = Identity(4)
        nodes.append(Affine((at, len(nodes) - 1), (same, Dense(outward)), exact(np.zeros(4)), (4,)))
        branch = Graph((Input("x", (4,)), *(_moved(n, at) for n in nodes[-3:-1]), _alone(outward)), (Output("y", 3),))
        product *= 1 + bound(pose(branch, Query()))
        at = len(nodes) - 1
    problem = pose(Graph(tuple(nodes), (Output("y", at),)), Query())
    assert steepest_jacobians(problem, rng, 200)[2.0, 2.0] <= bound(problem) < 0.9 * product


def _moved(node: Node, by: int) -> Node:
    if isinstance(node, Affine):
        return replace(node, inputs=(0,))
    assert isinstance(node, Elementwise)
    return replace(node, input=node.input - by)


def _alone(weights: np.ndarray) -> Affine:
    return Affine((2,), (Dense(weights),), exact(np.zeros(len(weights))), (len(weights),))


@pytest.mark.parametrize("width", [2, 3, 4])
def test_groups_are_bounded_by_no_more_than_norms_in_a_row(width: int) -> None:
    rng = np.random.default_rng(width)
    for function in (GroupSort(width), GroupMax(width)):
        first, last = rng.normal(size=(4 * width, 3)), rng.normal(size=(2, 4 * function.out_width))
        nodes = (
            Input("x", (3,)),
            Affine((0,), (Dense(first),), exact(rng.normal(size=4 * width)), (4 * width,)),
            Groupwise(1, function, (4 * function.out_width,)),
            Affine((2,), (Dense(last),), exact(np.zeros(2)), (2,)),
        )
        problem = pose(Graph(nodes, (Output("y", 3),)), Query())
        claim = claims(problem)[-1]
        assert isinstance(claim.evidence, Inequality)
        if width > 2 and isinstance(function, GroupSort):
            hidden = claim.evidence.scalings[0].hidden.reshape(4, -1)
            assert np.all(hidden == hidden[:, :1])
        product = float(np.linalg.norm(last, 2) * np.linalg.norm(first, 2))
        assert steepest_jacobians(problem, rng, 200)[2.0, 2.0] <= verify(problem, claim) <= product * (1 + 1e-6)


def test_single_outputs_improve_linf() -> None:
    problem = pose(SHAPES["three layers"], Query(norm_out=math.inf))
    first, last = claims(problem)
    assert isinstance(last.evidence, Inequality)
    assert len(last.evidence.scalings) == 4
    assert verify(problem, last) < verify(problem, first)
    alone = [bound(pose(SHAPES["three layers"], Query(outputs=SomeOutputs((k,))))) for k in range(3)]
    assert last.value == pytest.approx(max(alone), rel=1e-6)


# Time, and what is not accepted.


@pytest.mark.parametrize("steps", [0, 1, 3, 6])
def test_out_of_time_during_the_solve_leaves_a_proven_claim(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = iter((10**6, steps))  # for what comes before it, and for the solve
    monkeypatch.setattr(method, "deadline", lambda progress: _ticks(next(allowed)))
    problem = pose(SHAPES["three layers"], Query())
    found = claims(problem)
    assert len(found) == 1
    assert bound_of(SHAPES["three layers"]) * (1 - 1e-6) <= verify(problem, found[0]) <= found[0].value
    assert found[0].value < 1e6


@pytest.mark.parametrize("steps", [1, 4])
def test_outputs_one_by_one_keep_what_was_found_when_their_time_ends(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = pose(SHAPES["three layers"], Query(norm_out=math.inf))
    setting = setting_of(problem)
    setting.by.tick = before = _ticks(10**6)
    monkeypatch.setattr(method, "deadline", lambda progress: _ticks(steps))
    scalings = [method.output_scaling(setting, j, Progress()) for j in range(setting.graph.size(setting.y))]
    assert all(scaling is not None for scaling in scalings)
    assert setting.by.tick is before
    found = Inequality(tuple(scaling for scaling in scalings if scaling is not None))
    whole = bound_of(SHAPES["three layers"])
    assert 0 < verify(problem, Claim(1e9, found)) < 100 * whole


def _ticks(steps: int) -> Callable[[], None]:
    left = [steps]

    def tick() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OutOfTime

    return tick


def bound_of(graph: Graph) -> float:
    problem = pose(graph, Query())
    iterates = list(solve(build(setting_of(problem))))
    return math.sqrt(iterates[-1].objective)


def test_a_run_without_time_ends_with_a_proven_claim_or_none() -> None:
    problem = pose(SHAPES["deep"], Query(norm_out=math.inf))
    for seconds in (-1.0, 0.0, 0.005, 0.02):
        found = []
        try:
            for claim in LipSdpMethod().claims(problem, Progress(time.monotonic() + seconds)):
                found.append(claim)
        except (OutOfTime, Unsuitable):
            pass
        for claim in found:
            assert verify(problem, claim) <= claim.value


def test_networks_that_are_too_large_and_have_no_parts_are_declined_with_a_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(method, "MAX_SHARED", 20)
    monkeypatch.setattr(method, "composed_claim", lambda *_: None)
    with pytest.raises(Unsuitable, match="21 neurons are too many for one LipSDP, and no parts of the network fit"):
        claims(pose(SHAPES["three layers"], Query()))


@pytest.mark.parametrize("q", [1.0, 2.0, math.inf])
def test_inputs_in_l1_are_bounded_one_by_one(q: Norm) -> None:
    """Each by scales of its own: no more than what all inputs together give in l2."""
    problem = pose(SHAPES["three layers"], Query(norm_in=1.0, norm_out=q))
    together, single = claims(problem)
    assert isinstance(single.evidence, Inequality)
    assert len(single.evidence.scalings) == 1 + problem.size_in
    assert verify(problem, single) <= verify(problem, together)


def test_a_node_without_bounded_slopes_is_named() -> None:
    nodes = (
        Input("x", (2,)),
        Elementwise(0, Sqrt(), (2,), "root"),
        Affine((1,), (Identity(2),), exact(np.zeros(2)), (2,)),
    )
    with pytest.raises(Unsuitable, match="node 'root' has no bounded slopes here"):
        claims(pose(Graph(nodes, (Output("y", 2),)), Query()))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    rng = np.random.default_rng(33)
    path = tmp_path / "small.onnx"
    weights = {
        "W1": rng.normal(size=(6, 3)),
        "b1": rng.normal(size=6),
        "W2": rng.normal(size=(2, 6)),
        "b2": np.zeros(2),
    }
    onnx.save(digits(weights), path)
    return path


def test_a_user_learns_why_there_is_no_bound(
    model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """In the report's attempts, on the terminal, and by the exit status for inconclusive."""
    monkeypatch.setattr(method, "MAX_SHARED", 5)
    monkeypatch.setattr(method, "composed_claim", lambda *_: None)
    path = tmp_path / "report.json"
    assert run(["bound", str(model), "--method", "lipsdp", "--json", str(path)]) == 4
    (attempt,) = json.loads(path.read_text())["attempts"]
    assert attempt["reason"] == "6 neurons are too many for one LipSDP, and no parts of the network fit"
    assert "no parts of the network fit" in " ".join(capsys.readouterr().out.split())


def test_a_user_gets_a_bound_that_checks(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    assert run(["bound", str(model), "--method", "lipsdp", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert report["certificate"]["evidence"]["is"] == "Inequality"
    for strict in ([], ["--strict"]):
        assert run(["check", *strict, str(path), str(model)]) == 0
