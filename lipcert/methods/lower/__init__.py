"""Lower bounds: a search for the point and direction at which the network is steepest."""

from lipcert.methods.lower.search import find_witness

__all__ = ["find_witness"]
