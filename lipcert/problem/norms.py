"""The vector norms l1, l2 and l-infinity, and their duals."""

from __future__ import annotations

import math

from lipcert.errors import UsageError

Norm = float
"""1.0, 2.0 or math.inf."""

_NAMES = {"1": 1.0, "l1": 1.0, "2": 2.0, "l2": 2.0, "inf": math.inf, "linf": math.inf, "l_inf": math.inf}


def parse_norm(text: object, option: str = "--norm") -> Norm:
    """Read 1, 2 or inf (also l1, l2, linf, and numbers)."""
    if isinstance(text, float | int) and not isinstance(text, bool):
        text = "inf" if text == math.inf else repr(float(text)).removesuffix(".0")
    norm = _NAMES.get(str(text).lower())
    if norm is None:
        raise UsageError(f"{option}: {text!r} is not a norm", hint="use 1, 2 or inf")
    return norm


def norm_name(norm: Norm) -> str:
    """The name used in reports: "1", "2" or "inf"."""
    return "inf" if norm == math.inf else f"{norm:g}"


def dual(norm: Norm) -> Norm:
    """The exponent q with 1/p + 1/q = 1."""
    return {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}[norm]
