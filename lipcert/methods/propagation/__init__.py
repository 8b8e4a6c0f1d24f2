"""Bound propagation in torch: the kernel's linear bounds, many regions or pieces at a time, on any device.

Nothing here is proof: what it finds, the kernel bounds again.
"""

from lipcert.methods.propagation.jacobian import Rows, bound_rows, norm_bounds
from lipcert.methods.propagation.multipliers import Sides
from lipcert.methods.propagation.network import Network
from lipcert.methods.propagation.pieces import PieceBounds, Planes, as_arrays, distance, rows_as_arrays, some_cases
from lipcert.methods.propagation.planes import Net
from lipcert.methods.propagation.regions import Regions, regions_on
from lipcert.methods.propagation.slopes import SlopeSearch

__all__ = [
    "Net",
    "Network",
    "PieceBounds",
    "Planes",
    "Regions",
    "Rows",
    "Sides",
    "SlopeSearch",
    "as_arrays",
    "bound_rows",
    "distance",
    "norm_bounds",
    "regions_on",
    "rows_as_arrays",
    "some_cases",
]
