"""Certificates that earlier runs proved, known by what they are about. What is read here is trusted by nobody."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lipcert.certificate.encoding import encode_query
from lipcert.errors import UsageError
from lipcert.frontend import Model
from lipcert.gate.policy import Effort
from lipcert.problem import Query
from lipcert.report.writing import write_text

STALE = 600.0
"""Seconds after which a temporary file is one of a run that was killed: writing takes milliseconds."""

UNREAD = 60 * 86400.0
"""Seconds after which a certificate that no run has asked for is removed, so that the folder does not grow for ever."""


HEX = "[0-9a-f]"
ENTRY = f"{HEX * 64}.json"
"""What the folder's files are called. Others are not ours to remove, whatever folder is named."""


def query_digest(query: Query) -> str:
    """sha256 of a query, the same on every machine."""
    return _digest(_canonical(encode_query(query)))


def entry_key(model: Model, query: Query, effort: Effort) -> str:
    """sha256 of all that decides an answer: the model's files, the query, how it is searched for, and this version."""
    return _digest(
        {
            "version": version("lipcert"),
            "model": model.sha256,
            "external": model.external_data,
            "unrolled": model.unrolled,
            "templates": [template.text for template in model.templates],
            "query": query_digest(query),
            "effort": asdict(effort),
        }
    )


@dataclass(frozen=True)
class Cache:
    """A folder of certificates. Several runs may share it: entries are renamed into place."""

    folder: Path

    def open(self) -> None:
        """Make the folder, which git leaves alone; remove what killed runs left half-written, and what is unread."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            ignore = self.folder / ".gitignore"
            if not ignore.exists():
                write_text("*\n", str(ignore), "cache")
            now = time.time()
            for pattern, limit in ((f".{ENTRY}.*", STALE), (ENTRY, UNREAD)):
                for left in self.folder.glob(f"{HEX * 2}/{pattern}"):
                    if now - left.stat().st_mtime > limit:
                        left.unlink(missing_ok=True)
        except FileNotFoundError:  # of another run, which has just finished it
            pass
        except OSError as error:
            raise UsageError(f"cache: {self.folder}: {error.strerror}", hint="--cache names another folder") from None

    def path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"

    def read(self, key: str) -> str | None:
        """The text of an entry, which counts as asked for now; None where there is none."""
        path = self.path(key)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            return ""  # which is no certificate
        except OSError as error:
            raise UsageError(f"cache: {path}: {error.strerror}", hint="remove the folder") from None
        with suppress(OSError):  # of a folder that may only be read: nothing is removed from it either
            os.utime(path)
        return text

    def write(self, key: str, text: str) -> Path:
        path = self.path(key)
        try:
            os.makedirs(path.parent, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cache: {path.parent}: {error.strerror}", hint="--cache names another folder") from None
        write_text(text, str(path), "cache")
        return path


def _canonical(data: Any) -> Any:
    """Without what depends on a library (compressed bytes, whose digest stands beside them) or is for people."""
    if isinstance(data, dict):
        return {key: _canonical(value) for key, value in data.items() if key not in ("zlib", "description")}
    return [_canonical(value) for value in data] if isinstance(data, list) else data


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
