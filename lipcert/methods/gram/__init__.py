"""Gram iteration, proven: the named method."""

from lipcert.methods.gram.method import GramMethod

__all__ = ["GramMethod"]
