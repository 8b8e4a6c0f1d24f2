"""Which converter reads which op: keyed by domain, op type and the since-version of the op's definition."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from lipcert.frontend.builder import GraphBuilder
from lipcert.frontend.opnode import OpNode
from lipcert.frontend.values import Value

Results = Value | tuple[Value | None, ...]
"""Of a node, in order; None for one that is not supported, should anything read it."""

Converter = Callable[[GraphBuilder, OpNode], Results]

F = TypeVar("F", bound=Callable[[GraphBuilder, OpNode], Results])

_CONVERTERS: dict[tuple[str, str, int], Converter] = {}


def converter(op_type: str, *since: int, domain: str = "") -> Callable[[F], F]:
    """Register a function for the definitions of `op_type` that date from the opsets `since`."""

    def register(function: F) -> F:
        for version in since:
            if (domain, op_type, version) in _CONVERTERS:
                raise RuntimeError(f"{op_type} {version} has two converters")
            _CONVERTERS[domain, op_type, version] = function
        return function

    return register


def find_converter(domain: str, op_type: str, since: int) -> Converter | None:
    _load_converters()
    return _CONVERTERS.get((domain, op_type, since))


def is_known(domain: str, op_type: str) -> bool:
    """Whether some definition of the op is understood."""
    _load_converters()
    return any((domain, op_type) == (d, op) for d, op, _ in _CONVERTERS)


def supported_ops() -> dict[str, tuple[int, ...]]:
    """Each supported op with the since-versions that are understood."""
    _load_converters()
    table: dict[str, tuple[int, ...]] = {}
    for _, op_type, version in sorted(_CONVERTERS):
        table[op_type] = (*table.get(op_type, ()), version)
    return table


@cache
def _load_converters() -> None:
    from lipcert.frontend import converters

    for module in pkgutil.iter_modules(converters.__path__):
        importlib.import_module(f"{converters.__name__}.{module.name}")
