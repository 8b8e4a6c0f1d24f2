"""Reading regions from files and option values: centers (npy, npz, csv, numbers), boxes, VNN-LIB specifications."""

from __future__ import annotations

import itertools
import math
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from lipcert.arithmetic.rounding import down, up
from lipcert.errors import UsageError
from lipcert.problem.norms import Norm, parse_norm
from lipcert.problem.regions import Ball, Box, Everywhere, Region

Shape = tuple[int, ...]


@dataclass(frozen=True)
class RegionText:
    """A region as options or a policy name it, before the shape of the input is known."""

    center: str | None = None
    eps: float | None = None
    ball: str | None = None
    row: int | None = None
    skip_columns: int = 0
    scale: float = 1.0
    layout: str = "chw"
    box: str | None = None
    spec: str | None = None

    def check(self) -> None:
        """UsageError where parts are missing, or do not go together."""
        given = [name for name in ("center", "box", "spec") if getattr(self, name) is not None]
        if len(given) > 1:
            raise UsageError(f"--{given[0]} and --{given[1]} both give a region", hint="use one of them")
        if (self.eps is None) != (self.center is None):
            raise UsageError("a ball needs both --center and --eps")
        if self.center is None:
            for name in ("row", "skip_columns", "scale", "layout"):
                if getattr(self, name) != getattr(RegionText, name):
                    raise UsageError(f"--{name.replace('_', '-')} describes the file of --center, which is not given")
            if self.ball is not None:
                raise UsageError("--ball needs --center and --eps")

    def read(self, shape: Shape, norm: str) -> Region:
        """The region for an input of `shape`; `norm` is that of a ball for which none is named."""
        self.check()
        if self.center is not None and self.eps is not None:
            return read_ball(self.center, self.eps, self._ball(norm), shape, row=self.row, **self._file())
        if self.box is not None:
            return read_box(self.box, shape)
        if self.spec is not None:
            return read_vnnlib(self.spec, math.prod(shape))
        return Everywhere()

    def read_rows(self, shape: Shape, norm: str, rows: range) -> list[Ball]:
        """As `read`, around each of these rows of the file of --center."""
        self.check()
        if self.row is not None:
            raise UsageError("--row and --rows both choose rows", hint="use one of them")
        if self.center is None or self.eps is None:
            raise UsageError("--rows are those of the file of --center, which is not given")
        return read_balls(self.center, self.eps, self._ball(norm), shape, rows, **self._file())

    def _ball(self, norm: str) -> Norm:
        return parse_norm(self.ball or norm, "--ball")

    def _file(self) -> dict[str, Any]:
        return {"skip_columns": self.skip_columns, "scale": self.scale, "layout": self.layout}


def parse_rows(text: str, option: str = "--rows") -> range:
    """Read `A:B`, rows A to B - 1."""
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text, re.ASCII)
    if match is None or int(match[1]) >= int(match[2]):
        raise UsageError(f"{option}: {text!r} is not A:B with A < B", hint="for example 0:20")
    return range(int(match[1]), int(match[2]))


def read_ball(
    center: str,
    eps: float,
    norm: Norm,
    shape: Shape,
    *,
    row: int | None = None,
    skip_columns: int = 0,
    scale: float = 1.0,
    layout: str = "chw",
) -> Ball:
    """The ball of --center and --eps for an input of `shape`; `center` is a file or numbers on the line."""
    values = read_vector(center, shape, "--center", row=row, skip_columns=skip_columns)
    return Ball(to_layout(_scaled(values, scale), shape, layout), eps, norm)


def read_balls(
    center: str,
    eps: float,
    norm: Norm,
    shape: Shape,
    rows: range,
    *,
    skip_columns: int = 0,
    scale: float = 1.0,
    layout: str = "chw",
) -> list[Ball]:
    """The same around each of these rows of a file, which is read once."""
    if numbers_in(center) is not None:
        raise UsageError("--rows are those of a file, and --center gives numbers", hint="name a file")
    found = _from_file(Path(center), "--center", rows)
    vectors = [_fitted(values, center, shape, "--center", skip_columns) for values in found]
    return [Ball(to_layout(_scaled(values, scale), shape, layout), eps, norm) for values in vectors]


