"""Where a network is cut, what the parts hold, and that networks too large for one LipSDP get a bound that checks."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lipcert
from lipcert.activations import Relu
from lipcert.arithmetic.enclosure import exact
from lipcert.certificate import Claim, verify
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.claim import Composed, Inequality
from lipcert.certificate.composed import part_problems
from lipcert.cli.main import run
from lipcert.graph import Affine, Elementwise, Graph, Input, Node, Output
from lipcert.methods import Method, Progress, Unsuitable
from lipcert.methods.lipsdp import LipSdpMethod, composition, method
from lipcert.methods.lipsdp.composition import NONLINEAR, composed_claim, crossings, parts_of
from lipcert.methods.product import ProductMethod
from lipcert.operators import Identity
from lipcert.planning import solve
from lipcert.problem import Ball, Box, Everywhere, Norm, Problem, Query, Region, pose
from lipcert.report.schema import report_schema
from tests.helpers.claims import claims_of
from tests.helpers.compositions import BLOCKS, blocks, separators
from tests.helpers.graphs import random_graph
from tests.helpers.implicit import Implicit
from tests.helpers.sampling import merge, steepest_jacobians, steepest_pairs

MARGIN = 1 + 1e-9
"""For the rounding of what is sampled."""

REGIONS: dict[str, Region] = {
    "everywhere": Everywhere(),
    "a ball": Ball(np.array([0.3, -0.2, 0.1]), 0.5, 2.0),
    "a box": Box(np.array([-0.5, -1.0, 0.0]), np.array([0.5, 0.0, 0.8])),
}
DEEP = ("layer", "residual", "layer", "fork", "layer", "groups", "linear", "residual")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """LipSDP takes so many neurons at once."""
    most = 16
    for name in ("MAX_NEURONS", "MAX_SHARED", "MAX_GROUPS"):
        monkeypatch.setattr(method, name, most)
    monkeypatch.setattr(composition, "PART", most)
    return most


def in_parts(
    problem: Problem,
    most: int,
    small: Callable[[], Method] = LipSdpMethod,
    large: Callable[[], Method] = ProductMethod,
    progress: Progress | None = None,
) -> Claim | None:
    """The claim where LipSDP bounds parts of so many neurons."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composition, "PART", most)
        return composed_claim(problem, progress or Progress(), small, large)


def product_bound(problem: Problem) -> float:
    return min(claim.value for claim in claims_of(ProductMethod(), problem))


# Crossings.


def random_dag(rng: np.random.Generator) -> Graph:
    """Nodes of one entry that read others not far before them; some lead nowhere, some begin at a second input."""
    nodes: list[Node] = [Input("x", (1,)), Input("free", (1,))]
    one, reach = Identity(1), int(rng.integers(1, 5))
    for i in range(2, int(rng.integers(5, 16))):
        before = np.arange(max(0, i - reach), i)
        sources = rng.choice(before, min(len(before), int(rng.choice([1, 1, 1, 2, 3]))), replace=False).tolist()
        sources = sources if i > 2 else [0]
        if rng.random() < 0.3:
            nodes.append(Elementwise(sources[0], Relu(), (1,)))
        else:
            nodes.append(Affine(tuple(sources), (one,) * len(sources), exact(np.zeros(1)), (1,)))
    return Graph(tuple(nodes), (Output("y", len(nodes) - 1),))


def test_crossings_are_the_affine_nodes_without_which_no_path_leads_to_the_output() -> None:
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(2000):
        graph = random_dag(rng)
        y = int(rng.integers(2, len(graph.nodes)))
        expected = separators(graph, 0, y)
        assert crossings(graph, 0, y) == expected
        found += bool(expected)
    assert found > 500


@pytest.mark.parametrize("seed", range(20))
def test_crossings_of_random_networks_are_cuts(seed: int) -> None:
    rng = np.random.default_rng([seed, 2])
    graph = random_graph(rng, inputs=1 + seed % 3, depth=int(rng.integers(1, 8)), width=4)
    problem = pose(graph, Query(inputs=tuple(graph.inputs)[: 1 + seed % 2]))
    found = crossings(problem.graph, problem.x, problem.y)
    assert found == separators(problem.graph, problem.x, problem.y)
    parts = part_problems(problem, tuple(found), Arithmetic())
    assert len(parts) == len(found) + 1


