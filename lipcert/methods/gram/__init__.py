"""Norms of convolutions, from the symbol."""

from lipcert.methods.gram.symbol import symbol_norm

__all__ = ["symbol_norm"]