def read_box(text: str, shape: Shape) -> Box:
    """The box of --box LOWER,UPPER, each a number for all inputs or a file."""
    parts = text.split(",")
    if len(parts) != 2:
        raise UsageError(f"--box: {text!r} is not LOWER,UPPER", hint="for example 0,1 or lower.npy,upper.npy")
    lower, upper = (read_vector(part, shape, "--box") for part in parts)
    return Box(lower, upper)


def read_vector(text: str, shape: Shape, option: str, row: int | None = None, skip_columns: int = 0) -> np.ndarray:
    """A vector for an input of `shape`, from an npy, npz or csv file, or from numbers (one number fills it)."""
    numbers = numbers_in(text)
    if numbers is not None:
        values = np.full(math.prod(shape), numbers[0]) if numbers.size == 1 else numbers
    else:
        (values,) = _from_file(Path(text), option, None if row is None else range(row, row + 1))
    return _fitted(values, text, shape, option, skip_columns)


def _fitted(values: np.ndarray, text: str, shape: Shape, option: str, skip_columns: int) -> np.ndarray:
    """What is left of them, as many as the input has."""
    size = math.prod(shape)
    values = values[skip_columns:]
    if values.size != size:
        raise UsageError(
            f"{option}: {text} holds {values.size} numbers, the input has {size} {list(shape)}",
            hint="see --row and --skip-columns; `lipcert inspect` shows the model's inputs",
        )
    return values


def read_vnnlib(path: str, size: int) -> Box:
    """The input box of a VNN-LIB specification (1.0 or 2.0), rounded outward from its decimals."""
    import vnnlib
    import vnnlib.compat

    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--spec: {path}: {error}", hint="name a VNN-LIB file") from None
    try:
        cases = vnnlib.compat.transform(vnnlib.parse_query_string(_as_version_2(text)))
    except vnnlib.VNNLibException as error:
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= 200 else f"{reason[:200]} ..."  # it lists every error as JSON
        raise UsageError(f"--spec: {path}: {reason}", hint="is it VNN-LIB 1.0 or 2.0?") from None
    boxes = {tuple(case.input_box) for case in cases}
    if len(boxes) != 1:
        raise UsageError(f"--spec: {path} has {len(boxes)} input boxes", hint="split it into one file per box")
    lower, upper = (np.array(side, dtype=float) for side in zip(*boxes.pop(), strict=True))
    if lower.size != size:
        raise UsageError(f"--spec: {path} has {lower.size} inputs, the model {size}")
    if not (np.all(np.isfinite(lower)) and np.all(np.isfinite(upper))):
        raise UsageError(f"--spec: {path} leaves an input unbounded", hint="give every X a lower and an upper bound")
    return Box(down(lower), up(upper))


def _as_version_2(text: str) -> str:
    """VNN-LIB 1.0 declares X_0, X_1, ...; 2.0 one tensor X[...] in a network."""
    if "vnnlib-version" in text:
        return text
    counts = {name: len(re.findall(rf"\(\s*declare-(?:const|fun)\s+{name}_\d+", text)) for name in "XY"}
    body = re.sub(r"\(\s*declare-(const|fun)\s+[XY]_\d+\s*(\(\s*\)\s*)?Real\s*\)", "", text)
    body = re.sub(r"\b([XY])_(\d+)\b", r"\1[\2]", body)
    body = re.sub(r"(?<=[\s(])[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?(?=[\s)])", _decimal, body)
    header = f"(declare-input X real [{counts['X']}])\n(declare-output Y real [{counts['Y']}])"
    return f"(vnnlib-version <2.0>)\n(declare-network N\n{header}\n)\n{body}"


def _decimal(number: re.Match[str]) -> str:
    """VNN-LIB 2.0 wants 1.0 where 1.0 of the standard allowed 1 or 1e0."""
    text = format(Decimal(number.group()), "f")
    return text if "." in text else text + ".0"


def numbers_in(text: str) -> np.ndarray | None:
    """Numbers with commas between; None where the text is something else, the name of a file say."""
    try:
        return np.array([float(part) for part in text.split(",")])
    except ValueError:
        return None


