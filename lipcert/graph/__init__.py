"""The intermediate representation: a DAG of typed nodes, its evaluation, and its linear stretches."""

from lipcert.graph.evaluate import evaluate
from lipcert.graph.nodes import Affine, Elementwise, Graph, Input, Node, Output
from lipcert.graph.stretch import linear_terms

__all__ = ["Affine", "Elementwise", "Graph", "Input", "Node", "Output", "evaluate", "linear_terms"]
