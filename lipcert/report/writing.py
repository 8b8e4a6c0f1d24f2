"""Writing a report so that nothing partial is ever seen: to a temporary file beside it, then renamed."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from lipcert.errors import UsageError
from lipcert.report.reach import ReachReport
from lipcert.report.report import Report


def check_writable(path: str, option: str = "--json") -> None:
    """Refuse a place where no report can be written, before any work is done."""
    folder = Path(path).parent
    if path != "-" and (Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK)):
        raise UsageError(f"{option}: cannot write {path}", hint="name a file in a folder that exists and is writable")


def write_json(report: Report | ReachReport, path: str, option: str = "--json") -> None:
    """Write to `path`, or to stdout for "-"."""
    text = report.to_json() + "\n"
    if path == "-":
        sys.stdout.write(text)
        return
    target = Path(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise UsageError(f"{option}: cannot write {path}: {error.strerror}", hint="check the folder") from None
