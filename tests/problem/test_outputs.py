"""Choices of outputs: the operator that stands for each, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from lipcert.errors import UsageError
from lipcert.problem import AllOutputs, Margin, OutputChoice, SomeOutputs, parse_margin, parse_outputs
from tests.helpers.operators import matrix_by_definition


@pytest.mark.parametrize(
    ("choice", "rows", "words"),
    [
        (AllOutputs(), np.eye(4), "all outputs"),
        (SomeOutputs((2,)), np.eye(4)[[2]], "outputs 2"),
        (SomeOutputs((3, 0)), np.eye(4)[[3, 0]], "outputs 3, 0"),
        (Margin(1, 3), [[0, 1, 0, -1]], "output 1 minus 3"),
    ],
)
def test_a_choice_is_its_rows(choice: OutputChoice, rows: np.ndarray, words: str) -> None:
    np.testing.assert_array_equal(matrix_by_definition(choice.operator(4)).astype(float), rows)
    assert choice.describe() == words


def test_lists_and_pairs_are_read() -> None:
    assert parse_outputs("7") == SomeOutputs((7,))
    assert parse_outputs("0,3, 5") == SomeOutputs((0, 3, 5))
    assert parse_margin("3,5") == Margin(3, 5)


@pytest.mark.parametrize("text", ["", "a", "1,", "1.5", "0,3,0", "1;2"])
def test_lists_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--outputs: "):
        parse_outputs(text)


@pytest.mark.parametrize("text", ["", "1", "1,1", "1,2,3", "a,b", "1 2"])
def test_pairs_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--margin: "):
        parse_margin(text)


@pytest.mark.parametrize(
    ("choice", "option"),
    [
        (SomeOutputs((4,)), "--outputs"),
        (SomeOutputs((0, -1)), "--outputs"),
        (Margin(0, 4), "--margin"),
        (Margin(-1, 2), "--margin"),
    ],
)
def test_outputs_that_the_model_lacks_are_refused(choice: OutputChoice, option: str) -> None:
    with pytest.raises(UsageError, match=rf"{option}: there is no output .*0 to 3"):
        choice.operator(4)
