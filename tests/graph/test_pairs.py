"""Softmax and the like written in pairs are the same functions; nothing else is changed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.softmax import LogSoftmax, LogSumExp, Margins, Softmax
from lipcert.activations.sorting import GroupSort
from lipcert.activations.standardise import Standardise
from lipcert.arithmetic.enclosure import exact
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Input, Output, evaluate
from lipcert.graph.nodes import renumbered
from lipcert.graph.pairs import MAX_ENTRIES, MAX_WIDTH, in_pairs
from lipcert.graph.ramps import with_ramps
from lipcert.operators import Dense
from tests.graph.test_ramps import one_function
from tests.helpers.attention import WITH_SOFTMAX
from tests.helpers.graphs import random_graph

WIDTHS = (2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 31, 32)
sizes = pytest.mark.parametrize("size", [1e-3, 1.0, 30.0, 1e3, 1e6])


def single(function: GroupFunction, groups: int) -> Graph:
    shape = (groups * function.out_width,)
    return Graph((Input("x", (groups * function.width,)), Groupwise(0, function, shape)), (Output("y", 1),))


def by_definition(function: GroupFunction, x: np.ndarray) -> np.ndarray:
    """In extended precision."""
    grouped = x.astype(np.longdouble).reshape(len(x), -1, function.width)
    shifted = grouped - grouped.max(axis=-1, keepdims=True)
    total = np.exp(shifted).sum(axis=-1, keepdims=True)
    if isinstance(function, Softmax):
        return (np.exp(shifted) / total).reshape(len(x), -1)
    if isinstance(function, LogSoftmax):
        return (shifted - np.log(total)).reshape(len(x), -1)
    return (grouped.max(axis=-1, keepdims=True) + np.log(total)).reshape(len(x), -1)


def nodes_in_longdouble(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The last node, by the definition of each, in extended precision."""
    values: list[np.ndarray] = []
    for node in graph.nodes:
        if isinstance(node, Input):
            values.append(x.astype(np.longdouble))
        elif isinstance(node, Affine):
            values.append(sum(op.matvec(values[s]) for s, op in zip(node.inputs, node.operators, strict=True)))
            assert node.bias.is_exact
            assert not node.bias.value.any()
        else:
            assert isinstance(node, Elementwise)
            v = values[node.input]
            if node.activation.name == "softplus":
                values.append(np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v))))
            else:
                assert node.activation.name == "sigmoid"
                values.append(np.where(v >= 0, 1, np.exp(-np.abs(v))) / (1 + np.exp(-np.abs(v))))
    return values[-1]


@sizes
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", [Softmax, LogSoftmax, LogSumExp])
def test_pairs_are_the_same_function(kind: type[Softmax | LogSoftmax | LogSumExp], width: int, size: float) -> None:
    """Of every width, at all sizes, to the last digits of extended precision."""
    rng = np.random.default_rng(width)
    function = kind(width)
    graph = single(function, 3)
    found = in_pairs(graph)
    assert found is not None
    assert not any(isinstance(node, Groupwise) for node in found.graph.nodes)
    x = size * rng.normal(size=(300, 3 * width))
    x[:40] = size * rng.integers(-1, 2, size=(40, 3 * width))
    expected = by_definition(function, x)
    got = nodes_in_longdouble(found.graph, x)
    assert got.shape == expected.shape
    error = np.abs(got - expected)
    assert error.max() <= 1e-17 * width * max(1.0, size) * (1.0 if kind is not Softmax else 10.0)
    if kind is Softmax:  # small ones too
        assert np.all(error <= 1e-17 * width * max(1.0, size) * expected + 1e-4000)
    assert np.all(np.isfinite(evaluate(found.graph, {"x": x})[found.place[1]]))


@pytest.mark.parametrize("width", [2, 3, 6])
@pytest.mark.parametrize("kind", [Softmax, LogSoftmax, LogSumExp])
def test_pairs_read_and_are_read_by_the_same_nodes(kind: type[Softmax | LogSoftmax | LogSumExp], width: int) -> None:
    graph = one_function(kind(width), 2)
    found = in_pairs(graph)
    assert found is not None
    x = np.random.default_rng(1).normal(size=(100, 2 * width))
    before, after = evaluate(graph, {"x": x}), evaluate(found.graph, {"x": x})
    ramped = with_ramps(found.graph)
    last = evaluate(ramped.graph, {"x": x})
    for i, value in enumerate(before):
        assert np.allclose(after[found.place[i]], value, rtol=1e-12, atol=1e-12)
        assert np.allclose(last[ramped.place[found.place[i]]], value, rtol=1e-12, atol=1e-12)
    assert [o.name for o in found.graph.outputs] == ["y", "between"]
    # what is said of nodes is true, here and with ramps
    for form, values in ((found.graph, after), (ramped.graph, last)):
        assert form.groups
        for at, function, source in form.groups:
            low, high = function.enclose(values[source], values[source])
            assert np.all(low - 1e-9 <= values[at])
            assert np.all(values[at] <= high + 1e-9)


