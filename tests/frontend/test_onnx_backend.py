"""The ONNX project's own tests of each op that lipcert reads, and the table of them in docs/ops.md."""

from __future__ import annotations

import pytest

from tests.helpers.onnx_backend import (
    DOCUMENT,
    EXCLUSIONS,
    HEAD,
    REFUSALS,
    all_cases,
    row_of,
    rows,
    written_with_this_onnx,
)

REFRESH = "run python -m tests.helpers.onnx_backend"


@pytest.mark.parametrize("op", rows())
def test_the_node_tests_of_onnx_pass_and_are_in_the_document(op: str) -> None:
    row = row_of(op)
    assert not row.failures, "\n".join(["", *row.failures])
    if written_with_this_onnx():
        assert str(row) in DOCUMENT.read_text(encoding="utf-8").splitlines(), REFRESH


def test_the_document_has_these_rows_and_no_others() -> None:
    if not written_with_this_onnx():
        pytest.skip("docs/ops.md was written with another version of onnx")
    written = DOCUMENT.read_text(encoding="utf-8")
    assert written.startswith(HEAD), REFRESH
    assert [line.split(" | ")[0].removeprefix("| ") for line in written[len(HEAD) :].splitlines()] == rows(), REFRESH


def test_every_test_that_is_left_out_by_name_exists() -> None:
    names = {case.name for cases in all_cases().values() for case in cases}
    for reason, tests in (EXCLUSIONS | REFUSALS).items():
        if isinstance(tests, frozenset):
            assert tests <= names, reason
