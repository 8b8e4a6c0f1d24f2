"""Linear stretches: the operators that linear_terms finds are the blocks of the Jacobian between its sources."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import pytest

from lipcert.activations import Relu
from lipcert.arithmetic.enclosure import exact
from lipcert.graph import Affine, Elementwise, Graph, Input, Output, evaluate, linear_terms
from lipcert.graph.stretch import stops
from lipcert.operators import Dense, Diagonal, Identity
from tests.helpers.graphs import random_graph
from tests.helpers.operators import matrix_by_definition

Blocks = dict[int, np.ndarray]
SEEDS = range(30)


def blocks_by_substitution(graph: Graph, target: int, sources: Container[int]) -> Blocks:
    """The matrix of each term, by writing every node in terms of the sources, first to last."""
    known: list[Blocks] = []
    for position, node in enumerate(graph.nodes[: target + 1]):
        if not isinstance(node, Affine) or (position in sources and position != target):
            known.append({position: np.eye(graph.size(position))})
            continue
        total: Blocks = {}
        for source, op in zip(node.inputs, node.operators, strict=True):
            for origin, block in known[source].items():
                total[origin] = total.get(origin, 0) + matrix_by_definition(op).astype(float) @ block
        known.append(total)
    return known[target]


def random_case(seed: int) -> tuple[np.random.Generator, Graph, int, frozenset[int]]:
    """A graph, a target in it, and affine nodes to cut at."""
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, inputs=1 + seed % 3, depth=8)
    target = len(graph.nodes) - 1 if seed % 2 else int(rng.integers(len(graph.nodes)))
    cut = frozenset(int(i) for i in np.flatnonzero(rng.random(len(graph.nodes)) < 0.3))
    return rng, graph, target, cut


@pytest.mark.parametrize("seed", SEEDS)
def test_terms_are_the_blocks_that_substitution_gives(seed: int) -> None:
    _, graph, target, cut = random_case(seed)
    for sources in (cut, stops(graph, target), stops(graph, target) | cut, frozenset(), {target}):
        terms, expected = linear_terms(graph, target, sources), blocks_by_substitution(graph, target, sources)
        assert list(terms) == sorted(expected)
        for source, op in terms.items():
            assert op.size == (graph.size(target), graph.size(source))
            np.testing.assert_allclose(matrix_by_definition(op).astype(float), expected[source], rtol=1e-9, atol=1e-9)
        for source, op in linear_terms(graph, target, sources, rounded=True).items():
            np.testing.assert_allclose(matrix_by_definition(op).astype(float), expected[source], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_increment_of_the_target_is_the_sum_of_the_terms(seed: int) -> None:
    """The Jacobian, measured: values at two points, whatever lies between nonlinear."""
    rng, graph, target, cut = random_case(seed)
    points = [{name: rng.normal(size=graph.size(i)) for name, i in graph.inputs.items()} for _ in range(2)]
    here, there = (evaluate(graph, point) for point in points)
    for sources in (cut, stops(graph, target)):
        terms = linear_terms(graph, target, sources)
        increment = sum(op.matvec(there[source] - here[source]) for source, op in terms.items())
        np.testing.assert_allclose(increment, there[target] - here[target], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_terms_end_where_they_must(seed: int) -> None:
    _, graph, target, cut = random_case(seed)
    for source in linear_terms(graph, target, cut):
        assert source in cut or not isinstance(graph.nodes[source], Affine)
    assert stops(graph, target) == {i for i in range(target + 1) if not isinstance(graph.nodes[i], Affine)}


def diamond() -> Graph:
    """y = B relu(A x) + C A x + x + x, the affine node A x read twice, x three times."""
    rng = np.random.default_rng(0)
    a, b, c = (Dense(rng.normal(size=(3, 3))) for _ in range(3))
    nodes = (
        Input("x", (3,)),
        Affine((0,), (a,), exact(np.ones(3)), (3,)),
        Elementwise(1, Relu(), (3,)),
        Affine((2, 1, 0, 0), (b, c, Identity(3), Identity(3)), exact(np.zeros(3)), (3,)),
    )
    return Graph(nodes, (Output("y", 3),))


def test_parallel_paths_to_one_source_are_added() -> None:
    graph = diamond()
    a, b, c = (
        matrix_by_definition(op).astype(float) for op in (graph.nodes[1].operators + graph.nodes[3].operators)[:3]
    )  # type: ignore[union-attr]
    terms = linear_terms(graph, 3, frozenset())
    assert list(terms) == [0, 2]
    np.testing.assert_allclose(matrix_by_definition(terms[0]).astype(float), c @ a + 2 * np.eye(3))
    np.testing.assert_allclose(matrix_by_definition(terms[2]).astype(float), b)


def test_a_cut_stops_the_walk_at_an_affine_node() -> None:
    terms = linear_terms(diamond(), 3, frozenset({1}))
    assert list(terms) == [0, 1, 2]
    np.testing.assert_array_equal(matrix_by_definition(terms[0]).astype(float), 2 * np.eye(3))


def test_an_affine_target_is_expanded_even_if_it_is_a_source() -> None:
    assert list(linear_terms(diamond(), 3, frozenset({3, 1}))) == [0, 1, 2]


@pytest.mark.parametrize("target", [0, 2])
def test_an_input_or_a_nonlinear_target_is_its_own_term(target: int) -> None:
    terms = linear_terms(diamond(), target, frozenset())
    assert list(terms) == [target]
    assert isinstance(terms[target], Identity)


def test_a_constant_has_no_terms() -> None:
    nodes = (
        Input("x", (2,)),
        Affine((), (), exact(np.ones(2)), (2,)),
        Affine((1,), (Diagonal(np.ones(2)),), exact(np.zeros(2)), (2,)),
    )
    assert linear_terms(Graph(nodes, (Output("y", 2),)), 2, frozenset()) == {}
