"""2,000 damaged models: each imports and agrees with onnxruntime, or is refused in one line, soon and in little memory.

All of them run by default (about a minute on one core); LIPCERT_FUZZ_CASES sets another number, since every integer is
a case. What a case is, and how to run some by hand: tests/helpers/fuzzing.py. A case that fails goes into fuzz_seeds/,
with what went wrong, so that it is tried for ever.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lipcert.errors import CertificateError, LipcertError, ModelError
from tests.helpers import fuzzing
from tests.helpers.fuzzing_edits import BYTES, FIELDS
from tests.helpers.paths import ROOT
from tests.helpers.processes import environment

CASES = int(os.environ.get("LIPCERT_FUZZ_CASES", "750"))
CHUNK = 250

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts seconds and bytes as Linux does")


def run(*options: object) -> list[dict[str, Any]]:
    """The verdicts of a fuzzing process."""
    command = [sys.executable, "-m", "tests.helpers.fuzzing", *map(str, options)]
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment() | threads, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def told(verdict: dict[str, Any]) -> str:
    """A failure, so that it can be added to the seeds as it stands."""
    facts = {**verdict["case"], "why": verdict["wrong"]}
    return f"{json.dumps(facts)}  {verdict['seconds']} s, {verdict['mebibytes']} MiB\n{verdict['trace']}"


@pytest.mark.one_in(3)
@on_linux
@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_a_damaged_model_is_imported_or_refused(first: int) -> None:
    verdicts = run(first, min(CHUNK, CASES - first))
    assert len(verdicts) == min(CHUNK, CASES - first)
    failures = [told(v) for v in verdicts if v["wrong"]]
    assert not failures, "\n".join([f"{len(failures)} of {len(verdicts)}:", *failures])
    outcomes = {v["outcome"] for v in verdicts}
    assert {"imported", "ModelError"} <= outcomes, "the cases are all of one kind"


@on_linux
def test_what_once_failed_does_not_fail_again() -> None:
    verdicts = run("--seeds")
    assert len(verdicts) == len(fuzzing.seeds()) > 0
    failures = [told(v) for v in verdicts if v["wrong"]]
    assert not failures, "\n".join([f"{len(failures)} of {len(verdicts)}:", *failures])


def test_every_edit_and_every_kind_of_base_is_tried() -> None:
    cases = [fuzzing.case(i) for i in range(2000)]
    assert {edit for case in cases for edit in case.edits} == {*FIELDS, *BYTES}
    assert {case.base.split("/")[0] for case in cases} == {"models", "own", "onnx"}


def test_a_case_is_the_same_whenever_it_is_made() -> None:
    for i in range(50):
        case = fuzzing.case(i)
        assert case == fuzzing.case(i)
        assert fuzzing.damaged(case)[0] == fuzzing.damaged(case)[0]


LINE = "one line"


def spoilt(**fields: str) -> ModelError:
    """An error whose text did not pass through its constructor, which cuts and spells out."""
    error = ModelError("m.onnx: x")
    for name, text in fields.items():
        setattr(error, name, text)
    return error


@pytest.mark.parametrize(
    ("error", "wrong"),
    [
        (ValueError("x"), "ValueError"),
        (MemoryError(), "MemoryError"),
        (RecursionError(), "RecursionError"),
        (SystemExit(3), "SystemExit"),
        (CertificateError(LINE), "exit status 1"),
        (LipcertError(LINE), "exit status 2"),
        (ModelError(LINE), "begin with the file"),
        (spoilt(hint="two\nlines"), "printable"),
        (spoilt(message="m.onnx: " + "x" * 2000), "too many characters"),
        (ModelError("m.onnx: one line"), None),
    ],
)
def test_the_judge_accepts_one_line_of_a_model_error_only(
    error: BaseException, wrong: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise error

    monkeypatch.setattr("lipcert.frontend.load_file", refuse)
    found = fuzzing.judge(Path("m.onnx")).get("wrong", "")
    assert (wrong or "") in found
    assert bool(found) == (wrong is not None)
