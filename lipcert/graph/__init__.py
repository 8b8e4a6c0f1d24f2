"""The intermediate representation: a DAG of typed nodes, its evaluation, and its linear stretches."""

from lipcert.graph.evaluate import evaluate
from lipcert.graph.nodes import (
    Affine,
    Elementwise,
    FixedPoint,
    Graph,
    Groupwise,
    Increment,
    Input,
    Iteration,
    Node,
    Output,
    Product,
    State,
)
from lipcert.graph.stretch import linear_terms

__all__ = [
    "Affine",
    "Elementwise",
    "FixedPoint",
    "Graph",
    "Groupwise",
    "Increment",
    "Input",
    "Iteration",
    "Node",
    "Output",
    "Product",
    "State",
    "evaluate",
    "linear_terms",
]
