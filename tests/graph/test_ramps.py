"""Groups written as ramps are the same functions, at ties too; nothing else is changed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lipcert.activations import Relu
from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.householder import Householder
from lipcert.activations.softmax import Softmax
from lipcert.activations.sorting import GroupMax, GroupSort
from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Input, Output, evaluate
from lipcert.graph.ramps import MAX_SORTED, MAX_WIDTH, with_ramps
from lipcert.operators import Dense, Selection
from tests.helpers.graphs import GROUP_FUNCTIONS, random_graph
from tests.helpers.sampling import realise, values

Maker = Callable[[np.random.Generator, int], GroupFunction]
ABSENT = np.array([[True] * 4, [False, True, False, True], [False, False, True, False]])

RAMPS: dict[str, Maker] = {
    **{name: GROUP_FUNCTIONS[name] for name in GROUP_FUNCTIONS if name.startswith(("maxmin", "max", "householder"))},
    **{f"groupsort of {width}": lambda rng, groups, width=width: GroupSort(width) for width in range(2, 7)},
    **{f"max of {width}": lambda rng, groups, width=width: GroupMax(width) for width in (1, 2, 3, 5, 9, 16)},
    "max of a quarter": lambda rng, groups: GroupMax(16, np.arange(16) % 4 == np.arange(groups)[:, None] % 4),
    "max of what is there": lambda rng, groups: GroupMax(4, np.resize(ABSENT, (groups, 4))),
}
KEPT: dict[str, Maker] = {
    "one entry": lambda rng, groups: GroupSort(1),
    "softmax": lambda rng, groups: Softmax(3),
    "l2 norm": GROUP_FUNCTIONS["l2 norm"],
    "wide sort": lambda rng, groups: GroupSort(MAX_SORTED + 1),
    "wide max": lambda rng, groups: GroupMax(MAX_WIDTH + 1),
}


def one_function(function: GroupFunction, groups: int) -> Graph:
    """Between affine nodes, so that nodes move."""
    n, m = groups * function.width, groups * function.out_width
    nodes = (
        Input("x", (n,)),
        Groupwise(0, function, (m,), "first"),
        Affine((0,), (Dense(np.eye(n)[::-1].copy()),), exact(np.zeros(n)), (n,)),
        Groupwise(2, function, (m,), "second"),
        Affine((3, 1), (Dense(2 * np.eye(m)), Dense(np.eye(m))), exact(np.ones(m)), (m,)),
    )
    return Graph(nodes, (Output("y", 4), Output("between", 1)))


def tied(rng: np.random.Generator, n: int) -> np.ndarray:
    """Random numbers, and few integers, so that entries are equal; all sizes."""
    return np.concatenate([
        rng.normal(size=(200, n)) * 10.0 ** rng.integers(-3, 4, size=(200, 1)),
        rng.integers(-1, 2, size=(200, n)) * 10.0 ** rng.integers(-3, 4, size=(200, 1)),
        np.zeros((1, n)),
        np.full((1, n), -0.7),
    ])  # fmt: skip


def assert_same_function(graph: Graph, x: dict[str, np.ndarray]) -> None:
    found = with_ramps(graph)
    for ours, theirs in ((evaluate(graph, x), evaluate(found.graph, x)), (values(graph, x), values(found.graph, x))):
        for i, at in enumerate(found.place):
            there, here = np.broadcast_arrays(theirs[at], ours[i])
            spare = 1e-12 * max(1.0, *(float(np.abs(v).max(initial=0.0)) for v in x.values()))
            np.testing.assert_allclose(there, here, rtol=1e-12, atol=spare)
    assert [(o.name, found.place[o.node]) for o in graph.outputs] == [(o.name, o.node) for o in found.graph.outputs]


@pytest.mark.parametrize("name", RAMPS)
def test_ramps_are_the_same_function(name: str) -> None:
    for groups in range(1, 5):
        rng = np.random.default_rng([groups, *name.encode()])
        graph = one_function(RAMPS[name](rng, groups), groups)
        assert_same_function(graph, {"x": tied(rng, graph.size(0))})
        found = with_ramps(graph)
        assert not any(isinstance(node, Groupwise) for node in found.graph.nodes)
        written = {
            at: (node.function, found.place[node.input])
            for node, at in zip(graph.nodes, found.place, strict=True)
            if isinstance(node, Groupwise)
        }
        assert found.groups == written


@pytest.mark.parametrize("name", KEPT)
def test_other_groups_stay(name: str) -> None:
    rng = np.random.default_rng(3)
    graph = one_function(KEPT[name](rng, 2), 2)
    found = with_ramps(graph)
    assert_same_function(graph, {"x": tied(rng, graph.size(0))})
    if name != "one entry":
        assert found.place == tuple(range(len(graph.nodes)))
        assert not found.groups


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_are_the_same_functions(seed: int) -> None:
    """All kinds of nodes; those that are no groups stay as they are, and in their order."""
    rng = np.random.default_rng([seed, 5])
    graph = realise(random_graph(rng, inputs=1 + seed % 3, depth=8), rng, np.float64)
    names = {name: rng.normal(size=(60, graph.size(i))) for name, i in graph.inputs.items()}
    found = with_ramps(graph)
    assert_same_function(graph, names)
    assert len(found.place) == len(graph.nodes)
    assert sorted(found.place) == list(found.place)
    for i, node in enumerate(graph.nodes):
        there = found.graph.nodes[found.place[i]]
        assert found.graph.size(found.place[i]) == graph.size(i)
        if not isinstance(node, Groupwise):
            assert type(there) is type(node)
            assert apart_from_inputs(there) == apart_from_inputs(node)
            assert tuple(there.inputs) == tuple(found.place[s] for s in node.inputs)


def apart_from_inputs(node: object) -> dict[str, object]:
    """The very same operators and functions."""
    return {name: v for name, v in vars(node).items() if name not in ("inputs", "input", "left", "right")}


def test_max_pooling_with_windows_that_overlap() -> None:
    """Windows of 3 x 3 at stride 2 over a padded map, the pads absent."""
    rng, size = np.random.default_rng(4), 6
    padded = np.full((size + 2, size + 2), -1)
    padded[1:-1, 1:-1] = np.arange(size * size).reshape(size, size)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))[::2, ::2].reshape(-1, 9)
    function = GroupMax(9, windows >= 0)
    nodes = (
        Input("x", (1, 1, size, size)),
        Affine((0,), (Selection(windows.reshape(-1), size * size),), exact(np.zeros(windows.size)), (windows.size,)),
        Groupwise(1, function, (1, 1, 3, 3)),
        Elementwise(2, Relu(), (1, 1, 3, 3)),
    )
    graph = Graph(nodes, (Output("y", 3),))
    x = tied(rng, size * size)
    assert_same_function(graph, {"x": x - 2.0})
    pooled = evaluate(with_ramps(graph).graph, {"x": x})[-1]
    maps = np.pad(x.reshape(-1, size, size), ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    by_hand = np.lib.stride_tricks.sliding_window_view(maps, (3, 3), axis=(1, 2))[:, ::2, ::2].max(axis=(-1, -2))
    np.testing.assert_allclose(pooled, np.maximum(by_hand.reshape(len(x), -1), 0), rtol=1e-12, atol=1e-9)


def test_radii_of_reflections_are_those_of_operators() -> None:
    """Any member of the reflections is a member of the ramps: their entries are enclosures, the same ones."""
    normals = Enclosure(np.array([[0.6, 0.8], [1.0, 0.0]]), np.full((2, 2), 0.01))
    shifts = Enclosure(2 * normals.value, np.full((2, 2), 0.02))
    found = with_ramps(one_function(Householder(normals, shifts), 2)).graph
    radii = [
        np.asarray(leaf.radius)
        for node in found.nodes
        if isinstance(node, Affine)
        for op in node.operators
        for leaf in getattr(op, "factors", (op,))
        if np.any(getattr(leaf, "radius", 0.0))
    ]
    assert sorted(float(r.max()) for r in radii) == pytest.approx([0.01, 0.01, 0.02, 0.02])
