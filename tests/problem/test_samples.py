"""Data sets from files: every mistake is answered with the option, the file and the row."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipcert.errors import CertificateError, UsageError
from lipcert.problem.samples import (
    Source,
    check_labels,
    given_samples,
    read_samples,
    stated_source,
)

X = np.arange(12.0).reshape(4, 3) / 4
Y = np.array([0, 2, 1, 2])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", only=X.reshape(4, 1, 3))
    np.save(tmp_path / "y.npy", Y)
    lines = [",".join(map(str, [y, *x])) for x, y in zip(X.tolist(), Y.tolist(), strict=True)]
    (tmp_path / "xy.csv").write_text("\n".join(lines) + ",\n\n")
    (tmp_path / "y.csv").write_text("0\n2\n1\n2\n")
    (tmp_path / "named.csv").write_text("label\n0\n2\n1\n2\n")
    return tmp_path


@pytest.mark.parametrize("data", ["x.npy", "x.npz"])
@pytest.mark.parametrize("labels", ["y.npy", "y.csv", "named.csv"])
def test_samples_of_arrays(folder: Path, data: str, labels: str) -> None:
    samples = read_samples(Source(str(folder / data), str(folder / labels)), (1, 3))
    assert samples.points.tolist() == X.tolist()
    assert samples.labels.tolist() == Y.tolist()
    assert samples.sha256 == given_samples(Source(""), X, Y, (1, 3)).sha256


def test_samples_of_a_csv_that_holds_its_labels(folder: Path) -> None:
    source = Source(str(folder / "xy.csv"), labels_column=0, scale=0.5)
    samples = read_samples(source, (3,))
    assert samples.points.tolist() == (X / 0.5).tolist()
    assert samples.labels.tolist() == Y.tolist()
    last = read_samples(dataclasses.replace(source, labels_column=1, skip_columns=1, rows=(0, 1), scale=1.0), (2,))
    assert (last.points.tolist(), last.labels.tolist()) == ([[0.25, 0.5]], [0])


def test_rows_are_those_of_the_file(folder: Path) -> None:
    for source in (
        Source(str(folder / "x.npy"), str(folder / "y.npy"), rows=(1, 3)),
        Source(str(folder / "xy.csv"), labels_column=0, rows=(1, 3)),
    ):
        samples = read_samples(source, (3,))
        assert (samples.first, samples.labels.tolist()) == (1, [2, 1])
        assert samples.points.tolist() == X[1:3].tolist()


def test_the_digest_tells_data_apart() -> None:
    def digest(x: np.ndarray, y: np.ndarray, **source: Any) -> str:
        return given_samples(Source("", **source), x, y, (3,)).sha256

    moved = X + np.eye(4, 3) * 2.0**-50
    digests = {
        digest(X, Y),
        digest(moved, Y),
        digest(X, Y[::-1]),
        digest(X, Y, scale=2.0),
        digest(X, Y, rows=(1, 4)),
        digest(X[1:], Y[1:]),
    }
    assert len(digests) == 6


def test_pixels_stored_by_height() -> None:
    image = np.arange(12.0).reshape(1, 2, 2, 3)
    samples = given_samples(Source("", layout="hwc"), image, np.zeros(1, int), (1, 3, 2, 2))
    assert samples.points.tolist() == [image[0].transpose(2, 0, 1).reshape(-1).tolist()]


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no labels": ({"labels": ""}, "labels are needed"),
    "labels twice": ({"labels_column": 0}, "--labels and --labels-column"),
    "a column of an array": ({"labels": "", "labels_column": 0}, "--labels-column is for csv"),
    "columns of an array": ({"skip_columns": 1}, "--skip-columns is for csv"),
    "no file": ({"data": "no.npy"}, "--data: .*no.npy: No such file"),
    "no csv": ({"data": "no.csv"}, "--data: .*no.csv: No such file"),
    "another kind of file": ({"data": "x.txt"}, "--data: .*x.txt is no .npy, .npz or .csv"),
    "other widths": ({"data": "wide.npy"}, r"rows of .*wide.npy hold 4 numbers, the input has 3 \[1, 3\]"),
    "a number": ({"data": "number.npy"}, "holds a single number"),
    "nothing": ({"data": "empty.npy"}, "empty.npy has no rows"),
    "an empty csv": ({"data": "empty.csv"}, "empty.csv has no rows"),
    "text": ({"data": "text.csv"}, "text.csv: could not convert string 'a'"),
    "bytes": ({"data": "bytes.csv"}, "bytes.csv: 'utf-8'"),
    "rows of several lengths": ({"data": "ragged.csv"}, "columns changed from 3 to 2"),
    "complex numbers": ({"data": "complex.npy"}, "holds complex128, not numbers"),
    "objects": ({"data": "objects.npy"}, "allow_pickle"),
    "NaN": ({"data": "nan.npy"}, "nan.npy, row 2 holds NaN"),
    "rows beyond the end": ({"rows": (2, 9)}, "ends at row 3"),
    "rows after the end": ({"rows": (7, 9)}, "has no rows 7:9"),
    "no divisor": ({"scale": 0.0}, "--scale"),
    "no image": ({"layout": "hwc"}, "--layout hwc"),
    "fewer labels": ({"labels": "few.npy"}, "few.npy holds 2 labels for 4 samples"),
    "labels of two columns": ({"labels": "x.npy"}, r"x.npy has shape \[4, 3\]"),
    "half a label": ({"labels": "half.npy"}, "half.npy, row 1: 0.5 is no class"),
    "a label NaN": ({"labels": "nolabel.npy"}, "nolabel.npy, row 0 holds NaN"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(folder: Path, name: str) -> None:
    np.save(folder / "wide.npy", np.zeros((4, 4)))
    np.save(folder / "number.npy", 3.0)
    np.save(folder / "empty.npy", np.zeros((0, 3)))
    np.save(folder / "complex.npy", X + 1j)
    np.save(folder / "objects.npy", np.array([{}, 1], dtype=object))
    np.save(folder / "nan.npy", np.where(np.arange(4)[:, None] == 2, np.nan, X))
    np.save(folder / "few.npy", Y[:2])
    np.save(folder / "half.npy", Y - np.array([0, 1.5, 0, 0]))
    np.save(folder / "nolabel.npy", np.where(Y == 0, np.nan, Y))
    for file, text in {
        "empty.csv": b"",
        "text.csv": b"1,a,2\n",
        "bytes.csv": b"\xff\xfe",
        "ragged.csv": b"1,2,3\n1,2\n",
    }.items():
        (folder / file).write_bytes(text)
    changes, message = MISTAKES[name]
    paths = {"data": "x.npy", "labels": "y.npy"} | {k: v for k, v in changes.items() if k in ("data", "labels")}
    source = Source(**{**changes, **{k: str(folder / v) if v else "" for k, v in paths.items()}})
    with pytest.raises(UsageError, match=message) as refused:
        read_samples(source, (1, 3))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("labels", "row"), [([0, 1, 3, 1], 2), ([-1, 0, 0, 0], 0)])
def test_labels_are_classes(labels: list[int], row: int) -> None:
    samples = given_samples(Source(""), X, np.array(labels), (3,))
    with pytest.raises(UsageError, match=f"row {row} has label {labels[row]}"):
        check_labels(samples, 3)
    with pytest.raises(UsageError, match="1 output, and no classes"):
        check_labels(samples, 1)


def test_a_report_says_how_its_data_are_read() -> None:
    source = Source("x.csv", labels_column=2, rows=(1, 4), scale=2.0)
    stated = {**dataclasses.asdict(source), "rows": [1, 4]}
    assert stated_source(stated) == source
    for name, right in stated.items():
        for value in (None, 1, 2.5, "a", [], [1], [1, "b"], {}):
            if type(value) is not type(right) and not (value is None and name in ("labels_column", "rows")):
                with pytest.raises(CertificateError, match=f"query.data.{name}"):
                    stated_source({**stated, name: value})
    with pytest.raises(CertificateError, match="not an object"):
        stated_source(None)