# Parts.


def neurons(graph: Graph, start: int, end: int) -> int:
    return sum(graph.size(i) for i in range(start + 1, end + 1) if isinstance(graph.nodes[i], NONLINEAR))


@pytest.mark.parametrize("seed", range(20))
def test_parts_cover_all_neurons_and_are_as_long_as_they_may_be(seed: int) -> None:
    rng = np.random.default_rng([seed, 3])
    width = int(rng.choice([2, 4, 6]))
    problem = pose(blocks(rng, *rng.choice(BLOCKS, 8).tolist(), width=width), Query())
    graph = problem.graph
    places = [problem.x, *crossings(graph, problem.x, problem.y), problem.y]
    total = neurons(graph, problem.x, problem.y)
    for most in (0, 1, 3, 6, 10, 17, 30, total - 1, total, total + 1, 10**9):
        parts = parts_of(problem, most)
        ends = [part.end for part in parts]
        starts = [problem.x, *ends[:-1]]
        assert ends == sorted(set(ends))
        assert set(ends) <= set(places)
        assert ends[-1] == problem.y
        assert sum(part.neurons for part in parts) == total
        for part, start in zip(parts, starts, strict=True):
            assert part.neurons == neurons(graph, start, part.end)
            inside = [i for i in places if start <= i <= part.end]
            if part.neurons > most:  # then no stretch with neurons that it holds could be bounded by itself
                assert not any(0 < neurons(graph, a, b) <= most for a, b in pairwise(inside))
        assert all(a.neurons + b.neurons > most for a, b in pairwise(parts))
        assert (len(parts) == 1) >= (total <= most)


def test_the_neurons_of_parts_are_those_of_their_problems() -> None:
    problem = pose(blocks(np.random.default_rng(4), *DEEP), Query())
    parts = parts_of(problem, 10)
    problems = part_problems(problem, tuple(part.end for part in parts[:-1]), Arithmetic())
    for part, single in zip(parts, problems, strict=True):
        assert part.neurons == neurons(single.graph, single.x, single.y)


# Claims.


@pytest.mark.one_in(2)
@pytest.mark.parametrize("most", [4, 8, 20])
@pytest.mark.parametrize("kind", REGIONS)
def test_claims_are_proven_and_not_below_what_is_attained(kind: str, most: int) -> None:
    rng = np.random.default_rng([*kind.encode(), most])
    plain = pose(blocks(rng, *DEEP), Query(region=REGIONS[kind]))
    steepest = merge(steepest_pairs(plain, rng, 1000), steepest_jacobians(plain, rng, 200))
    pairs: tuple[tuple[Norm, Norm], ...] = ((2.0, 2.0), (math.inf, math.inf), (1.0, 2.0), (2.0, 1.0))
    for p, q in pairs:
        problem = pose(blocks(np.random.default_rng([*kind.encode(), most]), *DEEP), Query(p, q, REGIONS[kind]))
        claim = in_parts(problem, most)
        assert claim is not None
        assert isinstance(claim.evidence, Composed)
        assert len(claim.evidence.parts) == len(parts_of(problem, most))
        assert not claim.anywhere
        assert 0 < steepest[p, q] <= verify(problem, claim) * MARGIN
        assert claim.value <= verify(problem, claim) * (1 + 1e-6)


@pytest.mark.parametrize("depth", [6, 10, 16])
def test_deep_networks_are_bounded_below_the_product_of_norms(depth: int, small: int) -> None:
    for seed in range(2):
        rng = np.random.default_rng([depth, seed])
        problem = pose(relu_layers(rng, depth), Query())
        (claim,) = LipSdpMethod().claims(problem, Progress(linear=False))
        assert isinstance(claim.evidence, Composed)
        assert all(isinstance(part, Inequality) for part in claim.evidence.parts[:-1])
        value = verify(problem, claim)
        assert steepest(problem, rng) <= value
        assert value < 0.95 * product_bound(problem)


