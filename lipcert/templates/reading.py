"""Templates from TOML files: everything is checked on reading, and every error names the file, the table and the key.

The format is described in sdp_templates/README.md.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from lipcert.errors import UsageError
from lipcert.templates.evaluation import VOCABULARY
from lipcert.templates.expressions import (
    NAME,
    Binary,
    Call,
    Expression,
    ExpressionError,
    Name,
    Negative,
    Power,
    parse,
)
from lipcert.templates.template import (
    JACOBIANS,
    KINDS,
    MAX_GROUP,
    MAX_JACOBIANS,
    SIGNS,
    Kind,
    Linear,
    Parameter,
    Sign,
    Source,
    Template,
)

MAX_BYTES = 2**16
"""Of a file."""

MAX_ENTRIES = 16
"""Of a table or list."""

MAX_TEXT = 2000
"""Characters of a title or note."""

MAX_OP = 200

OP = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
"""An activation: an op with its domain before it, or without."""

TRIED = (1, 2, 3)
"""Sizes of group with which a template for any is tried on reading."""


def read_template(path: str | Path) -> Template:
    """The template in a file; UsageError says what is wrong with it."""
    origin = str(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{origin}: {error.strerror or 'it cannot be read'}") from None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{origin}: it is not UTF-8") from None
    return parse_template(text, origin)


def parse_template(text: str, origin: str) -> Template:
    """The template that a text is; `origin` names it in errors."""
    if len(text.encode()) > MAX_BYTES:
        raise UsageError(f"{origin}: a template has at most {MAX_BYTES:,} bytes")
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also of integers with thousands of digits
        raise UsageError(f"{origin}: it is no TOML: {error}") from None
    template = replace(_template(_Table(origin, (), content)), text=text)
    _check_used(template)
    _check_tried(template)
    return template


class _Table:
    """A table of the file, and where it is. What is not asked for is an error: see `done`."""

    def __init__(self, origin: str, path: tuple[str, ...], content: Mapping[str, Any]) -> None:
        self.origin, self.path, self.content, self.asked = origin, path, content, set[str]()

    def error(self, key: str, what: str) -> UsageError:
        return UsageError(": ".join((self.origin, *self.path, key, what)))

    def get(self, key: str, kind: type | tuple[type, ...], words: str, default: Any = None) -> Any:
        """The entry; without a default it must be there."""
        self.asked.add(key)
        if key not in self.content:
            if default is None:
                raise self.error(key, "it is missing")
            return default
        value = self.content[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.error(key, f"{words} is expected")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self.get(key, str, "a string", default)
        if len(value) > MAX_TEXT or (default is None and not value.strip()):
            raise self.error(key, f"it has 1 to {MAX_TEXT} characters")
        return str(value)

    def table(self, key: str, required: bool = False) -> _Table:
        content = self.get(key, dict, "a table", None if required else {})
        found = _Table(self.origin, (*self.path, key), content)
        if len(content) > MAX_ENTRIES:
            raise self.error(key, f"it has more than {MAX_ENTRIES} entries")
        return found

    def choice(self, key: str, among: tuple[str, ...]) -> str:
        value = self.get(key, str, "a string")
        if value not in among:
            raise self.error(key, f"{value!r} is none of {', '.join(among)}")
        return str(value)

    def expression(self, key: str) -> Expression:
        return _parsed(self, key, self.get(key, str, "a string"))

    def done(self) -> None:
        unknown = [key for key in self.content if key not in self.asked]
        if unknown:
            raise self.error(unknown[0], f"the key is unknown (known: {', '.join(sorted(self.asked))})")


def _parsed(table: _Table, key: str, text: str) -> Expression:
    try:
        return parse(text)
    except ExpressionError as error:
        raise table.error(key, str(error)) from None


def _template(top: _Table) -> Template:
    named = _Named()
    complete = top.table("complete")
    is_complete = "complete" in top.content
    parameters = _parameters(top.table("parameters"), named)
    multipliers = _multipliers(top.table("multipliers", required=not is_complete), named)
    definitions = _definitions(top.table("define"), named)
    source = top.table("source", required=True)
    template = Template(
        name=_name(top, "name", top.text("name")),
        title=top.text("title"),
        activations=_activations(top),
        groups=_groups(top),
        out=_out(top),
        parameters=parameters,
        multipliers=multipliers,
        definitions=definitions,
        blocks=_blocks(top, is_complete),
        linear=_linear(top),
        jacobians=_jacobians(complete) if is_complete else None,
        source=Source(source.text("paper"), source.text("theorem")),
        note=top.text("note", ""),
        origin=top.origin,
    )
    source.done()
    if is_complete and (multipliers or "blocks" in top.content):
        key = "multipliers" if multipliers else "blocks"
        raise top.error(key, "a complete template has none: its matrix is free but for the Jacobians")
    top.done()
    return template


class _Named:
    """The names that a template has defined so far: no two things share one."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def add(self, table: _Table, key: str) -> str:
        _name(table, key, key)
        if key in VOCABULARY:
            raise table.error(key, "the name is taken by the vocabulary")
        if key in self.names:
            raise table.error(key, "the name is used twice")
        self.names.add(key)
        return key


def _name(table: _Table, key: str, text: str) -> str:
    if NAME.fullmatch(text) is None:
        raise table.error(key, f"{text!r} is no name: a letter, then letters, digits and underscores, at most 32")
    return text


