"""`bound --rows`: a line, a number and a report for each row, as of `--row` alone; refusals that write nothing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command, Done

BoundJson = Callable[..., dict[str, Any]]

SEARCH = ("--method", "local", "--norm", "inf")


def around(images: Path, eps: float = 0.002) -> tuple[object, ...]:
    """Of so small a radius that bounds are tight at once."""
    return ("--center", images, "--skip-columns", 1, "--scale", 16, "--eps", eps)


def numbers_of(done: Done) -> list[float]:
    """What --quiet prints."""
    return [float(line) for line in done.out.splitlines()]


def test_a_line_for_each_row_and_a_summary(lipcert: Command, relu: Path, images: Path) -> None:
    done = lipcert("bound", relu, *around(images), "--rows", "3:6", *SEARCH)
    assert (done.status, done.err) == (0, "")
    path, head, *rows, summary = done.out.splitlines()
    assert path == str(relu)
    assert head.split() == ["row", "certified", "attained", "gap", "method", "seconds"]
    cells = [line.split() for line in rows]
    assert [line[0] for line in cells] == ["3", "4", "5"]
    for _, certified, attained, gap, method, _ in cells:
        assert 0 < float(attained) <= float(certified)
        assert float(gap.removesuffix("x")) == pytest.approx(float(certified) / float(attained), rel=1e-4)
        assert method == "local"
    largest = max((line[1] for line in cells), key=float)
    assert summary.startswith(f"3 of 3 certified, at most {largest}; 3 within 1 % of attained; ")
    assert "\x1b" not in done.out


def test_bounds_are_those_of_one_row_alone(
    lipcert: Command, bound_json: BoundJson, relu: Path, images: Path, tmp_path: Path
) -> None:
    """Slopes are searched for over all rows at once, which moves them a little."""
    done = lipcert("bound", relu, *around(images), "--rows", "7:11", *SEARCH, "--json", tmp_path / "r")
    assert done.status == 0
    for row in range(7, 11):
        together = json.loads((tmp_path / "r" / f"row{row}.json").read_text())
        alone = bound_json(relu, *around(images), "--row", row, *SEARCH)
        assert together["query"] == alone["query"]  # the region is that of the row
        one, other = together["result"], alone["result"]
        assert one["upper"] == pytest.approx(other["upper"], rel=1e-6)
        assert one["lower"] <= other["upper"]
        assert other["lower"] <= one["upper"]
        assert one["gap"] < 1.01


@pytest.mark.parametrize("options", [["--norm", "2"], ["--norm", "inf", "--ball", "1"], ["--margin", "1,4"]])
def test_other_options_are_passed_on(
    lipcert: Command, bound_json: BoundJson, relu: Path, images: Path, tmp_path: Path, options: list[str]
) -> None:
    region = (*around(images), *options, "--method", "product")
    assert lipcert("bound", relu, *region, "--rows", "1:3", "--json", tmp_path / "r").status == 0
    for row in (1, 2):
        together = json.loads((tmp_path / "r" / f"row{row}.json").read_text())
        alone = bound_json(relu, *region, "--row", row)
        assert together["query"] == alone["query"]
        assert together["result"]["upper"] == pytest.approx(alone["result"]["upper"], rel=1e-6)


def test_a_folder_with_a_report_for_each_row_that_check_accepts(
    lipcert: Command, relu: Path, images: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "reports"
    done = lipcert("bound", relu, *around(images), "--rows", "0:3", *SEARCH, "--json", folder)
    assert (done.status, done.err) == (0, "")
    assert sorted(p.name for p in folder.iterdir()) == ["row0.json", "row1.json", "row2.json"]
    last = done.out.splitlines()[-1]
    assert str(folder) in last
    assert "lipcert check" in last
    shown = [line.split()[1] for line in done.out.splitlines()[2:5]]
    for row in range(3):
        path = folder / f"row{row}.json"
        upper = json.loads(path.read_text())["result"]["upper"]
        assert upper <= float(shown[row]) <= upper * (1 + 1e-7)
        checked = lipcert("check", path, relu)
        assert (checked.status, checked.err) == (0, "")
        assert "verified" in checked.out.split()


def test_reports_are_of_different_regions(lipcert: Command, relu: Path, images: Path, tmp_path: Path) -> None:
    """One with the certificate of another row is refused."""
    folder = tmp_path / "reports"
    assert lipcert("bound", relu, *around(images), "--rows", "0:2", *SEARCH, "--json", folder).status == 0
    first, second = (json.loads((folder / f"row{row}.json").read_text()) for row in (0, 1))
    assert first["query"] != second["query"]
    low, high = sorted((first, second), key=lambda data: data["result"]["upper"])
    low["query"] = high["query"]
    mixed = tmp_path / "mixed.json"
    mixed.write_text(json.dumps(low))
    assert lipcert("check", mixed, relu).status == 1


def test_a_folder_that_exists_is_written_into(lipcert: Command, relu: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "row1.json").write_text("old")
    (tmp_path / "notes.txt").write_text("kept")
    done = lipcert("bound", relu, *around(images), "--rows", "1:2", *SEARCH, "--json", tmp_path)
    assert done.status == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "row1.json"]
    assert (tmp_path / "notes.txt").read_text() == "kept"
    assert json.loads((tmp_path / "row1.json").read_text())["result"]["status"] == "certified"


def test_quiet_prints_one_number_per_row(lipcert: Command, relu: Path, images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    done = lipcert("bound", relu, *around(images), "--rows", "3:6", *SEARCH, "--quiet", "--json", folder)
    assert (done.status, done.err) == (0, "")
    reports = [json.loads((folder / f"row{row}.json").read_text()) for row in (3, 4, 5)]
    assert numbers_of(done) == [data["result"]["upper"] for data in reports]


def test_status_one_if_any_row_is_above_the_limit(lipcert: Command, relu: Path, images: Path) -> None:
    command = ("bound", relu, *around(images), "--rows", "3:6", *SEARCH)
    uppers = numbers_of(lipcert(*command, "--quiet"))
    low, middle, high = sorted(uppers)
    assert low < 0.99 * middle < 0.98 * high
    assert lipcert(*command, "--quiet", "--max", high * 1.001).status == 0
    assert lipcert(*command, "--quiet", "--max", (middle + high) / 2).status == 1
    done = lipcert(*command, "--max", (low + middle) / 2)
    assert (done.status, done.err) == (1, "")
    marked = ["!" in line.split() for line in done.out.splitlines()[2:5]]
    assert marked == [upper > (low + middle) / 2 for upper in uppers]


def test_rows_without_time_are_inconclusive(lipcert: Command, relu: Path, images: Path) -> None:
    """Which never passes, whatever the limit."""
    command = ("bound", relu, *around(images, 0.05), "--rows", "0:2", "--method", "local", "--timeout", 0)
    done = lipcert(*command, "--quiet", "--max", 1e9)
    status = 4 if "inconclusive" in done.out else 0
    assert (done.status, done.err) == (status, "")
    assert all(line == "inconclusive" or math.isfinite(float(line)) for line in done.out.splitlines())
    assert len(done.out.splitlines()) == 2


LAST = 50
"""Rows of the file."""


def test_the_last_row_is_the_last_line_of_the_file(lipcert: Command, relu: Path, images: Path) -> None:
    assert len(images.read_text().splitlines()) == LAST
    done = lipcert("bound", relu, *around(images), "--rows", f"{LAST - 1}:{LAST}", *SEARCH)
    assert done.status == 0
    assert done.out.splitlines()[2].split()[0] == str(LAST - 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rows", "5:2"], ("--rows", "'5:2'")),
        (["--rows", "2:2"], ("--rows", "'2:2'")),
        (["--rows", "x"], ("--rows", "'x'")),
        (["--rows", "3"], ("--rows", "'3'")),
        (["--rows", "-1:2"], ("--rows", "'-1:2'")),
        (["--rows", "0:2:3"], ("--rows", "'0:2:3'")),
        (["--rows", ""], ("--rows", "''")),
        (["--rows", "0:2", "--row", "1"], ("--row ", "--rows")),
        (["--rows", "0:2", "--norm", "7"], ("--norm", "'7'")),
        (["--rows", "0:2", "--max", "nan"], ("--max", "nan")),
    ],
)
def test_what_is_no_range_of_rows_is_one_line(
    lipcert: Command, relu: Path, images: Path, tmp_path: Path, options: list[str], words: tuple[str, ...]
) -> None:
    done = lipcert("bound", relu, *around(images), *options, "--json", tmp_path / "r")
    assert done.status == 2
    message = done.error()
    assert all(word in message for word in words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("region", [[], ["--box", "0,1"], ["--eps", "0.1"]])
def test_rows_of_no_file_are_refused(lipcert: Command, relu: Path, tmp_path: Path, region: list[str]) -> None:
    done = lipcert("bound", relu, *region, "--rows", "0:2", "--json", tmp_path / "r")
    assert done.status == 2
    message = done.error()
    assert "--rows" in message
    assert "--center" in message
    assert not list(tmp_path.iterdir())


def test_rows_past_the_end_of_the_file_are_refused_before_any_is_bounded(
    lipcert: Command, relu: Path, images: Path
) -> None:
    done = lipcert("bound", relu, *around(images), "--rows", f"{LAST - 1}:{LAST + 1}")
    assert done.status == 2
    assert f"no row {LAST}" in done.error()


@pytest.mark.parametrize("option", ["--certificate", "--checkpoint"])
def test_what_is_one_file_is_refused(lipcert: Command, relu: Path, images: Path, tmp_path: Path, option: str) -> None:
    done = lipcert("bound", relu, *around(images), "--rows", "0:2", option, tmp_path / "file")
    assert done.status == 2
    assert option in done.error()
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_the_folder_is_kept(lipcert: Command, relu: Path, images: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken.json"
    taken.write_text("kept")
    done = lipcert("bound", relu, *around(images), "--rows", "0:2", "--json", taken)
    assert done.status == 2
    message = done.error()
    assert "--json" in message
    assert str(taken) in message
    assert taken.read_text() == "kept"
    assert list(tmp_path.iterdir()) == [taken]


def test_a_folder_that_cannot_be_made_is_refused(lipcert: Command, relu: Path, images: Path, tmp_path: Path) -> None:
    done = lipcert("bound", relu, *around(images), "--rows", "0:2", "--json", tmp_path / "no" / "where")
    assert done.status == 2
    assert "--json" in done.error()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--rows", f"{LAST - 1}:{LAST + 1}"], id="past the end"),
        pytest.param(["--rows", "0:2", "--checkpoint", "c.json"], id="checkpoint"),
        pytest.param(["--rows", "0:2", "--method", "magic"], id="method"),
        pytest.param(["--rows", "0:2", "--outputs", "99"], id="outputs"),
    ],
)
def test_a_refusal_leaves_no_folder(
    lipcert: Command, relu: Path, images: Path, tmp_path: Path, options: list[str]
) -> None:
    done = lipcert("bound", relu, *around(images), *options, "--json", tmp_path / "r")
    assert done.status == 2
    done.error()
    assert not list(tmp_path.iterdir())


def test_the_command_that_is_named_is_about_a_report_that_exists(
    lipcert: Command, relu: Path, images: Path, tmp_path: Path
) -> None:
    done = lipcert("bound", relu, *around(images), "--rows", "3:4", *SEARCH, "--json", tmp_path)
    named = re.search(r"lipcert check (\S+)", done.out)
    assert named is not None
    assert Path(named[1]).exists()


def test_reports_of_rows_do_not_go_to_stdout(
    lipcert: Command, relu: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = lipcert("bound", relu, *around(images), "--rows", "0:1", *SEARCH, "--json", "-")
    assert not list(tmp_path.iterdir())
    assert done.status == 2
    assert "--json" in done.error()


def test_a_path_does_not_command_the_terminal(lipcert: Command, relu: Path, images: Path, tmp_path: Path) -> None:
    path = tmp_path / "red\x1b[31m.onnx"
    path.write_bytes(relu.read_bytes())
    done = lipcert("bound", path, *around(images), "--rows", "0:1", "--method", "product")
    assert done.status == 0
    assert "\x1b" not in done.out
