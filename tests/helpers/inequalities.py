"""Small networks of every kind for LipSDP, its inequality by definition, and scales that just prove something."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from lipcert.activations import Abs, Activation, LeakyRelu, Relu, Tanh
from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.householder import Householder
from lipcert.activations.jacobian import BlockBound, SlopeBound
from lipcert.activations.sorting import GroupMax, GroupSort
from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.certificate.arithmetic import Arithmetic
from lipcert.certificate.boxes import propagate
from lipcert.certificate.chains import Setting, prepare_split
from lipcert.certificate.claim import Scaling
from lipcert.certificate.inequality import inequality
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Increment, Input, Node, Output, Product
from lipcert.operators import Dense, Identity, Leaf
from lipcert.problem import Ball, Everywhere, Norm, Problem, Region
from tests.helpers.exact import member
from tests.helpers.operators import as_fractions, matrix_by_definition
from tests.helpers.sampling import Ratios, merge, steepest_jacobians, steepest_pairs

N = 3
"""Inputs of the networks here."""


class Builder:
    """Nodes one after the other; each method returns the number of the node that it appended."""

    def __init__(self, rng: np.random.Generator, inputs: int = N, bias: float = 1.0) -> None:
        self.rng, self.bias = rng, bias
        self.nodes: list[Node] = [Input("x", (inputs,))]

    def size(self, node: int) -> int:
        return int(np.prod(self.nodes[node].shape))

    def affine(self, size: int, *sources: int) -> int:
        operators = tuple(Dense(self.rng.normal(size=(size, self.size(s))) / math.sqrt(self.size(s))) for s in sources)
        return self._add(Affine(sources, operators, exact(self.bias * self.rng.normal(size=size)), (size,)))

    def plus(self, first: int, second: int) -> int:
        """The sum of two nodes of one size."""
        same = Identity(self.size(first))
        return self._add(Affine((first, second), (same, same), exact(np.zeros(self.size(first))), (self.size(first),)))

    def active(self, source: int, activation: Activation) -> int:
        return self._add(Elementwise(source, activation, (self.size(source),)))

    def grouped(self, source: int, function: GroupFunction) -> int:
        groups = self.size(source) // function.width
        return self._add(Groupwise(source, function, (groups * function.out_width,)))

    def times(self, left: int, right: int) -> int:
        return self._add(Product(left, right, (self.size(left),)))

    def graph(self) -> Graph:
        return Graph(tuple(self.nodes), (Output("y", len(self.nodes) - 1),))

    def _add(self, node: Node) -> int:
        self.nodes.append(node)
        return len(self.nodes) - 1


def layered(make: Callable[[Builder, int], int], width: int) -> Callable[[np.random.Generator], Graph]:
    """Two layers of one nonlinear function between matrices."""

    def graph(rng: np.random.Generator) -> Graph:
        build = Builder(rng)
        at = make(build, build.affine(width, 0))
        build.affine(2, make(build, build.affine(width, at)))
        return build.graph()

    return graph


def reflections(build: Builder, source: int) -> int:
    normals = build.rng.normal(size=(build.size(source) // 2, 2))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return build.grouped(source, Householder(exact(normals), exact(2 * normals)))


def residual(rng: np.random.Generator) -> Graph:
    build = Builder(rng)
    at = build.affine(4, 0)
    for activation in (Relu(), LeakyRelu(-0.5)):
        at = build.plus(at, build.affine(4, build.active(build.affine(4, at), activation)))
    build.affine(2, at, 0)
    return build.graph()


def forked(rng: np.random.Generator) -> Graph:
    """Three nonlinear nodes read one node, one of them the input itself, and one reads a nonlinear node."""
    build = Builder(rng)
    at = build.affine(4, 0)
    ways = [build.active(at, Relu()), build.active(at, Abs()), build.grouped(at, GroupMax(2)), build.active(0, Tanh())]
    build.affine(3, *ways, build.active(ways[0], LeakyRelu(0.3)), at)
    return build.graph()


def product(rng: np.random.Generator) -> Graph:
    build = Builder(rng)
    left, right = (build.active(build.affine(3, 0), Tanh()) for _ in range(2))
    build.affine(2, build.active(build.affine(3, build.times(left, right)), Relu()), build.times(left, left))
    return build.graph()


NETWORKS: dict[str, Callable[[np.random.Generator], Graph]] = {
    "relu": layered(lambda build, at: build.active(at, Relu()), 5),
    "leaky relu": layered(lambda build, at: build.active(at, LeakyRelu(0.1)), 4),
    "tanh": layered(lambda build, at: build.active(at, Tanh()), 4),
    "abs": layered(lambda build, at: build.active(at, Abs()), 4),
    "maxmin": layered(lambda build, at: build.grouped(at, GroupSort(2)), 4),
    "groupsort of 3": layered(lambda build, at: build.grouped(at, GroupSort(3)), 6),
    "groupsort of 4": layered(lambda build, at: build.grouped(at, GroupSort(4)), 8),
    "householder": layered(reflections, 4),
    "max of 2": layered(lambda build, at: build.grouped(at, GroupMax(2)), 6),
    "max of 3": layered(lambda build, at: build.grouped(at, GroupMax(3)), 6),
    "max of 4": layered(lambda build, at: build.grouped(at, GroupMax(4)), 8),
    "residual": residual,
    "forked": forked,
    "product": product,
}

REGIONS: dict[str, Callable[[np.random.Generator], Region]] = {
    "everywhere": lambda rng: Everywhere(),
    "a ball": lambda rng: Ball(rng.normal(size=N), 0.4, 2.0),  # some neurons do not turn there
    "a small box": lambda rng: Ball(rng.normal(size=N), 0.02, math.inf),  # most do not
}


def setting_of(problem: Problem, by: Arithmetic | None = None) -> Setting:
    by = by or Arithmetic()
    return prepare_split(problem, propagate(problem, by), "open", by)


def with_norms(setting: Setting, p: Norm, q: Norm) -> Setting:
    return replace(setting, norm_in=p, norm_out=q)


def neurons(setting: Setting) -> list[int]:
    return [setting.graph.size(node) for node in setting.increments.nonlinear]


def same_in_groups(setting: Setting, hidden: np.ndarray) -> np.ndarray:
    """The scales, each the first of its group."""
    parts = np.split(hidden, np.cumsum(neurons(setting))[:-1])
    for node, part in zip(setting.increments.nonlinear, parts, strict=False):
        bound = setting.increments.bound(node)
        if isinstance(bound, BlockBound):
            groups = len(bound.columns)
            part[:] = np.repeat(part.reshape(groups, -1)[:, 0], part.size // groups)
    return np.concatenate(parts)


def attained(problem: Problem, rng: np.random.Generator) -> Ratios:
    return merge(steepest_pairs(problem, rng, 150), steepest_jacobians(problem, rng, 60))


# P from the definition: one unit of one source moved, all others held, and what every node then reads.


@dataclass(frozen=True, eq=False)
class Definition:
    """What nonlinear nodes read and y, over coordinates of x and all neurons, without scales: floats or Fractions."""

    setting: Setting
    reads: tuple[np.ndarray, ...]
    y: np.ndarray

    def form(self, inputs: np.ndarray, hidden: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """P in the coordinates dx / a and dz / e, from numbers of the kind of `reads`."""
        one = Fraction(1) if self.y.dtype == object else 1.0
        scale, n = np.concatenate([inputs, hidden]), len(inputs)
        units = np.diag(np.full(len(scale), one)) * scale
        result = np.diag(np.full(len(scale), one) * (np.arange(len(scale)) < n))
        for node, read in zip(self.setting.increments.nonlinear, self.reads, strict=True):
            size, bound = self.setting.graph.size(node), self.setting.increments.bound(node)
            dz, dv, each = units[n : n + size], read * scale, scale[n : n + size]
            n += size
            if isinstance(bound, BlockBound):
                steepest = self._numbers(bound.spectral)
                within = np.repeat(each.reshape(len(bound.columns), -1)[:, 0], bound.columns.shape[1])
                first, last = dz / each[:, None], dv * (steepest / within)[:, None]
                result = result + first.T @ first - last.T @ last
            else:
                assert isinstance(bound, SlopeBound)
                above, below = (
                    (dz - self._numbers(slope)[:, None] * dv) / each[:, None] for slope in (bound.low, bound.high)
                )
                result = result + (above.T @ below + below.T @ above) / 2
        last = outputs[:, None] * self.y * scale
        return np.asarray(result - last.T @ last)

    def of(self, scaling: Scaling) -> np.ndarray:
        return self.form(*(self._numbers(v) for v in (scaling.inputs, scaling.hidden, scaling.outputs)))

    def _numbers(self, v: np.ndarray) -> np.ndarray:
        return as_fractions(v) if self.y.dtype == object else v


def in_floats(setting: Setting) -> Definition:
    return _definition(setting, np.eye, lambda op, moved: op.matvec(moved.T).T)


def exactly(setting: Setting, rng: np.random.Generator) -> Definition:
    """In Fractions, with some of the weights that the increments may have: within the radius of each leaf."""
    drawn: dict[int, np.ndarray] = {}

    def weights(leaf: Leaf) -> np.ndarray:
        if id(leaf) not in drawn:
            assert leaf.weights is not None
            drawn[id(leaf)] = member(rng, Enclosure(leaf.weights, leaf.radius))
        return drawn[id(leaf)]

    return _definition(
        setting,
        lambda n: matrix_by_definition(Identity(n)),
        lambda op, moved: matrix_by_definition(op, weights) @ moved,
    )


def _definition(setting: Setting, eye: Callable[[int], np.ndarray], through: Callable[..., np.ndarray]) -> Definition:
    graph, nodes = setting.graph, setting.increments.nonlinear
    sizes = [graph.size(setting.x), *neurons(setting)]
    unit, starts = eye(sum(sizes)), np.cumsum([0, *sizes])
    place = {node: unit[starts[i] : starts[i + 1]] for i, node in enumerate([setting.x, *nodes])}
    found: list[np.ndarray] = []
    for i, node in enumerate(graph.nodes):
        if i in place:
            found.append(place[i])
        elif isinstance(node, Affine):
            parts = [through(op, found[s]) for s, op in zip(node.inputs, node.operators, strict=True)]
            found.append(sum(parts[1:], parts[0]))
        else:
            assert isinstance(node, Input)
            found.append(0 * eye(max(graph.size(i), sum(sizes)))[: graph.size(i), : sum(sizes)])
    bodies = [graph.nodes[node] for node in nodes]
    reads = tuple(found[body.input] for body in bodies if isinstance(body, Increment))
    return Definition(setting, reads, found[setting.y])


# Scales.

SCALES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "equal": lambda rng, n: np.ones(n),
    "random": lambda rng, n: np.exp(rng.normal(size=n)),
    "bad": lambda rng, n: 10.0 ** rng.uniform(-4, 4, size=n),
}


def largest(holds: Callable[[float], bool], steps: int = 60) -> float:
    """About the largest factor for which it holds, between 1e-150 and 1e50."""
    low, high = math.log(1e-150), math.log(1e50)
    for _ in range(steps):
        middle = low / 2 + high / 2
        low, high = (middle, high) if holds(math.exp(middle)) else (low, middle)
    return math.exp(low)


def tight(setting: Setting, rng: np.random.Generator, kind: str, outputs: np.ndarray | None = None) -> Scaling:
    """Scales of this kind, enlarged until almost nothing is proven: first of inputs, with some room, then of outputs.

    Nodes further on get larger ones, by the least power of four for which anything is proven.
    """
    make, sizes = SCALES[kind], neurons(setting)
    n, m = setting.graph.size(setting.x), setting.graph.size(setting.y)
    hidden = same_in_groups(setting, make(rng, sum(sizes)))
    shape_in, shape_out = make(rng, n), make(rng, m) if outputs is None else outputs
    levels = np.repeat(np.arange(len(sizes)), sizes).astype(float)
    definition = in_floats(setting)

    def is_above(steeper: float, into: float, out: float, least: float) -> bool:
        form = definition.form(into * shape_in, hidden * steeper**levels, out * shape_out)
        return bool(np.all(np.isfinite(form)) and np.linalg.eigvalsh(form)[0] >= least)

    def enlarged(least: float) -> Scaling:
        steeper = next(4.0**k for k in range(60) if is_above(4.0**k, 0.0, 0.0, least))
        into = float(rng.uniform(0.3, 0.9)) * min(1e9, largest(lambda a: is_above(steeper, a, 0.0, least)))
        out = largest(lambda c: is_above(steeper, into, c, least))
        return Scaling(into * shape_in, hidden * steeper**levels, out * shape_out)

    for least in (1e-9, 0.1, 0.5, 0.9, 0.99):  # weights may be known only up to a radius
        scaling = enlarged(least)
        if setting.by.proves_positive(inequality(setting, scaling)):
            return scaling
    raise AssertionError("no scales of this kind are proven")
