"""Norms of convolutions: from the symbol (Gram iteration is to come)."""

from lipcert.methods.gram.symbol import symbol_norm

__all__ = ["symbol_norm"]
