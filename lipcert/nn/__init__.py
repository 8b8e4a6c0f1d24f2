"""For people who train: differentiable norms, implicit layers. No method uses them, and nothing here is certified."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lipcert.nn.conv_norm import conv_norm
from lipcert.nn.export import export
from lipcert.nn.implicit_bound import implicit_bound

if TYPE_CHECKING:
    from lipcert.nn.fixed_point import FixedPoint
    from lipcert.nn.lben import LBEN
    from lipcert.nn.mondeq import MonDEQ
    from lipcert.nn.nemon import Nemon

__all__ = ["LBEN", "FixedPoint", "MonDEQ", "Nemon", "conv_norm", "export", "implicit_bound"]

_MODULES = {"FixedPoint": "fixed_point", "LBEN": "lben", "MonDEQ": "mondeq", "Nemon": "nemon"}
"""The classes that derive from torch's: their modules import torch, so they are loaded when they are asked for."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"lipcert.nn.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'lipcert.nn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
