"""The policy of `lipcert gate`: lipcert.toml, or [tool.lipcert] of pyproject.toml (docs/gate.md)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lipcert.errors import UsageError
from lipcert.gate.files import Root
from lipcert.gate.tables import Table
from lipcert.problem import AllOutputs, Margin, Norm, OutputChoice, SomeOutputs, norm_name, parse_norm
from lipcert.problem.reading import RegionText, numbers_in, parse_rows

FILE = "lipcert.toml"
PROJECT = "pyproject.toml"

MAX_BYTES = 1_000_000
MAX_CHECKS = 1_000

TOP = ("baseline", "cache", "allow_outside", "defaults", "check")
DEFAULTS = ("norm", "method", "timeout", "gap", "solver", "max", "max_increase", "strict", "allow_inconclusive")
REGION = ("center", "eps", "ball", "row", "rows", "skip_columns", "scale", "layout", "box", "spec")
QUERY = ("norm_in", "norm_out", "outputs", "margin", "inputs", "output")
CHECK = ("name", "models", *QUERY, *REGION, *DEFAULTS, "exact", "templates", "unrolled")

SOLVERS = ("native", "clarabel", "scs", "mosek")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Effort:
    """How a bound is searched for: arguments of api.bound."""

    method: str = "auto"
    timeout: float | None = None
    gap: float | None = None
    exact: bool = False
    solver: str = "native"


@dataclass(frozen=True)
class Check:
    """One [[check]] table: a question about some models, and the limits of its answer."""

    name: str
    models: tuple[str, ...]
    """Paths and patterns, relative to the policy's folder."""
    line: int
    """Of the table in the policy file, from 1."""
    norm_in: Norm
    norm_out: Norm
    region: RegionText
    rows: range | None
    """Rows of the file of region.center, each a question of its own."""
    outputs: OutputChoice
    inputs: tuple[str, ...]
    output: str
    effort: Effort
    templates: tuple[str, ...]
    unrolled: bool
    maximum: float | None
    max_increase: float | None
    """Largest share by which a bound may be above its baseline."""
    strict: bool
    """Whether certificates are checked in ball arithmetic."""
    allow_inconclusive: bool


@dataclass(frozen=True)
class Policy:
    """A policy file. Paths are absolute."""

    path: Path
    root: Root
    baseline: Path
    cache: Path
    checks: tuple[Check, ...]


def find_policy(folder: Path) -> Path:
    """The policy of a folder: lipcert.toml, or a pyproject.toml with [tool.lipcert]."""
    found = policies(folder)
    if len(found) > 1:
        raise UsageError(f"{FILE} and [tool.lipcert] of {PROJECT} are both there", hint="keep one of them")
    if not found:
        raise UsageError(
            f"there is no {FILE} here, and no [tool.lipcert] in {PROJECT}",
            hint="`lipcert init` writes a first one; --config names one elsewhere",
        )
    return found[0]


def policies(folder: Path) -> list[Path]:
    """Files of a folder that hold a policy."""
    own, project = folder / FILE, folder / PROJECT
    in_project = project.is_file() and "lipcert" in _tool(_parsed(project), project)
    return [path for path, there in ((own, own.is_file()), (project, in_project)) if there]


def read_policy(path: Path) -> Policy:
    """Read and check a policy file; UsageError names the table and the key."""
    data = _parsed(path)
    prefix = ""
    if path.name == PROJECT:
        own, prefix = _tool(data, path).get("lipcert"), "tool.lipcert."
        if not isinstance(own, dict):
            raise UsageError(f"{path}: there is no table [tool.lipcert]", hint="`lipcert init` writes a lipcert.toml")
        data = own
    top = Table(data, f"{path}: [{prefix[:-1]}]" if prefix else str(path))
    top.only(TOP)
    root = Root(path.resolve().parent, top.flag("allow_outside"))
    defaults = Table(top.table("defaults"), f"{path}: [{prefix}defaults]")
    defaults.only(DEFAULTS)
    tables = top.tables("check")
    if not tables:
        raise UsageError(f"{top.where}: there is no [[{prefix}check]]", hint="a check names models and a limit")
    if len(tables) > MAX_CHECKS:
        raise UsageError(f"{top.where}: more than {MAX_CHECKS} checks")
    lines = _lines(path, prefix, len(tables))
    checks = tuple(
        _check(table, f"{path}: [[{prefix}check]]", i, lines[i], defaults, root) for i, table in enumerate(tables)
    )
    names = [check.name for check in checks]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise UsageError(f"{path}: [[{prefix}check]] {i + 1}: name: {name!r} is that of another check")
    return Policy(
        path=path,
        root=root,
        baseline=_placed(top, "baseline", "lipcert-baseline.json", root),
        cache=_placed(top, "cache", ".lipcert-cache", root),
        checks=checks,
    )


