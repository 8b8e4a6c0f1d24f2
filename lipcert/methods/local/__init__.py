"""Bounds over a region: linear bounds on the Clarke Jacobian, made exact by branch and bound."""

from lipcert.methods.local.method import LocalMethod

__all__ = ["LocalMethod"]
