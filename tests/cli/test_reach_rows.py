"""`reach --rows`: a line and a report for each row, arrays of all; refusals that write nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lipcert as api
from lipcert.problem import Ball, Box
from tests.cli.conftest import Command


def around(images: Path, eps: float = 0.01) -> tuple[object, ...]:
    return ("--center", images, "--skip-columns", 1, "--scale", 16, "--eps", eps)


def numbers(text: str) -> np.ndarray:
    """(rows, outputs, 2)."""
    return np.array([[float(cell) for cell in line.split()] for line in text.splitlines()]).reshape(-1, 10, 2)


def test_a_line_for_each_row_and_a_summary(lipcert: Command, relu: Path, images: Path) -> None:
    done = lipcert("reach", relu, *around(images), "--rows", "3:6")
    assert (done.status, done.err) == (0, "")
    path, head, *rows, summary = done.out.splitlines()
    assert path == str(relu)
    assert head.split() == ["row", "widest", "side", "by"]
    assert [line.split()[0] for line in rows] == ["3", "4", "5"]
    assert all(line.endswith("linear bounds") for line in rows)
    assert summary.startswith("3 of 3 certified; widest side ")


@pytest.mark.parametrize("timeout", [0, 30])
def test_boxes_hold_those_of_one_row_alone(
    lipcert: Command, relu: Path, images: Path, tmp_path: Path, timeout: int
) -> None:
    npz = tmp_path / "boxes.npz"
    options = ("--rows", "7:11", "--timeout", timeout)
    done = lipcert("reach", relu, *around(images), *options, "--npz", npz, "--json", tmp_path / "r", "-q")
    assert (done.status, done.err) == (0, "")
    boxes = numbers(done.out)
    arrays = np.load(npz)
    np.testing.assert_array_equal(arrays["lower"], boxes[:, :, 0])
    np.testing.assert_array_equal(arrays["upper"], boxes[:, :, 1])
    for k, row in enumerate(range(7, 11)):
        report = tmp_path / "r" / f"row{row}.json"
        assert lipcert("check", report, relu).status == 0
        found = api.read_report(report)
        np.testing.assert_array_equal(found.lower, boxes[k, :, 0])
        (alone,) = numbers(lipcert("reach", relu, *around(images), "--row", row, "-q").out)
        slack = 2e-3 if timeout else 0.0  # slopes are searched for over all rows at once
        assert np.all(boxes[k, :, 0] <= alone[:, 0] + slack)
        assert np.all(boxes[k, :, 1] >= alone[:, 1] - slack)
        assert np.all(np.diff(boxes[k]) <= np.diff(alone) * (1.01 if timeout else 20))


def test_reports_are_of_different_regions_and_a_slice_is_one_of_them(relu: Path) -> None:
    regions = [Box(np.full(64, v), np.full(64, v + 0.02)) for v in (0.0, 0.3, 0.6)]
    reports = api.reach_many(relu, regions, outputs=[2, 5], timeout=0)
    assert len(reports) == 3
    assert reports.lower.shape == (3, 2)
    assert reports.statuses == ["certified"] * 3
    for k, report in enumerate(reports[1:], start=1):
        np.testing.assert_array_equal(report.upper, reports.upper[k])
        api.check(report, relu)
    with pytest.raises(api.LipcertError):
        api.check(type(reports[0])(reports[0].data | {"query": reports[2].data["query"]}), relu)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--rows", "3"), "--rows"),
        (("--rows", "3:3"), "A:B"),
        (("--rows", "0:2", "--row", "1"), "--row and --rows"),
        (("--rows", "0:2", "--exact"), "--exact"),
        (("--rows", "0:100000"), "no row"),
        (("--rows", "0:2", "--json", "-"), "folder"),
        (("--rows", "0:2", "--npz", "-"), "--npz"),
        (("--rows", "0:2", "--box", "0,1"), "--box"),
        (("--device", "cpu"), "--device"),
    ],
)
def test_wrong_usage_is_one_line_and_writes_nothing(
    lipcert: Command, relu: Path, images: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    target: tuple[object, ...] = () if "--json" in options else ("--json", tmp_path / "r")
    done = lipcert("reach", relu, *around(images), *options, *target)
    assert done.status == 2
    assert words in done.error()
    assert not list(tmp_path.iterdir())


def test_regions_of_two_kinds_are_refused(relu: Path) -> None:
    ball, box = Ball(np.zeros(64), 0.1, np.inf), Box(np.zeros(64), np.ones(64))
    other = Ball(np.zeros(64), 0.2, np.inf)
    for regions in ([], [ball, box], [ball, other]):
        with pytest.raises(api.LipcertError):
            api.reach_many(relu, regions)
