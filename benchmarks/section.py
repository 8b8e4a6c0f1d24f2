"""What a suite hands back: titled tables of plain values, shown with rich and written as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]
"""Plain JSON values by column key; None where there is none."""


@dataclass(frozen=True)
class Column:
    """A column: the key of its values, its heading, and how a value is written."""

    key: str
    title: str
    show: Callable[[Any], str] = str


@dataclass
class Section:
    """One table of a suite."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """What should have run and did not: the whole run then ends with status 1."""


@dataclass(frozen=True)
class Settings:
    """What the command line asks of every suite."""

    repeat: int
    models: Path
    """The repository's own models."""
    data: Path | None
    """Models and images from outside the repository."""
    say: Callable[[str], None]
    """Tells a person what runs now."""
    peers: Path | None = None
    """Peers that are scripts and no packages, each in a folder of its name."""


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def seconds(value: float) -> str:
    return f"{value:.2f} s"


def number(value: float) -> str:
    return f"{value:.6g}"


def ratio(value: float) -> str:
    return f"{value:.3g}"


def goal(met: bool) -> str:
    return "met" if met else "MISSED"
