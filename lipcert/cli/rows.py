"""`lipcert bound --rows`: one line for each row of a file of centers, and a report for each in a folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lipcert.cli.region import read_region

if TYPE_CHECKING:
    from lipcert.report import Report


def bound_rows(
    model: str,
    options: dict[str, Any],
    asked: dict[str, Any],
    folder: str | None,
    limit: float | None,
    quiet: bool,
) -> int:
    """The exit status: the worst of all rows. `asked` are the arguments of api.bound_many."""
    from lipcert import api
    from lipcert.cli.bound import exit_status
    from lipcert.cli.progress import progress
    from lipcert.errors import UsageError
    from lipcert.report.terminal import RowTable
    from lipcert.report.writing import write_json

    rows = _rows(options)
    if options["checkpoint"] is not None:
        raise UsageError("--checkpoint is for one region", hint="bound row by row, with --row")
    into = None if folder is None else _folder(folder, rows)
    loaded = api.load(model, templates=options["templates"], unrolled=options["unrolled"])
    kind = options["norm_in"] or options["norm"]
    regions = [read_region(loaded, {**options, "row": row}, kind) for row in rows]
    began = time.monotonic()
    reports: list[Report] = []
    table = RowTable(loaded.path, quiet)
    with progress("slopes", enabled=not quiet) as say:
        found = api.bound_many(loaded, regions, on_step=lambda what, outcome: say(what, outcome.upper), **asked)
        for row, report in zip(rows, found, strict=True):
            reports.append(report)
            if into is not None:
                into.mkdir(exist_ok=True)
                write_json(report, str(into / f"row{row}.json"))
            table.add(row, report, limit)
    table.end(reports, time.monotonic() - began, None if into is None else into / f"row{rows[0]}.json")
    return max(exit_status(report, limit) for report in reports)


def _rows(options: dict[str, Any]) -> range:
    from lipcert.errors import UsageError
    from lipcert.problem.samples import parse_rows

    rows = parse_rows(options["rows"])
    if options["row"] is not None:
        raise UsageError("--row and --rows both choose rows", hint="use one of them")
    if options["center"] is None:
        raise UsageError("--rows are those of the file of --center, which is not given")
    return range(*rows)


def _folder(name: str, rows: range) -> Path:
    """Where reports go; it is made with the first of them."""
    from lipcert.errors import UsageError
    from lipcert.report.writing import check_writable

    path = Path(name)
    if name == "-" or (path.exists() and not path.is_dir()):
        raise UsageError(f"--json: {name} is no folder, which it is with --rows", hint="name a folder")
    for row in rows if path.exists() else ():
        check_writable(str(path / f"row{row}.json"))
    if not path.exists():
        check_writable(name)
    return path
