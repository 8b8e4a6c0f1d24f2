"""Certified Lipschitz constants of neural networks: load, bound, check.

>>> import lipcert
>>> report = lipcert.bound("models/digits_relu.onnx", norm="inf")
>>> report.status
'certified'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lipcert.api import (
        bound,
        bound_many,
        certify,
        check,
        compare,
        layer_norms,
        load,
        monotone,
        reach,
        reach_many,
        read_report,
        render_html,
    )
    from lipcert.errors import LipcertError
    from lipcert.nn import conv_norm
    from lipcert.report import Report

__all__ = [
    "LipcertError",
    "Report",
    "bound",
    "bound_many",
    "certify",
    "check",
    "compare",
    "conv_norm",
    "layer_norms",
    "load",
    "monotone",
    "reach",
    "reach_many",
    "read_report",
    "render_html",
]


def __getattr__(name: str) -> Any:
    # Lazy: importing a submodule (the trusted kernel above all) must not load what the API needs.
    if name == "Report":
        from lipcert.report import Report

        return Report
    if name == "LipcertError":
        from lipcert.errors import LipcertError

        return LipcertError
    if name == "conv_norm":
        from lipcert.nn import conv_norm

        return conv_norm
    if name in __all__:
        from lipcert import api

        return getattr(api, name)
    raise AttributeError(f"module 'lipcert' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
