"""Peers that are a folder of scripts and no package: found in the folder of `--peers`, imported from there."""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path
from types import ModuleType


def missing(peers: Path | None, file: str) -> str | None:
    """Why a script cannot be had, or None."""
    if peers is None:
        return "no folder of peers (--peers, or LIPCERT_PEERS)"
    return None if (peers / file).is_file() else f"the folder of peers has no {file}"


def load(folder: Path, module: str) -> ModuleType:
    """Import a module of that folder; its own imports find their neighbours, and nothing after it does."""
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(str(folder))


def version(file: Path) -> str:
    """Scripts have no version: the beginning of the hash of what is run."""
    return f"{file.parent.name}/{file.name} of sha256 {hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"
