"""Posing a query: the problem's y as a function of its x is what the network computes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lipcert.arithmetic.enclosure import exact
from lipcert.errors import UsageError
from lipcert.graph import Affine, Graph, Input, Output, evaluate
from lipcert.operators import Dense, Identity, size_of
from lipcert.problem import AllOutputs, Ball, Box, Margin, OutputChoice, Problem, Query, SomeOutputs, pose
from tests.helpers.graphs import random_graph
from tests.helpers.operators import matrix_by_definition


def value_of(problem: Problem, x: np.ndarray, free: dict[str, np.ndarray]) -> np.ndarray:
    node = problem.graph.nodes[problem.x]
    assert isinstance(node, Input)
    return evaluate(problem.graph, {**free, node.name: x})[problem.y]


def two_inputs(first: str = "a", second: str = "b", reads: tuple[int, ...] = (0, 1)) -> Graph:
    """y = A first + B second, and second output z = first."""
    rng = np.random.default_rng(0)
    operators = (Dense(rng.normal(size=(4, 2))), Dense(rng.normal(size=(4, 3))))
    nodes = (
        Input(first, (1, 2)),
        Input(second, (3,)),
        Affine(reads, tuple(operators[i] for i in reads), exact(np.ones(4)), (1, 4)),
        Affine((0,), (Identity(2),), exact(np.zeros(2)), (2,)),
    )
    return Graph(nodes, (Output("y", 2), Output("z", 3)))


@pytest.mark.parametrize("choose", ["all", "some", "margin"])
@pytest.mark.parametrize("seed", range(20))
def test_the_posed_problem_is_the_network(seed: int, choose: str) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, inputs=1 + seed % 4)
    names = [str(name) for name in rng.permutation(list(graph.inputs))[: int(rng.integers(0, len(graph.inputs) + 1))]]
    size = graph.size(graph.outputs[0].node)
    choices: dict[str, OutputChoice] = {
        "all": AllOutputs(),
        "some": SomeOutputs(tuple(int(i) for i in rng.permutation(size)[: 1 + seed % size])),
        "margin": Margin(0, size - 1) if size > 1 else AllOutputs(),
    }
    problem = pose(graph, Query(inputs=tuple(names), outputs=choices[choose]))
    varying = names or list(graph.inputs)
    values = {name: rng.normal(size=(5, graph.size(i))) for name, i in graph.inputs.items()}
    x = np.concatenate([values[name] for name in varying], axis=1)
    free = {name: value for name, value in values.items() if name not in varying}

    rows = matrix_by_definition(choices[choose].operator(size)).astype(float)
    expected = evaluate(graph, values)[graph.outputs[0].node] @ rows.T
    np.testing.assert_allclose(value_of(problem, x, free), expected, rtol=1e-12, atol=1e-12)
    assert problem.size_in == x.shape[1]
    assert problem.size_out == len(rows)
    assert [o.node for o in problem.graph.outputs] == [problem.y]
    assert set(problem.graph.inputs) == {problem.graph.nodes[problem.x].origin, *free}


def test_only_what_the_chosen_output_reads_is_left() -> None:
    problem = pose(two_inputs(), Query(output="z", inputs=("a",)))
    assert sum(size_of(node.shape) == 4 for node in problem.graph.nodes) == 0
    assert problem.size_out == 2


@pytest.mark.parametrize("reads", [(0, 1), (0,), (1,)])
@pytest.mark.parametrize(("first", "second"), [("x", "z"), ("z", "x")])
@pytest.mark.parametrize("varying", [0, 1])
def test_an_input_of_the_model_may_be_called_x(first: str, second: str, varying: int, reads: tuple[int, ...]) -> None:
    """The name of the posed input must not collide with that of a free one."""
    graph = two_inputs(first, second, reads)
    name, other = ((first, second), (second, first))[varying]
    problem = pose(graph, Query(inputs=(name,), output="y"))
    names = [node.name for node in problem.graph.nodes if isinstance(node, Input)]
    assert len(set(names)) == len(names) == 2
    assert isinstance(problem.graph.nodes[problem.x], Input)
    assert problem.size_in == (2, 3)[varying]

    rng = np.random.default_rng(0)
    inputs = {name: rng.normal(size=(2, 3)[varying]), other: rng.normal(size=(3, 2)[varying])}
    np.testing.assert_allclose(
        value_of(problem, inputs[name], {other: inputs[other]}), evaluate(graph, inputs)[2], rtol=1e-12
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(output="y", inputs=("c",)), "--input: the model has no input 'c' .*a, b"),
        (Query(output="y", inputs=("a", "a")), "--input: .*twice"),
        (Query(output="w"), "--output: the model has no output 'w' .*y, z"),
        (Query(), "2 outputs .*--output: y, z"),
        (Query(output="y", region=Ball(np.zeros(4), 1.0, 2.0)), "--center: 4 numbers for an input of 5"),
        (Query(output="y", inputs=("b",), region=Box(np.zeros(5), np.ones(5))), "--box: 5 numbers for an input of 3"),
        (Query(output="y", outputs=SomeOutputs((4,))), "--outputs: there is no output 4"),
        (Query(output="z", outputs=Margin(0, 2)), "--margin: there is no output 2"),
    ],
)
def test_a_query_that_does_not_fit_is_refused_with_the_option_named(query: Query, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pose(two_inputs(), query)


def test_the_region_is_one_for_all_varying_inputs() -> None:
    problem = pose(two_inputs(), Query(output="y", region=Ball(np.arange(5.0), 0.5, math.inf)))
    assert problem.size_in == 5
    assert problem.query.region.contains(np.arange(5.0))
