"""The backends. A method may use any heuristic, precision, device or solver: only verified claims count.

Each folder is one idea and offers a `Method`: whether it accepts a problem (if not, why), and claims, cheap first.
"""

from lipcert.methods.base import Method, OutOfTime, Progress, Resumed, Unsuitable

__all__ = ["Method", "OutOfTime", "Progress", "Resumed", "Unsuitable"]
