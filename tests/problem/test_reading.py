"""Reading centers and boxes: from numbers, npy, npz and csv; every mistake is answered with the option and the file."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lipcert.errors import UsageError
from lipcert.problem import Box, Everywhere
from lipcert.problem.reading import RegionText, parse_rows, read_ball, read_box, read_vector

VALUES = np.array([[1.5, -2.0, 3.25], [0.1, 1e-3, 7.0]])


def center(text: Path | str, shape: tuple[int, ...] = (3,), **options: Any) -> list[float]:
    return read_ball(str(text), 0.5, 2.0, shape, **options).center.tolist()


def refused(text: Path | str, message: str, shape: tuple[int, ...] = (3,), **options: Any) -> None:
    with pytest.raises(UsageError, match=message):
        center(text, shape, **options)


def save_csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_numbers_on_the_line() -> None:
    assert center("1,2.5,-3e-2") == [1, 2.5, -0.03]
    assert center("0.25") == [0.25] * 3
    assert center("7", (1, 2, 2)) == [7] * 4
    ball = read_ball("1", 0.125, math.inf, (2,))
    assert (ball.eps, ball.norm) == (0.125, math.inf)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16, np.uint8, np.bool_])
def test_numbers_of_every_type_in_npy(tmp_path: Path, dtype: type) -> None:
    values = np.array([[1, 0, 3]]).astype(dtype)
    np.save(tmp_path / "c.npy", values)
    assert center(tmp_path / "c.npy") == values.reshape(-1).tolist()


def test_rows_of_npy_and_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", VALUES)
    np.savez(tmp_path / "c.npz", only=VALUES)
    np.savez_compressed(tmp_path / "d.npz", VALUES)
    for name in ("c.npy", "c.npz", "d.npz"):
        assert center(tmp_path / name, (6,)) == VALUES.reshape(-1).tolist()
        for row in (0, 1):
            assert center(tmp_path / name, row=row) == VALUES[row].tolist()
        refused(tmp_path / name, f"--center: .*{name} of shape .* has no row 2", row=2)
        refused(tmp_path / name, f"--center: .*{name} of shape .* has no row -1", row=-1)


def test_rows_of_csv(tmp_path: Path) -> None:
    path = save_csv(tmp_path / "c.csv", "1.5,-2,3.25\n\n0.1, 1e-3 ,7,\n")
    assert center(path) == center(path, row=0) == VALUES[0].tolist()
    assert center(path, row=1) == VALUES[1].tolist()
    for row in (2, -1):
        refused(path, rf"--center: .*c\.csv has no row {row}", row=row)
    header = save_csv(tmp_path / "h.csv", '\ufeff\n x0,x1,"x2",\n1.5,-2,3.25\n')
    assert center(header) == VALUES[0].tolist()
    refused(header, r"--center: .*h\.csv has no row 1", row=1)
    refused(save_csv(tmp_path / "empty.csv", ""), r"--center: .*empty\.csv has no row 0")


def test_skipped_columns_and_scale(tmp_path: Path) -> None:
    path = save_csv(tmp_path / "mnist.csv", "7,0,51,255\n")
    assert center(path, skip_columns=1, scale=255.0) == [0, 51 / 255, 1]
    np.save(tmp_path / "c.npy", VALUES)
    assert center(tmp_path / "c.npy", (2,), row=0, skip_columns=1) == [-2, 3.25]
    for scale in (0.0, math.nan, math.inf):
        refused(path, "--scale: .* is not a usable divisor", skip_columns=1, scale=scale)


def test_layout_hwc_moves_channels_to_the_front(tmp_path: Path) -> None:
    image = np.arange(24.0).reshape(2, 4, 3)  # height, width, channel
    np.save(tmp_path / "c.npy", image)
    for shape in ((3, 2, 4), (1, 3, 2, 4)):
        assert center(tmp_path / "c.npy", shape, layout="hwc") == image.transpose(2, 0, 1).reshape(-1).tolist()
        assert center(tmp_path / "c.npy", shape) == image.reshape(-1).tolist()
    refused(tmp_path / "c.npy", r"--layout hwc: the model's input \[1, 24\] is not an image", (1, 24), layout="hwc")
    refused(tmp_path / "c.npy", "--layout: 'nhwc'", (3, 2, 4), layout="nhwc")


def test_layout_hwc_of_a_batch_of_images_is_refused() -> None:
    refused("0", r"--layout hwc: .*\[2, 3, 4, 4\]", (2, 3, 4, 4), layout="hwc")


def test_a_number_that_is_none_names_its_cell(tmp_path: Path) -> None:
    refused(save_csv(tmp_path / "h.csv", "a,b,3\n1,2,3\n"), r"--center: .*h\.csv, row 0, column 0: 'a' is not a number")
    refused(
        save_csv(tmp_path / "s.csv", "1;2;3\n4;5;6\n"), r"--center: .*s\.csv, row 0, column 0: '4;5;6' is not a number"
    )
    refused(save_csv(tmp_path / "g.csv", "1,,3\n"), r"--center: .*g\.csv, row 0, column 1: '' is not a number")
    refused(save_csv(tmp_path / "n.csv", "1,nan,3\n"), "--center holds NaN or Inf")
    refused("nan", "--center holds NaN or Inf")
    refused("1,inf,2", "--center holds NaN or Inf")


@pytest.mark.parametrize("shape", [(4,), (2,), (2, 2)])
def test_a_wrong_number_of_numbers_names_both_counts(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "c.npy", VALUES[0])
    message = rf"--center: .*holds 3 numbers, the input has {math.prod(shape)} {re.escape(str(list(shape)))}"
    refused(tmp_path / "c.npy", message, shape)
    refused("1,2,3", message, shape)


@pytest.mark.parametrize("name", ["absent.npy", "absent.npz", "absent.csv"])
def test_an_absent_file_is_named(tmp_path: Path, name: str) -> None:
    refused(tmp_path / name, f"--center: .*{re.escape(name)}: No such file")


@pytest.mark.parametrize("name", ["c.txt", "c", "c.pt"])
def test_an_unknown_kind_of_file_is_named(tmp_path: Path, name: str) -> None:
    save_csv(tmp_path / name, "1,2,3")
    refused(tmp_path / name, f"--center: .*{re.escape(name)} is neither numbers nor an .npy")


@pytest.mark.parametrize("name", ["c.npy", "c.npz", "c.csv"])
@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", b"\x93NUMPY", b"PK\x03\x04 no archive", b"\xff\xfe\x00\x81,1,2"],
    ids=["empty", "text", "npy header", "zip header", "bytes"],
)
def test_a_broken_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, f"--center: .*{re.escape(name)}")


@pytest.mark.parametrize("name", ["c.npy", "c.npz"])
def test_a_truncated_file_is_named(tmp_path: Path, name: str) -> None:
    save = np.save if name.endswith("npy") else np.savez
    save(tmp_path / name, np.arange(1000.0))
    whole = (tmp_path / name).read_bytes()
    for kept in (len(whole) // 2, len(whole) - 9):
        (tmp_path / name).write_bytes(whole[:kept])
        refused(tmp_path / name, f"--center: .*{re.escape(name)}", (1000,))


def test_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "c.npy").mkdir()
    refused(tmp_path / "c.npy", r"--center: .*c\.npy: Is a directory")


@pytest.mark.parametrize("name", ["c.npy", "c.npz"])
@pytest.mark.parametrize("array", [np.array(["1", "2"]), np.array([1j, 2]), np.array([1, None], dtype=object)])
def test_arrays_of_something_else_than_numbers_are_named(tmp_path: Path, name: str, array: np.ndarray) -> None:
    save = np.save if name.endswith("npy") else np.savez
    save(tmp_path / name, array, allow_pickle=True)
    refused(tmp_path / name, f"--center: .*{re.escape(name)}", (2,))


def test_an_archive_of_several_arrays_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", a=VALUES, b=VALUES)
    refused(tmp_path / "c.npz", r"--center: .*c\.npz holds 2 arrays")


def test_boxes_from_numbers_and_files(tmp_path: Path) -> None:
    np.save(tmp_path / "low.npy", VALUES[0])
    box = read_box("0,1", (2, 2))
    assert box.lower.tolist() == [0] * 4
    assert box.upper.tolist() == [1] * 4
    box = read_box(f"{tmp_path}/low.npy,9", (3,))
    assert box.lower.tolist() == VALUES[0].tolist()
    assert box.upper.tolist() == [9] * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "--box: '0' is not LOWER,UPPER"),
        ("0,1,2", "--box: .* is not LOWER,UPPER"),
        ("1,0", "--box: lower 1 is above upper 0 at input 0"),
        ("nan,1", "--box holds NaN or Inf"),
        ("0,inf", "--box holds NaN or Inf"),
        ("0,absent.npy", r"--box: absent\.npy: No such file"),
        ("a,b", "--box: a is neither numbers"),
    ],
)
def test_a_box_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_box(text, (2,))


def test_other_options_are_named_too() -> None:
    with pytest.raises(UsageError, match=r"--witness: absent\.npy"):
        read_vector("absent.npy", (2,), "--witness")


def test_a_region_is_read_from_its_words() -> None:
    assert RegionText().read((2,), "2") == Everywhere()
    box = RegionText(box="0,1").read((2,), "2")
    assert isinstance(box, Box)
    ball = RegionText(center="3", eps=0.5, scale=2.0).read((2,), "inf")
    assert (ball.norm, ball.center.tolist()) == (math.inf, [1.5, 1.5])
    assert RegionText(center="3", eps=0.5, ball="1").read((2,), "inf").norm == 1.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"center": "0"}, "needs both --center and --eps"),
        ({"eps": 1.0}, "needs both --center and --eps"),
        ({"box": "0,1", "spec": "x"}, "--box and --spec both give a region"),
        ({"box": "0,1", "row": 2}, "--row describes the file of --center"),
        ({"skip_columns": 2}, "--skip-columns describes the file of --center"),
        ({"ball": "2"}, "--ball needs --center"),
    ],
)
def test_words_that_make_no_region(words: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RegionText(**words).check()


def test_ranges_of_rows() -> None:
    assert parse_rows("3:5") == range(3, 5)
    for text in ("3", "5:3", "-1:2", "1:", "1:2:3", "\u0663:\u0664", "0:99999999999"):
        with pytest.raises(UsageError, match="not A:B"):
            parse_rows(text)
