"""One ONNX node as a converter sees it: typed access to inputs and attributes, and refusals that name it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from lipcert.errors import ModelError, UnsupportedModelError
from lipcert.frontend.values import Condition, Integers, Known, Live, Value

MAX_ELEMENTS = 2**28
"""Entries of one stored tensor; beyond it index arithmetic and memory are not safe."""

MAX_COMPUTED = 2**27
"""Entries of one tensor that a node makes from stored ones."""


@dataclass(frozen=True, eq=False)
class OpNode:
    """Op type, name, opset, evaluated inputs (None where an optional one is absent) and attributes."""

    op_type: str
    domain: str
    name: str
    opset: int
    since: int
    inputs: tuple[Value | None, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    room: int = MAX_COMPUTED
    """Entries that its results may have: what is left of the model's budget."""
    read: set[str] = field(default_factory=set)
    """Attributes that were looked at: one that no one looks at may change what the op does."""

    @property
    def label(self) -> str:
        domain = f"{self.domain}." if self.domain else ""
        return f"{domain}{self.op_type} node {self.name or self.outputs[0]!r} (opset {self.opset})"

    def refuse(self, reason: str, hint: str = "") -> NoReturn:
        """This form of the op is valid ONNX, but lipcert does not understand it."""
        raise UnsupportedModelError(f"{self.label}: {reason}", hint=hint)

    def malformed(self, reason: str) -> NoReturn:
        """The node breaks the ONNX specification."""
        raise ModelError(f"{self.label}: {reason}", hint="the file is malformed; export it again")

    def sized(self, shape: Sequence[int]) -> None:
        """Refuse a tensor that is too large, before it is allocated."""
        size = math.prod(int(d) for d in shape)
        if size > min(MAX_COMPUTED, self.room):
            limit = MAX_COMPUTED if self.room >= MAX_COMPUTED else self.room
            self.malformed(f"a tensor of shape {list(shape)} is over the limit of {limit} entries")

    def has_input(self, i: int) -> bool:
        return i < len(self.inputs) and self.inputs[i] is not None

    def input(self, i: int) -> Value:
        value = self.inputs[i] if i < len(self.inputs) else None
        if value is None:
            self.malformed(f"input {i} is missing")
        return value

    def known(self, i: int, what: str) -> Known:
        """Input i as a float constant."""
        value = self.input(i)
        if isinstance(value, Live | Condition):
            self.refuse(f"its {what} depends on the network's input", "only constant ones are supported")
        if isinstance(value, Integers):
            self.malformed(f"its {what} is an integer tensor")
        return value

    def real(self, i: int) -> Live | Known:
        """Input i as a float tensor."""
        value = self.input(i)
        if isinstance(value, Integers):
            self.refuse(f"input {i} is an integer tensor", "only float tensors are supported here")
        if isinstance(value, Condition):
            self.refuse(f"input {i} is a condition on the network's input", "it jumps, so it has no Lipschitz constant")
        return value

    def scalar(self, i: int, what: str) -> float:
        """Input i as one stored number."""
        value = self.known(i, what)
        if value.size != 1 or not value.data.is_exact:
            self.refuse(f"its {what} is not one stored number")
        return float(value.data.value.reshape(-1)[0])

    def integers(self, i: int, what: str) -> list[int]:
        """Input i as a list of constant integers."""
        value = self.input(i)
        if not isinstance(value, Integers):
            self.refuse(f"its {what} is not a constant integer tensor", "re-export the model with static shapes")
        return [int(k) for k in value.data.reshape(-1)]

    def has_attr(self, name: str) -> bool:
        self.read.add(name)
        return name in self.attributes

    def attr(self, name: str, default: Any) -> Any:
        self.read.add(name)
        return self.attributes.get(name, default)

    def required(self, name: str) -> Any:
        self.read.add(name)
        if name not in self.attributes:
            self.malformed(f"attribute {name} is missing")
        return self.attributes[name]

    def axis(self, axis: int, rank: int) -> int:
        """A possibly negative axis, checked and made non-negative."""
        if not -rank <= axis < rank:
            self.malformed(f"axis {axis} is outside a tensor of rank {rank}")
        return axis % rank

    def axes(self, axes: Sequence[int], rank: int) -> tuple[int, ...]:
        found = tuple(self.axis(int(a), rank) for a in axes)
        if len(set(found)) != len(found):
            self.malformed(f"axes {list(axes)} name an axis twice")
        return found
