"""The largest norm of the Jacobian over a region as mixed-integer linear programs, for comparison on small networks."""

from lipcert.methods.mip.method import MipMethod
from lipcert.methods.mip.program import MipAnswer, solve_mip, unsuited

__all__ = ["MipAnswer", "MipMethod", "solve_mip", "unsuited"]
