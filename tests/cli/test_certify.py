"""`lipcert certify`: accuracies, a table, a report that `check` accepts, limits, and one line for every mistake."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command
from tests.helpers.processes import command_line, environment

EPS = "0.1,0.25"


@pytest.fixture(scope="module")
def around(relu: Path, images: Path) -> tuple[object, ...]:
    """Of the first images; little time for constants."""
    data = "--data", images, "--labels-column", 0, "--scale", 16, "--rows", "0:12"
    return ("certify", relu, *data, "--eps", EPS, "--timeout", 1)


def test_accuracies_and_a_report(lipcert: Command, around: tuple[object, ...], tmp_path: Path, relu: Path) -> None:
    report, table = tmp_path / "report.json", tmp_path / "table.csv"
    done = lipcert(*around, "--json", report, "--table", table, "--min-certified", "0.1:0.2")
    assert (done.status, done.err) == (0, "")
    lines = {line.split("  ")[0]: line for line in done.out.splitlines()}
    assert list(lines) == [
        "model", "data", "clean", "certified at 0.1", "certified at 0.25", "radii", "method", "report"
    ]  # fmt: skip
    assert "within --min-certified 0.2" in lines["certified at 0.1"]
    data = json.loads(report.read_text())
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["index"]) for row in rows] == list(range(12))
    for row, sample in zip(rows, data["samples"], strict=True):
        assert float(row["radius"]) == sample["radius"]
        assert row["attacked"] == ("" if sample["attacked"] is None else repr(sample["attacked"]))
        assert [row["certified_0.1"], row["certified_0.25"]] == [str(int(held)) for held in sample["certified"]]
    done = lipcert("check", report, relu)
    assert (done.status, done.err) == (0, "")
    assert "radii of 12 samples" in done.out


def test_the_files_may_lie_elsewhere(
    lipcert: Command, around: tuple[object, ...], tmp_path: Path, relu: Path, images: Path
) -> None:
    report = tmp_path / "report.json"
    assert lipcert(*around, "--timeout", 0, "--json", report, "-q").status == 0
    data = json.loads(report.read_text())
    data["query"]["data"]["data"] = "gone.csv"
    report.write_text(json.dumps(data))
    assert "gone.csv: No such file" in lipcert("check", report, relu).error()
    assert lipcert("check", report, relu, "--data", images).status == 0
    other = tmp_path / "other.csv"
    other.write_text(images.read_text().replace("8,0,0,0,5", "8,0,0,0,6", 1))
    done = lipcert("check", report, relu, "--data", other)
    assert (done.status, "other data" in done.error()) == (1, True)


def test_a_line_for_each_radius(lipcert: Command, around: tuple[object, ...]) -> None:
    done = lipcert(*around, "-q", "--min-certified", "0.25:1")
    assert (done.status, done.err) == (1, "")
    for line, eps in zip(done.out.splitlines(), EPS.split(","), strict=True):
        radius, certified, attack = line.split()
        assert radius == eps
        assert 0 <= float(certified) <= float(attack) <= 1


def test_a_report_on_stdout(lipcert: Command, around: tuple[object, ...]) -> None:
    done = lipcert(*around, "--timeout", 0, "--json", "-")
    assert done.status == 0
    assert json.loads(done.out)["schema"] == "lipcert/certify/1"


MISTAKES: list[tuple[tuple[object, ...], str]] = [
    (("--data", "no.csv"), "--data: no.csv: No such file"),
    (("--labels", "no.npy"), "--labels and --labels-column"),
    (("--scale", 0), "--scale"),
    (("--skip-columns", 1), "hold 63 numbers, the input has 64"),
    (("--labels-column", 5), "row 0 has label 15"),
    (("--labels-column", 99), "--labels-column: .* has columns 0 to 64, not 99"),
    (("--rows", "5:5"), "--rows: '5:5'"),
    (("--rows", "45:60"), "ends at row 49"),
    (("--norm", "3"), "--norm: '3' is not a norm"),
    (("--eps", "a"), "--eps: 'a'"),
    (("--eps", "0"), "--eps: 0.0 is not a radius"),
    (("--output", "z"), "no output 'z'"),
    (("--min-certified", "0.1"), "--min-certified: '0.1' is not RADIUS:SHARE"),
    (("--min-certified", "0.1:2"), "--min-certified"),
    (("--min-certified", "0.3:0.5"), "--min-certified: 0.3 is none of --eps"),
    (("--table", "t.txt"), "--table: t.txt is neither"),
    (("--table", "no/t.csv"), "--table: cannot write"),
    (("--json", "no/r.json"), "--json: cannot write"),
    (("--checkpoint", "no/c.json"), "--checkpoint: cannot write"),
    (("--device", "mars"), "--device: 'mars'"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=lambda part: " ".join(map(str, part)))
def test_one_line_for_a_mistake(
    lipcert: Command,
    around: tuple[object, ...],
    options: tuple[object, ...],
    message: str,
    monkeypatch: Any,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = lipcert(*around, "--timeout", 0, *options)
    assert done.status == 2
    assert re.search(message, done.error())
    assert not list(tmp_path.iterdir())


def test_parquet(lipcert: Command, around: tuple[object, ...], tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = tmp_path / "table.parquet"
    assert lipcert(*around, "--timeout", 0, "--table", table).status == 0
    read = parquet.read_table(table).to_pydict()
    assert read["index"] == list(range(12))
    assert set(read["certified_0.1"]) <= {True, False}


def test_a_process_that_is_killed_leaves_a_whole_checkpoint(around: tuple[object, ...], tmp_path: Path) -> None:
    """As soon as there is one; the next run goes on from there."""
    kept = tmp_path / "kept.json"
    command = command_line(*around, "--timeout", 20, "--checkpoint", kept)
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not kept.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    margins = json.loads(kept.read_text())["certificate"]["margins"]
    last = [*command, "--timeout", "0", "--json", "-"]
    again = subprocess.run(last, env=environment(), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert len(found["margins"]) >= len(margins)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]
