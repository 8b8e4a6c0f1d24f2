"""Norms of convolutions from their symbols: found in floats, proven by the kernel."""

from lipcert.methods.symbol.proof import FULL_EFFORT, Effort, symbol_norm, symbol_proof

__all__ = ["FULL_EFFORT", "Effort", "symbol_norm", "symbol_proof"]
