"""Reading data sets: inputs and labels from npy, npz and csv files."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lipcert.errors import CertificateError, UsageError
from lipcert.problem.reading import Shape, csv_lines, load_array, to_layout


@dataclass(frozen=True)
class Source:
    """Which part of which files, and how they are read: what a report says, so that a check can read them again."""

    data: str
    labels: str = ""
    labels_column: int | None = None
    rows: tuple[int, int] | None = None
    skip_columns: int = 0
    scale: float = 1.0
    layout: str = "chw"


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs (samples, size) as float64, taken as exact, in the model's units; their labels; the row of the first."""

    points: np.ndarray
    labels: np.ndarray
    first: int = 0

    @property
    def sha256(self) -> str:
        """Of the rows' numbers, the inputs and the labels."""
        rows = np.arange(self.first, self.first + len(self.labels), dtype="<i8")
        parts = rows, self.labels.astype("<i8"), np.ascontiguousarray(self.points, dtype="<f8")
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def read_samples(source: Source, shape: Shape) -> Samples:
    """The samples for an input of `shape`; UsageError names the file, and the row where one is to blame."""
    if source.labels_column is None and not source.labels:
        raise UsageError("labels are needed", hint="give --labels FILE, or --labels-column I for a csv that holds them")
    if source.labels_column is not None and source.labels:
        raise UsageError("--labels and --labels-column both give labels", hint="use one of them")
    path, first = Path(source.data), source.rows[0] if source.rows else 0
    table = _rows_of(path, "--data", source.rows)
    labels = None
    if source.labels_column is not None:
        table, labels = _split(path, table, source.labels_column)
    table = _flat(path, table, shape, source.skip_columns if path.suffix == ".csv" else 0)
    if path.suffix != ".csv" and source.skip_columns:
        raise UsageError("--skip-columns is for csv files", hint="leave it out")
    _refuse_unusable(path, "--data", table, first)
    points = _scaled(table, source, shape)
    if labels is None:
        labels = _rows_of(Path(source.labels), "--labels", source.rows)
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        path = Path(source.labels)
    return Samples(points, _as_labels(path, labels, len(points), first), first)


def given_samples(source: Source, data: Any, labels: Any, shape: Shape) -> Samples:
    """The same of arrays."""
    if source.labels_column is not None or labels is None or isinstance(labels, str | Path):
        raise UsageError("labels: data are an array, and so shall these be")
    chosen, first = slice(*source.rows) if source.rows else slice(None), source.rows[0] if source.rows else 0
    points, classes = _given(data, "data")[chosen], _given(labels, "labels")[chosen]
    if not len(points):
        raise UsageError("data: there are no rows", hint="one for each sample")
    table = _flat(Path("data"), points, shape, 0)
    _refuse_unusable(Path("data"), "data", table, first)
    return Samples(_scaled(table, source, shape), _as_labels(Path("labels"), classes, len(table), first), first)


def _given(values: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):  # rows of several lengths, tensors on a device
        array = np.zeros(0, dtype=object)
    if array.ndim == 0 or array.dtype.kind not in "fiub":
        raise UsageError(f"{name}: no array of numbers", hint="one row for each sample")
    return array


def stated_source(stated: Any) -> Source:
    """That of a report; CertificateError where it is none."""
    wanted = {
        "data": str,
        "labels": str,
        "labels_column": int,
        "rows": list,
        "skip_columns": int,
        "scale": float,
        "layout": str,
    }
    if not isinstance(stated, dict):
        raise CertificateError("query.data: not an object")
    optional = ("labels_column", "rows")
    for name, kind in wanted.items():
        if type(stated.get(name)) is not kind and not (name in optional and stated.get(name, "") is None):
            raise CertificateError(f"query.data.{name}: not a {kind.__name__}")
    rows = stated["rows"]
    if rows is not None and not (len(rows) == 2 and all(type(row) is int and row >= 0 for row in rows)):
        raise CertificateError("query.data.rows: not two rows")
    return Source(**{name: stated[name] for name in wanted} | {"rows": None if rows is None else tuple(rows)})


