"""Networks with softmax where it is used: at the end, in the middle, and as attention."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lipcert.activations import Relu, Tanh
from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.softmax import LogSoftmax, LogSumExp, Softmax
from lipcert.arithmetic.enclosure import exact
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Input, Node, Output, Product
from lipcert.operators import Dense, Reduction, Selection, compose


def attention(rng: np.random.Generator, tokens: int = 3, width: int = 2, size: float = 1.0) -> Graph:
    """One head: softmax of the scores, times the values, and a matrix."""
    n = tokens * width
    nodes: list[Node] = [Input("x", (n,))]

    def affine(rows: int, *sources: int) -> int:
        ops = tuple(Dense(size * rng.normal(size=(rows, nodes[s].shape[0])) / np.sqrt(width)) for s in sources)
        nodes.append(Affine(sources, ops, exact(0.1 * rng.normal(size=rows)), (rows,)))
        return len(nodes) - 1

    def moved(source: int, index: np.ndarray) -> int:
        op = Selection(index, nodes[source].shape[0])
        nodes.append(Affine((source,), (op,), exact(np.zeros(index.size)), (index.size,)))
        return len(nodes) - 1

    def product(a: int, b: int, groups: tuple[int, ...], axis: int) -> int:
        wide = int(np.prod(groups))
        nodes.append(Product(a, b, (wide,)))
        total = Reduction(groups, (axis,))
        nodes.append(Affine((len(nodes) - 1,), (total,), exact(np.zeros(total.out_size)), (total.out_size,)))
        return len(nodes) - 1

    q, k, v = (affine(n, 0) for _ in range(3))
    i, j, d = np.meshgrid(np.arange(tokens), np.arange(tokens), np.arange(width), indexing="ij")
    scores = product(moved(q, i * width + d), moved(k, j * width + d), (tokens, tokens, width), 2)
    nodes.append(Groupwise(scores, Softmax(tokens), (tokens * tokens,)))
    mixed = product(moved(len(nodes) - 1, i * tokens + j), moved(v, j * width + d), (tokens, tokens, width), 1)
    affine(2, mixed, 0)
    return Graph(tuple(nodes), (Output("y", len(nodes) - 1),))


def between(rng: np.random.Generator, function: GroupFunction, groups: int, size: float, end: bool = False) -> Graph:
    """Two layers, the function, and, unless it is the end, another layer of it."""
    wide, out = groups * function.width, groups * function.out_width
    nodes: list[Node] = [
        Input("x", (3,)),
        Affine((0,), (Dense(rng.normal(size=(5, 3))),), exact(rng.normal(size=5)), (5,)),
        Elementwise(1, Relu(), (5,)),
        Affine((2,), (Dense(size * rng.normal(size=(wide, 5))),), exact(rng.normal(size=wide)), (wide,)),
        Groupwise(3, function, (out,)),
    ]
    if not end:
        nodes += [
            Affine((4, 0), (Dense(rng.normal(size=(4, out))), Dense(rng.normal(size=(4, 3)))),
                   exact(np.zeros(4)), (4,)),
            Elementwise(5, Tanh(), (4,)),
            Affine((6,), (compose(Dense(rng.normal(size=(2, 4))), Selection(np.array([3, 1, 0, 2]), 4)),),
                   exact(np.ones(2)), (2,)),
        ]  # fmt: skip
    return Graph(tuple(nodes), (Output("y", len(nodes) - 1),))


WITH_SOFTMAX: dict[str, Callable[[np.random.Generator], Graph]] = {
    "softmax at the end": lambda rng: between(rng, Softmax(4), 1, 1.0, end=True),
    "softmax of two": lambda rng: between(rng, Softmax(2), 3, 1.0),
    "softmax in the middle": lambda rng: between(rng, Softmax(3), 2, 1.0),
    "steep softmax": lambda rng: between(rng, Softmax(5), 1, 20.0),
    "wide softmax": lambda rng: between(rng, Softmax(11), 1, 1.0),
    "log-softmax at the end": lambda rng: between(rng, LogSoftmax(4), 1, 1.0, end=True),
    "log-softmax in the middle": lambda rng: between(rng, LogSoftmax(3), 2, 1.0),
    "log-sum-exp": lambda rng: between(rng, LogSumExp(5), 2, 2.0),
    "attention": attention,
}
