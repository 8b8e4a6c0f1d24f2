"""Implicit layers: where their solutions are, found in float64; the kernel proves it (certificate.solutions)."""

from lipcert.methods.implicit.equilibria import at_witness, beside_one, equilibria_at, with_equilibria
from lipcert.methods.implicit.many import with_many_equilibria

__all__ = ["at_witness", "beside_one", "equilibria_at", "with_equilibria", "with_many_equilibria"]