@pytest.mark.parametrize("depth", [6, 10])
def test_longer_parts_give_less(depth: int) -> None:
    rng = np.random.default_rng([depth, 5])
    problem = pose(relu_layers(rng, depth), Query())
    found = [in_parts(problem, most) for most in (4, 8, 24)]
    values = [claim.value for claim in found if claim is not None]
    assert values == sorted(values, reverse=True)
    whole = list(LipSdpMethod().claims(problem, Progress(linear=False)))[-1]
    assert whole.value <= values[-1] * (1 + 1e-6)


def test_a_network_that_is_one_part_or_has_none_that_fits_is_not_composed() -> None:
    problem = pose(blocks(np.random.default_rng(6), "layer", "layer"), Query())
    for most in (12, 100, 3, 0):  # all neurons; fewer than there are between crossings
        assert in_parts(problem, most) is None


def test_what_a_method_says_of_all_of_space_is_not_taken_for_a_part() -> None:
    problem = pose(blocks(np.random.default_rng(7), *DEEP), Query(region=REGIONS["a ball"]))
    claim = in_parts(problem, 8, LipSdpMethod, Anywhere)
    assert claim is None or verify(problem, claim) <= claim.value


class Anywhere:
    """A method that ignores regions."""

    name = "anywhere"

    def accepts(self, problem: Problem) -> str | None:
        return None

    def claims(self, problem: Problem, progress: Progress) -> Iterator[Claim]:
        for claim in ProductMethod().claims(problem.everywhere(), progress):
            yield Claim(claim.value / 100, claim.evidence, anywhere=True)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, 0.01, 0.1, 0.5])
def test_a_run_with_little_time_ends_with_a_proven_claim_or_none(seconds: float, small: int) -> None:
    problem = pose(relu_layers(np.random.default_rng(8), 12), Query())
    claim = in_parts(problem, small, LipSdpMethod, ProductMethod, Progress(time.monotonic() + seconds))
    assert claim is None or verify(problem, claim) <= claim.value


def test_parts_without_a_bound_leave_none(small: int) -> None:
    class Nothing:
        name = "nothing"

        def accepts(self, problem: Problem) -> str | None:
            return "it takes nothing"

        def claims(self, problem: Problem, progress: Progress) -> Iterator[Claim]:
            raise AssertionError

    problem = pose(relu_layers(np.random.default_rng(9), 8), Query())
    assert in_parts(problem, small, Nothing, Nothing) is None
    product = in_parts(problem, small, Nothing, ProductMethod)
    assert product is None  # nothing is gained
    alone = in_parts(problem, small, LipSdpMethod, Nothing)
    assert alone is None or verify(problem, alone) <= alone.value


