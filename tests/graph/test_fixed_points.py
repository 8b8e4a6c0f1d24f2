"""Fixed points in graphs: what is refused, what is computed, and that posing and pruning keep the loops."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from lipcert.activations import Relu, Tanh
from lipcert.activations.sorting import GroupSort
from lipcert.arithmetic.enclosure import exact
from lipcert.graph import (
    Affine,
    Elementwise,
    FixedPoint,
    Graph,
    Groupwise,
    Input,
    Node,
    Output,
    State,
    evaluate,
)
from lipcert.operators import Dense, Identity
from lipcert.problem import Query, SomeOutputs, pose
from tests.helpers.implicit import Implicit, one_neuron, random_implicit, without_inputs_or_outputs

X = Input("x", (3,))
Z = State((3,), "z")


def affine(inputs: tuple[int, ...], *matrices: np.ndarray, bias: np.ndarray | None = None) -> Affine:
    size = len(matrices[0])
    return Affine(inputs, tuple(map(Dense, matrices)), exact(np.zeros(size) if bias is None else bias), (size,))


EVALUATION = sys.modules["lipcert.graph.evaluate"]  # the function has its name
BODY = affine((1, 0), np.eye(3) / 2, np.eye(3))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((X, Z, BODY), "a state is not closed by one fixed point"),
        ((X, Z, BODY, FixedPoint(1, 2, (3,)), FixedPoint(1, 2, (3,))), "a state is not closed by one fixed point"),
        ((X, Z, Z, BODY, FixedPoint(1, 3, (3,))), "a state is not closed by one fixed point"),
        ((X, Z, Z, BODY, FixedPoint(1, 3, (3,)), FixedPoint(1, 3, (3,))), "not closed by one fixed point"),
        ((X, Z, BODY, FixedPoint(0, 2, (3,))), "is no fixed point of a state of its size"),
        ((X, Z, BODY, FixedPoint(2, 1, (3,))), "is no fixed point of a state of its size"),
        ((X, Z, BODY, FixedPoint(1, 2, (2,))), "is no fixed point of a state of its size"),
        ((X, Z, BODY, FixedPoint(1, 2, (3, 2))), "is no fixed point of a state of its size"),
        ((X, State((2,)), affine((0,), np.eye(3)), FixedPoint(1, 2, (3,))), "is no fixed point"),
        ((X, State((2,)), affine((0,), np.eye(3)), FixedPoint(1, 2, (2,))), "is no fixed point"),
        ((X, Z, FixedPoint(1, 3, (3,)), BODY), "does not come before"),
        ((X, Z, FixedPoint(1, 2, (3,)), BODY), "does not come before"),
        ((FixedPoint(1, 2, (3,)), Z, X), "does not come before"),
        ((X, Z, BODY, FixedPoint(-1, 2, (3,))), "does not come before"),
        ((X, Z, affine((1, 0), np.ones((3, 2)), np.eye(3)), FixedPoint(1, 2, (3,))), "does not fit"),
    ],
)
def test_a_loop_that_is_none_is_refused(nodes: tuple[Node, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Graph(nodes, (Output("y", 0),))


def test_a_fixed_point_may_have_another_shape_of_the_same_size_and_be_the_output() -> None:
    graph = Graph((X, Z, BODY, FixedPoint(1, 2, (1, 3, 1), "loop")), (Output("y", 3),))
    assert graph.nodes[3].inputs == (1, 2)
    assert graph.nodes[3].origin == "loop"
    assert graph.nodes[1].inputs == ()
    np.testing.assert_allclose(evaluate(graph, {"x": np.ones(3)})[3], 2 * np.ones(3), rtol=1e-10)


# Values.


@pytest.mark.parametrize("seed", range(8))
def test_the_values_are_those_of_the_only_pattern_that_fits(seed: int) -> None:
    """With ReLU, against the solution by trying all patterns of slopes; in batches of any shape."""
    rng = np.random.default_rng([seed, 1])
    net = random_implicit(rng, 2 + seed % 5, 3, 2, turning=0.1)
    graph = net.graph()
    x = rng.normal(size=(4, 5, 3)) * rng.choice([0.1, 1.0, 10.0], (4, 5, 1))
    values = evaluate(graph, {"x": x})
    z = net.solve(x.reshape(20, 3))[0].reshape(4, 5, -1)
    for node in (1, 3, 4):  # the state, the body, the fixed point
        np.testing.assert_allclose(values[node], z, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(values[5], z @ net.out.T + net.c, rtol=1e-8, atol=1e-8)
    alone = evaluate(graph, {"x": x[1, 2]})
    assert alone[5].shape == (2,)
    np.testing.assert_allclose(alone[5], values[5][1, 2], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("a", [-100.0, -30.0, -5.0, -3.0, -1.0, 0.0, 0.5, 0.9])
def test_one_neuron_is_a_ramp_of_slope_one_over_one_minus_a(a: float) -> None:
    x = np.linspace(-2, 2, 9)[:, None]
    values = evaluate(one_neuron(a).graph(), {"x": x})[5]
    np.testing.assert_allclose(values, np.maximum(x, 0) / (1 - a), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("seed", range(3))
def test_with_other_activations_the_equation_holds(seed: int) -> None:
    rng = np.random.default_rng([seed, 2])
    net = random_implicit(rng, 4, 3, 2, turning=0.1)
    x = rng.normal(size=(20, 3))
    z = evaluate(net.graph(Tanh()), {"x": x})[4]
    np.testing.assert_allclose(np.tanh(z @ net.w.T + x @ net.u.T + net.b), z, atol=1e-10)


def stacked(first: Implicit, second: Implicit) -> Graph:
    """The second network reads the first one's fixed point."""
    n, m = len(first.w), len(second.w)
    nodes = (
        X,
        State((n,), "first"),
        affine((1, 0), first.w, first.u, bias=first.b),
        Elementwise(2, Relu(), (n,)),
        FixedPoint(1, 3, (n,), "first"),
        State((m,), "second"),
        affine((5, 4), second.w, second.u, bias=second.b),
        Elementwise(6, Relu(), (m,)),
        FixedPoint(5, 7, (m,), "second"),
        affine((8,), second.out, bias=second.c),
    )
    return Graph(nodes, (Output("y", 9),))


