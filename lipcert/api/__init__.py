"""The Python API: what `help(lipcert)` shows."""

from lipcert.api.bounds import bound, bound_many, compare, layer_norms
from lipcert.api.boxes import reach, reach_many
from lipcert.api.models import load
from lipcert.api.monotonicity import monotone
from lipcert.api.reports import check, read_report, render_html
from lipcert.api.robustness import certify

__all__ = [
    "bound",
    "bound_many",
    "certify",
    "check",
    "compare",
    "layer_norms",
    "load",
    "monotone",
    "reach",
    "reach_many",
    "read_report",
    "render_html",
]