def _check(data: Any, where: str, index: int, line: int, defaults: Table, root: Root) -> Check:
    name = data.get("name")
    table = Table({**defaults.data, **data}, f"{where} {name!r}" if isinstance(name, str) else f"{where} {index + 1}")
    table.only(CHECK)
    for key in ("name", "models"):
        if key not in data:
            raise UsageError(f"{table.where}: {key} is missing", hint="a check has a name, models and a limit")
    name = table.text("name") or ""
    if not NAME.fullmatch(name):
        raise table.error("name", "is not made of letters, digits, dots, dashes and underscores")
    maximum, increase = table.number("max", 0.0), table.number("max_increase", 0.0)
    if maximum is None and increase is None:
        raise UsageError(f"{table.where}: there is no limit", hint="set max, max_increase, or both")
    norm = _norm(table, "norm", 2.0)
    with option_errors(table.where):
        region = _region(table, root)
        rows = _rows(table)
        region.check()
        return Check(
            name=name,
            models=table.texts("models"),
            line=line,
            norm_in=_norm(table, "norm_in", norm),
            norm_out=_norm(table, "norm_out", norm),
            region=region,
            rows=rows,
            outputs=_outputs(table),
            inputs=table.texts("inputs"),
            output=table.text("output") or "",
            effort=_effort(table),
            templates=tuple(str(root.file(name)) for name in table.texts("templates")),
            unrolled=table.flag("unrolled"),
            maximum=maximum,
            max_increase=increase,
            strict=table.flag("strict"),
            allow_inconclusive=table.flag("allow_inconclusive"),
        )


def _region(table: Table, root: Root) -> RegionText:
    layout, scale = table.text("layout"), table.number("scale")
    return RegionText(
        center=_vector(table, "center", root) if "center" in table.data else None,
        eps=table.number("eps", 0.0),
        ball=None if "ball" not in table.data else norm_name(_norm(table, "ball", 2.0)),
        row=table.integer("row"),
        skip_columns=table.integer("skip_columns") or 0,
        scale=1.0 if scale is None else scale,
        layout="chw" if layout is None else layout,
        box=_box(table, root),
        spec=None if (spec := table.text("spec")) is None else _data(table, "spec", spec, root),
    )


def _rows(table: Table) -> range | None:
    text = table.text("rows")
    if text is None:
        return None
    if "row" in table.data:
        raise table.error("rows", "row and rows both choose rows", hint="use one of them")
    if "center" not in table.data:
        raise table.error("rows", "they are those of the file of center, which is not given")
    return parse_rows(text, "rows")


def _vector(table: Table, key: str, root: Root) -> str:
    """A file of numbers, or numbers, in the words of the command line."""
    value = table.data[key]
    if isinstance(value, str):
        text = table.text(key) or ""
        return text if numbers_in(text) is not None else _data(table, key, text, root)
    return ",".join(repr(number) for number in table.numbers(key))


def _box(table: Table, root: Root) -> str | None:
    value = table.data.get("box")
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise table.error("box", "is not [lower, upper]", hint="two numbers for all inputs, or two files")
    ends = [_vector(Table({"box": end}, table.where), "box", root) for end in value]
    if any("," in end for end in ends):
        raise table.error("box", "an end is one number, or a file without a comma in its name")
    return ",".join(ends)


def _data(table: Table, key: str, name: str, root: Root) -> str:
    try:
        return str(root.file(name))
    except UsageError as error:
        raise table.error(key, error.message, error.hint) from None


def _outputs(table: Table) -> OutputChoice:
    chosen, margin = table.integers("outputs"), table.integers("margin")
    if chosen is not None and margin is not None:
        raise table.error("margin", "outputs and margin both choose outputs", hint="use one of them")
    if margin is not None:
        if len(margin) != 2:
            raise table.error("margin", "is not a pair of outputs", hint="for example [3, 5]")
        return Margin(*margin)
    return AllOutputs() if chosen is None else SomeOutputs(chosen)


def _effort(table: Table) -> Effort:
    gap = table.number("gap", 1.0)
    effort = Effort(
        method=table.text("method") or "auto",
        timeout=table.number("timeout", 0.0),
        gap=gap,
        exact=table.flag("exact"),
        solver=table.text("solver") or "native",
    )
    if effort.method != "auto":
        from lipcert.planning.solve import METHODS

        table.one_of("method", effort.method, ("auto", *METHODS))
    table.one_of("solver", effort.solver, SOLVERS)
    return effort


def _norm(table: Table, key: str, default: Norm) -> Norm:
    value = table.data.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise table.error(key, "is not a norm", hint='use "1", "2" or "inf"')
    with option_errors(table.where):
        return parse_norm(value, key)


@contextmanager
def option_errors(where: str) -> Iterator[None]:
    """Errors of readers that the command line shares, in the words of a policy: its table, and its keys."""
    try:
        yield
    except UsageError as error:
        if error.message.startswith(where):
            raise
        raise UsageError(f"{where}: {_as_keys(error.message)}", hint=_as_keys(error.hint)) from None


def _as_keys(text: str) -> str:
    return re.sub(r"--([a-z]+(?:-[a-z]+)*)", lambda match: match[1].replace("-", "_"), text)


def _placed(top: Table, key: str, default: str, root: Root) -> Path:
    try:
        return root.place(top.text(key) or default)
    except UsageError as error:
        raise top.error(key, error.message, error.hint) from None


def _parsed(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UsageError(f"{path}: larger than {MAX_BYTES} bytes", hint="is it a policy?")
        return tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint="`lipcert init` writes a first policy") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not TOML: {error}", hint="docs/gate.md shows an example") from None


def _tool(data: dict[str, Any], path: Path) -> dict[str, Any]:
    tool = data.get("tool", {})
    if not isinstance(tool, dict):
        raise UsageError(f"{path}: tool is not a table")
    return tool


def _lines(path: Path, prefix: str, count: int) -> list[int]:
    """Where each check begins; 1 where that does not show, as of tables that are written inline."""
    header = re.compile(rf"\s*\[\[\s*{re.escape(prefix)}check\s*\]\]")
    with path.open(encoding="utf-8") as stream:
        lines = [number for number, line in enumerate(stream, 1) if header.match(line)]
    return lines if len(lines) == count else [1] * count
