"""Graphs: what they refuse, what they compute, what pruning leaves."""

from __future__ import annotations

import inspect
import typing
from collections import Counter

import numpy as np
import pytest
from flint import arb

from lipcert.activations import Activation, Relu, Sign, Tanh
from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.lp_norm import LpNormalise
from lipcert.activations.piecewise import PiecewiseLinear
from lipcert.activations.sorting import GroupMax, GroupSort
from lipcert.activations.templated import TemplatedGroups
from lipcert.arithmetic.enclosure import exact
from lipcert.graph import (
    Affine,
    Elementwise,
    FixedPoint,
    Graph,
    Groupwise,
    Increment,
    Input,
    Node,
    Output,
    Product,
    State,
    evaluate,
)
from lipcert.graph.nodes import renumbered
from lipcert.operators import Dense, Identity, Leaf, LinearOperator, Row, Selection
from tests.helpers.balls import of_group, precision
from tests.helpers.graphs import ACTIVATIONS, GUARDED, random_graph
from tests.helpers.operators import map_leaves, matrix_by_definition

SEEDS = range(25)
X = Input("x", (1, 3))


def affine(inputs: tuple[int, ...], *operators: LinearOperator, size: int | None = None) -> Affine:
    size = operators[0].out_size if size is None else size
    return Affine(inputs, operators, exact(np.zeros(size)), (1, size), "an affine node")


