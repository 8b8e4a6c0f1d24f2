"""Which function of the network's outputs is bounded: all of them, some, a margin, or all margins of one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lipcert.errors import UsageError
from lipcert.operators import Dense, Identity, LinearOperator, Selection


@dataclass(frozen=True)
class AllOutputs:
    """The whole output vector."""

    def operator(self, size: int) -> LinearOperator:
        return Identity(size)

    def describe(self) -> str:
        return "all outputs"


@dataclass(frozen=True)
class SomeOutputs:
    """The outputs at these positions (counted from 0, in C order)."""

    indices: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.indices or len(set(self.indices)) != len(self.indices):
            raise UsageError(f"--outputs: {list(self.indices)} is empty, or names an output twice")

    def operator(self, size: int) -> LinearOperator:
        for i in self.indices:
            _check_index(i, size, "--outputs")
        return Selection(np.array(self.indices), size)

    def describe(self) -> str:
        return f"outputs {', '.join(map(str, self.indices))}"


@dataclass(frozen=True)
class Margin:
    """output[first] - output[second]."""

    first: int
    second: int

    def __post_init__(self) -> None:
        if self.first == self.second:
            raise UsageError(f"--margin: {self.first} minus itself is zero", hint="name two different outputs")

    def operator(self, size: int) -> LinearOperator:
        _check_index(self.first, size, "--margin")
        _check_index(self.second, size, "--margin")
        row = np.zeros((1, size))
        row[0, self.first], row[0, self.second] = 1.0, -1.0
        return Dense(row)

    def describe(self) -> str:
        return f"output {self.first} minus {self.second}"


@dataclass(frozen=True)
class Margins:
    """output[first] minus each other output, in the order of these."""

    first: int

    def operator(self, size: int) -> LinearOperator:
        _check_index(self.first, size, "--margin")
        rows = -np.delete(np.eye(size), self.first, axis=0)
        rows[:, self.first] = 1.0
        return Dense(rows)

    def describe(self) -> str:
        return f"output {self.first} minus each other"


OutputChoice = AllOutputs | SomeOutputs | Margin | Margins


def parse_outputs(text: str) -> SomeOutputs:
    """Read `7` or `0,3,5`."""
    indices = integers(text, "--outputs")
    if len(set(indices)) != len(indices):
        raise UsageError(f"--outputs: {text!r} names an output twice")
    return SomeOutputs(indices)


def parse_margin(text: str) -> Margin:
    """Read `i,j`."""
    pair = integers(text, "--margin")
    if len(pair) != 2 or pair[0] == pair[1]:
        raise UsageError(f"--margin: {text!r} is not a pair of different outputs", hint="for example --margin 3,5")
    return Margin(*pair)


def integers(text: str, option: str) -> tuple[int, ...]:
    """Read numbers with commas between."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option}: {text!r} is not a list of numbers", hint="for example 0,3") from None


def _check_index(i: int, size: int, option: str) -> None:
    if not 0 <= i < size:
        raise UsageError(f"{option}: there is no output {i}", hint=f"the model has outputs 0 to {size - 1}")
