"""VNN-LIB specifications, 1.0 and 2.0: the box contains the decimals as written, and anything but a box is refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lipcert.errors import UsageError
from lipcert.problem import Box
from lipcert.problem.reading import read_vnnlib

ONE = "(declare-const X_0 Real)\n(declare-const X_1 Real)\n(declare-const Y_0 Real)\n"
TWO = "(vnnlib-version <2.0>)\n(declare-network N\n(declare-input X real [2])\n(declare-output Y real [1])\n)\n"
BOUNDS = "(assert (>= x0 0.1))\n(assert (<= x0 0.3))\n(assert (>= x1 -1.0))\n(assert (<= x1 0.7))\n"
UNSAFE = "(assert (<= y0 0.0))\n"
NAMES = {1: {"x0": "X_0", "x1": "X_1", "y0": "Y_0"}, 2: {"x0": "X[0]", "x1": "X[1]", "y0": "Y[0]"}}


def spec(version: int, *lines: str) -> str:
    text = "".join(lines)
    for placeholder, name in NAMES[version].items():
        text = text.replace(placeholder, name)
    return (ONE if version == 1 else TWO) + text


def read(folder: Path, text: str, size: int = 2) -> Box:
    path = folder / "spec.vnnlib"
    path.write_text(text)
    return read_vnnlib(str(path), size)


def assert_is_the_box(box: Box, lower: list[str], upper: list[str]) -> None:
    """The decimals as written lie inside, and no more than two units from the bounds."""
    for low, high, low_text, high_text in zip(box.lower, box.upper, lower, upper, strict=True):
        assert Fraction(float(low)) <= Fraction(low_text) <= Fraction(float(np.nextafter(np.nextafter(low, 9e9), 9e9)))
        assert Fraction(float(np.nextafter(np.nextafter(high, -9e9), -9e9))) <= Fraction(high_text)
        assert Fraction(high_text) <= Fraction(float(high))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("unsafe", [UNSAFE, "(assert (or (<= y0 0.0) (>= y0 3.0)))\n", "(assert (> y0 2.5))\n"])
def test_the_box_is_read_rounded_outward(tmp_path: Path, version: int, unsafe: str) -> None:
    assert_is_the_box(read(tmp_path, spec(version, BOUNDS, unsafe)), ["0.1", "-1.0"], ["0.3", "0.7"])


@pytest.mark.parametrize("version", [1, 2])
def test_long_decimals_stay_inside(tmp_path: Path, version: int) -> None:
    digits = ["0.123456789012345678901234567891", "0.300000000000000016653345369378"]
    lines = f"(assert (>= x0 {digits[0]}))(assert (<= x0 {digits[1]}))" + BOUNDS + UNSAFE
    box = read(tmp_path, spec(version, lines))
    assert_is_the_box(box, [digits[0], "-1.0"], ["0.3", "0.7"])


def test_bounds_may_stand_on_either_side_in_any_order_and_several_times(tmp_path: Path) -> None:
    lines = "(assert (<= 0.2 x0))(assert (<= x1 5.0))(assert (and (>= 0.25 x0) (>= x1 -7.5)))"
    assert_is_the_box(read(tmp_path, spec(1, BOUNDS, lines, UNSAFE)), ["0.2", "-1.0"], ["0.25", "0.7"])


def test_comments_and_declarations_by_declare_fun(tmp_path: Path) -> None:
    text = spec(1, "; X_0 is a pixel\n", BOUNDS, UNSAFE).replace(
        "(declare-const X_1 Real)", "(declare-fun X_1 () Real)"
    )
    assert_is_the_box(read(tmp_path, text), ["0.1", "-1.0"], ["0.3", "0.7"])


def test_whole_numbers_in_version_1(tmp_path: Path) -> None:
    """(assert (<= Y_0 0)) is how most specifications of the competitions end."""
    lines = "(assert (>= X_0 0))(assert (<= X_0 1))(assert (>= X_1 -2))(assert (<= X_1 0.5))(assert (<= Y_0 0))"
    assert_is_the_box(read(tmp_path, ONE + lines), ["0", "-2"], ["1", "0.5"])


def test_exponents_in_version_1(tmp_path: Path) -> None:
    lines = "(assert (>= X_0 -1e-3))(assert (<= X_0 2.5E-05))(assert (>= X_1 0.0))(assert (<= X_1 1.0))"
    lines += "(assert (<= Y_0 1e1))"
    assert_is_the_box(read(tmp_path, ONE + lines), ["-0.001", "0"], ["0.000025", "1"])


def two_cases(low: float, other_low: float) -> str:
    sides = [f"(>= x0 {number}) (<= x0 0.3) (>= x1 -1.0) (<= x1 0.7)" for number in (low, other_low)]
    return f"(assert (or (and {sides[0]} (<= y0 0.0)) (and {sides[1]} (>= y0 5.0))))"


def test_several_cases_of_one_box_are_one_box(tmp_path: Path) -> None:
    assert_is_the_box(read(tmp_path, spec(1, two_cases(0.1, 0.1))), ["0.1", "-1.0"], ["0.3", "0.7"])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("(assert (>= x0 0.1))(assert (<= x0 0.3))(assert (<= x1 0.7))", "leaves an input unbounded"),
        (two_cases(0.1, 0.2), "has 2 input boxes"),
        (BOUNDS + "(assert (<= x0 0.05))", "has 0 input boxes"),
        (BOUNDS + "(assert (<= (+ x0 x1) 0.5))", "simple bounds"),
        (BOUNDS + "(assert (<= x0 x1))", "simple bounds"),
        ("(assert (<= x0 ", "[Pp]arse error"),
        (BOUNDS + "(assert (<= Z 1.0))", "VNN-LIB 1.0 or 2.0"),
    ],
    ids=["unbounded", "two boxes", "empty", "sum", "comparison", "cut off", "unknown name"],
)
def test_what_is_no_box_is_refused_with_the_file_named(tmp_path: Path, version: int, lines: str, message: str) -> None:
    with pytest.raises(UsageError, match=rf"--spec: .*spec\.vnnlib.*{message}"):
        read(tmp_path, spec(version, lines, UNSAFE))


def test_a_box_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--spec: .*spec\.vnnlib has 2 inputs, the model 3"):
        read(tmp_path, spec(1, BOUNDS, UNSAFE), size=3)


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff\xfe\x00"])
def test_a_file_that_is_no_specification_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "spec.vnnlib").write_bytes(content)
    with pytest.raises(UsageError, match=r"--spec: .*spec\.vnnlib"):
        read_vnnlib(str(tmp_path / "spec.vnnlib"), 2)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--spec: .*absent\.vnnlib.*No such file"):
        read_vnnlib(str(tmp_path / "absent.vnnlib"), 2)