def batch(graph: Graph, rng: np.random.Generator, shape: tuple[int, ...] = (4,)) -> dict[str, np.ndarray]:
    return {name: rng.normal(size=(*shape, graph.size(i))) for name, i in graph.inputs.items()}


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((X, affine((1,), Identity(3))), "does not come before"),
        ((X, affine((2,), Identity(3)), affine((1,), Identity(3))), "does not come before"),
        ((X, affine((-1,), Identity(3))), "does not come before"),
        ((Elementwise(0, Relu(), (3,)), X), "does not come before"),
        ((X, Elementwise(0, Relu(), (1, 4))), "changes the size"),
        ((X, affine((0,), Dense(np.ones((2, 4))))), "does not fit"),
        ((X, affine((0,), Dense(np.ones((2, 3))), size=3)), "does not fit"),
        ((X, affine((0, 0), Identity(3), Dense(np.ones((2, 3))))), "does not fit"),
        ((X, Affine((0,), (Identity(3),), exact(np.zeros(2)), (3,))), "does not fit"),
        ((X, Affine((0,), (Identity(3),), exact(np.zeros((1, 3))), (1, 3))), "does not fit"),
        ((X, affine((0, 0), Identity(3))), "argument 2"),
        ((X, affine((0,), Identity(3), Identity(3))), "argument 2"),
    ],
)
def test_a_graph_that_is_none_is_refused(nodes: tuple[Node, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Graph(nodes, (Output("y", 1),))


@pytest.mark.parametrize("node", [-1, 2, 7])
def test_an_output_that_is_no_node_is_refused(node: int) -> None:
    with pytest.raises(ValueError, match="y"):
        Graph((X, affine((0,), Identity(3))), (Output("y", node),))


def test_inputs_are_found_by_name() -> None:
    graph = Graph((X, Input("z", (2,)), affine((0, 1), Identity(3), Dense(np.ones((3, 2))))), (Output("y", 2),))
    assert graph.inputs == {"x": 0, "z": 1}
    assert [graph.size(i) for i in range(3)] == [3, 2, 3]


def by_definition(function: GroupFunction, x: np.ndarray) -> np.ndarray:
    """The function of each group by itself, in high precision."""
    rows = x.reshape(-1, x.shape[-1] // function.width, function.width)
    with precision():
        balls = [
            [of_group(function, [arb(x) for x in group], g) for g, group in enumerate(row)] for row in rows.tolist()
        ]
        found = [[float(v.mid()) for group in row for v in group] for row in balls]
    return np.reshape(found, (*x.shape[:-1], -1))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
def test_evaluation_is_that_of_the_matrices(seed: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, inputs=1 + seed % 3)
    inputs = batch(graph, rng, shape)
    values = evaluate(graph, inputs)
    assert len(values) == len(graph.nodes)
    for node, value in zip(graph.nodes, values, strict=True):
        if isinstance(node, Input):
            expected = inputs[node.name]
        elif isinstance(node, Elementwise):
            expected = node.activation.value(values[node.input])
        elif isinstance(node, Groupwise):
            expected = by_definition(node.function, values[node.input])
        elif isinstance(node, Product):
            expected = values[node.left] * values[node.right]
        else:
            matrices = [matrix_by_definition(op).astype(float) for op in node.operators]
            expected = node.bias.value + sum(values[i] @ m.T for i, m in zip(node.inputs, matrices, strict=True))
        np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_pruning_drops_what_the_outputs_do_not_read_and_nothing_else(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, inputs=2)
    dead = [Elementwise(int(i), Tanh(), graph.nodes[i].shape, "dead") for i in rng.integers(len(graph.nodes), size=3)]
    # the dead ones in between, so that positions shift
    nodes: list[Node] = []
    new: dict[int, int] = {}
    for position, node in enumerate(graph.nodes):
        new[position] = len(nodes)
        nodes.append(renumbered(node, new))
        nodes += [renumbered(d, new) for d in dead if d.input == position]
    mixed = Graph(tuple(nodes), tuple(Output(o.name, new[o.node]) for o in graph.outputs))
    pruned = mixed.pruned()
    assert [(type(n), n.origin, n.shape, n.inputs) for n in pruned.nodes] == [
        (type(n), n.origin, n.shape, n.inputs) for n in graph.nodes
    ]
    inputs = batch(graph, rng)
    np.testing.assert_array_equal(
        evaluate(pruned, inputs)[pruned.outputs[0].node], evaluate(mixed, inputs)[mixed.outputs[0].node]
    )


def test_pruning_keeps_inputs_that_nothing_reads_and_every_output() -> None:
    nodes = (X, Input("z", (2,)), affine((0,), Identity(3)), Elementwise(2, Relu(), (1, 3)), affine((0,), Identity(3)))
    graph = Graph(nodes, (Output("a", 2), Output("b", 4), Output("c", 0))).pruned()
    assert [type(n) for n in graph.nodes] == [Input, Input, Affine, Affine]
    assert graph.inputs == {"x": 0, "z": 1}
    assert [(o.name, o.node) for o in graph.outputs] == [("a", 2), ("b", 3), ("c", 0)]


def every(kind: type) -> set[type]:
    """The program's own classes of a kind that are not abstract (other tests define wrong ones)."""
    public = kind.__module__.startswith("lipcert.") and not kind.__name__.startswith("_")
    found = {kind} if public and not inspect.isabstract(kind) else set()
    return found.union(*map(every, kind.__subclasses__())) - {PiecewiseLinear}


def overlaps(graph: Graph, node: Groupwise) -> bool:
    """Whether the groups share entries of what is selected for them."""
    before = graph.nodes[node.input]
    selected = isinstance(before, Affine) and isinstance(before.operators[0], Selection)
    return selected and before.operators[0].multiplicity > 1


def test_the_random_graphs_hold_everything_that_a_graph_can_hold() -> None:
    seen: set[type] = set()
    activations: set[Activation] = set()
    functions: list[GroupFunction] = []
    features: Counter[str] = Counter()

    def see(op: LinearOperator) -> None:
        seen.add(type(op))
        map_leaves(op, lambda leaf: (seen.add(type(leaf)), features.update(radius=bool(np.any(leaf.radius))), leaf)[-1])

    for seed in range(150):
        graph = random_graph(np.random.default_rng(seed), inputs=1 + seed % 3, local=seed % 2 == 0)
        readers = Counter(source for node in graph.nodes for source in node.inputs)
        assert set(readers) == set(range(len(graph.nodes) - 1)), "a node is idle"
        assert len(graph.inputs) == 1 + seed % 3
        features["fork"] += max(readers.values()) > 1
        for node in graph.nodes:
            seen.add(type(node))
            if isinstance(node, Affine):
                for op in node.operators:
                    see(op)
                features["join"] += len(set(node.inputs)) > 1
                features["twice"] += len(set(node.inputs)) < len(node.inputs)
                features["bias radius"] += not node.bias.is_exact
                features["affine of affine"] += any(isinstance(graph.nodes[i], Affine) for i in node.inputs)
                features["late input"] += node.inputs != (0,) and any(
                    isinstance(graph.nodes[i], Input) for i in node.inputs
                )
            if isinstance(node, Elementwise):
                activations.add(node.activation)
            if isinstance(node, Groupwise):
                functions.append(node.function)
                features["overlapping windows"] += overlaps(graph, node)
            if isinstance(node, Elementwise | Groupwise | Product):
                features["nonlinear of no affine"] += not isinstance(graph.nodes[node.inputs[0]], Affine)
            if isinstance(node, Product):
                features["square"] += node.left == node.right
    operators = set(Leaf.__subclasses__()) | set(LinearOperator.__subclasses__()) - {Leaf, Row}
    assert seen >= set(typing.get_args(Node)) - {Increment, State, FixedPoint} | operators
    assert activations >= {*ACTIVATIONS, *(activation for activation, *_ in GUARDED)}
    assert {type(activation) for activation in activations} == every(Activation) - {Sign}  # which jumps
    # a template has no values
    assert {type(function) for function in functions} == every(GroupFunction) - {TemplatedGroups}
    assert {2, 3, 4} <= {function.width for function in functions if isinstance(function, GroupSort)}
    assert {True, False} == {function.present is None for function in functions if isinstance(function, GroupMax)}
    assert {(p, floored) for p in (1, 2) for floored in (True, False)} == {
        (function.p, function.floor > 0) for function in functions if isinstance(function, LpNormalise)
    }
    expected = {"radius", "fork", "join", "twice", "bias radius", "affine of affine", "late input"}
    expected |= {"nonlinear of no affine", "overlapping windows"}
    assert {name for name, count in features.items() if count >= 5} >= expected
    assert features["square"]
