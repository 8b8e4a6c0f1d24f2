"""Reading a TOML table key by key: every mistake is one error that names the file, the table and the key."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lipcert.errors import UsageError

TYPES = {str: "a text", int: "an integer", float: "a number", bool: "true or false", list: "a list", dict: "a table"}


class Table:
    """A table of a policy file; `where` names the file and the table."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data, self.where = data, where

    def error(self, key: str, problem: str, hint: str = "") -> UsageError:
        return UsageError(f"{self.where}: {key}: {problem}", hint=hint)

    def only(self, known: Sequence[str]) -> None:
        """UsageError where the table has another key."""
        for key in self.data:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
                raise UsageError(f"{self.where}: there is no key {key!r}", hint=hint)

    def text(self, key: str) -> str | None:
        value = self._value(key, str)
        if value == "":
            raise self.error(key, "is empty")
        return value

    def flag(self, key: str) -> bool:
        return bool(self._value(key, bool))

    def integer(self, key: str, least: int = 0) -> int | None:
        value = self._value(key, int)
        if value is not None and value < least:
            raise self.error(key, f"{value} is below {least}")
        return value

    def number(self, key: str, least: float = -math.inf) -> float | None:
        """A finite number."""
        value = self.data.get(key)
        return None if value is None else self._number(key, value, least)

    def texts(self, key: str) -> tuple[str, ...]:
        """A text, or a list of texts; empty where there is none."""
        value = self.data.get(key, [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
            raise self.error(key, "is not a text or a list of texts")
        if key in self.data and not values:
            raise self.error(key, "is an empty list")
        return tuple(values)

    def integers(self, key: str) -> tuple[int, ...] | None:
        """An integer, or a list of them."""
        value = self.data.get(key)
        if value is None:
            return None
        values = value if isinstance(value, list) else [value]
        if not values or not all(type(v) is int for v in values):
            raise self.error(key, "is not an integer or a list of integers")
        return tuple(values)

    def numbers(self, key: str) -> tuple[float, ...]:
        """A number, or a list of numbers."""
        value = self.data[key]
        values = value if isinstance(value, list) else [value]
        if not values:
            raise self.error(key, "is an empty list")
        return tuple(self._number(key, v, -math.inf) for v in values)

    def table(self, key: str) -> dict[str, Any]:
        return self._value(key, dict) or {}

    def tables(self, key: str) -> list[dict[str, Any]]:
        """An array of tables; empty where there is none."""
        value = self._value(key, list) or []
        if not all(isinstance(entry, dict) for entry in value):
            raise self.error(key, "is not an array of tables")
        return value

    def one_of(self, key: str, value: str, known: Sequence[str]) -> None:
        if value not in known:
            close = difflib.get_close_matches(value, known, n=1)
            raise self.error(
                key, f"{value!r} is none of {', '.join(known)}", f"did you mean {close[0]}?" if close else ""
            )

    def _value(self, key: str, kind: type) -> Any:
        value = self.data.get(key)
        if value is not None and type(value) is not kind:
            raise self.error(key, f"{_quoted(value)} is not {TYPES[kind]}")
        return value

    def _number(self, key: str, value: Any, least: float) -> float:
        if type(value) not in (int, float):
            raise self.error(key, f"{_quoted(value)} is not a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.error(key, f"{_quoted(value)} is not a finite number")
        if number < least:
            raise self.error(key, f"{_quoted(value)} is below {least:g}")
        return number


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