def _activations(top: _Table) -> tuple[str, ...]:
    found = top.get("activations", list, "a list of names")
    if not 1 <= len(found) <= MAX_ENTRIES or not all(isinstance(each, str) for each in found):
        raise top.error("activations", f"1 to {MAX_ENTRIES} names are expected")
    for each in found:
        if OP.fullmatch(each) is None or len(each) > MAX_OP:
            raise top.error("activations", f"{each!r} is no op: a name such as SoftSort or com.example.SoftSort")
    return tuple(found)


def _groups(top: _Table) -> tuple[int, ...] | None:
    found = top.get("group", (int, str, list), "a number, a list of numbers or 'any'")
    if found == "any":
        return None
    sizes = found if isinstance(found, list) else [found]
    whole = all(isinstance(size, int) and not isinstance(size, bool) for size in sizes)
    if not (whole and 1 <= len(sizes) <= MAX_ENTRIES and all(1 <= size <= MAX_GROUP for size in sizes)):
        raise top.error("group", f"numbers from 1 to {MAX_GROUP}, or 'any', are expected")
    return tuple(sizes)


def _out(top: _Table) -> int | None:
    if "out" not in top.content:
        top.asked.add("out")
        return None
    found = top.get("out", int, "a number")
    if not 1 <= found <= MAX_GROUP:
        raise top.error("out", f"a number from 1 to {MAX_GROUP} is expected")
    return int(found)


def _parameters(table: _Table, named: _Named) -> dict[str, Parameter]:
    found = {}
    for key in table.content:
        each = table.table(named.add(table, key))
        found[key] = Parameter(cast(Kind, each.choice("kind", KINDS)), each.text("meaning"))
        each.done()
    return found


def _multipliers(table: _Table, named: _Named) -> dict[str, Sign]:
    return {named.add(table, key): cast(Sign, table.choice(key, SIGNS)) for key in table.content}


def _definitions(table: _Table, named: _Named) -> dict[str, Expression]:
    """Each may use what stands before it."""
    found: dict[str, Expression] = {}
    for key in table.content:
        expression = table.expression(key)
        later = set(_mentioned(expression)) & (set(table.content) - set(found))
        if later:
            raise table.error(key, f"{min(later)} is defined later, or by itself")
        found[named.add(table, key)] = expression
    return found


def _blocks(top: _Table, is_complete: bool) -> dict[str, Expression]:
    table = top.table("blocks", required=not is_complete)
    if is_complete:
        return {}
    found = {key: table.expression(key) for key in ("VV", "VW", "WW")}
    table.done()
    return found


def _linear(top: _Table) -> Linear | None:
    table = top.table("linear")
    if not table.content:
        return None
    found = Linear(table.expression("v"), table.expression("w"))
    table.done()
    return found


def _jacobians(table: _Table) -> str | tuple[Expression, ...]:
    found = table.get("jacobians", (str, list), "the name of a family, or a list of matrices")
    table.done()
    if isinstance(found, str):
        return table.choice("jacobians", JACOBIANS)
    if not 1 <= len(found) <= MAX_JACOBIANS or not all(isinstance(each, str) for each in found):
        raise table.error("jacobians", f"1 to {MAX_JACOBIANS} expressions are expected")
    return tuple(_parsed(table, f"jacobians: number {i + 1}", each) for i, each in enumerate(found))


def _mentioned(expression: Expression) -> Iterator[str]:
    """The names in an expression."""
    match expression:
        case Name(name):
            yield name
        case Negative(of):
            yield from _mentioned(of)
        case Power(base, _):
            yield from _mentioned(base)
        case Binary(_, left, right):
            yield from _mentioned(left)
            yield from _mentioned(right)
        case Call(_, arguments):
            for each in arguments:
                yield from _mentioned(each)


def _check_used(template: Template) -> None:
    """UsageError for parameters and definitions that no block, equality or Jacobian mentions."""
    used = [*template.blocks.values(), *template.definitions.values()]
    if template.linear is not None:
        used += [template.linear.v, template.linear.w]
    if isinstance(template.jacobians, tuple):
        used += template.jacobians
    mentioned = {name for expression in used for name in _mentioned(expression)}
    for table, keys in (("parameters", template.parameters), ("define", template.definitions)):
        _refuse(template, table, [key for key in keys if key not in mentioned])


def _check_tried(template: Template) -> None:
    """Evaluate everything at small sizes: unknown names, shapes that do not fit, multipliers without effect."""
    idle = set(template.multipliers)
    for size in template.groups if template.groups is not None else TRIED:
        rng = np.random.default_rng(size)
        parameters = {key: _some_vector(each, size, rng) for key, each in template.parameters.items()}
        basis = template.basis(size, **parameters)
        idle -= {key for key, part in basis.items() if np.any(part)}
        template.elimination(size, **parameters)
        template.conditions(size, **parameters)
    _refuse(template, "multipliers", idle)


def _some_vector(parameter: Parameter, size: int, rng: np.random.Generator) -> np.ndarray:
    found = rng.uniform(0.1, 0.9, size)
    return found / np.linalg.norm(found) if parameter.kind == "unit" else found


def _refuse(template: Template, table: str, unused: Collection[str]) -> None:
    if unused:
        raise UsageError(f"{template.origin}: {table}: {min(unused)}: it is never used")
