"""The intermediate representation: a DAG of typed nodes, its evaluation, and its linear stretches."""

from lipcert.graph.evaluate import evaluate
from lipcert.graph.nodes import Affine, Elementwise, Graph, Groupwise, Increment, Input, Node, Output, Product
from lipcert.graph.stretch import linear_terms

__all__ = [
    "Affine",
    "Elementwise",
    "Graph",
    "Groupwise",
    "Increment",
    "Input",
    "Node",
    "Output",
    "Product",
    "evaluate",
    "linear_terms",
]