@pytest.mark.parametrize("seed", range(4))
def test_stacked_fixed_points_are_solved_together(seed: int) -> None:
    rng = np.random.default_rng([seed, 3])
    first, second = random_implicit(rng, 4, 3, 2, turning=0.1), random_implicit(rng, 3, 4, 2, turning=0.1)
    x = rng.normal(size=(10, 3))
    found = evaluate(stacked(first, second), {"x": x})[9]
    np.testing.assert_allclose(found, second.value(first.solve(x)[0]), rtol=1e-7, atol=1e-7)


def test_a_loop_of_several_nodes_with_groups_and_a_loop_within_a_loop() -> None:
    """z = relu(V sort(z + x)), then u = relu(A u + z), z = B u + x: each against its equation."""
    rng = np.random.default_rng(4)
    small = 0.3 * rng.normal(size=(4, 4)) / 2
    nodes = (
        Input("x", (4,)),
        State((4,)),
        affine((1, 0), np.eye(4), np.eye(4)),
        Groupwise(2, GroupSort(2), (4,)),
        affine((3,), small),
        Elementwise(4, Relu(), (4,)),
        FixedPoint(1, 5, (4,)),
    )
    x = rng.normal(size=(7, 4))
    z = evaluate(Graph(nodes, (Output("y", 6),)), {"x": x})[6]
    ordered = np.sort((z + x).reshape(7, 2, 2), axis=-1)
    both = [np.maximum(order.reshape(7, 4) @ small.T, 0) for order in (ordered, ordered[..., ::-1])]
    assert min(np.abs(z - found).max() for found in both) < 1e-10

    nested = (
        Input("x", (4,)),
        State((4,), "z"),
        State((4,), "u"),
        affine((2, 1), small, np.eye(4)),
        Elementwise(3, Relu(), (4,)),
        FixedPoint(2, 4, (4,), "u"),
        affine((5, 0), -small, np.eye(4)),
        FixedPoint(1, 6, (4,), "z"),
    )
    values = evaluate(Graph(nested, (Output("y", 7),)), {"x": x})
    z, u = values[7], values[5]
    np.testing.assert_allclose(np.maximum(u @ small.T + z, 0), u, atol=1e-10)
    np.testing.assert_allclose(x - u @ small.T, z, atol=1e-10)


