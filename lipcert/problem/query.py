"""A query, and the problem that it poses for a graph: one vector x in, one vector y out, a region for x."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lipcert.arithmetic.enclosure import Enclosure, exact
from lipcert.errors import UsageError
from lipcert.graph import Affine, FixedPoint, Graph, Input, Output, evaluate
from lipcert.graph.nodes import renumbered
from lipcert.operators import Identity, Selection
from lipcert.problem.norms import Norm
from lipcert.problem.outputs import AllOutputs, OutputChoice
from lipcert.problem.regions import Everywhere, Region

X = "x"
"""Name of the single varying input of a posed problem."""


@dataclass(frozen=True)
class Query:
    """How much can the chosen outputs (in norm_out) change per change of the chosen inputs (in norm_in) over a region?

    What is bounded is the supremum over the region of the norm of the Clarke Jacobian, which is the Lipschitz constant
    on any region with an interior; on a flat one it counts directions that leave the region too.
    `inputs` names the inputs that vary, concatenated in this order (empty: all); other inputs may take any value.
    """

    norm_in: Norm = 2.0
    norm_out: Norm = 2.0
    region: Region = field(default_factory=Everywhere)
    outputs: OutputChoice = field(default_factory=AllOutputs)
    inputs: tuple[str, ...] = ()
    output: str = ""


@dataclass(frozen=True, eq=False)
class Problem:
    """A query on a graph that has been cut to it.

    In `graph`, node `x` is the one varying Input, node `y` the bounded vector; every other Input is free (any value).
    `equilibria`: where the solutions of its implicit layers are, with what proves it (certificate.solutions).
    """

    graph: Graph
    query: Query
    x: int
    y: int
    equilibria: tuple[Any, ...] = ()

    def everywhere(self) -> Problem:
        """The same problem without a region."""
        return replace(self, query=replace(self.query, region=Everywhere()))

    def values(self, points: np.ndarray) -> list[np.ndarray]:
        """Of every node at points (K, size_in), each (K, size), not rounded safely; free inputs are zero."""
        free = {name: np.zeros((len(points), self.graph.size(i))) for name, i in self.graph.inputs.items()}
        return evaluate(self.graph, free | {self.graph.nodes[self.x].origin: points})

    @property
    def size_in(self) -> int:
        return self.graph.size(self.x)

    @property
    def size_out(self) -> int:
        return self.graph.size(self.y)


def pose(graph: Graph, query: Query, *, as_run: bool = False) -> Problem:
    """Cut the graph to the query: concatenate the varying inputs into one, select the outputs, drop the rest.

    `as_run`: a Loop's result is what its steps end with; else it is the fixed point, for which alone slopes are known.
    """
    varying = query.inputs or tuple(graph.inputs)
    for name in varying:
        if name not in graph.inputs:
            raise UsageError(f"--input: the model has no input {name!r}", hint=f"it has {', '.join(graph.inputs)}")
    if len(set(varying)) != len(varying):
        raise UsageError("--input: the same input is named twice")
    output = _find_output(graph, query.output)

    sizes = [graph.size(graph.inputs[name]) for name in varying]
    total = sum(sizes)
    query.region.bounds(total)  # checks the sizes before any work
    name = X
    while name in set(graph.inputs) - set(varying):
        name += "'"
    nodes: list = [Input(name, (total,))]
    new: dict[int, int] = {}
    for position, node in enumerate(graph.nodes):
        if isinstance(node, Input) and node.name in varying:
            start = sum(sizes[: varying.index(node.name)])
            part = Selection(np.arange(start, start + graph.size(position)), total)
            operator = Identity(total) if len(varying) == 1 else part
            node = Affine((0,), (operator,), exact(np.zeros(graph.size(position))), node.shape, node.name)
        else:
            node = renumbered(node, new)
            if isinstance(node, FixedPoint) and not as_run:
                node = replace(node, iteration=None)
        new[position] = len(nodes)
        nodes.append(node)

    choice = query.outputs.operator(graph.size(output.node))
    bias = Enclosure(np.zeros(choice.out_size))
    nodes.append(Affine((new[output.node],), (choice,), bias, (choice.out_size,), "selected outputs"))
    cut = Graph(tuple(nodes), (Output(output.name, len(nodes) - 1),)).pruned()
    return Problem(cut, query, x=0, y=cut.outputs[0].node)


def _find_output(graph: Graph, name: str) -> Output:
    if not name:
        if len(graph.outputs) > 1:
            names = ", ".join(o.name for o in graph.outputs)
            raise UsageError(f"the model has {len(graph.outputs)} outputs", hint=f"choose one with --output: {names}")
        return graph.outputs[0]
    for output in graph.outputs:
        if output.name == name:
            return output
    names = ", ".join(o.name for o in graph.outputs)
    raise UsageError(f"--output: the model has no output {name!r}", hint=f"it has {names}")