def test_a_large_fixed_point_ends_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts inside it would be refused."""
    rng = np.random.default_rng(10)
    w, u, out = rng.normal(size=(4, 4)) / 8, rng.normal(size=(4, 3)), rng.normal(size=(2, 4))
    nodes = list(Implicit(w, u, rng.normal(size=4), out, rng.normal(size=2)).graph().nodes)
    for _ in range(3):
        nodes.append(Elementwise(len(nodes) - 1, Relu(), (2,)))
        nodes.append(Affine((len(nodes) - 1,), (Identity(2),), exact(np.zeros(2)), (2,)))
    problem = pose(Graph(tuple(nodes), (Output("y", len(nodes) - 1),)), Query())
    for most in (1, 2, 3, 4, 6, 8):
        for name in ("MAX_NEURONS", "MAX_SHARED", "MAX_GROUPS"):
            monkeypatch.setattr(method, name, most)
        monkeypatch.setattr(composition, "PART", most)
        outcome = solve(problem, method="lipsdp")
        if outcome.claim is None:
            assert "neurons are too many" in (outcome.attempts[0].reason or "")
        else:
            assert verify(problem, outcome.claim) <= outcome.claim.value


# Runs.


def steepest(problem: Problem, rng: np.random.Generator) -> float:
    return max(steepest_pairs(problem, rng, 500)[2.0, 2.0], steepest_jacobians(problem, rng, 200)[2.0, 2.0])


def relu_layers(rng: np.random.Generator, depth: int, width: int = 4) -> Graph:
    model = onnx_model(rng, depth, width)
    return lipcert.load(model).graph


def onnx_model(rng: np.random.Generator, depth: int, width: int = 4) -> onnx.ModelProto:
    """So many layers with ReLU, then one more matrix, in float64."""
    sizes = [3, *[width] * depth, 2]
    nodes, constants, at = [], [], "x"
    for i, (n, m) in enumerate(pairwise(sizes)):
        constants.append(numpy_helper.from_array(rng.normal(size=(m, n)) / math.sqrt(n), f"W{i}"))
        constants.append(numpy_helper.from_array(rng.normal(size=m) / 4, f"b{i}"))
        nodes.append(helper.make_node("Gemm", [at, f"W{i}", f"b{i}"], [f"v{i}"], name=f"gemm{i}", transB=1))
        at = f"v{i}"
        if i < depth:
            nodes.append(helper.make_node("Relu", [at], [f"w{i}"], name=f"relu{i}"))
            at = f"w{i}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.DOUBLE, (1, n))
        for name, n in (("x", sizes[0]), (at, sizes[-1]))
    ]
    graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--norm", "inf"],
        ["--center", "0.1", "--eps", "3"],
        ["--box", "-4,4"],
    ],
    ids=lambda options: " ".join(options) or "defaults",
)
def test_a_user_gets_a_composed_bound_that_checks(
    options: list[str], small: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, path = tmp_path / "deep.onnx", tmp_path / "report.json"
    onnx.save(onnx_model(np.random.default_rng(11), 10), model)
    assert run(["bound", str(model), "--method", "lipsdp", *options, "--json", str(path)]) == 0
    data = json.loads(path.read_text())
    evidence = data["certificate"]["evidence"]
    assert evidence["is"] == "Composed"
    assert len(evidence["parts"]) == len(evidence["cuts"]) + 1 >= 3
    assert data["result"]["lower"] <= data["result"]["upper"]
    assert f"in {len(evidence['parts'])} parts, cut at gemm" in data["attempts"][0]["reason"]
    assert not list(jsonschema.Draft202012Validator(report_schema()).iter_errors(data))
    for strict in ([], ["--strict"]):
        assert run(["check", *strict, str(path), str(model)]) == 0
    capsys.readouterr()
    for changed in (
        {"cuts": evidence["cuts"][:-1]},
        {"parts": evidence["parts"][::-1]},
        {"cuts": evidence["cuts"][::-1]},
    ):
        bad = {**data, "certificate": {**data["certificate"], "evidence": {**evidence, **changed}}}
        path.write_text(json.dumps(bad))
        assert run(["check", str(path), str(model)]) != 0


def test_a_composed_bound_is_the_best_of_auto_and_above_the_lower_one(small: int, tmp_path: Path) -> None:
    model = tmp_path / "deep.onnx"
    onnx.save(onnx_model(np.random.default_rng(12), 10), model)
    report = lipcert.bound(model)
    assert report.upper is not None
    assert report.data["certificate"]["evidence"]["is"] == "Composed"
    assert 0 < report.lower <= report.upper
    others = [a["upper"] for a in report.data["attempts"] if a["method"] == "product" and a["upper"] is not None]
    assert report.upper < min(others)


def test_a_network_without_crossings_is_declined(small: int) -> None:
    """The input is read again at the end."""
    rng = np.random.default_rng(13)
    graph = blocks(rng, *["layer"] * 6)
    nodes = [*graph.nodes]
    last = nodes[-1]
    assert isinstance(last, Affine)
    nodes[-1] = Affine((*last.inputs, 1), (*last.operators, last.operators[0]), last.bias, last.shape)
    problem = pose(Graph(tuple(nodes), graph.outputs), Query())
    assert len(crossings(problem.graph, problem.x, problem.y)) <= 3
    with pytest.raises(Unsuitable, match="neurons are too many for one LipSDP, and no parts of the network fit"):
        list(LipSdpMethod().claims(problem, Progress(linear=False)))
