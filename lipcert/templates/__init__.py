"""Quadratic constraints of activations as data: one TOML file each, read, checked and turned into matrices.

Numpy only; nothing here is trusted by the verifier.
"""

from lipcert.templates.library import shipped
from lipcert.templates.reading import parse_template, read_template
from lipcert.templates.sampling import sampled_violation
from lipcert.templates.template import Condition, Elimination, Linear, Parameter, Sign, Source, Template

__all__ = [
    "Condition",
    "Elimination",
    "Linear",
    "Parameter",
    "Sign",
    "Source",
    "Template",
    "parse_template",
    "read_template",
    "sampled_violation",
    "shipped",
]
