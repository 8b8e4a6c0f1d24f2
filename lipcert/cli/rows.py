"""`bound --rows` and `reach --rows`: one line for each row of a file of centers, and a report for each in a folder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lipcert.cli.region import folder_for, read_outputs, read_regions, read_rows

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

    rows = read_rows(options)
    if options["checkpoint"] is not None:
        raise UsageError("--checkpoint is for one region", hint="bound row by row, with --row")
    into = None if folder is None else folder_for(folder, rows)
    loaded = api.load(model, templates=options["templates"], unrolled=options["unrolled"])
    kind = options["norm_in"] or options["norm"]
    regions = read_regions(loaded, options, kind, rows)
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


def reach_rows(model: str, options: dict[str, Any], folder: str | None, npz: str | None, quiet: bool) -> int:
    """The exit status: the worst of all rows."""
    from lipcert import api
    from lipcert.cli.progress import progress
    from lipcert.errors import UsageError
    from lipcert.report.terminal import print_reach_rows
    from lipcert.report.writing import write_json, write_npz

    rows = read_rows(options)
    if options["exact"]:
        raise UsageError("--exact is for one region", hint="reach row by row, with --row")
    into = None if folder is None else folder_for(folder, rows)
    loaded = api.load(model, templates=options["templates"], unrolled=options["unrolled"])
    with progress("boxes", enabled=not quiet) as say:
        reports = api.reach_many(
            loaded,
            read_regions(loaded, options, "inf", rows),
            outputs=read_outputs(options),
            inputs=list(options["inputs"]),
            output=options["output"],
            timeout=options["timeout"],
            device=options["device"] or "auto",
            on_row=lambda done: say(f"{done} of {len(rows)} rows are as tight as they get", None),
        )
    if into is not None:
        into.mkdir(exist_ok=True)
        for row, report in zip(rows, reports, strict=True):
            write_json(report, str(into / f"row{row}.json"))
    if npz is not None:
        write_npz(reports, npz)
    print_reach_rows(reports, rows, None if into is None else into / f"row{rows[0]}.json", quiet)
    return 4 if any(status == "inconclusive" for status in reports.statuses) else 0
