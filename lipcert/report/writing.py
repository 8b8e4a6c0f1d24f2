"""Writing a report so that nothing partial is ever seen: to a temporary file beside it, then renamed."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from lipcert.errors import UsageError
from lipcert.report.reach import ReachReport, ReachReports
from lipcert.report.reading import AnyReport


def check_writable(path: str, option: str = "--json") -> None:
    """Refuse a place where no report can be written, before any work is done."""
    folder = Path(path).parent
    if path != "-" and (Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK)):
        raise UsageError(f"{option}: cannot write {path}", hint="name a file in a folder that exists and is writable")


def write_json(report: AnyReport, path: str, option: str = "--json") -> None:
    """Write to `path`, or to stdout for "-"."""
    write_text(report.to_json() + "\n", path, option)


def write_text(text: str, path: str, option: str) -> None:
    """The same of any text."""
    if path == "-":
        sys.stdout.write(text)
        return
    write_bytes(path, text.encode("utf-8"), option)


def write_npz(report: ReachReport | ReachReports, path: str, option: str = "--npz") -> None:
    """The arrays of a box, or of many, a row each: lower and upper; attained_lower and attained_upper where known."""
    arrays = {"lower": report.lower, "upper": report.upper}
    if isinstance(report, ReachReport) and report.attained is not None:
        arrays["attained_lower"], arrays["attained_upper"] = report.attained
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue(), option)


def write_bytes(path: str, data: bytes, option: str) -> None:
    """To a temporary file, then renamed; UsageError where that cannot be."""
    target = Path(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException as error:  # an interrupt leaves nothing behind either
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise UsageError(f"{option}: cannot write {path}: {error.strerror}", hint="check the folder") from None
