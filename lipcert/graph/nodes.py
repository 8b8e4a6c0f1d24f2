"""Nodes and the Graph.

A node's value is a vector: an ONNX tensor of `shape` flattened in C order. Nodes refer to earlier nodes by their
position, so a Graph is a topologically ordered tuple. `origin` names the ONNX node for messages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lipcert.activations import Activation
from lipcert.activations.groupwise import GroupFunction
from lipcert.activations.jacobian import JacobianBound
from lipcert.activations.softmax import Margins
from lipcert.arithmetic.enclosure import Enclosure
from lipcert.operators import LinearOperator, Shape, size_of


@dataclass(frozen=True, eq=False)
class Input:
    """A free vector."""

    name: str
    shape: Shape

    @property
    def inputs(self) -> tuple[int, ...]:
        return ()

    @property
    def origin(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class Affine:
    """sum_k operators[k] inputs[k] + bias; the bias is an enclosure of one vector."""

    inputs: tuple[int, ...]
    operators: tuple[LinearOperator, ...]
    bias: Enclosure
    shape: Shape
    origin: str = ""


@dataclass(frozen=True, eq=False)
class Elementwise:
    """activation applied to each entry of one node."""

    input: int
    activation: Activation
    shape: Shape
    origin: str = ""

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.input,)


@dataclass(frozen=True, eq=False)
class Groupwise:
    """A function applied to consecutive groups of the entries of one node: sorting, maximum, softmax ..."""

    input: int
    function: GroupFunction
    shape: Shape
    origin: str = ""

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.input,)


@dataclass(frozen=True, eq=False)
class Product:
    """The entrywise product of two nodes: gates, attention."""

    left: int
    right: int
    shape: Shape
    origin: str = ""

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.left, self.right)


@dataclass(frozen=True, eq=False)
class Increment:
    """Of a graph of increments: dw = J dv for an unknown J within `bound`. It has no value."""

    input: int
    bound: JacobianBound
    shape: Shape
    origin: str = ""

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.input,)


@dataclass(frozen=True, eq=False)
class State:
    """The unknown of a fixed point, which the nodes between it and its FixedPoint may read."""

    shape: Shape
    origin: str = ""

    @property
    def inputs(self) -> tuple[int, ...]:
        return ()


@dataclass(frozen=True, eq=False)
class Iteration:
    """What a file runs to come near a fixed point: steps z <- kept z + (1 - kept) body(z)."""

    steps: int | None
    """How many; None where the data decide."""

    kept: float
    start: np.ndarray | None
    """Where z begins; None where it depends on the input."""


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """The value of the State `state` at which it equals the node `body`: an implicit (equilibrium) layer.

    `iteration` is what the file runs in its place, where it does not say that it means the fixed point.
    """

    state: int
    body: int
    shape: Shape
    origin: str = ""
    iteration: Iteration | None = None

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.state, self.body)


Node = Input | Affine | Elementwise | Groupwise | Product | Increment | State | FixedPoint


@dataclass(frozen=True)
class Output:
    """A named result: the value of node `node`."""

    name: str
    node: int


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: nodes in topological order, and which of them are results."""

    nodes: tuple[Node, ...]
    outputs: tuple[Output, ...]
    groups: tuple[tuple[int, GroupFunction | Margins, int], ...] = ()
    """Nodes that are a function of groups of another node, written otherwise (graph.pairs): what boxes may use."""

    def __post_init__(self) -> None:
        for position, node in enumerate(self.nodes):
            if any(not 0 <= i < position for i in node.inputs):
                raise ValueError(f"node {position} ({node.origin}) reads a node that does not come before it")
            if isinstance(node, Elementwise | Product) and any(
                size_of(node.shape) != self.size(i) for i in node.inputs
            ):
                raise ValueError(f"node {position} ({node.origin}) changes the size of its input")
            if isinstance(node, Groupwise):
                groups, rest = divmod(self.size(node.input), node.function.width)
                if rest or groups * node.function.out_width != size_of(node.shape):
                    raise ValueError(f"node {position} ({node.origin}): its input does not split into its groups")
            if isinstance(node, Affine):
                for source, operator in zip(node.inputs, node.operators, strict=True):
                    if operator.size != (size_of(node.shape), self.size(source)):
                        raise ValueError(f"node {position} ({node.origin}): operator {operator.size} does not fit")
                if node.bias.shape != (size_of(node.shape),):
                    raise ValueError(f"node {position} ({node.origin}): bias {node.bias.shape} does not fit")

            if isinstance(node, FixedPoint) and not (
                isinstance(self.nodes[node.state], State)
                and self.size(node.state) == self.size(node.body) == size_of(node.shape)
            ):
                raise ValueError(f"node {position} ({node.origin}) is no fixed point of a state of its size")
        closed = [node.state for node in self.nodes if isinstance(node, FixedPoint)]
        states = [position for position, node in enumerate(self.nodes) if isinstance(node, State)]
        if sorted(closed) != states:
            raise ValueError("a state is not closed by one fixed point")

        for output in self.outputs:
            if not 0 <= output.node < len(self.nodes):
                raise ValueError(f"output {output.name} names no node")

    def size(self, position: int) -> int:
        return size_of(self.nodes[position].shape)

    @property
    def inputs(self) -> dict[str, int]:
        """Position of each Input, by name."""
        return {node.name: i for i, node in enumerate(self.nodes) if isinstance(node, Input)}

    @property
    def work(self) -> int:
        """Multiplications of the operators for one point."""
        return sum(op.work for node in self.nodes if isinstance(node, Affine) for op in node.operators)

    def pruned(self) -> Graph:
        """The same outputs without the nodes that they do not read; inputs stay."""
        needed = {o.node for o in self.outputs} | set(self.inputs.values())
        loops = [position for position, node in enumerate(self.nodes) if isinstance(node, FixedPoint)]
        before = -1
        while len(needed) != before:  # a loop is needed as a whole
            before = len(needed)
            needed.update(i for i in loops if self.nodes[i].inputs[0] in needed)
            for position in reversed(range(len(self.nodes))):
                if position in needed:
                    needed.update(self.nodes[position].inputs)
        new = {old: position for position, old in enumerate(sorted(needed))}
        nodes = tuple(renumbered(self.nodes[old], new) for old in sorted(needed))
        return Graph(nodes, tuple(Output(o.name, new[o.node]) for o in self.outputs))


def renumbered(node: Node, new: dict[int, int]) -> Node:
    """The node with its inputs' positions mapped by `new`."""
    if isinstance(node, Affine):
        return replace(node, inputs=tuple(new[i] for i in node.inputs))
    if isinstance(node, Product):
        return replace(node, left=new[node.left], right=new[node.right])
    if isinstance(node, FixedPoint):
        return replace(node, state=new[node.state], body=new[node.body])
    if isinstance(node, Input | State):
        return node
    return replace(node, input=new[node.input])
