"""Implicit layers: where their solutions are, found in float64; the kernel proves it (certificate.implicit)."""

from lipcert.methods.implicit.equilibria import equilibria_at, located, with_equilibria

__all__ = ["equilibria_at", "located", "with_equilibria"]
