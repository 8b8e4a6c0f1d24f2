"""The expressions in templates: numbers, names, + - * / ^, parentheses and calls. Parsed by hand: nothing is executed.

sum     = product (("+" | "-") product)*
product = factor (("*" | "/") factor)*
factor  = "-" factor | atom ("^" whole number)?
atom    = number | name | name "(" sum ("," sum)* ")" | "(" sum ")"
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

MAX_LENGTH = 300
"""Characters of an expression."""

MAX_DEPTH = 20
"""Parentheses and signs within each other."""

MAX_EXPONENT = 4

LARGEST = 1e6
"""Of numbers, and one over the smallest."""

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z]\w*)|(?P<sign>[-+*/^(),]))"
)


class ExpressionError(Exception):
    """What is wrong with an expression, in words that its table and key are put before."""


@dataclass(frozen=True)
class Number:
    value: float


@dataclass(frozen=True)
class Name:
    name: str


@dataclass(frozen=True)
class Negative:
    of: Expression


@dataclass(frozen=True)
class Binary:
    """left sign right, the sign one of + - * /."""

    sign: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Power:
    base: Expression
    exponent: int


@dataclass(frozen=True)
class Call:
    name: str
    arguments: tuple[Expression, ...]


Expression = Number | Name | Negative | Binary | Power | Call


def parse(text: str) -> Expression:
    """The expression, or an ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"{len(text)} characters, and an expression has at most {MAX_LENGTH}")
    parser = _Parser(_tokens(text))
    found = parser.sum(0)
    if parser.next is not None:
        raise ExpressionError(f"{parser.next!r} is not expected there")
    return found


def _tokens(text: str) -> list[str]:
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(f"{text[at:].lstrip()[:1]!r} is no part of an expression")
        found.append(match.group(match.lastgroup or 0))
        at = match.end()
    return found


class _Parser:
    """Recursive descent over the tokens; each rule is the method of its name."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.at = tokens, 0

    @property
    def next(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self) -> str:
        if self.next is None:
            raise ExpressionError("it ends too early")
        self.at += 1
        return self.tokens[self.at - 1]

    def expect(self, token: str) -> None:
        found = "the end" if self.next is None else repr(self.next)
        if self.next != token:
            raise ExpressionError(f"{token!r} is expected, not {found}")
        self.at += 1

    def sum(self, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise ExpressionError(f"more than {MAX_DEPTH} levels of parentheses and signs")
        found = self.product(depth)
        while self.next in ("+", "-"):
            found = Binary(self.take(), found, self.product(depth))
        return found

    def product(self, depth: int) -> Expression:
        found = self.factor(depth)
        while self.next in ("*", "/"):
            found = Binary(self.take(), found, self.factor(depth))
        return found

    def factor(self, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise ExpressionError(f"more than {MAX_DEPTH} levels of parentheses and signs")
        if self.next == "-":
            self.take()
            return Negative(self.factor(depth + 1))
        found = self.atom(depth)
        if self.next != "^":
            return found
        self.take()
        return Power(found, _exponent(self.take()))

    def atom(self, depth: int) -> Expression:
        token = self.take()
        if token == "(":
            found = self.sum(depth + 1)
            self.expect(")")
            return found
        if token[0].isdigit() or token[0] == ".":
            return Number(_number(token))
        if not token[0].isalpha():
            raise ExpressionError(f"{token!r} is not expected there")
        if NAME.fullmatch(token) is None:
            raise ExpressionError(f"{token!r} is no name")
        if self.next != "(":
            return Name(token)
        self.take()
        arguments = [self.sum(depth + 1)]
        while self.next == ",":
            self.take()
            arguments.append(self.sum(depth + 1))
        self.expect(")")
        return Call(token, tuple(arguments))


def _number(token: str) -> float:
    value = float(token)
    if not math.isfinite(value) or (value != 0 and not 1 / LARGEST <= value <= LARGEST):
        raise ExpressionError(f"the number {token} is not within {1 / LARGEST:g} to {LARGEST:g}")
    return value


def _exponent(token: str) -> int:
    # the length first: int() of a very long string is slow, and refused by Python
    if not (token.isascii() and token.isdigit()):
        raise ExpressionError(f"the exponent {token!r} is no whole number")
    if len(token) > 2 or int(token) > MAX_EXPONENT:
        raise ExpressionError(f"the exponent {token} is above {MAX_EXPONENT}")
    return int(token)