@pytest.mark.parametrize("name", WITH_SOFTMAX)
def test_networks_in_pairs_are_the_same(name: str) -> None:
    rng = np.random.default_rng([*name.encode()])
    graph = WITH_SOFTMAX[name](rng)
    found = in_pairs(graph)
    assert found is not None
    x = rng.normal(size=(500, graph.size(0))) * 10.0 ** rng.integers(-2, 2, size=(500, 1))
    before, after = evaluate(graph, {"x": x}), evaluate(found.graph, {"x": x})
    for i, value in enumerate(before):
        assert np.allclose(after[found.place[i]], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_in_pairs_are_the_same(seed: int) -> None:
    rng = np.random.default_rng([seed, 5])
    graph = random_graph(rng, depth=8, width=4)
    found = in_pairs(graph)
    kinds = (Softmax, LogSoftmax, LogSumExp)
    there = [n for n in graph.nodes if isinstance(n, Groupwise) and type(n.function) in kinds and n.function.width > 1]
    assert (found is None) == (not there)
    if found is None:
        return
    inputs = {name: rng.normal(size=(50, graph.size(i))) for name, i in graph.inputs.items()}
    before, after = evaluate(graph, inputs), evaluate(found.graph, inputs)
    for i, value in enumerate(before):
        assert np.allclose(after[found.place[i]], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("function", [GroupSort(3), Standardise(3, 1e-5), Softmax(1), Softmax(MAX_WIDTH + 1)])
def test_other_groups_stay(function: GroupFunction) -> None:
    assert in_pairs(single(function, 2)) is None
    # beside one that is written in pairs, nodes are what they were
    graph = single(function, 2)
    size = graph.size(1)
    nodes = (
        *graph.nodes,
        Affine((1,), (Dense(np.ones((2, size))),), exact(np.zeros(2)), (2,)),
        Groupwise(2, Softmax(2), (2,)),
    )
    found = in_pairs(Graph(nodes, (Output("y", 3),)))
    assert found is not None
    kept = found.graph.nodes[found.place[1]]
    same = renumbered(nodes[1], {0: found.place[0]})
    assert isinstance(kept, Groupwise)
    assert isinstance(same, Groupwise)
    assert kept.function is same.function
    assert kept.input == same.input


def test_too_many_entries_stay() -> None:
    width = 16
    assert in_pairs(single(Softmax(width), MAX_ENTRIES // width)) is not None
    assert in_pairs(single(Softmax(width), MAX_ENTRIES // width + 1)) is None


@sizes
@pytest.mark.parametrize("width", [2, 3, 10, 32])
def test_no_margin_leaves_its_bounds(width: int, size: float) -> None:
    rng = np.random.default_rng(width)
    center = size * rng.normal(size=(4, 2 * width))
    reach = size * rng.random(size=(4, 2 * width)) * (rng.random(size=(4, 1)) < 0.8)
    lower, upper = center - reach, center + reach
    low, high = Margins(width).enclose(lower, upper)
    x = np.clip(lower + (upper - lower) * rng.choice([0.0, 1.0, 0.5], size=(2000, 4, 2 * width)), lower, upper)
    grouped = x.astype(np.longdouble).reshape(-1, width)
    margins = np.empty_like(grouped)
    for i in range(width):
        rest = np.delete(grouped, i, axis=1)
        largest = rest.max(axis=1)
        margins[:, i] = grouped[:, i] - largest - np.log(np.exp(rest - largest[:, None]).sum(axis=1))
    margins = margins.reshape(x.shape)
    spare = 1e-17 * max(1.0, size)
    assert np.all(low - spare <= margins)
    assert np.all(margins <= high + spare)
    flat_case = ~reach.any(axis=1)
    assert np.all((high - low)[flat_case] <= 1e-13 * max(1.0, size))


def test_margins_of_unbounded_entries_say_nothing() -> None:
    low, high = Margins(3).enclose(np.full(3, -math.inf), np.full(3, math.inf))
    assert np.all(low == -math.inf)
    assert np.all(high == math.inf)
    low, high = Margins(2).enclose(np.array([-math.inf, 0.0]), np.array([1.0, 2.0]))
    assert low[0] == -math.inf
    assert 1.0 <= high[0] < 1.0 + 1e-9
    assert high[1] == math.inf
    low, high = Margins(2).enclose(np.full(2, math.inf), np.full(2, math.inf))
    assert not np.isnan(low).any()
    assert not np.isnan(high).any()
