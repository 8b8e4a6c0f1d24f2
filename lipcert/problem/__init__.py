"""What is being asked of a network: norms, a region, a choice of inputs and outputs."""

from lipcert.problem.norms import Norm, dual, norm_name, parse_norm
from lipcert.problem.outputs import AllOutputs, Margin, Margins, OutputChoice, SomeOutputs, parse_margin, parse_outputs
from lipcert.problem.query import Problem, Query, pose
from lipcert.problem.regions import Ball, Balls, Box, Boxes, Everywhere, Region, rows_of, together

__all__ = [
    "AllOutputs",
    "Ball",
    "Balls",
    "Box",
    "Boxes",
    "Everywhere",
    "Margin",
    "Margins",
    "Norm",
    "OutputChoice",
    "Problem",
    "Query",
    "Region",
    "SomeOutputs",
    "dual",
    "norm_name",
    "parse_margin",
    "parse_norm",
    "parse_outputs",
    "pose",
    "rows_of",
    "together",
]