@pytest.mark.parametrize(
    "w",
    [np.array([[2.0]]), 1.5 * np.eye(2), np.array([[0.0, 2.0], [2.0, 0.0]]), np.eye(1)],
    ids=["2", "1.5 I", "a cycle", "1"],
)
def test_where_there_is_no_fixed_point_values_are_not_made_up(w: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above zero z would have to exceed itself; below, zero is one."""
    monkeypatch.setattr(EVALUATION, "ITERATIONS", 3000)
    graph = without_inputs_or_outputs(w).graph()
    with pytest.raises(ArithmeticError, match="does not converge"):
        evaluate(graph, {"x": np.ones(len(w))})
    assert np.all(evaluate(graph, {"x": -np.ones(len(w))})[5] == 0)


def test_a_graph_without_loops_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EVALUATION, "ITERATIONS", 0)
    graph = Graph((X, affine((0,), np.eye(3))), (Output("y", 1),))
    assert np.all(evaluate(graph, {"x": np.ones(3)})[1] == 1)


# Pruning and posing.


def with_dead_ends(net: Implicit) -> Graph:
    """A loop of which nothing is read first, and dead nodes in the loop that is read."""
    n, m = net.u.shape
    nodes = (
        Input("x", (m,)),
        Input("idle", (2,)),
        State((2,), "unread"),
        affine((2, 1), np.eye(2) * 3, np.eye(2)),
        FixedPoint(2, 3, (2,), "unread"),
        State((n,), "z"),
        affine((5,), np.ones((5, n))),
        affine((5, 0), net.w, net.u, bias=net.b),
        Elementwise(7, Tanh(), (n,), "dead"),
        Elementwise(7, Relu(), (n,)),
        FixedPoint(5, 9, (n,), "z"),
        Elementwise(10, Tanh(), (n,), "dead"),
        affine((10,), net.out, bias=net.c),
    )
    return Graph(nodes, (Output("y", 12),))


def test_pruning_drops_loops_that_are_not_read_and_keeps_the_others_whole() -> None:
    rng = np.random.default_rng(5)
    net = random_implicit(rng, 3, 2, 2, turning=0.1)
    pruned = with_dead_ends(net).pruned()
    kinds = [Input, Input, State, Affine, Elementwise, FixedPoint, Affine]
    assert [type(node) for node in pruned.nodes] == kinds
    loop = pruned.nodes[5]
    assert isinstance(loop, FixedPoint)
    assert (loop.state, loop.body) == (2, 4)
    x = rng.normal(size=(6, 2))
    values = evaluate(pruned, {"x": x, "idle": np.zeros((6, 2))})
    np.testing.assert_allclose(values[pruned.outputs[0].node], net.value(x), rtol=1e-8, atol=1e-8)


def test_a_state_whose_body_does_not_read_it_stays_with_its_fixed_point() -> None:
    graph = Graph((X, Z, affine((0,), 2 * np.eye(3)), FixedPoint(1, 2, (3,))), (Output("y", 3),)).pruned()
    assert [type(node) for node in graph.nodes] == [Input, State, Affine, FixedPoint]
    np.testing.assert_allclose(evaluate(graph, {"x": np.ones(3)})[3], 2.0, rtol=1e-11)


@pytest.mark.parametrize("outputs", [(0,), (1, 0), (0, 1)])
def test_posing_keeps_loops_and_states_are_no_inputs(outputs: tuple[int, ...]) -> None:
    rng = np.random.default_rng(6)
    net = random_implicit(rng, 3, 2, 2, turning=0.1)
    problem = pose(with_dead_ends(net), Query(inputs=("x",), outputs=SomeOutputs(outputs)))
    graph = problem.graph
    assert sum(isinstance(node, State) for node in graph.nodes) == 1
    assert sum(isinstance(node, FixedPoint) for node in graph.nodes) == 1
    assert problem.size_in == 2
    x = rng.normal(size=(6, 2))
    free = {name: np.zeros((6, graph.size(i))) for name, i in graph.inputs.items()}
    values = evaluate(graph, free | {graph.nodes[problem.x].origin: x})
    np.testing.assert_allclose(values[problem.y], net.value(x)[:, list(outputs)], rtol=1e-8, atol=1e-8)


def test_several_inputs_of_a_loop_are_joined() -> None:
    rng = np.random.default_rng(7)
    net = random_implicit(rng, 3, 4, 2, turning=0.1)
    nodes = (
        Input("a", (1,)),
        State((3,), "z"),
        Input("b", (3,)),
        affine((1, 0, 2), net.w, net.u[:, :1], net.u[:, 1:], bias=net.b),
        Elementwise(3, Relu(), (3,)),
        FixedPoint(1, 4, (3,), "z"),
        affine((5,), net.out, bias=net.c),
    )
    problem = pose(Graph(nodes, (Output("y", 6),)), Query())
    x = rng.normal(size=(6, 4))
    values = evaluate(problem.graph, {problem.graph.nodes[problem.x].origin: x})
    np.testing.assert_allclose(values[problem.y], net.value(x), rtol=1e-8, atol=1e-8)


def test_identities_and_dense_forms_make_the_same_loop() -> None:
    """A residual loop z = relu(W z + x) / 2 + z / 4, linear in part."""
    rng = np.random.default_rng(8)
    w = 0.3 * rng.normal(size=(3, 3))
    for same in (Identity(3), Dense(np.eye(3))):
        nodes = (
            X,
            Z,
            affine((1, 0), w, np.eye(3)),
            Elementwise(2, Relu(), (3,)),
            Affine((3, 1), (Dense(np.eye(3) / 2), Dense(np.eye(3) / 4)), exact(np.zeros(3)), (3,)),
            FixedPoint(1, 4, (3,)),
            Affine((5,), (same,), exact(np.zeros(3)), (3,)),
        )
        x = rng.normal(size=(5, 3))
        z = evaluate(Graph(nodes, (Output("y", 6),)), {"x": x})[6]
        np.testing.assert_allclose(np.maximum(z @ w.T + x, 0) / 2 + z / 4, z, atol=1e-10)


def test_a_loop_is_kept_as_a_whole_where_only_its_inner_nodes_are_read() -> None:
    """Posed, pruned, and of the same value."""
    rng = np.random.default_rng(9)
    net = random_implicit(rng, 3, 3, 2, turning=0.1)
    graph = net.graph()
    x = rng.normal(size=(5, 3))
    values = evaluate(graph, {"x": x})
    for node in (2, 3):
        problem = pose(Graph(graph.nodes, (Output("y", node),)), Query())
        found = evaluate(problem.graph, {problem.graph.nodes[problem.x].origin: x})[problem.y]
        np.testing.assert_allclose(found, values[node], rtol=1e-8, atol=1e-8)