def check_labels(samples: Samples, classes: int) -> None:
    """UsageError where a label is no class, or the outputs are none."""
    if classes < 2:
        raise UsageError(f"the model has {classes} output, and no classes", hint="choose another with --output")
    bad = (samples.labels < 0) | (samples.labels >= classes)
    if bad.any():
        k = int(np.argmax(bad))
        raise UsageError(
            f"labels: row {samples.first + k} has label {samples.labels[k]}",
            hint=f"the model has classes 0 to {classes - 1}",
        )


def _rows_of(path: Path, option: str, rows: tuple[int, int] | None) -> np.ndarray:
    """Rows A to B - 1, or all; at least one."""
    table = _csv(path, option, rows) if path.suffix == ".csv" else load_array(path, option)
    if table.ndim == 0:
        raise UsageError(f"{option}: {path} holds a single number", hint="save one row for each sample")
    if path.suffix != ".csv" and rows is not None:
        table = table[rows[0] : rows[1]]
    if not len(table):
        raise UsageError(f"{option}: {path} has no rows" + (f" {rows[0]}:{rows[1]}" if rows else ""))
    if rows is not None and len(table) < rows[1] - rows[0]:
        raise UsageError(f"{option}: {path} ends at row {rows[0] + len(table) - 1}", hint="see --rows")
    return table


def _csv(path: Path, option: str, rows: tuple[int, int] | None) -> np.ndarray:
    try:
        chosen = list(itertools.islice(csv_lines(path), *(rows or (None,))))
        return np.loadtxt(chosen, delimiter=",", comments=None, ndmin=2) if chosen else np.zeros((0, 1))
    except OSError as error:
        raise UsageError(f"{option}: {path}: {error.strerror or error}", hint="check the path") from None
    except ValueError as error:  # not text, not numbers, or rows of several lengths
        reason = str(error).split(";")[0].replace("\n", " ")
        raise UsageError(f"{option}: {path}: {reason}", hint="rows of numbers, with commas between") from None


def _split(path: Path, table: np.ndarray, column: int) -> tuple[np.ndarray, np.ndarray]:
    """The csv without its column of labels, and that."""
    if path.suffix != ".csv":
        raise UsageError("--labels-column is for csv files", hint="give --labels FILE")
    if not 0 <= column < table.shape[1]:
        raise UsageError(f"--labels-column: {path} has columns 0 to {table.shape[1] - 1}, not {column}")
    return np.delete(table, column, axis=1), table[:, column]


def _flat(path: Path, table: np.ndarray, shape: Shape, skip: int) -> np.ndarray:
    table, size = table.reshape(len(table), -1)[:, skip:], math.prod(shape)
    if table.shape[1] != size:
        raise UsageError(
            f"--data: rows of {path} hold {table.shape[1]} numbers, the input has {size} {list(shape)}",
            hint="see --labels-column and --skip-columns; `lipcert inspect` shows the model's inputs",
        )
    return table


def _scaled(table: np.ndarray, source: Source, shape: Shape) -> np.ndarray:
    if not (math.isfinite(source.scale) and source.scale != 0):
        raise UsageError(f"--scale: {source.scale} is not a usable divisor", hint="for example 255")
    rows = table.astype(np.float64) / source.scale
    return np.array([to_layout(row, shape, source.layout) for row in rows]).reshape(rows.shape)


def _as_labels(path: Path, labels: np.ndarray, count: int, first: int) -> np.ndarray:
    if labels.ndim != 1:
        raise UsageError(f"--labels: {path} has shape {list(labels.shape)}", hint="one number for each sample")
    if len(labels) != count:
        raise UsageError(f"--labels: {path} holds {len(labels)} labels for {count} samples")
    _refuse_unusable(path, "--labels", labels[:, None], first)
    whole = labels.astype(np.float64)
    bad = (whole != np.round(whole)) | (np.abs(whole) > 2**31)
    if bad.any():
        k = int(np.argmax(bad))
        raise UsageError(f"--labels: {path}, row {first + k}: {labels[k]} is no class", hint="classes count from 0")
    return whole.astype(np.int64)


def _refuse_unusable(path: Path, option: str, table: np.ndarray, first: int) -> None:
    bad = ~np.isfinite(table).all(axis=1)
    if bad.any():
        raise UsageError(f"{option}: {path}, row {first + int(np.argmax(bad))} holds NaN or Inf")