def _scaled(values: np.ndarray, scale: float) -> np.ndarray:
    if not (math.isfinite(scale) and scale != 0):
        raise UsageError(f"--scale: {scale} is not a usable divisor", hint="for example 255")
    return values / scale


def _from_file(path: Path, option: str, rows: range | None) -> list[np.ndarray]:
    """Vectors; without rows one: the first row of a csv file, or the array."""
    try:
        if path.suffix == ".csv":
            return _csv_rows(path, range(1) if rows is None else rows, option)
        if path.suffix in (".npy", ".npz"):
            return _numpy_rows(path, option, rows)
    except (OSError, EOFError, UnicodeDecodeError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{option}: {path}: {reason}", hint="check the path") from None
    raise UsageError(f"{option}: {path} is neither numbers nor an .npy, .npz or .csv file")


def csv_lines(path: Path) -> Iterator[str]:
    """The rows of a csv file: what is not blank, without a header, which is a first line with no number in it."""
    with path.open(encoding="utf-8-sig") as stream:
        lines = (line.strip().rstrip(",") for line in stream if line.strip())
        first = next(lines, None)
        if first is not None and any(numbers_in(cell) is not None for cell in first.split(",")):
            yield first
        yield from lines


def _csv_rows(path: Path, rows: range, option: str) -> list[np.ndarray]:
    lines = list(itertools.islice(csv_lines(path), max(rows.start, 0), rows.stop))
    if rows.start < 0 or len(lines) < len(rows):
        missing = rows.start if rows.start < 0 else rows.start + len(lines)
        raise UsageError(f"{option}: {path} has no row {missing}", hint="rows count from 0")
    found = []
    for row, line in zip(rows, lines, strict=True):
        cells = [cell.strip() for cell in line.split(",")]
        try:
            found.append(np.array([float(cell) for cell in cells]))
        except ValueError:
            bad = next(i for i, cell in enumerate(cells) if numbers_in(cell) is None)
            raise UsageError(f"{option}: {path}, row {row}, column {bad}: {cells[bad]!r} is not a number") from None
    return found


def load_array(path: Path, option: str) -> np.ndarray:
    """The numbers of an npy file, or of an npz file with one array; UsageError where it holds none."""
    if path.suffix not in (".npy", ".npz"):
        raise UsageError(f"{option}: {path} is no .npy, .npz or .csv file")
    try:
        return _loaded(path, option)
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{option}: {path}: {reason}", hint="check the path") from None


def _loaded(path: Path, option: str) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            if len(loaded.files) != 1:
                raise UsageError(f"{option}: {path} holds {len(loaded.files)} arrays", hint="save one array in it")
            loaded = loaded[loaded.files[0]]
    except ValueError as error:
        raise UsageError(f"{option}: {path}: {error}", hint="save plain number arrays with numpy.save") from None
    if loaded.dtype.kind not in "fiub":
        raise UsageError(f"{option}: {path} holds {loaded.dtype}, not numbers")
    return np.asarray(loaded)


def _numpy_rows(path: Path, option: str, rows: range | None) -> list[np.ndarray]:
    loaded = _loaded(path, option)
    if rows is None:
        return [np.asarray(loaded, dtype=np.float64).reshape(-1)]
    missing = [row for row in (rows.start, rows.stop - 1) if loaded.ndim < 1 or not 0 <= row < len(loaded)]
    if missing:
        shape = list(loaded.shape)
        raise UsageError(f"{option}: {path} of shape {shape} has no row {missing[0]}", hint="rows count from 0")
    return list(np.asarray(loaded[rows.start : rows.stop], dtype=np.float64).reshape(len(rows), -1))


def to_layout(values: np.ndarray, shape: Shape, layout: str) -> np.ndarray:
    """Pixels stored height x width x channel, moved to the model's channel x height x width."""
    if layout == "chw":
        return values
    if layout != "hwc":
        raise UsageError(f"--layout: {layout!r}", hint="use chw or hwc")
    if len(shape) < 3:
        raise UsageError(f"--layout hwc: the model's input {list(shape)} is not an image")
    if math.prod(shape[:-3]) != 1:
        raise UsageError(f"--layout hwc: the model's input {list(shape)} is a batch of images")
    channels, height, width = shape[-3:]
    return values.reshape(height, width, channels).transpose(2, 0, 1).reshape(-1)
