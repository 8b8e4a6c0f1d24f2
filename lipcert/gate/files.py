"""The files that a policy names: relative to its folder, inside it, and found without walking a whole disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from lipcert.errors import UsageError

MAX_VISITED = 100_000
"""Folder entries that a pattern may look at."""

MAX_MATCHES = 1_000
"""Files that a pattern may find."""


@dataclass(frozen=True)
class Root:
    """The folder of a policy; `outside` allows names that lead out of it."""

    folder: Path
    outside: bool = False

    def place(self, name: str) -> Path:
        """Where a name leads, whether or not something is there; UsageError where that is outside."""
        if "\0" in name or not name.isprintable():
            raise UsageError(f"{name!r} is no name of a file")
        path = Path(os.path.normpath(self.folder / name))
        try:
            inside = path.resolve().is_relative_to(self.folder.resolve())
        except (OSError, RuntimeError) as error:  # a loop of links
            raise UsageError(f"{name!r}: {error}") from None
        if not (inside or self.outside):
            raise UsageError(
                f"{name!r} leads out of the folder of the policy",
                hint="move the file, or set allow_outside = true",
            )
        return path

    def file(self, name: str) -> Path:
        """A file that is there."""
        path = self.place(name)
        if not path.is_file():
            raise UsageError(f"{name!r}: there is no such file", hint=f"names are relative to {self.folder}")
        return path

    def files(self, pattern: str) -> list[Path]:
        """The files that a name or a pattern (*, ?, [..], and ** for folders) finds, sorted; at least one."""
        if not any(c in pattern for c in "*?["):
            return [self.file(pattern)]
        parts = pattern.split("/")
        if parts.count("**") > 1:
            raise UsageError(f"{pattern!r} has more than one **", hint="one of them finds as much")
        fixed = next(i for i, part in enumerate(parts) if any(c in part for c in "*?["))
        if "" in parts[fixed:] or ".." in parts[fixed:]:
            raise UsageError(f"{pattern!r} is no pattern of files", hint='for example "models/*.onnx"')
        base = self.place("/".join(parts[:fixed]) or ("/" if parts[0] == "" else "."))
        try:
            found = self._found(base, parts[fixed:], pattern)
        except OSError as error:
            raise UsageError(f"{pattern!r}: {error.filename}: {error.strerror}") from None
        if not found:
            raise UsageError(f"{pattern!r} finds no file", hint=f"names are relative to {self.folder}")
        return [self.file(self.shown(path)) for path in sorted(found)]

    def shown(self, path: Path) -> str:
        """Relative to the folder of the policy, with slashes."""
        return Path(os.path.relpath(path, self.folder)).as_posix()

    def _found(self, base: Path, parts: list[str], pattern: str) -> list[Path]:
        found: list[Path] = []
        visited = Visited(pattern)
        for path in _expanded(base, parts, visited):
            found.append(path)
            if len(found) > MAX_MATCHES:
                raise UsageError(f"{pattern!r} finds more than {MAX_MATCHES} files", hint="use several patterns")
        return found


class Visited:
    """Counts what a pattern looks at."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.count = pattern, 0

    def one(self) -> None:
        self.count += 1
        if self.count > MAX_VISITED:
            raise UsageError(
                f"{self.pattern!r} looks at more than {MAX_VISITED} files",
                hint="name the folder, for example models/*.onnx",
            )


def _expanded(base: Path, parts: list[str], visited: Visited) -> Iterator[Path]:
    """Hidden entries are found by patterns that begin with a dot only, and ** follows no links."""
    if not parts:
        if base.is_file():
            yield base
        return
    head, rest = parts[0], parts[1:]
    if head == "**":
        yield from _expanded(base, rest or ["*"], visited)
    elif not any(c in head for c in "*?["):
        yield from _expanded(base / head, rest, visited)
        return
    if not base.is_dir():
        return
    with os.scandir(base) as entries:
        for entry in entries:
            visited.one()
            if entry.name.startswith(".") and not head.startswith("."):
                continue
            if head == "**":
                if entry.is_dir(follow_symlinks=False):
                    yield from _expanded(base / entry.name, parts, visited)
            elif fnmatchcase(entry.name, head):
                yield from _expanded(base / entry.name, rest, visited)


def nearby(path: Path) -> Path:
    """As a person in the current folder would name it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
