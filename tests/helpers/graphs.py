"""Random graphs over everything that the IR can hold, for property tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import lipcert.activations as acts
from lipcert.activations import Activation
from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.householder import Householder
from lipcert.activations.lp_norm import LpNorm, LpNormalise
from lipcert.activations.softmax import LogSoftmax, LogSumExp, Softmax
from lipcert.activations.sorting import GroupMax, GroupSort
from lipcert.activations.standardise import RootMeanSquare, Standardise
from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.graph import Affine, Elementwise, Graph, Groupwise, Input, Node, Output, Product
from lipcert.operators import Dense, Diagonal, LinearOperator, Selection, Transposed
from lipcert.operators import Product as OperatorProduct
from tests.helpers.activations import REFERENCES
from tests.helpers.operators import random_convolution, random_operator

CLASSIC: tuple[Activation, ...] = tuple(reference.activation for reference in REFERENCES)
"""Those that `helpers.balls` knows: what is tested to the last rounding is tested with them."""

ACTIVATIONS: tuple[Activation, ...] = (
    *CLASSIC,
    acts.PRelu(Enclosure(np.array([0.3]))),
    acts.Abs(),
    acts.Clip(-1.0, 0.5),
    acts.HardSigmoid(0.2, 0.5),
    acts.ThresholdedRelu(0.0),
    acts.Shrink(0.5, 0.5),
    acts.Softsign(),
    acts.Erf(),
    acts.Atan(),
    acts.Softplus(),
    acts.Elu(1.6),
    acts.Selu(1.67, 1.05),
    acts.Celu(0.3),
    acts.Gelu(),
    acts.GeluTanh(),
    acts.Silu(),
    acts.Mish(),
    acts.HardSwish(),
    acts.Sin(),
    acts.Cos(),
    acts.Asinh(),
    acts.Scaled(acts.Silu(), 1.702),
)
"""Every activation that is Lipschitz everywhere, those with parameters where they behave differently."""

GUARDED: tuple[tuple[Activation, float, float], ...] = (
    (acts.Exp(), 1.5, 0.0),
    (acts.Power(2), 1.0, 0.0),
    (acts.Power(3), 1.0, 0.0),
    (acts.Sqrt(), 1.0, 1.5),
    (acts.Reciprocal(), 1.0, 1.5),
    (acts.Log(), 1.0, 1.5),
    (acts.Tan(), 1.2, 0.0),
    (acts.Asin(), 0.9, 0.0),
    (acts.Acos(), 0.9, 0.0),
    (acts.Sinh(), 1.5, 0.0),
    (acts.Cosh(), 1.5, 0.0),
    (acts.Acosh(), 1.0, 2.5),
    (acts.Atanh(), 0.9, 0.0),
)
"""The others (but for Sign, which jumps), each with a and b: they are Lipschitz on the range of a tanh + b."""

Maker = Callable[[np.random.Generator, int], GroupFunction]
"""A group function for so many groups."""


def _householder(rng: np.random.Generator, groups: int, kind: str) -> Householder:
    width = int(rng.integers(1, 4))
    s = rng.normal(size=(groups, width))
    s /= np.linalg.norm(s, axis=1, keepdims=True)
    if kind != "unit":
        s *= 1 + rng.choice([1e-7, 0.2]) * rng.normal(size=(groups, 1))  # float32 normals; careless ones
    c = 2 * s / (s * s).sum(axis=1, keepdims=True)
    if kind == "oblique":
        c = c + rng.choice([1e-7, 0.2]) * rng.normal(size=c.shape)
    radius = 1e-4 * rng.random((2, *s.shape)) if rng.random() < WITH_RADIUS else np.zeros((2, *s.shape))
    return Householder(Enclosure(s, radius[0]), Enclosure(c, radius[1]))


def _some(rng: np.random.Generator, groups: int) -> np.ndarray:
    """Which entries of groups of 4 count: at least one."""
    present = rng.random((groups, 4)) < 0.6
    present[:, 0] |= ~present.any(axis=1)
    return present


def _width(rng: np.random.Generator) -> int:
    return int(rng.choice([1, 2, 3, 4], p=[0.1, 0.3, 0.3, 0.3]))


GROUP_FUNCTIONS: dict[str, Maker] = {
    "maxmin": lambda rng, groups: GroupSort(2),
    "groupsort of 3": lambda rng, groups: GroupSort(3),
    "groupsort of 4": lambda rng, groups: GroupSort(4),
    "max": lambda rng, groups: GroupMax(_width(rng)),
    "max of some": lambda rng, groups: GroupMax(4, _some(rng, groups)),
    "householder": lambda rng, groups: _householder(rng, groups, "unit"),
    "householder, not unit": lambda rng, groups: _householder(rng, groups, "not unit"),
    "householder, oblique": lambda rng, groups: _householder(rng, groups, "oblique"),
    "softmax": lambda rng, groups: Softmax(_width(rng)),
    "log softmax": lambda rng, groups: LogSoftmax(_width(rng)),
    "log sum exp": lambda rng, groups: LogSumExp(_width(rng)),
    "standardise": lambda rng, groups: Standardise(_width(rng), float(rng.choice([1e-5, 0.01, 0.5]))),
    "root mean square": lambda rng, groups: RootMeanSquare(_width(rng), float(rng.choice([1e-5, 0.01, 0.5]))),
    "x over max(|x|_2, floor)": lambda rng, groups: LpNormalise(_width(rng), 2, float(rng.choice([0.01, 0.8]))),
    "x over max(|x|_1, floor)": lambda rng, groups: LpNormalise(_width(rng), 1, float(rng.choice([0.01, 0.8]))),
    "l2 norm": lambda rng, groups: LpNorm(_width(rng), 2),
    "l1 norm": lambda rng, groups: LpNorm(_width(rng), 1),
}
"""Every group function that is Lipschitz everywhere, where it takes different paths."""

GUARDED_FUNCTIONS: dict[str, Maker] = {
    "x over |x|_2": lambda rng, groups: LpNormalise(_width(rng), 2),
    "x over |x|_1": lambda rng, groups: LpNormalise(_width(rng), 1),
    "standardise without epsilon": lambda rng, groups: Standardise(int(rng.integers(2, 5)), 0.0),
    "root mean square without epsilon": lambda rng, groups: RootMeanSquare(_width(rng), 0.0),
}
"""Those that are Lipschitz away from zero, or from groups of equal entries."""

ALL_FUNCTIONS = {**GROUP_FUNCTIONS, **GUARDED_FUNCTIONS}

WITH_RADIUS = 0.3
"""Probability that the weights of a leaf, a bias, or the normals of a reflection are known only up to a radius."""

LAYERS = ("affine", "elementwise", "both", "guarded", "groupwise", "product")


def random_graph(
    rng: np.random.Generator,
    *,
    inputs: int = 1,
    depth: int = 6,
    width: int = 6,
    local: bool = False,
    activations: Sequence[Activation] = ACTIVATIONS,
    only: Sequence[str] = LAYERS,
) -> Graph:
    """A random DAG of `depth` layers on inputs "in0", "in1", ... of at most `width` entries, with one output "out".

    A layer is an Affine node (operators of every kind, some with a radius, as has the bias), an Elementwise node (of
    any of `activations`), or the one after the other; a Groupwise node (of every function) after a selection, in which
    windows overlap; a Product of two nodes; or something that is Lipschitz only on an interval, after a tanh. It reads
    the node before it, and other nodes anywhere before: there are forks, joins, one node read twice, inputs that come
    in late, affine nodes that read affine nodes, and nonlinear ones that read inputs or nonlinear ones. The last node
    is affine and reads all that nothing else has read, so that no node is idle. Values stay of the order of one.

    The network is Lipschitz everywhere: factors of products are bounded. With `local`, it may be so on bounded regions
    only. `only` names the kinds of layers that may occur.
    """
    build = _Builder(rng, [Input(f"in{i}", (1, int(rng.integers(1, width + 1)))) for i in range(inputs)], width)
    odds = {"affine": 0.15, "elementwise": 0.1, "both": 0.35, "guarded": 0.1, "groupwise": 0.2, "product": 0.1}
    weights = np.array([odds[kind] for kind in only])
    for layer in range(depth):
        kind = str(rng.choice(list(only), p=weights / weights.sum()))
        if kind in ("affine", "both"):
            build.affine(build.some_sources(), f"affine {layer}")
        if kind in ("elementwise", "both"):
            build.elementwise(activations[int(rng.integers(len(activations)))], f"activation {layer}")
        elif kind == "guarded":
            build.guarded(f"guarded {layer}")
        elif kind == "groupwise":
            build.groupwise(f"groups {layer}")
        elif kind == "product":
            build.product(f"product {layer}", bounded=not local)
    read = {source for node in build.nodes for source in node.inputs}
    idle = [i for i in range(len(build.nodes)) if i not in read]
    build.affine(idle, "output", int(rng.integers(1, width + 1)))
    return Graph(tuple(build.nodes), (Output("out", len(build.nodes) - 1),))


class _Builder:
    """The nodes so far; what is appended reads the last one, unless told otherwise."""

    def __init__(self, rng: np.random.Generator, nodes: list[Node], width: int) -> None:
        self.rng, self.nodes, self.width = rng, nodes, width

    @property
    def last(self) -> int:
        return len(self.nodes) - 1

    def size(self, node: int) -> int:
        return int(np.prod(self.nodes[node].shape))

    def some_sources(self) -> list[int]:
        """The last node mostly, and up to two others."""
        sources = [self.last] if self.rng.random() < 0.8 else []
        sources += self.rng.integers(0, len(self.nodes), size=int(self.rng.integers(0, 3))).tolist() or sources or [0]
        return sorted(sources)

    def affine(self, sources: list[int], origin: str, size: int | None = None) -> None:
        operators: list[LinearOperator] = []
        for source in sources:
            operators.append(self._operator(self.size(source), size))
            size = operators[0].out_size
        assert size is not None
        radius = 1e-3 * self.rng.random(size) if self.rng.random() < WITH_RADIUS else 0.0
        bias = Enclosure(self.rng.normal(size=size), radius)
        self.nodes.append(Affine(tuple(sources), tuple(operators), bias, (1, size), origin))

    def _operator(self, in_size: int, size: int | None) -> LinearOperator:
        if self.rng.random() > 0.1:
            return random_operator(self.rng, in_size, size, radius=WITH_RADIUS, largest=2 * self.width)
        # A' after what brings the input to its size
        out = size or int(self.rng.integers(1, self.width + 1))
        leaf = random_convolution(self.rng, out, radius=WITH_RADIUS)
        first = Dense(self.rng.normal(size=(leaf.out_size, in_size)) / np.sqrt(in_size))
        return Transposed(leaf) if leaf.out_size == in_size else OperatorProduct((Transposed(leaf), first))

    def elementwise(self, activation: Activation, origin: str) -> None:
        self.nodes.append(Elementwise(self.last, activation, self.nodes[-1].shape, origin))

    def guarded(self, origin: str) -> None:
        """tanh, a multiple and a shift of it, and an activation that is Lipschitz there."""
        activation, scale, shift = GUARDED[int(self.rng.integers(len(GUARDED)))]
        self._guard(np.full(self.size(self.last), scale), np.full(self.size(self.last), shift), origin)
        self.elementwise(activation, origin)

    def _guard(self, scale: np.ndarray, shift: np.ndarray, origin: str) -> None:
        self.elementwise(acts.Tanh(), origin)
        shape = self.nodes[-1].shape
        self.nodes.append(Affine((self.last,), (Diagonal(scale),), exact(shift), shape, origin))

    def groupwise(self, origin: str) -> None:
        rng, size = self.rng, self.size(self.last)
        groups = int(rng.integers(1, max(2, self.width // 2)))
        guarded = rng.random() < 0.15
        makers = list((GUARDED_FUNCTIONS if guarded else GROUP_FUNCTIONS).values())
        function = makers[int(rng.integers(len(makers)))](rng, groups)
        n = groups * function.width
        if size != n or rng.random() < 0.7:
            index = rng.integers(0, size, size=n)  # windows may overlap
            selected = Selection(index, size)
            self.nodes.append(Affine((self.last,), (selected,), exact(np.zeros(n)), (1, n), origin))
        if guarded:
            sides = np.tile(np.where(np.arange(function.width) % 2, -1.5, 1.5), groups)
            self._guard(np.full(n, 0.9), sides, origin)
        shape = (1, groups * function.out_width)
        self.nodes.append(Groupwise(self.last, function, shape, origin))

    def product(self, origin: str, bounded: bool) -> None:
        """Of the last node and another of its size, or itself."""
        size, left = self.size(self.last), self.last
        others = [i for i in range(len(self.nodes)) if self.size(i) == size]
        right = int(self.rng.choice(others))
        if bounded:
            bounds = {}
            for source in {left, right}:
                activation = (acts.Tanh(), acts.Sigmoid(), acts.Sin())[int(self.rng.integers(3))]
                self.nodes.append(Elementwise(source, activation, self.nodes[source].shape, origin))
                bounds[source] = self.last
            left, right = bounds[left], bounds[right]
        self.nodes.append(Product(left, right, (1, size), origin))
