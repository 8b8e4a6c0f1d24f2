"""Reports with evidence of every kind, about small networks, with a witness beside them."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from lipcert.activations import LeakyRelu, Relu, Sigmoid
from lipcert.activations.householder import Householder
from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.certificate import AbsoluteChain, Claim, SpectralChain, Witness, verify, verify_witness
from lipcert.certificate.claim import (
    Composed,
    Entrywise,
    Factors,
    Group,
    Inequality,
    Local,
    NormProof,
    Overlap,
    Scaling,
    Slopes,
    Spectral,
    Step,
    Symbol,
    Taps,
    Terms,
)
from lipcert.frontend import Model
from lipcert.frontend.model import TensorInfo
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Input, Node, Output
from lipcert.methods import Progress
from lipcert.methods.boxes import choose_net
from lipcert.methods.local.scalings import of_rows, with_scalings
from lipcert.operators import Convolution, Dense, Leaf, LinearOperator
from lipcert.planning import METHODS, Outcome
from lipcert.problem import Ball, Box, Everywhere, Margin, Problem, Query, SomeOutputs, pose
from lipcert.report import Report
from lipcert.report.report import build_report
from tests.helpers.claims import claims_of
from tests.helpers.graphs import random_graph
from tests.helpers.operators import map_leaves, with_radius

ENOUGH = 1e300
"""A claim of this value is verified by any evidence that proves anything."""

Evidence = AbsoluteChain | SpectralChain | Inequality | Composed | Local

PLAIN = ("product", "lipsdp", "gram")
"""Methods whose evidence proves something over intervals, too."""


@dataclass(frozen=True, eq=False)
class Case:
    """A report that `check` accepts, and what it is about."""

    name: str
    model: Model
    query: Query
    claim: Claim
    report: Report


def model_of(graph: Graph, name: str) -> Model:
    """A graph as if it had been read from a file."""
    inputs = tuple(TensorInfo(node.name, node.shape) for node in graph.nodes if isinstance(node, Input))
    outputs = tuple(TensorInfo(o.name, graph.nodes[o.node].shape) for o in graph.outputs)
    digest = hashlib.sha256(name.encode()).hexdigest()
    return Model(f"{name}.onnx", digest, graph, inputs, outputs, 1, len(graph.nodes), 20, "tests", None)


def report_of(model: Model, query: Query, claim: Claim | None) -> Report:
    """The report of a run that found this claim, and a witness in the middle of the region."""
    problem = pose(model.graph, query)
    rng = np.random.default_rng(0)
    region = query.region
    point = rng.standard_normal(problem.size_in)
    if isinstance(region, Ball):
        point = region.center
    elif isinstance(region, Box):
        point = region.lower / 2 + region.upper / 2
    tries = [Witness(point, rng.standard_normal(problem.size_in)) for _ in range(10)]
    witness = max(tries, key=lambda tried: verify_witness(problem, tried))
    lower = verify_witness(problem, witness) * (1 - 1e-9)
    method = None if claim is None else "local" if isinstance(claim.evidence, Local) else "product"
    return build_report(model, query, Outcome(claim, method, witness if lower else None, lower, [], 0.1))


def nearly_exact(graph: Graph) -> Graph:
    """The graph with radii no larger than roundings; wide ones are enclosed in more than one good way."""

    def narrow(leaf: Leaf) -> Leaf:
        if leaf.weights is None:
            return leaf
        return with_radius(leaf, np.minimum(leaf.radius, 1e-15 * np.abs(leaf.weights)))

    def narrowed(node: Node) -> Node:
        if isinstance(node, Affine):
            operators = tuple(map_leaves(op, narrow) for op in node.operators)
            return replace(node, operators=operators, bias=_narrow(node.bias))
        if isinstance(node, Groupwise) and isinstance(node.function, Householder):
            return replace(node, function=Householder(_narrow(node.function.normals), _narrow(node.function.shifts)))
        return node

    return Graph(tuple(narrowed(node) for node in graph.nodes), graph.outputs)


def _narrow(known: Enclosure) -> Enclosure:
    return Enclosure(known.value, np.minimum(known.radius, 1e-15))


def make_case(
    name: str,
    model: Model,
    query: Query,
    evidence: Evidence,
    anywhere: bool = False,
    linear: bool = False,
    slopes: tuple[Slopes, ...] = (),
) -> Case:
    """A case whose claim is just above what the evidence proves."""
    claim = Claim(ENOUGH, evidence, anywhere, linear, slopes)
    claim = replace(claim, value=verify(pose(model.graph, query), claim) * (1 + 1e-12))
    return Case(name, model, query, claim, report_of(model, query, claim))


def all_cases() -> list[Case]:
    """Every kind of evidence that needs no linear bounds, every rule for norms, every kind of region and of outputs."""
    return [*_each_rule(), *_from_methods()]


def local_cases() -> list[Case]:
    """Every kind of evidence over a region: pieces, several parts, LipSDP for single rows, lines of ramps."""
    graph = _spectral()[0]
    model = model_of(graph, "local")
    found = []
    for name, query in _REGIONS.items():
        problem = pose(graph, query)
        progress = Progress(time.monotonic() + 10, exact=True)
        claims = list(METHODS["local"]().claims(problem, progress))
        kinds = {"whole": claims[0], "branched": claims[-1]}
        if query.norm_out == math.inf:
            kinds["scaled"] = _scaled(problem, progress)
        for kind, claim in kinds.items():
            found.append(make_case(f"{name}, {kind}", model, query, claim.evidence, linear=True, slopes=claim.slopes))
    return found


def _scaled(problem: Problem, progress: Progress) -> Claim:
    """LipSDP for the outputs that need it, rows for the others."""
    chosen = choose_net(problem, progress)
    rows = of_rows(np.full(problem.size_out, math.inf), 1)
    parts = tuple(part for _, part in with_scalings(problem, chosen, rows, progress))
    return Claim(ENOUGH, Local(parts), linear=True, slopes=chosen.slopes)


_REGIONS: dict[str, Query] = {
    "in an l2 ball": Query(region=Ball(np.ones(4), 0.5, 2.0)),
    "in an linf ball": Query(math.inf, math.inf, Ball(np.zeros(4), 0.7, math.inf)),
    "in a box": Query(2.0, math.inf, Box(-np.ones(4), np.ones(4))),
}


def _each_rule() -> Iterator[Case]:
    for name, make in RULES.items():
        graph, evidence = make()
        for ending, query in (("to l2", Query()), ("to linf", Query(norm_out=math.inf))):
            yield make_case(f"{name} {ending}", model_of(graph, name), query, evidence)
        if name in ("spectral", "stacked"):
            ball = Query(region=Ball(np.ones(graph.size(0)), 0.5, 2.0))
            yield make_case(f"{name} in a ball", model_of(graph, name), ball, evidence)


def _from_methods() -> Iterator[Case]:
    """The last claim with evidence of each kind that methods make about random graphs."""
    for number, make_query in enumerate(_QUERIES):
        rng = np.random.default_rng([number, 17])
        graph = nearly_exact(random_graph(rng, inputs=1 + number % 2, depth=3, width=4))
        query = make_query(rng, sum(graph.size(i) for i in graph.inputs.values()), graph.size(graph.outputs[0].node))
        problem, model = pose(graph, query), model_of(graph, f"random {number}")
        claims = [claim for name in PLAIN for claim in claims_of(METHODS[name](), problem)]
        kinds = {_kind(claim): claim for claim in claims if math.isfinite(claim.value)}
        for kind, claim in kinds.items():
            yield make_case(f"random {number}, {kind}", model, query, claim.evidence, claim.anywhere)


def _kind(claim: Claim) -> str:
    centered = not isinstance(claim.evidence, Inequality | Composed) and claim.evidence.center
    ending = f"{', centered' if centered else ''}{', anywhere' if claim.anywhere else ''}"
    return f"{type(claim.evidence).__name__}{ending}"


_QUERIES: tuple[Callable[[np.random.Generator, int, int], Query], ...] = (
    lambda rng, n, m: Query(1.0, math.inf, Everywhere()),
    lambda rng, n, m: Query(2.0, 2.0, Ball(rng.standard_normal(n), 0.3, math.inf), SomeOutputs((m - 1,))),
    lambda rng, n, m: Query(math.inf, 1.0, Box(-np.ones(n), rng.random(n))),
    lambda rng, n, m: Query(
        2.0, 1.0, Ball(rng.standard_normal(n), 0.5, 2.0), Margin(0, 1) if m > 1 else SomeOutputs((0,))
    ),
)


# Networks and chains by hand. Posing a query puts one node in front: positions in steps are one more than in the graph,
# x is 0, and the last step, of the chosen outputs, is one after them.


def _graph(*nodes: Node) -> Graph:
    return Graph(nodes, (Output("y", len(nodes) - 1),))


def _affine(*terms: tuple[int, LinearOperator]) -> Affine:
    size = terms[0][1].out_size
    bias = exact(np.linspace(-0.2, 0.3, size))
    return Affine(tuple(source for source, _ in terms), tuple(op for _, op in terms), bias, (size,))


def _weights(m: int, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((m, n)) / math.sqrt(n)


def _norm(*weights: np.ndarray) -> float:
    """Just above the largest of their l2 norms."""
    return max(float(np.linalg.norm(w, 2)) for w in weights) * (1 + 1e-12)


def _chain(*steps: Step) -> SpectralChain:
    return SpectralChain(False, steps)


def _step(node: int, *groups: tuple[tuple[int, ...], NormProof], cut: tuple[int, ...] = ()) -> Step:
    return Step(node, cut, tuple(Group(sources, proof) for sources, proof in groups))


def _spectral() -> tuple[Graph, Evidence]:
    first, last = _weights(5, 4, 1), _weights(3, 5, 2)
    nodes = Input("x", (4,)), _affine((0, Dense(first))), Elementwise(1, Relu(), (5,)), _affine((2, Dense(last)))
    steps = _step(3, ((0,), Spectral(_norm(first)))), _step(5, ((3,), Spectral(_norm(last))))
    return _graph(*nodes), _chain(*steps)


def _convolution(rule: Callable[[np.ndarray], NormProof]) -> tuple[Graph, Evidence]:
    kernel = np.random.default_rng(4).standard_normal((2, 2, 2, 2)) / 3
    conv = Convolution(kernel, (2, 3, 3), strides=(1, 1), pads=((0, 0), (0, 0)), dilations=(1, 1))
    last = _weights(3, conv.out_size, 5)
    active = Elementwise(1, LeakyRelu(0.1), (conv.out_size,))
    nodes = Input("x", (2, 3, 3)), _affine((0, conv)), active, _affine((2, Dense(last)))
    return _graph(*nodes), _chain(_step(3, ((0,), rule(kernel))), _step(5, ((3,), Spectral(_norm(last)))))


def _overlap() -> tuple[Graph, Evidence]:
    return _convolution(lambda kernel: Overlap(_norm(kernel.reshape(2, -1))))


def _taps() -> tuple[Graph, Evidence]:
    return _convolution(lambda kernel: Taps(tuple(_norm(kernel[:, :, i, j]) for i in range(2) for j in range(2))))


def _symbol() -> tuple[Graph, Evidence]:
    """Positive weights, so that the supremum is at frequency zero; few taps, so that balls prove it quickly."""
    kernel = np.random.default_rng(19).random((2, 2, 1, 2))
    conv = Convolution(kernel, (2, 3, 3), strides=(1, 1), pads=((0, 0), (0, 0)), dilations=(1, 1))
    last = _weights(3, conv.out_size, 20)
    nodes = (
        Input("x", (2, 3, 3)),
        _affine((0, conv)),
        Elementwise(1, Relu(), (conv.out_size,)),
        _affine((2, Dense(last))),
    )
    proof = Symbol(_norm(kernel.sum(axis=(2, 3))) * (1 + 1e-9))
    return _graph(*nodes), _chain(_step(3, ((0,), proof)), _step(5, ((3,), Spectral(_norm(last)))))


def _factors() -> tuple[Graph, Evidence]:
    """Two affine nodes before a sigmoid, whose slopes are a third factor."""
    first, second, last = _weights(4, 3, 6), _weights(5, 4, 7), _weights(2, 5, 8)
    active = Elementwise(2, Sigmoid(), (5,))
    nodes = Input("x", (3,)), _affine((0, Dense(first))), _affine((1, Dense(second))), active, _affine((3, Dense(last)))
    proof = Factors((Spectral(0.25 * (1 + 1e-12)), Spectral(_norm(second)), Spectral(_norm(first))))
    return _graph(*nodes), _chain(_step(4, ((0,), proof)), _step(6, ((4,), Spectral(_norm(last)))))


def _terms() -> tuple[Graph, Evidence]:
    """Two ways from one nonlinear node to the outputs."""
    first, direct, left, right = _weights(4, 3, 9), _weights(2, 4, 10), _weights(3, 4, 11), _weights(2, 3, 12)
    nodes = (
        Input("x", (3,)),
        _affine((0, Dense(first))),
        Elementwise(1, Relu(), (4,)),
        _affine((2, Dense(left))),
        _affine((2, Dense(direct)), (3, Dense(right))),
    )
    proof = Terms((Spectral(_norm(direct)), Factors((Entrywise(), Spectral(_norm(left))))))
    return _graph(*nodes), _chain(_step(3, ((0,), Spectral(_norm(first)))), _step(6, ((3,), proof)))


def _stacked() -> tuple[Graph, Evidence]:
    """A residual network whose two terms are bounded as one operator on a stacked vector, by its terms."""
    first, around, last = _weights(4, 3, 13), _weights(2, 3, 14), _weights(2, 4, 15)
    nodes = (
        Input("x", (3,)),
        _affine((0, Dense(first))),
        Elementwise(1, Relu(), (4,)),
        _affine((0, Dense(around)), (2, Dense(last))),
    )
    proof = Terms((Spectral(_norm(last)), Spectral(_norm(around))))
    return _graph(*nodes), _chain(_step(3, ((0,), Spectral(_norm(first)))), _step(5, ((3, 0), proof)))


def _cut() -> tuple[Graph, Evidence]:
    """A chain that bounds an affine node, and rests on it."""
    first, around, last = _weights(4, 3, 16), _weights(4, 4, 17), _weights(2, 4, 18)
    nodes = (
        Input("x", (3,)),
        _affine((0, Dense(first))),
        Elementwise(1, LeakyRelu(0.2), (4,)),
        _affine((1, Dense(np.eye(4))), (2, Dense(around))),
        _affine((3, Dense(last))),
    )
    steps = (
        _step(2, ((0,), Spectral(_norm(first)))),
        _step(3, ((0,), Spectral(_norm(first)))),
        _step(4, ((2,), Entrywise()), ((3,), Spectral(_norm(around))), cut=(2,)),
        _step(6, ((4,), Spectral(_norm(last))), cut=(4,)),
    )
    return _graph(*nodes), _chain(*steps)


def _absolute() -> tuple[Graph, Evidence]:
    return _spectral()[0], AbsoluteChain(False)


def _centered() -> tuple[Graph, Evidence]:
    return _spectral()[0], AbsoluteChain(True)


def _inequality() -> tuple[Graph, Evidence]:
    """The network of `_spectral`: slopes in [0, 1], so that dz (dz - dv) is at most 0."""
    first, last = _weights(5, 4, 1), _weights(3, 5, 2)
    hidden, inputs = np.linspace(0.8, 1.2, 5), np.linspace(0.9, 1.1, 4) / _norm(first)
    beside = -0.5 / hidden[:, None] * first * inputs
    around = np.block([[np.eye(4), beside.T], [beside, np.eye(5)]])
    out = np.hstack([np.zeros((3, 4)), last * hidden])
    small, large = 0.0, 1.0
    for _ in range(60):
        middle = small / 2 + large / 2
        fits = np.linalg.eigvalsh(around - middle**2 * out.T @ out)[0] >= 1e-12
        small, large = (middle, large) if fits else (small, middle)
    return _spectral()[0], Inequality((Scaling(inputs, hidden, np.full(3, small)),))


def _composed() -> tuple[Graph, Evidence]:
    """The network of `_spectral`, cut before its nonlinear node."""
    steps = _step(2, ((0,), Spectral(_norm(_weights(5, 4, 1)))))
    return _spectral()[0], Composed((2,), (_chain(steps), AbsoluteChain(False)))


RULES: dict[str, Callable[[], tuple[Graph, Evidence]]] = {
    "spectral": _spectral,
    "overlap": _overlap,
    "taps": _taps,
    "symbol": _symbol,
    "factors": _factors,
    "terms": _terms,
    "stacked": _stacked,
    "cut": _cut,
    "absolute": _absolute,
    "centered": _centered,
    "inequality": _inequality,
    "composed": _composed,
}
"""A network and evidence by each rule."""
