"""Per-sample results as a table, CSV or Parquet."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lipcert.errors import UsageError
from lipcert.report.robustness import RobustnessReport
from lipcert.report.writing import check_writable, write_bytes


def check_table(path: str, option: str = "--table") -> None:
    """Refuse, before any work is done, a table that could not be written."""
    kind = Path(path).suffix
    if kind not in (".csv", ".parquet"):
        raise UsageError(f"{option}: {path} is neither a .csv nor a .parquet file")
    check_writable(path, option)
    if kind == ".parquet":
        _arrow()


def write_table(report: RobustnessReport, path: str, option: str = "--table") -> None:
    """A line for each sample; columns for each radius are named after it."""
    columns = _columns(report)
    data = _parquet(columns) if Path(path).suffix == ".parquet" else _csv(columns)
    write_bytes(path, data, option)


def _columns(report: RobustnessReport) -> dict[str, list[Any]]:
    rows, eps = report.samples, report.data["query"]["eps"]
    columns = {name: [r[name] for r in rows] for name in ("index", "label", "predicted", "radius", "attacked")}
    for n, radius in enumerate(eps):
        columns[f"certified_{radius!r}"] = [r["certified"][n] for r in rows]
    return columns


def _csv(columns: dict[str, list[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for cells in zip(*columns.values(), strict=True):
        writer.writerow(int(cell) if isinstance(cell, bool) else cell for cell in cells)
    return text.getvalue().encode("utf-8")


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    arrow, parquet = _arrow()
    types = {"radius": arrow.float64(), "attacked": arrow.float64()}
    types |= {name: arrow.int64() for name in ("index", "label", "predicted")}
    schema = arrow.schema([(name, types.get(name, arrow.bool_())) for name in columns])
    sink = io.BytesIO()
    parquet.write_table(arrow.table(columns, schema=schema), sink)
    return sink.getvalue()


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError(
            "--table: Parquet needs pyarrow, which is not installed", hint="pip install 'lipcert[table]', or use .csv"
        ) from None
    return pyarrow, pyarrow.parquet
